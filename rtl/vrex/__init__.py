"""V-Rex's retrieval units in Amaranth (arXiv 2512.12284); see docs/vrex-units.md."""

from headrace.rtl.vrex.emission import RTL, VrexRtl

__all__ = ["RTL", "VrexRtl"]
