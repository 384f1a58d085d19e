"""The four functions of one argument: exp, reciprocal, reciprocal of the root, GELU.

Arguments and results are wide (22 fraction bits). The errors stated below hold for
every argument; `tests/models/test_fixed_functions.py` measures them.
"""

import math
from functools import cache

import numpy as np

from headrace.errors import InputError
from headrace.models.kernels.fixed.formats import ONE, WIDE_BITS, WIDE_FRACTION
from headrace.models.kernels.fixed.integers import Integers

__all__ = [
    "exp_tables",
    "exponential",
    "gelu",
    "gelu_table",
    "reciprocal",
    "root_reciprocal",
]

GELU_ENTRIES = 177
GELU_STEP_BITS = 17
"""The argument between two entries of the GELU table has 17 bits: a step of 1/32."""

SQUARE = 2 * WIDE_FRACTION
"""Fraction bits of the product of two wide values."""


def _round(real: float) -> int:
    return math.floor(real + 0.5)


@cache
def exp_tables() -> tuple[Integers, Integers]:
    """Return the tables of `exponential`: ONE exp(-i/16) and ONE exp(-i/4096), i = 0..255."""
    coarse = [_round(ONE * math.exp(-i / 16)) for i in range(256)]
    fine = [_round(ONE * math.exp(-i / 4096)) for i in range(256)]
    return _frozen(coarse), _frozen(fine)


@cache
def gelu_table() -> Integers:
    """Return ONE (relu - gelu)(i/32), i = 0..176, for GELU in its erf form."""
    points = [i / 32 for i in range(GELU_ENTRIES)]
    # z - z Phi(z) = z/2 erfc(z / sqrt 2): no cancellation
    return _frozen([_round(ONE * z * 0.5 * math.erfc(z / math.sqrt(2))) for z in points])


def _frozen(values: list[int]) -> Integers:
    table = np.array(values, dtype=np.int64)
    table.flags.writeable = False
    return table


def exponential(d: Integers) -> Integers:
    """Return EXP(d), exp of wide values that are not positive.

    With x = -d, cut into a = x >> 18, b = (x >> 10) & 255 and r = x & 1023: ``p = (T1[a] *
    T2[b]) >> 22; EXP = p - ((p * r) >> 22)``; zero from x = 16 on. EXP(0) is ONE.

    Parameters
    ----------
    d : ndarray of int64
        Any shape; any width up to 63 bits, such as the difference of two scores.

    Returns
    -------
    ndarray of int64
        From 0 to ONE. From 1.75 units of 2^-22 below the real exp to 1.58 above it.

    Raises
    ------
    InputError
        An argument is positive.
    """
    if (d > 0).any():
        raise InputError(f"EXP: {d.max()} is not allowed: at most 0")
    x = np.minimum(-d, 16 * ONE)
    inside = x < 16 * ONE
    coarse, fine = exp_tables()
    p = (coarse[np.where(inside, x >> 18, 0)] * fine[(x >> 10) & 255]) >> WIDE_FRACTION
    result: Integers = np.where(inside, p - ((p * (x & 1023)) >> WIDE_FRACTION), 0)
    return result


def reciprocal(s: Integers) -> Integers:
    """Return RECIP(s) = floor(2^44 / s), the reciprocal of wide values of at least 1.

    Parameters
    ----------
    s : ndarray of int64
        Any shape; ONE to 2^31 - 1.

    Returns
    -------
    ndarray of int64
        At most ONE. Less than one unit of 2^-22 below the real reciprocal.

    Raises
    ------
    InputError
        An argument is out of range.
    """
    if s.size and not (s.min() >= ONE and s.max() < 1 << 31):
        raise InputError(f"RECIP: {s.min()} to {s.max()} is not allowed: {ONE} to {(1 << 31) - 1}")
    result: Integers = (1 << SQUARE) // s
    return result


def root_reciprocal(v: Integers) -> Integers:
    """Return RSQRT(v), the reciprocal of the square root of a variance.

    ``s = isqrt(max(v, 1) << 22)`` (floor); ``min(floor(2^44 / s), 2^31 - 1)``.

    Parameters
    ----------
    v : ndarray of int64
        Any shape; signed 32 bits. What is not positive counts as 1, the smallest variance.

    Returns
    -------
    ndarray of int64
        31 bits. It saturates for v up to 16. Beyond, from one unit of 2^-22 below the real value
        to 1.07e-4 of it above (at v = 18, falling as 1/sqrt(v): the floored root is too small).
    """
    radicand = np.maximum(v, 1) << WIDE_FRACTION
    root = np.sqrt(radicand.astype(np.float64)).astype(np.int64)
    # below 2^53 the float root is off by at most one, and only upwards, where it rounded
    root -= root * root > radicand
    result: Integers = np.minimum((1 << SQUARE) // root, (1 << (WIDE_BITS - 1)) - 1)
    return result


def gelu(x: Integers) -> Integers:
    """Return GELU(x) = max(x, 0) - delta(|x|), erf form.

    For |x| < 5.5: ``i = |x| >> 17, f = |x| & (2^17 - 1); delta = G[i] + (((G[i+1] - G[i]) * f)
    >> 17)`` with the entries of `gelu_table`. Beyond, delta is 0 and GELU is relu.

    Parameters
    ----------
    x : ndarray of int64
        Any shape; signed 32 bits.

    Returns
    -------
    ndarray of int64
        From 56 units of 2^-22 below the real GELU to 410 (9.8e-5) above it.
    """
    size = np.abs(x)  # of -2^31 it is 2^31, in 64 bits
    table = gelu_table()
    index = np.minimum(size >> GELU_STEP_BITS, GELU_ENTRIES - 1)
    rise = table[np.minimum(index + 1, GELU_ENTRIES - 1)] - table[index]
    delta = table[index] + ((rise * (size & ((1 << GELU_STEP_BITS) - 1))) >> GELU_STEP_BITS)
    inside = size < 11 * (ONE >> 1)
    result: Integers = np.maximum(x, 0) - np.where(inside, delta, 0)
    return result
