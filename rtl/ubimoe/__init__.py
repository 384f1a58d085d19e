"""UbiMoE's kernels, blocks and machine in Amaranth (arXiv 2502.05602); see docs/ubimoe.md.

The machine is that of points with ``keys = chip``.
"""

from headrace.rtl.ubimoe.emission import RTL, UbimoeRtl

__all__ = ["RTL", "UbimoeRtl"]
