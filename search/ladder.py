"""The ladder of fidelities: which points climb, and what that changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.search.pareto import pareto_front
from headrace.search.problem import Problem
from headrace.search.store import Evaluation

__all__ = ["Change", "change", "kendall_tau", "measured_costs", "nearest", "promote", "scaled"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """How one objective moved from one rung to the next, over the points that both know.

    Parameters
    ----------
    lower, upper : str
        The two rungs.
    objective : str
    points : int
        Points that both rungs evaluated and on which all witnesses agree.
    tau : float
        Kendall's rank correlation (tau-b): 1 means the same order. NaN where it has no meaning
        (fewer than two points, or no differences).
    largest : float
        Relative change of the value that moved most, upper / lower - 1.
    moved : str
        Hash of that point.
    same_best : bool
        Whether the best point of the lower rung is still the best.
    """

    lower: str
    upper: str
    objective: str
    points: int
    tau: float
    largest: float
    moved: str
    same_best: bool


def promote(
    indices: NDArray[np.int64], costs: NDArray[np.float64], budget: int
) -> NDArray[np.int64]:
    """Return the indices that climb to the next rung, the best first.

    With one objective these are the cheapest, of equals the first ones given. With several,
    whole fronts are taken, front by front; of the one that does not fit, first the point nearest
    to the ideal, then always the one farthest from those taken (every objective scaled to 0..1
    over the front), so that the budget is spread over the whole front.

    Parameters
    ----------
    indices : int64 array, shape (n,)
        Feasible points.
    costs : float64 array, shape (n, objectives)
    budget : int
        Points at most.
    """
    if costs.shape[1] == 1:
        return np.asarray(indices[np.argsort(costs[:, 0], kind="stable")[:budget]])
    order = np.argsort(indices)
    indices, costs = indices[order], costs[order]
    chosen: list[NDArray[np.int64]] = []
    left = np.flatnonzero(np.isfinite(costs).all(axis=1))
    room = budget
    while room and len(left):
        front = left[pareto_front(costs[left])]
        taken = front[_spread(costs[front], min(room, len(front)))]
        chosen.append(taken)
        room -= len(taken)
        left = np.setdiff1d(left, front, assume_unique=True)
    return np.asarray(indices[np.concatenate(chosen)] if chosen else indices[:0])


def _spread(costs: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return `count` rows: the nearest to the ideal, then each time the farthest from them."""
    place = scaled(costs)
    taken = [nearest(costs)]
    distance = np.full(len(costs), np.inf)
    while len(taken) < count:
        distance = np.minimum(distance, np.square(place - place[taken[-1]]).sum(axis=1))
        distance[taken[-1]] = -1  # of points in the same place, each is taken once
        taken.append(int(np.argmax(distance)))
    return np.array(taken, np.int64)


def scaled(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return costs scaled to 0..1 over the rows, 0 where all are equal."""
    span = np.ptp(costs, axis=0)
    return np.asarray((costs - costs.min(axis=0)) / np.where(span > 0, span, 1))


def nearest(costs: NDArray[np.float64]) -> int:
    """Return the row nearest to the ideal: Euclidean distance of `scaled` costs to 0."""
    return int(np.argmin(np.square(scaled(costs)).sum(axis=1)))


def measured_costs(
    problem: Problem, figures: Sequence[Mapping[str, float]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Judge figures that a rung measured.

    Returns
    -------
    costs : float64 array, shape (n, objectives)
    feasible : bool array, shape (n,)
        All constraints hold and no resource exceeds the device.
    """
    names = (*problem.evaluator.metrics, *problem.evaluator.resources)
    columns = {n: np.array([f.get(n, np.nan) for f in figures], np.float64) for n in names}
    feasible = np.ones(len(figures), np.bool_)
    for constraint in problem.goal.constraints:
        feasible &= constraint.holds(columns)
    if problem.device.resources is not None:
        for name, available in problem.device.resources.as_dict().items():
            if name in problem.evaluator.resources:
                feasible &= columns[name] <= available
    if not figures:
        return np.empty((0, len(problem.goal.objectives))), feasible
    costs = np.stack([o.cost(columns) for o in problem.goal.objectives], axis=1)
    return costs, feasible


def change(
    problem: Problem, lower: Sequence[Evaluation], upper: Sequence[Evaluation]
) -> tuple[Change, ...]:
    """Compare what two rungs say of the points that both evaluated, objective by objective."""
    below = {e.index: e for e in lower if e.agrees}
    both = [(below[e.index], e) for e in upper if e.agrees and e.index in below]
    if not both:
        return ()
    before, _ = measured_costs(problem, [b.figures for b, _ in both])
    after, _ = measured_costs(problem, [a.figures for _, a in both])
    changes = []
    for k, objective in enumerate(problem.goal.objectives):
        with np.errstate(all="ignore"):
            relative = np.nan_to_num(after[:, k] / before[:, k] - 1)
        at = int(np.argmax(np.abs(relative)))
        changes.append(
            Change(
                lower=both[0][0].rung,
                upper=both[0][1].rung,
                objective=objective.text,
                points=len(both),
                tau=kendall_tau(before[:, k], after[:, k]),
                largest=float(relative[at]),
                moved=both[at][1].hash,
                same_best=bool(before[np.argmin(after[:, k]), k] == before[:, k].min()),
            )
        )
    return tuple(changes)


def kendall_tau(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Kendall's tau-b of two columns: 1 the same order, -1 the opposite one.

    Ties are corrected for; NaN where one of the columns has no two different values.
    """
    first, second = np.triu_indices(len(a), 1)
    with np.errstate(invalid="ignore"):  # inf - inf: not a number, which has no order
        x, y = np.sign(a[first] - a[second]), np.sign(b[first] - b[second])
    pairs = np.sqrt(float(np.count_nonzero(x)) * float(np.count_nonzero(y)))
    return float(np.nansum(x * y) / pairs) if pairs else float("nan")
