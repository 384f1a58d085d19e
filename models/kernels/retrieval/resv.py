"""ReSV, the retrieval of V-Rex (arXiv 2512.12284): hash clusters, then WiCSum thresholding."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import round_to_bfloat16
from headrace.models.kernels.retrieval.clustering import HashClusterTable
from headrace.models.kernels.retrieval.threshold import (
    TRANSFORMS,
    align_scores,
    select_bucketed,
    select_exact,
    transform_scores,
)

__all__ = ["Resv", "Retrieval", "score_clusters"]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """What ReSV fetches for one step of one layer.

    Attributes
    ----------
    clusters : ndarray of bool, shape (kv_heads, clusters)
        Chosen by any row (query head and token) of the KV head's group.
    tokens : ndarray of bool, shape (kv_heads, tokens)
        Their cached tokens.
    visited : ndarray of int, shape (kv_heads, rows)
        Clusters or buckets each row's walk took; see `Selection`.
    """

    clusters: NDArray[np.bool_]
    tokens: NDArray[np.bool_]
    visited: NDArray[np.int64]

    @property
    def ratio(self) -> float:
        """Share of the cached tokens that is fetched, mean over KV heads; 0 without any."""
        return float(self.tokens.mean()) if self.tokens.size else 0.0


def score_clusters(q: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores of all query heads and tokens against the mean keys of their KV head.

    Parameters
    ----------
    q : ndarray of float32, shape (tokens, heads, head_dim)
        After RoPE; rounded to bfloat16 here.
    means : ndarray of float32, shape (kv_heads, clusters, head_dim)
        bfloat16 values.

    Returns
    -------
    ndarray of float32, shape (kv_heads, rows, clusters)
        ``q . mean / sqrt(head_dim)`` as bfloat16; sums in float32 in the order of the BLAS
        library. Rows are the query heads of a group, and within a head the tokens.
    """
    kv_heads, _, head_dim = means.shape
    if q.ndim != 3 or q.shape[2] != head_dim or q.shape[1] % kv_heads:
        raise InputError(
            f"scores: q {q.shape}, mean keys {means.shape}; (tokens, heads, head_dim) and "
            "(kv_heads, clusters, head_dim) are needed, kv_heads a divisor of heads"
        )
    rows = round_to_bfloat16(q).swapaxes(0, 1).reshape(kv_heads, -1, head_dim)
    scores = rows @ means.swapaxes(1, 2)
    scores *= np.float32(head_dim**-0.5)
    return round_to_bfloat16(scores)


class Resv:
    """ReSV on the key stream of one layer: append a frame, then choose for queries.

    Parameters
    ----------
    table : HashClusterTable
        Clusters of the layer; `append` lets them grow.
    ratio : float
        WiCSum ratio Th_r, from 0 to 1.
    transform : str
        One of `TRANSFORMS`.
    buckets : int
        Buckets of the early exit; 0 sorts exactly.
    """

    def __init__(
        self,
        table: HashClusterTable,
        *,
        ratio: float = 0.3,
        transform: str = "exp",
        buckets: int = 0,
    ) -> None:
        if not 0 <= ratio <= 1 or transform not in TRANSFORMS or buckets < 0:
            raise InputError(
                f"ReSV: ratio {ratio}, transform {transform!r}, {buckets} buckets; 0 to 1, one of "
                f"{', '.join(TRANSFORMS)}, and at least 0 are needed"
            )
        self.table, self.ratio, self.transform, self.buckets = table, ratio, transform, buckets

    def append(self, keys: NDArray[np.float32]) -> None:
        """Cluster the keys of a frame, shape (tokens, kv_heads, head_dim), after RoPE."""
        self.table.append(keys)

    def select(self, q: NDArray[np.float32]) -> Retrieval:
        """Choose cached tokens for queries, shape (tokens, heads, head_dim), after RoPE."""
        scores = transform_scores(score_clusters(q, self.table.means), self.transform)
        aligned, counts = align_scores(scores), self.table.counts
        if self.buckets:
            chosen = select_bucketed(aligned, counts, self.ratio, self.buckets)
        else:
            chosen = select_exact(aligned, counts, self.ratio)
        clusters = np.asarray(chosen.mask.any(axis=1))
        tokens = clusters[:, self.table.members]
        return Retrieval(clusters=clusters, tokens=tokens, visited=chosen.visited)
