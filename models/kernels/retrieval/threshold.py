"""Weighted cumulative-sum thresholding (WiCSum): the fewest clusters that hold a share of a row.

All sums are of integers and therefore do not depend on their order. That is what makes the
bucketed walk a superset of the exact one for every input: where it has taken whole buckets, its
sum is one that the exact walk has seen, too.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import exp_bfloat16, round_to_bfloat16

__all__ = [
    "TRANSFORMS",
    "Selection",
    "align_scores",
    "select_bucketed",
    "select_exact",
    "transform_scores",
]

TRANSFORMS = ("raw", "relu", "shift", "exp")
"""What may be done to the scores of a row before they are summed; see `transform_scores`."""

_MAX_CLUSTERS, _MAX_BUCKETS, _RATIO_BITS = 2**16, 2**15, 16


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The clusters that a threshold chose.

    Attributes
    ----------
    mask : ndarray of bool, shape (..., clusters)
    visited : ndarray of int, shape (...)
        Clusters (exact) or buckets, empty ones included (bucketed), walked through per row.
    """

    mask: NDArray[np.bool_]
    visited: NDArray[np.int64]


def transform_scores(scores: NDArray[np.float32], transform: str) -> NDArray[np.float32]:
    """Transform the scores of every row before Eq 1, in bfloat16.

    ``raw``: as they are, the literal reading of V-Rex; ``relu``: max(s, 0); ``shift``: s - min;
    ``exp``: exp(s - max), a softmax without its denominator. Each operation rounds to bfloat16.

    Parameters
    ----------
    scores : ndarray of float32, shape (..., clusters)
        Finite bfloat16 values.
    transform : str
        One of `TRANSFORMS`.

    Returns
    -------
    ndarray of float32, shape (..., clusters)
        bfloat16 values.
    """
    if transform not in TRANSFORMS:
        raise InputError(f"transform {transform!r}; one of {', '.join(TRANSFORMS)} is needed")
    if transform == "raw" or scores.shape[-1] == 0:
        return scores
    if transform == "relu":
        return np.maximum(scores, np.float32(0))
    if transform == "shift":
        return round_to_bfloat16(scores - scores.min(axis=-1, keepdims=True))
    return exp_bfloat16(round_to_bfloat16(scores - scores.max(axis=-1, keepdims=True)))


def align_scores(scores: NDArray[np.float32]) -> NDArray[np.int16]:
    """Align the scores of every row to one exponent, as 16-bit integers.

    The unit is 2^(e - 14), where 2^e <= max |score| < 2^(e + 1): bfloat16 values down to 2^-7
    of that power of two are exact, smaller ones lose bits towards zero.

    Parameters
    ----------
    scores : ndarray of float32, shape (..., clusters)
        Finite bfloat16 values.

    Returns
    -------
    ndarray of int16, shape (..., clusters)
    """
    if scores.shape[-1] == 0:
        return scores.astype(np.int16)
    largest = np.maximum(scores.max(axis=-1, keepdims=True), -scores.min(axis=-1, keepdims=True))
    if not np.isfinite(largest).all():
        raise InputError("scores: finite numbers are needed")
    exponent = np.frexp(largest)[1]
    if np.abs(exponent).max() > 100:  # 2^(15 - e) may not be a float32
        return np.asarray(np.ldexp(scores.astype(np.float64), 15 - exponent)).astype(np.int16)
    return np.asarray(scores * np.ldexp(np.float32(1), 15 - exponent)).astype(np.int16)


def select_exact(scores: NDArray[np.int16], counts: NDArray[np.uint16], ratio: float) -> Selection:
    """Choose clusters by falling score until their weight exceeds a share of the row's (Eq 1-3).

    ``Sum = sum of score * count; Th = ratio * Sum``; the walk ends after the first cluster with a
    running sum > Th, which is chosen; of equal scores the lower index comes first. A row that
    never exceeds Th chooses all.

    Parameters
    ----------
    scores : ndarray of int16, shape (..., clusters)
        From `align_scores`, or any integers of 16 bits; at most 65,536 clusters.
    counts : ndarray of uint16, shape (clusters,)
        Tokens of every cluster.
    ratio : float
        Th_r, from 0 to 1; rounded to 16 fraction bits.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        A shape, a type or the ratio is out of range.
    """
    rows, share = _rows(scores, counts, ratio)
    keys = (32767 - rows.astype(np.int32)).astype(np.uint32) << np.uint32(16)
    keys |= np.arange(len(counts), dtype=np.uint32)
    keys.sort(axis=-1)
    mask, visited = np.zeros(rows.shape, np.bool_), np.zeros(len(rows), np.int64)
    _walk(rows, counts, share, keys, mask, visited)
    return _selection(mask, visited, scores)


