"""Tables of the functions, exact to the last bit (docs/ubimoe-numerics.md, "Functions")."""

from decimal import ROUND_FLOOR, Decimal, localcontext
from functools import cache

from headrace.arch.ubimoe.formats import WIDE_FRACTION

__all__ = ["EXP_ENTRIES", "GELU_ENTRIES", "GELU_STEPS", "exponentials", "gelu_differences"]

EXP_ENTRIES = 256
"""Entries of both tables of EXP."""

GELU_STEPS = 32
"""Entries per unit of GELU's table."""

GELU_ENTRIES = 177
"""Arguments 0 to 5.5 in steps of 1/32."""

_DIGITS = 80  # results are wanted to 2^-23; the erf series loses seven digits at 3.9


def _rounded(value: Decimal) -> int:
    scaled = value * (1 << WIDE_FRACTION) + Decimal("0.5")
    return int(scaled.to_integral_value(rounding=ROUND_FLOOR))


@cache
def exponentials(steps: int) -> tuple[int, ...]:
    """Return round(2^22 exp(-i / steps)) for i = 0 to 255: `steps` 16 and 4096 for EXP."""
    with localcontext() as context:
        context.prec = _DIGITS
        return tuple(_rounded((Decimal(-i) / steps).exp()) for i in range(EXP_ENTRIES))


def _arctan_of_inverse(n: int) -> Decimal:
    """Return arctan(1 / n), n >= 2, by its series."""
    total, power, k = Decimal(0), Decimal(1) / n, 0
    while power > Decimal(10) ** -_DIGITS:
        total += (power if k % 2 == 0 else -power) / (2 * k + 1)
        power /= n * n
        k += 1
    return total


def _erf(z: Decimal, pi: Decimal) -> Decimal:
    """Return erf(z), 0 <= z < 4, by its Taylor series."""
    total, power, n = Decimal(0), z, 0
    while power and abs(power) > Decimal(10) ** -_DIGITS:
        total += power / (2 * n + 1)
        n += 1
        power *= -z * z / n
    return 2 / pi.sqrt() * total


@cache
def gelu_differences() -> tuple[int, ...]:
    """Return round(2^22 (relu(x) - gelu(x))) at x = i / 32, i = 0 to 176, GELU in its erf form."""
    with localcontext() as context:
        context.prec = _DIGITS
        pi = 4 * (4 * _arctan_of_inverse(5) - _arctan_of_inverse(239))  # Machin
        root = Decimal(2).sqrt()
        points = [Decimal(i) / GELU_STEPS for i in range(GELU_ENTRIES)]
        return tuple(_rounded(x * (1 - _erf(x / root, pi)) / 2) for x in points)
