"""Retrieval of cached keys and values by hash clusters: ReSV, bit by bit; see docs/vrex.md."""

from headrace.models.kernels.bfloat.elementary import exp_bfloat16, round_to_bfloat16
from headrace.models.kernels.retrieval.clustering import MAX_TOKENS, HashClusterTable
from headrace.models.kernels.retrieval.hashing import (
    draw_hyperplanes,
    hamming_distance,
    hash_keys,
)
from headrace.models.kernels.retrieval.placement import ClusterRead, KvPlacement, TokenWrite
from headrace.models.kernels.retrieval.resv import Resv, Retrieval, score_clusters
from headrace.models.kernels.retrieval.threshold import (
    TRANSFORMS,
    Selection,
    align_scores,
    select_bucketed,
    select_exact,
    transform_scores,
)

__all__ = [
    "MAX_TOKENS",
    "TRANSFORMS",
    "ClusterRead",
    "HashClusterTable",
    "KvPlacement",
    "Resv",
    "Retrieval",
    "Selection",
    "TokenWrite",
    "align_scores",
    "draw_hyperplanes",
    "exp_bfloat16",
    "hamming_distance",
    "hash_keys",
    "round_to_bfloat16",
    "score_clusters",
    "select_bucketed",
    "select_exact",
    "transform_scores",
]
