"""The units that Edge-MoE replaced (arXiv 2305.18691, ablation), which no RTL here has.

Assumption, not fitted: what is not streamed handles one value after the other, each through the
whole chain of operations, with the latencies of this design's own function units; a unit of its
own for each linear multiplies T_in values per cycle.
"""

from headrace.arch.ubimoe.functions import EXP_LATENCY, RECIP_LATENCY

__all__ = ["ERF_GELU_CYCLES", "SOFTMAX_PASSES_CYCLES", "separate_cycles"]

_PRODUCT = 2
_SUM = 1
_COMPARE = 1

SOFTMAX_PASSES_CYCLES = (
    _COMPARE + (_SUM + EXP_LATENCY + _SUM) + (_SUM + EXP_LATENCY + RECIP_LATENCY + _PRODUCT)
)
"""Cycles of a score in three passes: maximum; exponential and sum; exponential and quotient."""

ERF_GELU_CYCLES = (
    _PRODUCT  # x / sqrt 2
    + (_PRODUCT + _SUM + RECIP_LATENCY)  # t = 1 / (1 + p |x|)
    + 5 * _PRODUCT  # the polynomial of degree 5 in t, each step with its sum; exp(-x^2) beside it
    + _PRODUCT  # times exp(-x^2)
    + _SUM
    + _PRODUCT  # times x / 2
)
"""Cycles of a GELU by a rational approximation of erf (Abramowitz and Stegun, 7.1.26)."""


def separate_cycles(macs: int, tile_in: int) -> int:
    """Return the cycles of a linear in a unit of its own."""
    return -(-macs // tile_in)
