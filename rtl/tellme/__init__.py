"""TeLLMe's ternary matmul engine in Amaranth (arXiv 2510.15926, section 3.1)."""

from headrace.rtl.tellme.emission import RTL, TellmeRtl

__all__ = ["RTL", "TellmeRtl"]
