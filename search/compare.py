"""Two Pareto fronts beside each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.pareto import pareto_front

__all__ = ["Comparison", "compare"]

_REFERENCE = 1.1
_EXACT_STEPS = 1e12
"""Seconds, not minutes: exact algorithms take about n^(objectives - 2) steps."""
_DIRECTIONS = 1 << 15


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two Pareto fronts a and b beside each other.

    Costs are minimised and scaled to 0..1 over the union of both fronts; the reference point of
    the hypervolumes is 1.1 in every objective.

    Parameters
    ----------
    size_a, size_b : int
        Points on the front.
    hypervolume_a, hypervolume_b : float
        Volume that the front dominates.
    exact : bool
        Whether the hypervolumes are; fronts too large for that (ten thousand points with five
        objectives) are estimated, to about 0.1 %.
    coverage_a, coverage_b : float
        Share of the other front that this one dominates or equals; NaN where the other is empty.
    epsilon_a, epsilon_b : float
        Additive epsilon indicator: least amount by which this front must be improved in every
        objective to cover the other; infinite where this one is empty.
    """

    size_a: int
    size_b: int
    hypervolume_a: float
    hypervolume_b: float
    exact: bool
    coverage_a: float
    coverage_b: float
    epsilon_a: float
    epsilon_b: float


def compare(costs_a: NDArray[np.float64], costs_b: NDArray[np.float64]) -> Comparison:
    """Compare the Pareto fronts of two sets of points.

    Parameters
    ----------
    costs_a, costs_b : float64 array, shape (n, objectives)
        To be minimised. Points with a cost that is not finite are left out, and so are those
        that others of the same set dominate.

    Raises
    ------
    InputError
        The two do not have the same number of objectives.

    Notes
    -----
    Indicators: Zitzler, Thiele, Laumanns, Fonseca, Grunert da Fonseca, "Performance assessment
    of multiobjective optimizers", IEEE Trans. Evolutionary Computation 7(2), 2003.
    """
    if costs_a.shape[1] != costs_b.shape[1]:
        raise InputError(
            f"{costs_a.shape[1]} and {costs_b.shape[1]} objectives cannot be compared: "
            "studies with the same objectives needed"
        )
    a, b = _scaled(_front(costs_a), _front(costs_b))
    exact = all(len(front) ** max(1, front.shape[1] - 2) <= _EXACT_STEPS for front in (a, b))
    return Comparison(
        size_a=len(a),
        size_b=len(b),
        hypervolume_a=_hypervolume(a, exact),
        hypervolume_b=_hypervolume(b, exact),
        exact=exact,
        coverage_a=_coverage(a, b),
        coverage_b=_coverage(b, a),
        epsilon_a=_epsilon(a, b),
        epsilon_b=_epsilon(b, a),
    )


def _front(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = costs[np.isfinite(costs).all(axis=1)]
    return finite[pareto_front(finite)] if len(finite) else finite


def _scaled(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale to 0..1 over both; an objective that is the same everywhere becomes 0."""
    both = np.concatenate([a, b])
    if not len(both):
        return a, b
    low = both.min(axis=0)
    span = both.max(axis=0) - low
    span[span == 0] = 1.0
    return (a - low) / span, (b - low) / span


def _hypervolume(front: NDArray[np.float64], exact: bool) -> float:
    if not len(front):
        return 0.0
    import moocore

    if exact:
        return float(moocore.hypervolume(front, ref=_REFERENCE))
    return float(moocore.hv_approx(front, ref=_REFERENCE, nsamples=_DIRECTIONS))


def _coverage(front: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if not len(other):
        return float("nan")
    # Of equal rows the first stays, so what stays of `other` is not covered.
    stays = pareto_front(np.concatenate([front, other]))
    return 1.0 - int((stays >= len(front)).sum()) / len(other)


def _epsilon(front: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if not len(front):
        return float("inf")
    if not len(other):
        return float("-inf")
    import moocore

    return float(moocore.epsilon_additive(front, ref=other))