def select_bucketed(
    scores: NDArray[np.int16], counts: NDArray[np.uint16], ratio: float, buckets: int
) -> Selection:
    """Choose clusters as V-Rex's threshold unit does: whole buckets of scores, highest first.

    Buckets divide a row's range evenly: score s is in bucket
    ``min((s - min) * buckets // (max - min), buckets - 1)``, all in the highest one if max = min.
    The walk ends after the first bucket with a running sum > Th. The choice holds that of
    `select_exact`, whatever the signs of the scores.

    Parameters
    ----------
    scores, counts, ratio
        As for `select_exact`.
    buckets : int
        From 1 to 32,768.

    Returns
    -------
    Selection
    """
    if not 1 <= buckets <= _MAX_BUCKETS:
        raise InputError(f"buckets = {buckets}; an integer from 1 to {_MAX_BUCKETS} is needed")
    rows, share = _rows(scores, counts, ratio)
    mask, visited = np.zeros(rows.shape, np.bool_), np.zeros(len(rows), np.int64)
    _walk_buckets(rows, counts, share, buckets, mask, visited)
    return _selection(mask, visited, scores)


def _rows(
    scores: NDArray[np.int16], counts: NDArray[np.uint16], ratio: float
) -> tuple[NDArray[np.int16], int]:
    """Check the arguments; return the rows and the ratio times 2^16."""
    if scores.dtype != np.int16 or counts.dtype != np.uint16:
        raise InputError(f"scores {scores.dtype}, counts {counts.dtype}; int16, uint16 are needed")
    if scores.ndim < 1 or counts.shape != scores.shape[-1:] or len(counts) > _MAX_CLUSTERS:
        raise InputError(
            f"scores {scores.shape}, counts {counts.shape}; (..., clusters) and (clusters,) "
            f"are needed, at most {_MAX_CLUSTERS} clusters"
        )
    if not 0 <= ratio <= 1:
        raise InputError(f"ratio = {ratio}; a number from 0 to 1 is needed")
    rows = np.ascontiguousarray(scores).reshape(int(np.prod(scores.shape[:-1])), len(counts))
    return rows, round(ratio * 2**_RATIO_BITS)


def _selection(
    mask: NDArray[np.bool_], visited: NDArray[np.int64], scores: NDArray[np.int16]
) -> Selection:
    return Selection(mask=mask.reshape(scores.shape), visited=visited.reshape(scores.shape[:-1]))


@njit(cache=True)
def _threshold(row, counts, share):  # type: ignore[no-untyped-def]
    """Sum of score * count, times the ratio, times 2^16."""
    total = np.int64(0)
    for c in range(row.size):
        total += np.int64(row[c]) * np.int64(counts[c])
    return total * share


@njit(cache=True)
def _walk(rows, counts, share, keys, mask, visited):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        limit, running = _threshold(rows[i], counts, share), np.int64(0)
        for key in keys[i]:
            c = np.int64(key & np.uint32(0xFFFF))
            running += np.int64(rows[i, c]) * np.int64(counts[c])
            mask[i, c] = True
            visited[i] += 1
            if running << 16 > limit:
                break


@njit(cache=True)
def _walk_buckets(rows, counts, share, buckets, mask, visited):  # type: ignore[no-untyped-def]
    bucket = np.empty(rows.shape[1], np.uint16)
    weight = np.empty(buckets, np.int64)
    for i in range(rows.shape[0]):
        if rows.shape[1] == 0:
            break
        row = rows[i]
        limit, running, lowest = _threshold(row, counts, share), np.int64(0), np.int32(row.min())
        width = np.uint32(np.int32(row.max()) - lowest)
        weight[:] = 0
        for c in range(row.size):
            above = np.uint32(np.int32(row[c]) - lowest)
            b = buckets - 1
            if above < width:
                b = np.int64(np.uint32(np.uint32(above * np.uint32(buckets)) // width))
            bucket[c] = b
            weight[b] += np.int64(row[c]) * np.int64(counts[c])
        last = buckets
        while last > 0:
            last -= 1
            running += weight[last]
            if running << 16 > limit:
                break
        visited[i] = buckets - last
        for c in range(row.size):
            mask[i, c] = bucket[c] >= last
