"""What of the chosen tokens crosses the link, and in how many requests."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["DeviceMemory", "count_runs"]


def count_runs(
    tokens: NDArray[np.bool_], blocks: NDArray[np.int32], extent_tokens: int = 0
) -> NDArray[np.int64]:
    """Return the maximal runs of contiguous tokens, shape (kv_heads,).

    Parameters
    ----------
    tokens : ndarray of bool, shape (kv_heads, cached)
        In the order of their arrival.
    blocks : ndarray of int32, shape (cached,)
        Block of every token, from 0. A block's tokens lie at contiguous addresses in the order
        of their arrival, different blocks apart: a run does not cross from one into the next.
    extent_tokens : int
        Tokens of a block after which its addresses go on somewhere else; 0: they never do.
    """
    if extent_tokens < 0:
        raise InputError(f"extent_tokens = {extent_tokens}; at least 0 is needed")
    if tokens.ndim != 2 or blocks.shape != tokens.shape[1:]:
        raise InputError(
            f"runs: tokens {tokens.shape}, blocks {blocks.shape}; (kv_heads, cached) and (cached,) "
            "are needed"
        )
    runs = np.zeros(len(tokens), np.int64)
    if blocks.size:
        _count(tokens, blocks, extent_tokens or blocks.size, int(blocks.max()) + 1, runs)
    return runs


class DeviceMemory:
    """The cached tokens of one layer that are in device memory beside the offload memory.

    Parameters
    ----------
    resident : int
        Newest cached tokens, at least 0.
    cache : int
        Tokens per KV head, at least 0, that stay there of those fetched in earlier passes (ours;
        V-Rex names no such cache). After every pass the blocks wanted least recently leave as a
        whole until the rest fits, of equals the one with the lowest number first.
    """

    def __init__(self, *, resident: int = 0, cache: int = 0) -> None:
        if min(resident, cache) < 0:
            raise InputError(f"resident = {resident}, cache = {cache}; at least 0 is needed")
        self.resident, self.cache = resident, cache
        self._held = np.zeros((0, 0), np.bool_)  # (kv_heads, tokens)
        self._wanted = np.zeros((0, 0), np.int64)  # (kv_heads, blocks): last pass, from 1
        self._passes = 0

    def fetch(self, wanted: NDArray[np.bool_], blocks: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which wanted tokens cross the link, and keep them as far as there is room.

        Parameters
        ----------
        wanted : ndarray of bool, shape (kv_heads, cached)
        blocks : ndarray of int32, shape (cached,)
            Block of every token, from 0; it stays the same in later passes.

        Returns
        -------
        ndarray of bool, shape (kv_heads, cached)
        """
        heads, cached = wanted.shape
        old = wanted.copy()
        old[:, max(cached - self.resident, 0) :] = False
        if not self.cache or not cached:
            return old
        self._passes += 1
        self._held = _widened(self._held, heads, cached)
        self._wanted = _widened(self._wanted, heads, int(blocks.max()) + 1)
        missing = old & ~self._held
        self._held |= old
        for held, mask, last in zip(self._held, old, self._wanted, strict=True):
            last[blocks[mask]] = self._passes
            newest = np.argsort(last, kind="stable")[::-1]
            sizes = np.bincount(blocks[held], minlength=len(last))
            stays = np.empty(len(last), np.bool_)
            stays[newest] = np.cumsum(sizes[newest]) <= self.cache
            held &= stays[blocks]
        return missing


def _widened(array: NDArray, rows: int, columns: int) -> NDArray:  # type: ignore[type-arg]
    """Return the array with zeros behind it, shape (rows, columns)."""
    wider = np.zeros((rows, columns), array.dtype)
    wider[: len(array), : array.shape[1]] = array
    return wider


@njit(cache=True)
def _count(tokens, blocks, extent, number, runs):  # type: ignore[no-untyped-def]
    for h in range(len(tokens)):
        last, members = np.zeros(number, np.bool_), np.zeros(number, np.int64)
        for t in range(len(blocks)):
            b, now = blocks[t], tokens[h, t]
            if now and (not last[b] or members[b] % extent == 0):
                runs[h] += 1
            last[b] = now
            members[b] += 1
