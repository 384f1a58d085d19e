"""Floating-point operators of the compute unit: formats, registers, random numbers."""

from headrace.errors import InputError

__all__ = [
    "ADD_STEPS",
    "MULTIPLY_STEPS",
    "QUIET_NAN",
    "RANDOM_BITS",
    "RANDOM_TAPS",
    "check_registers",
    "check_significand",
    "registered_steps",
]

ADD_STEPS = 5
"""Order and unpack, align, add, normalise, round."""

MULTIPLY_STEPS = 4
"""Multiply, normalise, denormalise, round."""

QUIET_NAN = 0x7FC00000
"""The one NaN that operators return (float32); its upper half is that of bfloat16."""

RANDOM_BITS = 16
"""Of the shift register behind stochastic rounding, and of each number drawn from it."""

RANDOM_TAPS = (16, 15, 13, 4)
"""Its polynomial x^16 + x^15 + x^13 + x^4 + 1 is primitive: every state but 0 is in one cycle."""


def check_registers(name: str, registers: int, steps: int) -> None:
    """Check that an operator of `steps` steps can have so many registers.

    Raises
    ------
    InputError
        It cannot.
    """
    if not 1 <= registers <= steps:
        raise InputError(f"{name} registers = {registers} is not allowed: 1 to {steps}")


def check_significand(significand: int) -> None:
    """Check the bits of the factors of a product.

    Raises
    ------
    InputError
        They are out of range.
    """
    if not 2 <= significand <= 24:
        raise InputError(f"significand = {significand} is not allowed: 2 to 24 bits")


def registered_steps(steps: int, registers: int) -> frozenset[int]:
    """Return the steps, of 1 to `steps`, that end in a register: evenly spread, always the last."""
    ends = range(1, steps + 1)
    return frozenset(s for s in ends if s * registers // steps > (s - 1) * registers // steps)
