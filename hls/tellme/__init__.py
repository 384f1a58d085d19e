"""TeLLMe's ternary matmul engine as Vitis HLS C++ (arXiv 2510.15926, section 3.1)."""

from headrace.hls.tellme.engine import HLS, TellmeHls, csim
from headrace.hls.tellme.vectors import Tile

__all__ = ["HLS", "TellmeHls", "Tile", "csim"]
