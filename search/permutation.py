"""A seeded permutation of 0 .. n - 1 that is computed entry by entry.

Random samples without replacement of a space that is too large to shuffle: sample i of seed s is
entry i of the permutation. Any worker can compute any range of samples, in any order.
"""

from math import isqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["permuted"]

_ROUNDS = 4
_LIMIT = 1 << 62


def permuted(start: int, stop: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return entries `start` to `stop` - 1 of the permutation of `count` numbers.

    A Feistel network of four rounds on pairs of digits in base ceil(sqrt(count)); results outside
    of the range are permuted again until they are inside (cycle walking), which keeps it exact.

    Parameters
    ----------
    start, stop : int
        0 <= start <= stop <= count.
    count : int
        1 to 2^62.
    seed : int
        0 to 2^64 - 1.

    Raises
    ------
    InputError
        A number is out of range.
    """
    if not 1 <= count <= _LIMIT:
        raise InputError(f"count = {count} is not allowed: 1 to 2^62")
    if not 0 <= start <= stop <= count:
        raise InputError(f"samples {start} to {stop} are not allowed: 0 to {count}")
    if not 0 <= seed < 1 << 64:
        raise InputError(f"seed = {seed} is not allowed: 0 to 2^64 - 1")
    base = isqrt(count - 1) + 1
    keys = _mix_all(np.uint64(seed), _ROUNDS)
    return _entries(start, stop, count, base, keys)  # type: ignore[no-any-return]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _mix(value: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of splitmix64)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True)  # type: ignore[untyped-decorator]
def _mix_all(seed: np.uint64, rounds: int) -> NDArray[np.uint64]:
    """Derive the keys of the rounds from the seed."""
    keys = np.empty(rounds, np.uint64)
    for i in range(rounds):
        seed = _mix(seed)
        keys[i] = seed
    return keys


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _entries(
    start: int, stop: int, count: int, base: int, keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    result = np.empty(stop - start, np.int64)
    wide = np.uint64(base)
    for i in range(stop - start):
        value = np.uint64(start + i)
        while True:
            high, low = value // wide, value % wide
            for key in keys:
                high, low = low, (high + _mix(low ^ key) % wide) % wide
            value = high * wide + low
            if value < np.uint64(count):
                break
        result[i] = np.int64(value)
    return result
