"""How much each axis of a space matters to each objective."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.search.problem import Problem
from headrace.search.report.data import Importance

__all__ = ["importance", "variance_share"]

_CHUNK = 1 << 16
_MOST = 1 << 20
_ENOUGH = 20_000


def importance(
    problem: Problem, labels: tuple[str, ...], seed: int = 0
) -> tuple[tuple[Importance, ...], str]:
    """Return the share of each objective's variance that each axis alone explains.

    Points are drawn uniformly from the whole space, not taken from the study, so that what a
    strategy preferred does not bias the shares. Only feasible ones count. The objective is
    replaced by its rank, so that a few extreme points do not decide.

    Parameters
    ----------
    problem : Problem
    labels : tuple of str
        Names of the objectives for people.
    seed : int
        Of the draw.

    Returns
    -------
    tuple of Importance
        By objective; empty if fewer than 100 of 2^20 points are feasible.
    str
        What was done, in one sentence.
    """
    rows: list[NDArray[Any]] = []
    costs: list[NDArray[np.float64]] = []
    drawn = 0
    while drawn < min(problem.space.size, _MOST) and sum(len(row) for row in rows) < _ENOUGH:
        indices = problem.space.sample(drawn, min(drawn + _CHUNK, _MOST), seed)
        drawn += len(indices)
        codes = problem.space.rows(indices)
        cost, violation = problem.judge(problem.evaluator.evaluate(codes))
        good = (violation == 0) & np.isfinite(cost).all(axis=1)
        rows.append(codes[good])
        costs.append(cost[good])
    points, values = np.concatenate(rows), np.concatenate(costs)
    note = (
        f"Share of the variance of each objective's rank that one axis alone explains (one-way "
        f"analysis of variance), over the {len(points):,} feasible of {drawn:,} points drawn "
        "uniformly from the space. What is missing to 100 % is interaction between axes."
    )
    if len(points) < 100:
        return (), f"Only {len(points)} of {drawn:,} points drawn are feasible: too few to tell."
    names = [axis.name for axis in problem.space.axes]
    return tuple(
        Importance(
            objective=label,
            shares={
                name: variance_share(points[:, a], values[:, k]) for a, name in enumerate(names)
            },
        )
        for k, label in enumerate(labels)
    ), note


def variance_share(codes: NDArray[np.generic], values: NDArray[np.float64]) -> float:
    """Return the share of the variance of the rank of `values` that the groups explain.

    It is the adjusted coefficient of determination of a one-way analysis of variance,
    1 - (1 - eta^2) (n - 1) / (n - groups), and 0 where that is negative.

    Parameters
    ----------
    codes : array, shape (n,)
        Equal numbers make a group.
    values : float64 array, shape (n,)
    """
    _, level, ties = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(ties) - (ties - 1) / 2)[level]
    _, group, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    deviation = rank - rank.mean()
    total = float(np.square(deviation).sum())
    if len(sizes) < 2 or len(sizes) == len(values) or not total:
        return 0.0
    sums = np.bincount(group, deviation)
    share = float((np.square(sums) / sizes).sum()) / total
    return max(0.0, 1 - (1 - share) * (len(values) - 1) / (len(values) - len(sizes)))
