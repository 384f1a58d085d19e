"""What a design gives the search: figures of many points at once.

A design's ``search`` face is a `SearchFace`. It binds a device, a network and a workload and
returns an `Evaluator`, which turns rows of codes (`headrace.search.space`) into columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.arch.device import Device
from headrace.models.network import Network
from headrace.sim.workload import Workload

__all__ = ["Batch", "Budget", "Evaluator", "SearchFace"]


@dataclass(frozen=True)
class Budget:
    """Something of which a point can need more than there is.

    Parameters
    ----------
    name, unit : str
        Such as ``uram`` and ``blocks``.
    what : str
        In words, for explanations.
    """

    name: str
    unit: str
    what: str


@dataclass(frozen=True)
class Batch:
    """Figures of n points.

    Parameters
    ----------
    columns : mapping of str to float64 array, shape (n,)
        Metrics and resources by name. They are valid until the next call of `evaluate`. Metrics
        of an infeasible point may be infinite or not a number.
    broken : int64 array, shape (n,)
        Bit b is set where the evaluator's budget b is exceeded; 0 means feasible.
    """

    columns: Mapping[str, NDArray[np.float64]]
    broken: NDArray[np.int64]


class Evaluator(Protocol):
    """Evaluates points of one design for one device, network and workload."""

    metrics: tuple[str, ...]
    resources: tuple[str, ...]
    budgets: tuple[Budget, ...]

    def evaluate(self, rows: NDArray[Any], *, only: Sequence[str] | None = None) -> Batch:
        """Return the figures of the points in `rows`, shape (n, axes).

        Where `only` names the figures that are wanted, others may be missing, and so may (NaN)
        be the metrics of infeasible points.
        """
        ...

    def demands(self, row: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what one point needs of each budget, and what there is."""
        ...


class SearchFace(Protocol):
    """The ``search`` face of a design."""

    def evaluator(self, device: Device, network: Network, workload: Workload) -> Evaluator:
        """Bind device, network and workload.

        Raises
        ------
        InputError
            No point of the design can run this.
        """
        ...
