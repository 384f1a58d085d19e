"""How a float32 becomes a bfloat16: to the nearest, or by chance with a seeded generator."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["Rounding", "StochasticRounding"]

Rounding = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From float32 to bfloat16 values: `round_to_bfloat16`, or a `StochasticRounding`."""

_QUIET_NAN = 0x7FC00000
_TAPS = 0x8000 | 0x4000 | 0x1000 | 0x0008  # x^16 + x^15 + x^13 + x^4 + 1, the highest bit is 16
_STEPS = 16
_SEED_STEP = 0x9E37


class StochasticRounding:
    """Round by chance, as the tail of the compute unit does; every call goes on where it was.

    A random number of 16 bits is added to the lower half of the float32's pattern, which is then
    cut. So the magnitude grows with the chance that the lower half says, and bfloat16 values stay.
    Overflow gives infinity, infinities stay, NaN becomes the quiet NaN 0x7FC0.

    Every lane has a linear feedback shift register of 16 bits: a step moves the state up and puts
    the parity of bits 16, 15, 13 and 4 (the highest one is 16) in the lowest place. Its state is
    the number; 16 steps lead to the next one. The first number of lane l is
    ``seed ^ (l * 0x9E37 mod 2^16)``; 0 counts as 1. 0 is never drawn: a lower half of L goes up
    with the chance L / 65535.

    Parameters
    ----------
    seed : int
        0 to 65535.
    lanes : int
        Values that are rounded side by side. Value j of a row (of the last axis) is in lane
        ``j mod lanes``; a row takes beats of its own, in order, and all lanes draw in every beat.

    Raises
    ------
    InputError
        A number is out of range.
    """

    def __init__(self, seed: int, lanes: int = 16) -> None:
        for name, value, low, high in (("seed", seed, 0, 65_535), ("lanes", lanes, 1, 4_096)):
            if not low <= value <= high:
                raise InputError(f"{name} = {value}; an integer from {low} to {high} is needed")
        states = seed ^ (np.arange(lanes, dtype=np.int64) * _SEED_STEP & 0xFFFF)
        self._states = np.where(states == 0, 1, states)

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Round; shape (..., n), at least one axis.

        Raises
        ------
        InputError
            The values are no float32, or a number alone.
        """
        values = np.ascontiguousarray(x)
        if values.dtype != np.float32 or np.ndim(x) == 0:
            raise InputError(f"{values.dtype} of {np.ndim(x)} axes; rows of float32 are needed")
        rows = values.reshape(-1, values.shape[-1]) if values.size else values.reshape(0, 1)
        rounded = _round_rows(rows.view(np.uint32), self._states)
        return np.asarray(rounded.view(np.float32).reshape(values.shape))


@njit(cache=True)  # type: ignore[untyped-decorator]
def _round_rows(patterns: NDArray[np.uint32], states: NDArray[Any]) -> NDArray[np.uint32]:
    rounded = np.empty_like(patterns)
    lanes = states.size
    for row in range(patterns.shape[0]):
        for first in range(0, patterns.shape[1], lanes):
            for lane in range(min(lanes, patterns.shape[1] - first)):
                pattern = np.int64(patterns[row, first + lane])
                # no number carries out of an infinity, whose lower half is 0
                moved = (pattern + states[lane]) & 0xFFFF0000
                nan = pattern & 0x7FFFFFFF > 0x7F800000
                rounded[row, first + lane] = _QUIET_NAN if nan else moved
            for lane in range(lanes):
                states[lane] = _next(states[lane])
    return rounded


@njit(cache=True)  # type: ignore[untyped-decorator]
def _next(state: int) -> int:
    for _ in range(_STEPS):
        tapped = state & _TAPS
        tapped ^= tapped >> 8
        tapped ^= tapped >> 4
        tapped ^= tapped >> 2
        tapped ^= tapped >> 1
        state = (state << 1 | tapped & 1) & 0xFFFF
    return state
