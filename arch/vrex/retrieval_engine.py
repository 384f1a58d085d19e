"""Sizes of V-Rex's retrieval engine (docs/vrex-units.md, "retrieval_engine")."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.arch.vrex.hash_cluster import COUNT_BITS, HashClusterSizes
from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.arch.vrex.threshold import ThresholdSizes
from headrace.errors import InputError

__all__ = ["RetrievalEngineSizes"]

_TURN = 2  # cycles from the last assignment to the threshold unit's command
_READ = 2  # from the last extent's cycle to the read, with the cycle of the command


@dataclass(frozen=True, kw_only=True)
class RetrievalEngineSizes:
    """Sizes of the three units, which have to fit each other.

    Parameters
    ----------
    hash_cluster : HashClusterSizes
    threshold : ThresholdSizes
        For at least as many clusters, with counts of 16 bits.
    kv_management : KvManagementSizes
        For at least as many clusters.

    Raises
    ------
    InputError
        The sizes do not fit.
    """

    hash_cluster: HashClusterSizes = field(default_factory=HashClusterSizes)
    threshold: ThresholdSizes = field(default_factory=ThresholdSizes)
    kv_management: KvManagementSizes = field(default_factory=KvManagementSizes)

    def __post_init__(self) -> None:
        """Check that the sizes fit."""
        clusters = self.hash_cluster.clusters
        for name, most in (
            ("threshold.max_clusters", self.threshold.max_clusters),
            ("kv_management.clusters", self.kv_management.clusters),
        ):
            if most < clusters:
                raise InputError(f"{name} = {most} is not allowed: at least {clusters}")
        if self.threshold.count_bits != COUNT_BITS:
            raise InputError(
                f"threshold.count_bits = {self.threshold.count_bits} is not allowed: {COUNT_BITS}"
            )

    @property
    def words(self) -> int:
        """Words of the memory of counts, one for each beat of the threshold unit; at least 2."""
        return max(2, -(-self.hash_cluster.clusters // self.threshold.lanes))

    @property
    def count_memory_bits(self) -> int:
        """Bits of the memory of counts."""
        return self.words * self.threshold.lanes * COUNT_BITS

    @property
    def buffer_bits(self) -> int:
        """Bits of the buffer of a frame's clusters before the KV management."""
        return self.hash_cluster.frame_tokens * COUNT_BITS

    def cycles(
        self,
        sorting: int,
        walked: NDArray[np.int64],
        chosen: NDArray[np.bool_],
        offloaded: Sequence[int],
    ) -> int:
        """Return the cycles from a command to its last read, both included.

        No stream stalls, no unit is busy with a command before, and the command does not begin a
        layer anew. A chosen cluster waits while the extents of the one before are walked, and
        with it all that come later.

        Parameters
        ----------
        sorting : int
            `HashClusterSizes.cycles` of the command's tokens; rows + 1 without tokens.
        walked, chosen
            As for `ThresholdSizes.cycles`.
        offloaded : sequence of int
            Offloaded tokens of each chosen cluster.
        """
        lanes, extent = self.threshold.lanes, self.kv_management.extent_tokens
        results = self.threshold.result_cycles(chosen)
        taken = sorting + _TURN + self.threshold.cycles(walked, chosen) - results - 1
        word, loaded, ended = -1, 0, 0  # of the cluster before; the cycles its walk begins and ends
        for number, tokens in zip(np.flatnonzero(chosen).tolist(), offloaded, strict=True):
            empty = max(0, number // lanes - word - 1)
            word = number // lanes
            taken = max(taken + 1 + empty, loaded)
            loaded = max(taken + 1, ended)
            ended = loaded + max(1, -(-tokens // extent))
        return ended + _READ
