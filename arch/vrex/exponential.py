"""Constants of V-Rex's exponentials: straight lines that give every bit of bfloat16's exp(-x).

2^-f of a fraction f is a line in each of 64 segments. Only 1,664 bfloat16 numbers are neither so
small that the exponential is 1 nor so large that it is less than 2^-14, some 26 per segment: there
is a line with small integers that rounds right at all of them.
"""

import math
from functools import cache

__all__ = [
    "FRACTION_BITS",
    "LEAST_EXPONENT",
    "LOG2_E",
    "MANTISSA_SHIFT",
    "MOST_EXPONENT",
    "POWER_FRACTION",
    "SEGMENT_BITS",
    "lines",
]

LEAST_EXPONENT, MOST_EXPONENT = -9, 3
"""Below 2^-9 exp(-x) rounds to 1; from 2^4 on it is less than 2^-14."""

_LOG2_E_BITS = 12
LOG2_E = round(math.log2(math.e) * 2**_LOG2_E_BITS)
"""log2(e) with 12 fraction bits."""

POWER_FRACTION = 7 + _LOG2_E_BITS - LEAST_EXPONENT
"""Fraction bits of -log2(exp(-x)) = mantissa * LOG2_E << (exponent - LEAST_EXPONENT)."""

FRACTION_BITS = 15
"""Of these, the bits that count."""

SEGMENT_BITS = 6
"""The highest of them, which choose a line."""

MANTISSA_SHIFT = 14
"""Bits of a line's value below the mantissa, an integer from 128 to 256."""

_REST_BITS = FRACTION_BITS - SEGMENT_BITS
_REACH = 8  # a slope differs from that of 2^-f by no more than this


@cache
def lines() -> tuple[tuple[int, int], ...]:
    """Return (a, b) of each segment: the mantissa is (a - b * rest) >> MANTISSA_SHIFT.

    `rest` are the bits of the fraction below `SEGMENT_BITS`. Rounding to the nearest is in a.
    """
    points: list[list[tuple[int, int, int]]] = [[] for _ in range(1 << SEGMENT_BITS)]
    points[0].append((0, 256, 256))  # what is less than the least x counts as 0
    for exponent in range(LEAST_EXPONENT, MOST_EXPONENT + 1):
        for mantissa in range(128, 256):
            segment, *point = _point(mantissa, exponent)
            points[segment].append((point[0], point[1], point[2]))
    return tuple(_line(segment, found) for segment, found in enumerate(points))


def _point(mantissa: int, exponent: int) -> tuple[int, int, int, int]:
    """Return where x = mantissa * 2^(exponent - 7) lies: segment and rest, and its exponential.

    That is the least and the largest mantissa of the right result: both are cut to it.
    """
    power = mantissa * LOG2_E << (exponent - LEAST_EXPONENT)
    whole, fraction = power >> POWER_FRACTION, power >> (POWER_FRACTION - FRACTION_BITS)
    value, binary = math.frexp(math.exp(-math.ldexp(mantissa, exponent - 7)))
    result = math.floor(math.ldexp(round(value * 256), binary + 6))
    right = [number for number in range(257) if number << 6 >> whole == result]
    segment, rest = fraction >> _REST_BITS, fraction & (1 << _REST_BITS) - 1
    return segment & (1 << SEGMENT_BITS) - 1, rest, right[0], right[-1]


def _line(segment: int, points: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Return the line through all points with the slope that is nearest to that of 2^-f."""
    middle = 2.0 ** -((segment + 0.5) / 2**SEGMENT_BITS)
    exact = math.ldexp(math.log(2) * middle, 8 + MANTISSA_SHIFT - FRACTION_BITS)
    near = range(round(exact) - _REACH, round(exact) + _REACH + 1)
    for slope in sorted(near, key=lambda b: abs(b - exact)):
        least = max((low << MANTISSA_SHIFT) + slope * rest for rest, low, _ in points)
        most = min((high + 1 << MANTISSA_SHIFT) - 1 + slope * rest for rest, _, high in points)
        if least <= most:
            return (least + most) // 2, slope
    raise AssertionError(f"there is no line in segment {segment}")
