"""UbiMoE's kernels, blocks and machine in Amaranth (arXiv 2502.05602); see docs/ubimoe.md.

The machine has one streaming attention with keys and values on the chip, two weight slots per
linear, and MSA beside the FFN of the sequence before; choices of a point that mean another machine
are refused (`headrace.rtl.ubimoe.emission`).
"""

from headrace.rtl.ubimoe.emission import RTL, UbimoeRtl

__all__ = ["RTL", "UbimoeRtl"]
