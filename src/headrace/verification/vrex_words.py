"""The beats in which V-Rex's units take and give their numbers (docs/vrex-units.md)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.models.kernels.retrieval import TokenWrite
from headrace.rtl.streams import pack

__all__ = [
    "assignment_words",
    "bfloat16_values",
    "cluster_words",
    "read_words",
    "row_beats",
    "write_words",
]

_BITS = 16  # of a number, a score, a coordinate


def row_beats(rows: NDArray[Any], lanes: int, fill: int) -> list[int]:
    """Return the beats of rows of 16-bit numbers; lanes behind a row's end hold `fill`."""
    behind = ((0, 0), (0, -rows.shape[1] % lanes))
    whole = np.pad(rows.astype(np.int64), behind, constant_values=fill)
    return pack(whole.reshape(-1, lanes), _BITS)


def bfloat16_values(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return the numbers whose upper 16 bits are given."""
    return (np.asarray(bits, np.uint32) << np.uint32(_BITS)).view(np.float32)


def cluster_words(clusters: Sequence[int]) -> list[int]:
    """Return chosen clusters, the last one marked; at least one."""
    return [*clusters[:-1], clusters[-1] | 1 << _BITS]


def assignment_words(assignments: Iterable[tuple[int, int, int, int]]) -> list[int]:
    """Return the beats of a command's assignments: (cluster, new, forced, count) each."""
    return [
        token | cluster << 16 | new << 32 | forced << 33 | count << 34
        for token, (cluster, new, forced, count) in enumerate(assignments)
    ]


def write_words(writes: Iterable[TokenWrite], sizes: KvManagementSizes) -> list[int]:
    """Return the beats of what moves for tokens."""
    return [
        w.slot | ((w.place is not None) | w.lost << 1 | (w.place or 0) << 2) << sizes.slot_bits
        for w in writes
    ]


def read_words(reads: Iterable[tuple[int, int, int, int]], sizes: KvManagementSizes) -> list[int]:
    """Return the beats of reads: (place, tokens, staging, last) each."""
    return [
        place | (tokens | staging << 16 | last << 32) << sizes.place_bits
        for place, tokens, staging, last in reads
    ]
