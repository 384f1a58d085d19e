"""The mean key of a cluster that gets one more key: exact, rounded once to bfloat16."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["move_mean", "move_means"]

_DROPPED = 52 - 7  # fraction bits of a float64 that a bfloat16 does not have
_HALF = (1 << _DROPPED - 1) - 1
_KEPT = -1 << _DROPPED
_LEAST_NORMAL = 2.0**-126
_ROUNDS_SUBNORMAL = 1.5 * 2.0**-81  # float64 values next to it are 2^-133 apart
_FAR = 2.0**-27


def move_means(
    means: NDArray[np.float32], keys: NDArray[np.float32], counts: NDArray[Any]
) -> NDArray[np.float32]:
    """Return the mean keys of clusters after one key more.

    ``((count - 1) * mean + key) / count``, exact, and rounded once to bfloat16, ties to even. A
    mean never leaves the range of its old value and the key: nothing overflows. The zero of two
    addends that cancel is positive.

    Parameters
    ----------
    means, keys : ndarray of float32
        Finite bfloat16 values, shapes that broadcast.
    counts : ndarray of int
        Keys in the cluster, the new one included, 2 to 65,535; a shape that broadcasts, too.

    Returns
    -------
    ndarray of float32
        bfloat16 values.

    Raises
    ------
    InputError
        A count is out of range.
    """
    mean, key, count = np.broadcast_arrays(means, keys, counts)
    if count.size and not 2 <= count.min() <= count.max() <= 2**16 - 1:
        raise InputError(f"counts from {count.min()} to {count.max()}; 2 to 65535 are needed")
    moved = np.array(mean, np.float32)
    flat = moved.reshape(-1)
    _move_each(flat, key.astype(np.float32).ravel(), count.astype(np.float64).ravel())
    return moved


@njit(cache=True)
def move_mean(mean, key, count):  # type: ignore[no-untyped-def]
    """Move a mean key in place, (heads, dim) each, by one key; see `move_means`."""
    for h in range(mean.shape[0]):
        for d in range(mean.shape[1]):
            mean[h, d] = _moved(mean[h, d], key[h, d], count)


@njit(cache=True)
def _move_each(mean, key, count):  # type: ignore[no-untyped-def]
    for i in range(mean.size):
        mean[i] = _moved(mean[i], key[i], count[i])


@njit(cache=True)
def _moved(mean, key, count):  # type: ignore[no-untyped-def]
    """Return the mean of one coordinate; `count` is a float64.

    The addends have 24 and 8 bits. Multiples of `count` that separate two bfloat16 values have 25.
    So where one addend is much smaller than the other, its sign alone matters; with it raised to
    2^-27 of the other the sum is exact in float64, and the quotient on the right side of them.
    """
    held, added = (count - 1.0) * np.float64(mean), np.float64(key)
    if held != 0.0 and abs(held) < _FAR * abs(added):
        held = np.copysign(_FAR * added, held)
    if added != 0.0 and abs(added) < _FAR * abs(held):
        added = np.copysign(_FAR * held, added)
    exact = (held + added) / count
    if abs(exact) < _LEAST_NORMAL:
        subnormal = (exact + _ROUNDS_SUBNORMAL) - _ROUNDS_SUBNORMAL
        return np.float32(np.copysign(subnormal, exact))
    bits = np.float64(exact).view(np.int64)
    raised = bits + _HALF + ((bits >> _DROPPED) & 1)
    return np.float32(np.int64(raised & _KEPT).view(np.float64))
