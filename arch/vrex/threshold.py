"""Sizes of V-Rex's threshold unit (docs/vrex-units.md, "threshold")."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tree import TREE_LEVELS_PER_STAGE
from headrace.errors import InputError

__all__ = ["CLUSTER_BITS", "PRODUCT_STAGES", "ThresholdSizes"]

CLUSTER_BITS = 16
"""Bits of the number of a cluster, and of the numbers of clusters and rows of a command."""

PRODUCT_STAGES = 2
"""Registers behind every product of a score and a count."""

_LANE_STAGES = 3  # the memories, the scaled score, the score if it is in the bucket


@dataclass(frozen=True, kw_only=True)
class ThresholdSizes:
    """Sizes of the threshold unit, and its cycles.

    The defaults are V-Rex's: 16 inputs, 8 KB of scores, 8 KB of counts (section 5). The number of
    buckets is not published.

    Parameters
    ----------
    lanes : int
        Clusters per beat, multipliers; a power of two, 2 to 256.
    max_clusters : int
        Largest row; a multiple of `lanes`, at least 2 `lanes` and at most 65535.
    score_bits : int
        Bits of an aligned score, with its sign; 2 to 16.
    count_bits : int
        Bits of a cluster's count of tokens; 1 to 16.
    buckets : int
        Parts of a row's range of scores; 1 to 32768. Powers of two need no multipliers.
    ratio_bits : int
        Fraction bits of the threshold's share of a row's weight; 1 to 16.

    Raises
    ------
    InputError
        A size is out of range.
    """

    lanes: int = 16
    max_clusters: int = 4096
    score_bits: int = 16
    count_bits: int = 16
    buckets: int = 16
    ratio_bits: int = 16

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "lanes": (2, 256),
            "max_clusters": (2 * self.lanes, 2**CLUSTER_BITS - 1),
            "score_bits": (2, 16),
            "count_bits": (1, 16),
            "buckets": (1, 2**15),
            "ratio_bits": (1, 16),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
        if self.lanes & (self.lanes - 1):
            raise InputError(f"lanes = {self.lanes} is not allowed: a power of two")
        if self.max_clusters % self.lanes:
            raise InputError(
                f"max_clusters = {self.max_clusters} is not allowed: a multiple of {self.lanes}"
            )

    @property
    def words(self) -> int:
        """Words of the memories of scores, counts and chosen clusters, `lanes` clusters each."""
        return self.max_clusters // self.lanes

    @property
    def word_bits(self) -> int:
        """Bits of an address of those memories."""
        return (self.words - 1).bit_length()

    @property
    def lane_bits(self) -> int:
        """Bits of the number of a lane."""
        return (self.lanes - 1).bit_length()

    @property
    def weight_bits(self) -> int:
        """Bits of a score times a count."""
        return self.score_bits + self.count_bits

    @property
    def sum_bits(self) -> int:
        """Bits of a row's weight, exact for every row."""
        return self.weight_bits + (self.max_clusters - 1).bit_length()

    @property
    def bound_bits(self) -> int:
        """Bits of a score above the row's lowest one, times the number of buckets."""
        return self.score_bits + self.buckets.bit_length()

    @property
    def memory_bits(self) -> dict[str, int]:
        """Bits of each memory by name."""
        return {
            "scores": self.max_clusters * self.score_bits,
            "counts": self.max_clusters * self.count_bits,
            "chosen": self.max_clusters,
        }

    @property
    def tree_stages(self) -> int:
        """Registers in the trees over a beat: its sum and its lowest and highest score."""
        return -(-self.lane_bits // TREE_LEVELS_PER_STAGE)

    @property
    def bound_cycles(self) -> int:
        """Cycles from a row's last beat to the first beat of its highest bucket."""
        return self.tree_stages + 2

    @property
    def decision_cycles(self) -> int:
        """Cycles from a beat to the running sum with it, which decides a cycle later."""
        return _LANE_STAGES + PRODUCT_STAGES + self.tree_stages + 1

    def beats(self, clusters: Any) -> Any:
        """Return the beats of a row of so many clusters (int or int array)."""
        return -(-clusters // self.lanes)

    def row_cycles(self, clusters: Any, walked: Any) -> Any:
        """Return the cycles of a row: beats (1 + walked) + bound_cycles + decision_cycles.

        The preprocess pass, then one pass per bucket, without gaps between them: the pass after
        the last one is under way when the unit learns that it is not needed.

        Parameters
        ----------
        clusters : int or int array
            At least 1.
        walked : int or int array
            Buckets to and with the one that ends the walk, empty ones included.
        """
        return self.beats(clusters) * (1 + walked) + self.bound_cycles + self.decision_cycles

    def result_cycles(self, chosen: NDArray[np.bool_]) -> Any:
        """Return the cycles in which the chosen clusters leave.

        One per cluster, and one per word without any before the last chosen one.

        Parameters
        ----------
        chosen : ndarray of bool, shape (..., clusters)
            The union over the rows; not empty.

        Returns
        -------
        int or int array, shape (...)
        """
        clusters = chosen.shape[-1]
        more = [(0, 0)] * (chosen.ndim - 1) + [(0, -clusters % self.lanes)]
        lanes = np.pad(chosen, more).reshape(*chosen.shape[:-1], -1, self.lanes)
        words = np.asarray(lanes.any(axis=-1))
        to_last = words.shape[-1] - np.argmax(words[..., ::-1], axis=-1)
        return chosen.sum(axis=-1) + to_last - words.sum(axis=-1)

    def cycles(self, walked: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Any:
        """Return the cycles from a command to its last cluster, both included, without stalls.

        Parameters
        ----------
        walked : ndarray of int, shape (..., rows)
            Buckets walked in each row.
        chosen : ndarray of bool, shape (..., clusters)
            The union over the rows.

        Returns
        -------
        int or int array, shape (...)
        """
        results = self.result_cycles(chosen)
        return self.command_cycles(chosen.shape[-1], walked, results)

    def command_cycles(self, clusters: Any, walked: NDArray[np.int64], results: Any) -> Any:
        """Return `cycles` by the numbers alone.

        Parameters
        ----------
        clusters : int or int array, shape (...)
        walked : ndarray of int, shape (..., rows)
        results : int or int array, shape (...)
            Their `result_cycles`.

        Returns
        -------
        int or int array, shape (...)
        """
        rows = self.row_cycles(np.expand_dims(clusters, -1), np.asarray(walked)).sum(axis=-1)
        return 1 + self.beats(clusters) + rows + results
