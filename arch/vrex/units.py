"""Sizes of the units of a point's retrieval engine, those that no axis names at their defaults."""

from dataclasses import dataclass

from headrace.arch.point import Point
from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.arch.vrex.machine import core_sizes
from headrace.arch.vrex.mean_key import MeanKeySizes
from headrace.arch.vrex.retrieval_engine import RetrievalEngineSizes
from headrace.arch.vrex.score_align import ScoreAlignSizes
from headrace.arch.vrex.threshold import ThresholdSizes

__all__ = ["UnitSizes", "unit_sizes"]


@dataclass(frozen=True, kw_only=True)
class UnitSizes:
    """Sizes of each unit of docs/vrex-units.md, by its name."""

    hash_cluster: HashClusterSizes
    mean_key: MeanKeySizes
    score_align: ScoreAlignSizes
    threshold: ThresholdSizes
    kv_management: KvManagementSizes
    retrieval_engine: RetrievalEngineSizes


def unit_sizes(point: Point) -> UnitSizes:
    """Return the sizes of the units of one core.

    Hash clusters and threshold are those of the point. The score alignment has the lanes and rows
    of the threshold unit that it feeds; mean keys and KV management have no axes.

    Parameters
    ----------
    point : Point
        A point of ``vrex``.
    """
    core = core_sizes(point)
    hash_cluster, threshold = core.hash_cluster, core.threshold
    places = KvManagementSizes(clusters=hash_cluster.clusters)
    return UnitSizes(
        hash_cluster=hash_cluster,
        mean_key=MeanKeySizes(),
        score_align=ScoreAlignSizes(lanes=threshold.lanes, max_clusters=threshold.max_clusters),
        threshold=threshold,
        kv_management=places,
        retrieval_engine=RetrievalEngineSizes(
            hash_cluster=hash_cluster, threshold=threshold, kv_management=places
        ),
    )
