"""UbiMoE's kernels as Vitis HLS C++, and their C simulation; see docs/ubimoe-kernels.md."""

from headrace.hls.ubimoe.functions import function_unit
from headrace.hls.ubimoe.gate import gate
from headrace.hls.ubimoe.kernel import Kernel, Port, csim
from headrace.hls.ubimoe.layer_norm import layer_norm
from headrace.hls.ubimoe.linear import linear
from headrace.hls.ubimoe.streaming_attention import streaming_attention

__all__ = [
    "Kernel",
    "Port",
    "csim",
    "function_unit",
    "gate",
    "layer_norm",
    "linear",
    "streaming_attention",
]
