"""Table of exponentials of bfloat16 numbers, each the nearest bfloat16."""

import math
from functools import cache

__all__ = ["FIRST_FIELD", "LAST_FIELD", "exponentials"]

FIRST_FIELD, LAST_FIELD = 127 - 9, 127 + 6
"""Exponent fields of the numbers in the table: of less exp(-x) is 1, of more it is 0.

exp(-2^-9) lies above the middle of 1 and the number before it; exp(-128) is less than half of the
least bfloat16, 2^-133.
"""

_LEAST = -133


@cache
def exponentials() -> tuple[int, ...]:
    """Return the patterns of exp(-x) for x = (1 + m / 128) 2^(f - 127), by f, then by m of 7 bits.

    Ties to even; none comes near one.
    """
    patterns = []
    for field in range(FIRST_FIELD, LAST_FIELD + 1):
        for significand in range(128, 256):
            value = math.exp(-math.ldexp(significand, field - 134))
            unit = max(math.frexp(value)[1] - 8, _LEAST)
            # a significand from 128 adds 1 to the exponent's field
            patterns.append((unit - _LEAST << 7) + round(math.ldexp(value, -unit)))
    return tuple(patterns)
