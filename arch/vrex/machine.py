"""Sizes of V-Rex: peak, memories, area and power of the cores (arXiv 2512.12284, section 5)."""

from dataclasses import dataclass

from headrace.arch.calibration import constant
from headrace.arch.point import Point
from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.arch.vrex.threshold import ThresholdSizes

__all__ = ["MODULES", "CoreSizes", "core_sizes", "table_row_bytes"]

MODULES = ("dpe", "vpe", "lxe_memory", "hcu", "wtu", "kvmu")
"""Parts of a core in table III: matrix unit, vector unit, their memory; hash-cluster, threshold
and KV management unit."""

_CODES_WAITING = 32


@dataclass(frozen=True, kw_only=True)
class CoreSizes:
    """What one core is made of, and how many there are.

    Parameters
    ----------
    cores, trees, inputs, vector_lanes, lxe_kib : int
        Cores; trees of the matrix unit and their inputs; lanes of the vector unit; memory in KiB.
    clock_hz : int
    hash_cluster, threshold : HashClusterSizes, ThresholdSizes
    """

    cores: int
    trees: int
    inputs: int
    vector_lanes: int
    lxe_kib: int
    clock_hz: int
    hash_cluster: HashClusterSizes
    threshold: ThresholdSizes

    @property
    def macs_per_s(self) -> int:
        """Multiply-accumulates per second of all matrix units."""
        return self.cores * self.trees * self.inputs * self.clock_hz

    @property
    def peak_flop_per_s(self) -> int:
        """Peak of matrix and vector units; table I counts both."""
        per_core = self.trees * self.inputs + self.vector_lanes
        return 2 * self.cores * per_core * self.clock_hz

    @property
    def engine_bytes(self) -> float:
        """Published memories of a retrieval engine.

        Codes that wait, codes of the clusters, a row's scores, the clusters' counts (figure 10).
        """
        threshold = self.threshold.memory_bits
        bits = self.hash_cluster.buffer_bits + self.hash_cluster.code_memory_bits
        return (bits + threshold["scores"] + threshold["counts"]) / 8

    def _scales(self) -> dict[str, float]:
        """Return each module's size in published ones."""
        return {
            "dpe": self.trees * self.inputs / 4096,
            "vpe": self.vector_lanes / 64,
            "lxe_memory": self.lxe_kib / 384,
            "hcu": self.hash_cluster.lanes * self.hash_cluster.accumulators / 16,
            "wtu": self.threshold.lanes / 16,
            "kvmu": 1.0,
        }

    def area_mm2(self) -> dict[str, float]:
        """Return the area of all cores by module, 14 nm: that of table III, scaled by lanes."""
        return {
            name: self.cores * constant(f"vrex.{name}_mm2") * scale
            for name, scale in self._scales().items()
        }

    def power_w(self) -> dict[str, float]:
        """Return the power of all cores at work, by module: that of table III, scaled by lanes.

        In proportion to the clock; the voltage stays.
        """
        clock = self.clock_hz / 800e6
        return {
            name: self.cores * constant(f"vrex.{name}_w") * scale * clock
            for name, scale in self._scales().items()
        }


def core_sizes(point: Point) -> CoreSizes:
    """Return the sizes of the cores of a point."""
    lanes = point.integer("wtu_lanes")
    return CoreSizes(
        cores=point.integer("cores"),
        trees=point.integer("dpe_trees"),
        inputs=point.integer("dpe_inputs"),
        vector_lanes=point.integer("vpe_lanes"),
        lxe_kib=point.integer("lxe_kib"),
        clock_hz=point.integer("clock_mhz") * 1_000_000,
        hash_cluster=HashClusterSizes(
            lanes=point.integer("hcu_lanes"),
            accumulators=point.integer("hcu_accumulators"),
            frame_tokens=_CODES_WAITING,
        ),
        threshold=ThresholdSizes(lanes=lanes, buckets=point.integer("wtu_buckets")),
    )


def table_row_bytes(width: int, tokens: float) -> float:
    """Return the bytes of a cluster's row in the hash-cluster table.

    Parameters
    ----------
    width : int
        Coordinates of a key, all KV heads.
    tokens : float
        Tokens of the cluster.

    Returns
    -------
    float
        Mean key in bfloat16, hash code, number and count, 4 bytes for each token's index.
    """
    return 2 * width + 4 + 2 + 2 + 4 * tokens
