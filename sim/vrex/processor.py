"""What computes: the cores of V-Rex, or a GPU that runs the same policy in software."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headrace.arch.calibration import constant
from headrace.arch.vrex.machine import CoreSizes
from headrace.models.kv_policies import StepTrace

__all__ = ["Cores", "Gpu", "Prediction", "Processor"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Time to decide what one layer fetches.

    Attributes
    ----------
    matrix_s : float
        On the matrix unit, in which attention and FFN compute, too.
    beside_s : float
        Beside it.
    units_s : dict of str to float
        Busy time of the units of the retrieval engine.
    """

    matrix_s: float
    beside_s: float
    units_s: dict[str, float]


class Processor(Protocol):
    """Times of the parts of a pass, memory aside."""

    def product_s(self, rows: int, inputs: int, outputs: int) -> float:
        """Return the seconds of ``rows x inputs`` times ``inputs x outputs``."""
        ...

    def macs_s(self, macs: int) -> float:
        """Return the seconds of so many multiply-accumulates of attention."""
        ...

    def prediction(self, step: StepTrace, batch: int) -> Prediction:
        """Return the times of the policy's own work for one layer of `batch` streams."""
        ...


@dataclass(frozen=True)
class Cores:
    """The cores of V-Rex.

    Parameters
    ----------
    sizes : CoreSizes
    has_units : bool
        Whether the units of the retrieval engine cluster and select; else the vector units do.
    """

    sizes: CoreSizes
    has_units: bool = True

    def product_s(self, rows: int, inputs: int, outputs: int) -> float:
        """Return the seconds of a product: one tile of a row per cycle and core.

        Outputs are spread over the trees of all cores, inputs over those of a tree; the matrix
        unit reaches ``vrex.lxe_efficiency`` of that.
        """
        s = self.sizes
        tiles = -(-inputs // s.inputs) * -(-outputs // (s.trees * s.cores))
        return rows * tiles / s.clock_hz / constant("vrex.lxe_efficiency")

    def macs_s(self, macs: int) -> float:
        """Return the seconds of products with keys and values, whose heads fill all cores."""
        return macs / self.sizes.macs_per_s / constant("vrex.lxe_efficiency")

    def prediction(self, step: StepTrace, batch: int) -> Prediction:
        """Return the times of a policy's work; see `Processor`.

        Scores and hash bits are products. In the units, the clusters of a layer are split among
        the hash-cluster units of all cores, and the rows of the selection among their threshold
        units; streams follow each other. The vector units take an operation per comparison and
        lane, and, for want of buckets, ``log2`` of the row's length of them to sort it.
        """
        s = self.sizes
        matrix_s = self.macs_s(batch * step.work.macs)
        if not (self.has_units and step.clusters):
            lanes = s.cores * s.vector_lanes * s.clock_hz
            sorting = np.log2(max(2, step.clusters or step.cached))
            vector_s = batch * step.work.comparisons * sorting / lanes
            return Prediction(matrix_s=matrix_s, beside_s=vector_s, units_s={"vpe": vector_s})
        hcu_s = batch * self._hash_cluster_cycles(step) / s.clock_hz
        wtu_s = batch * self._threshold_cycles(step) / s.clock_hz
        return Prediction(
            matrix_s=matrix_s, beside_s=hcu_s + wtu_s, units_s={"hcu": hcu_s, "wtu": wtu_s}
        )

    def _hash_cluster_cycles(self, step: StepTrace) -> int:
        unit, cores = self.sizes.hash_cluster, self.sizes.cores
        opened = np.asarray(step.opens, np.int64)
        before = step.clusters + np.cumsum(opened) - opened
        return int(unit.token_cycles(-(-before // cores)).sum()) + 2

    def _threshold_cycles(self, step: StepTrace) -> int:
        """Return the cycles of the core whose rows take longest."""
        unit, cores = self.sizes.threshold, self.sizes.cores
        rows = unit.row_cycles(step.clusters, np.asarray(step.walked, np.int64).ravel())
        shares = np.array_split(rows, min(cores, len(rows)))
        return 1 + int(unit.beats(step.clusters)) + max(int(share.sum()) for share in shares)


@dataclass(frozen=True)
class Gpu:
    """A GPU as a roofline, with the efficiency that was measured on it.

    Parameters
    ----------
    flop_per_s : float
        Peak of the arithmetic.
    """

    flop_per_s: float

    def product_s(self, rows: int, inputs: int, outputs: int) -> float:
        """Return the seconds of a product at ``vrex.gpu_efficiency`` of the peak."""
        return self.macs_s(rows * inputs * outputs)

    def macs_s(self, macs: int) -> float:
        """Return the seconds of products with keys and values, at the same efficiency."""
        return 2 * macs / (self.flop_per_s * constant("vrex.gpu_efficiency"))

    def prediction(self, step: StepTrace, batch: int) -> Prediction:
        """Return the times of a policy's work; see `Processor`.

        Comparisons run at ``vrex.gpu_compare_share`` of the peak: sorts and scans of short rows.
        """
        others_s = step.work.comparisons / (self.flop_per_s * constant("vrex.gpu_compare_share"))
        return Prediction(
            matrix_s=self.macs_s(batch * step.work.macs) + batch * others_s,
            beside_s=0.0,
            units_s={},
        )
