"""Which of many points a population keeps: constraint domination, fronts, crowding."""

import numpy as np
from numpy.typing import NDArray

from headrace.search.problem import Evaluated

__all__ = ["crowding", "joined", "ranks", "survivors"]


def joined(first: Evaluated, second: Evaluated) -> Evaluated:
    """Return the points of both."""
    return Evaluated(
        np.concatenate([first.indices, second.indices]),
        np.concatenate([first.costs, second.costs]),
        np.concatenate([first.violation, second.violation]),
    )


def ranks(costs: NDArray[np.float64], violation: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the front that each point is on, 0 the best.

    Feasible points come before all others and are sorted into fronts of points that do not
    dominate each other; the others follow by violation, one front for each value of it (Deb's
    constraint domination, NSGA-II, IEEE TEC 6(2), 2002).

    Parameters
    ----------
    costs : float64 array, shape (n, objectives)
    violation : float64 array, shape (n,)
    """
    rank = np.zeros(len(costs), np.int64)
    number = 0
    left = np.flatnonzero(violation == 0)
    while len(left):
        mine = costs[left]
        no_worse = (mine[:, None] <= mine[None]).all(axis=2)
        dominated = (no_worse & ~no_worse.T).any(axis=0)
        rank[left[~dominated]] = number
        left = left[dominated]
        number += 1
    values, which = np.unique(violation[violation > 0], return_inverse=True)
    rank[violation > 0] = number + np.arange(len(values))[which]
    return rank


def crowding(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the crowding distance of points on one front; infinite at the ends.

    Parameters
    ----------
    costs : float64 array, shape (n, objectives)
    """
    distance = np.zeros(len(costs))
    for column in costs.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if len(order) else 0
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
            distance[order[[0, -1]]] = np.inf
    return distance


def survivors(points: Evaluated, count: int) -> Evaluated:
    """Return at most `count` points, the best first.

    By front, then by crowding distance within it, then by index.
    """
    rank = ranks(points.costs, points.violation)
    distance = np.empty(len(rank))
    for number in np.unique(rank):
        front = rank == number
        distance[front] = crowding(points.costs[front])
    chosen = np.lexsort((points.indices, -distance, rank))[:count]
    return Evaluated(points.indices[chosen], points.costs[chosen], points.violation[chosen])
