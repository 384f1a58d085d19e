"""The functions of UbiMoE as rigid pipelines (docs/ubimoe-numerics.md).

Each has the inputs `enable` and `argument`, the output `result`, and a `latency`: while `enable`
is high every stage advances, and `result` belongs to the argument `latency` enabled cycles before.
"""

from headrace.rtl.ubimoe.exponential import Exponential
from headrace.rtl.ubimoe.gelu import Gelu
from headrace.rtl.ubimoe.reciprocal import Reciprocal
from headrace.rtl.ubimoe.root import RootReciprocal

__all__ = ["Exponential", "Gelu", "Reciprocal", "RootReciprocal"]
