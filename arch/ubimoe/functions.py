"""Cycles of the pipelined functions (docs/ubimoe-numerics.md), for the kernels' formulas."""

from headrace.arch.ubimoe.formats import WIDE_FRACTION

__all__ = [
    "EXP_LATENCY",
    "GELU_LATENCY",
    "RECIPROCAL_BITS",
    "RECIP_LATENCY",
    "ROOT_BITS",
    "ROOT_RECIPROCAL_BITS",
    "RSQRT_LATENCY",
]

RECIPROCAL_BITS = WIDE_FRACTION + 1
"""Bits of RECIP: at most one."""

ROOT_BITS = (31 + WIDE_FRACTION + 1) // 2
"""Bits of the root of a positive wide value with `WIDE_FRACTION` zeros behind it."""

ROOT_RECIPROCAL_BITS = 31
"""Bits of RSQRT: it saturates there."""

EXP_LATENCY = 4
"""Tables, their product, the product with the rest, the difference."""

RECIP_LATENCY = RECIPROCAL_BITS
"""One bit of the quotient per stage."""

RSQRT_LATENCY = 1 + ROOT_BITS + 1 + ROOT_RECIPROCAL_BITS
"""The argument's limit, one bit of the root per stage, the root's limit, one of the quotient."""

GELU_LATENCY = 5
"""Magnitude, table, product, interpolation, difference."""
