"""Integers per phase: times, and the rates of cyclo-static dataflow."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = [
    "LARGEST",
    "IntArray",
    "IntLike",
    "as_array",
    "firsts",
    "lasts",
    "length_of",
    "per_phase",
    "pulse",
    "require_order",
]

IntArray: TypeAlias = NDArray[np.int64]
IntLike: TypeAlias = int | Sequence[int] | NDArray[np.integer]

# Times are sums of these; the bound keeps every sum the simulator forms inside 64 bits.
LARGEST = 2**40


def pulse(phases: int, at: int, tokens: int = 1) -> IntArray:
    """Return rates that are zero in every phase but one.

    Parameters
    ----------
    phases : int
        Number of phases.
    at : int
        The phase that is not zero; negative counts from the end.
    tokens : int
        Its rate.

    Returns
    -------
    int64 array, shape (phases,)

    Raises
    ------
    InputError
        `at` is not one of the phases.
    """
    if not -phases <= at < phases:
        raise InputError(f"pulse at phase {at}: there are {phases} phases")
    rates = np.zeros(phases, np.int64)
    rates[at] = tokens
    return rates


def firsts(lengths: Sequence[int]) -> IntArray:
    """Return 1 at the first of each run of firings, 0 elsewhere.

    Parameters
    ----------
    lengths : sequence of int
        Firings of each run; at least 1.

    Returns
    -------
    int64 array, shape (sum of lengths,)
    """
    rates = np.zeros(sum(lengths), np.int64)
    rates[np.cumsum([0, *lengths[:-1]])] = 1
    return rates


def lasts(lengths: Sequence[int]) -> IntArray:
    """Return 1 at the last of each run of firings, 0 elsewhere; see `firsts`."""
    rates = np.zeros(sum(lengths), np.int64)
    rates[np.cumsum(lengths) - 1] = 1
    return rates


def length_of(values: IntLike | None) -> int:
    """Return the number of phases that `values` describe; 1 for one value or none."""
    return 1 if values is None or np.ndim(values) == 0 else len(np.asarray(values))


def as_array(values: IntLike, what: str) -> IntArray:
    """Return a read-only copy of `values`.

    Raises
    ------
    InputError
        A value is not an integer from 0 to `LARGEST`, or there is none; `what` is named.
    """
    raw = np.atleast_1d(np.asarray(values))
    if raw.ndim != 1 or raw.size == 0 or raw.dtype.kind not in "iu":
        raise InputError(f"{what} must be an integer or a sequence of integers")
    if int(raw.min()) < 0 or int(raw.max()) > LARGEST:
        bad = raw[(raw < 0) | (raw > LARGEST)][0]
        raise InputError(f"{what} must be 0 to 2^40, not {bad}")
    array = raw.astype(np.int64)
    array.setflags(write=False)
    return array


def per_phase(values: IntLike, phases: int, what: str) -> IntArray:
    """Return `values` as an array of `phases` entries, one value being repeated.

    Raises
    ------
    InputError
        As `as_array`, or there is another number of them.
    """
    array = as_array(values, what)
    if array.size == 1 and phases > 1:
        array = np.full(phases, array[0])
        array.setflags(write=False)
    if array.size != phases:
        raise InputError(f"{what} must have 1 or {phases} values, not {array.size}")
    return array


def require_order(early: IntArray, late: IntArray, rule: str) -> None:
    """Check that sums of `early` are never behind those of `late`, and end up equal.

    Raises
    ------
    InputError
        They do not; `rule` is stated.
    """
    sums = early.cumsum() - late.cumsum()
    if sums.min() < 0 or sums[-1] != 0:
        raise InputError(f"{rule}, and as much of it")
