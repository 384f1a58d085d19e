"""The hash-cluster (HC) table: keys of one layer grouped by Hamming distance (V-Rex, ReSV)."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import round_to_bfloat16
from headrace.models.kernels.retrieval.hashing import hash_keys
from headrace.models.kernels.retrieval.mean_key import move_mean

__all__ = ["MAX_TOKENS", "HashClusterTable"]

MAX_TOKENS = 2**16 - 1
"""Tokens of a stream: token counts and cluster numbers have 16 bits."""


class HashClusterTable:
    """Clusters of the cached keys of one layer; grows with every frame.

    A token joins the cluster whose code is nearest, the oldest of equals, if the distance is
    below the threshold; otherwise it opens a cluster with its key and code. A member moves the
    mean key as `move_means` does: exact, rounded once to bfloat16.

    Parameters
    ----------
    kv_heads, head_dim : int
    planes : ndarray of float32, shape (kv_heads * head_dim, bits)
        From `draw_hyperplanes`.
    distance : int
        Hamming threshold Th_hd; joining needs a distance below it.
    rehash : bool
        Whether the clusters that a frame moved get the code of their new mean after the frame.
        By default a cluster keeps the code of its first key. V-Rex does not say which.

    Raises
    ------
    InputError
        Shapes do not fit, or the stream grows beyond `MAX_TOKENS`.
    """

    def __init__(
        self,
        kv_heads: int,
        head_dim: int,
        planes: NDArray[np.float32],
        *,
        distance: int = 7,
        rehash: bool = False,
    ) -> None:
        if kv_heads < 1 or head_dim < 1 or planes.shape[0] != kv_heads * head_dim:
            raise InputError(
                f"table: {kv_heads} heads of {head_dim}, planes {planes.shape}; "
                "planes (kv_heads * head_dim, bits) are needed"
            )
        self.planes, self.distance, self.rehash = planes, distance, rehash
        self.clusters = self.tokens = 0
        self._means = np.empty((kv_heads, 64, head_dim), np.float32)
        self._counts = np.zeros(64, np.uint16)
        self._codes = np.empty(64, np.uint32)
        self._members = np.empty(64, np.int32)

    @property
    def means(self) -> NDArray[np.float32]:
        """Mean keys, bfloat16 values, shape (kv_heads, clusters, head_dim)."""
        return self._means[:, : self.clusters]

    @property
    def counts(self) -> NDArray[np.uint16]:
        """Tokens of every cluster, shape (clusters,)."""
        return self._counts[: self.clusters]

    @property
    def codes(self) -> NDArray[np.uint32]:
        """Hash code of every cluster, shape (clusters,)."""
        return self._codes[: self.clusters]

    @property
    def members(self) -> NDArray[np.int32]:
        """Cluster of every token, shape (tokens,)."""
        return self._members[: self.tokens]

    @property
    def table_bytes(self) -> int:
        """Bytes in device memory: mean key, code, number and count per row, an index per token."""
        return self.clusters * (2 * len(self.planes) + 4 + 2 + 2) + 4 * self.tokens

    def append(self, keys: NDArray[np.float32]) -> NDArray[np.int32]:
        """Sort the keys of a frame into the table.

        Parameters
        ----------
        keys : ndarray of float32, shape (tokens, kv_heads, head_dim)
            After RoPE; rounded to bfloat16 here.

        Returns
        -------
        ndarray of int32, shape (tokens,)
            Cluster of every token.
        """
        if keys.ndim != 3 or keys.shape[1:] != self._means.shape[::2]:
            raise InputError(
                f"table: keys {keys.shape}; (tokens, {self._means.shape[0]}, "
                f"{self._means.shape[2]}) is needed"
            )
        if self.tokens + len(keys) > MAX_TOKENS:
            raise InputError(f"table: {self.tokens + len(keys)} tokens; at most {MAX_TOKENS} fit")
        codes = hash_keys(keys.reshape(len(keys), len(self.planes)), self.planes)
        return self.append_hashed(keys, codes)

    def append_hashed(
        self, keys: NDArray[np.float32], codes: NDArray[np.uint32]
    ) -> NDArray[np.int32]:
        """Sort keys with given codes, shape (tokens,), into the table; else as `append`."""
        self._reserve(len(keys))
        last = self.tokens + len(keys)
        joined = self._members[self.tokens : last]
        self.clusters = _assign(
            round_to_bfloat16(keys), codes, self.distance, self.clusters,
            self._means, self._counts, self._codes, joined,
        )  # fmt: skip
        self.tokens = last
        if self.rehash:
            moved = np.unique(joined)
            flat = self._means[:, moved].swapaxes(0, 1).reshape(len(moved), len(self.planes))
            self._codes[moved] = hash_keys(flat, self.planes)
        return joined.copy()

    def _reserve(self, tokens: int) -> None:
        """Make room for `tokens` more tokens, each with a cluster of its own."""
        self._members = _grown(self._members, self.tokens + tokens, 0)
        clusters = self.clusters + tokens
        self._means = _grown(self._means, clusters, 1)
        self._counts = _grown(self._counts, clusters, 0)
        self._codes = _grown(self._codes, clusters, 0)


def _grown(array: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Return the array, or a copy with at least twice the length where `size` does not fit."""
    if size <= array.shape[axis]:
        return array
    shape = list(array.shape)
    shape[axis] = max(size, 2 * shape[axis])
    larger = np.zeros(shape, array.dtype)
    larger[(slice(None),) * axis + (slice(array.shape[axis]),)] = array
    return larger


@njit(cache=True)
def _ones(x):  # type: ignore[no-untyped-def]
    """Population count of 32 bits."""
    x = np.uint32(x - np.uint32((x >> np.uint32(1)) & np.uint32(0x55555555)))
    low = np.uint32(x & np.uint32(0x33333333))
    x = np.uint32(low + np.uint32(np.uint32(x >> np.uint32(2)) & np.uint32(0x33333333)))
    x = np.uint32(np.uint32(x + np.uint32(x >> np.uint32(4))) & np.uint32(0x0F0F0F0F))
    return np.uint32(np.uint32(x * np.uint32(0x01010101)) >> np.uint32(24))


@njit(cache=True)
def _assign(keys, codes, limit, clusters, means, counts, table, joined):  # type: ignore[no-untyped-def]
    for t in range(len(keys)):
        nearest, best = -1, limit
        for c in range(clusters):
            distance = np.int64(_ones(np.uint32(codes[t] ^ table[c])))
            if distance < best:
                nearest, best = c, distance
        if nearest < 0:
            nearest = clusters
            clusters += 1
            table[nearest] = codes[t]
            counts[nearest] = 1
            means[:, nearest] = keys[t]
        else:
            counts[nearest] += 1
            move_mean(means[:, nearest], keys[t], np.float64(counts[nearest]))
        joined[t] = nearest
    return clusters
