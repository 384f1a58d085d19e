"""Sizes of V-Rex's hash-cluster unit (docs/vrex-units.md, "hash_cluster")."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import InputError

__all__ = ["COUNT_BITS", "HashClusterSizes"]

COUNT_BITS = 16
"""Bits of a token's number, a cluster's number and a cluster's count."""


@dataclass(frozen=True, kw_only=True)
class HashClusterSizes:
    """Sizes of the hash-cluster unit, and its cycles; the defaults are those of one V-Rex core.

    Parameters
    ----------
    code_bits : int
        Bits of a hash code, 1 to 64.
    lanes : int
        Bits of two codes that an accumulator compares per cycle, 1 to 64.
    accumulators : int
        Clusters compared side by side, a power of two up to 64.
    clusters : int
        Clusters that the table holds, 2 `accumulators` to 65535.
    frame_tokens : int
        Codes that wait in the buffer of the frame, 2 to 1024.
    threshold : int
        Hamming threshold, 1 to `code_bits`: joining needs a distance below it.

    Raises
    ------
    InputError
        A size is out of range.
    """

    code_bits: int = 32
    lanes: int = 16
    accumulators: int = 1
    clusters: int = 1024
    frame_tokens: int = 32
    threshold: int = 7

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "code_bits": (1, 64),
            "lanes": (1, 64),
            "accumulators": (1, 64),
            "clusters": (2 * self.accumulators, 65535),
            "frame_tokens": (2, 1024),
            "threshold": (1, self.code_bits),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
        if self.accumulators & (self.accumulators - 1):
            raise InputError(
                f"accumulators = {self.accumulators} is not allowed: a power of two is needed"
            )

    @property
    def beats(self) -> int:
        """Cycles in which an accumulator compares two codes."""
        return -(-self.code_bits // self.lanes)

    @property
    def groups(self) -> int:
        """Words of the code memory, each with a code for every accumulator."""
        return -(-self.clusters // self.accumulators)

    @property
    def lane_bits(self) -> int:
        """Bits of an accumulator's number; 0 with one accumulator."""
        return self.accumulators.bit_length() - 1

    @property
    def cluster_bits(self) -> int:
        """Bits of a number of clusters."""
        return self.clusters.bit_length()

    @property
    def distance_bits(self) -> int:
        """Bits of a distance; all ones are larger than any."""
        return (self.code_bits + 1).bit_length()

    @property
    def buffer_bits(self) -> int:
        """Bits of the buffer of the frame's codes."""
        return self.frame_tokens * self.code_bits

    @property
    def code_memory_bits(self) -> int:
        """Bits of the memory of the clusters' codes."""
        return self.groups * self.accumulators * self.code_bits

    @property
    def count_memory_bits(self) -> int:
        """Bits of the memory of the clusters' counts."""
        return self.clusters * COUNT_BITS

    def token_cycles(self, clusters: ArrayLike) -> NDArray[np.int64]:
        """Return the cycles from a token to the next one, with so many clusters before it.

        `beats` for each group of clusters, and 3 to take the code, to take the minimum and to
        decide.
        """
        groups = -(-np.asarray(clusters, np.int64) // self.accumulators)
        return np.asarray(groups * self.beats + 3)

    def cycles(self, opens: ArrayLike, *, clusters: Any = 0, rows: Any = 0) -> Any:
        """Return the cycles from a command to its last assignment, both included.

        No stream stalls, and codes come no later than in the cycles after the command, one per
        cycle. The next command is accepted in the cycle of the last assignment.

        Parameters
        ----------
        opens : bool array, shape (..., tokens)
            Whether each token, at least one, opens a cluster: the data decide.
        clusters : int or int array, shape (...)
            Clusters that the unit holds before the command; 0 if it clears them.
        rows : int or int array, shape (...)
            Rows of the table that the command loads, one per cycle.

        Returns
        -------
        int or int array, shape (...)

        Raises
        ------
        InputError
            No token, or more clusters than fit.
        """
        opened = np.asarray(opens, np.int64)
        held, loaded = np.asarray(clusters, np.int64), np.asarray(rows, np.int64)
        last = held + loaded + opened.sum(axis=-1)
        tokens, most = opened.shape[-1], np.max(last, initial=0)
        if not tokens or min(held.min(), loaded.min()) < 0 or most > self.clusters:
            raise InputError(
                f"{tokens} tokens, {most} clusters are not allowed: at least one token, "
                f"0 to {self.clusters} clusters"
            )
        before = np.expand_dims(held + loaded, -1) + np.cumsum(opened, axis=-1) - opened
        return loaded + self.token_cycles(before).sum(axis=-1) + 2
