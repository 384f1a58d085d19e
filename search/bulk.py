"""Strategies that evaluate millions of points: the units they are cut into.

The units of ``exhaustive`` and ``random`` are ranges, independent of each other. ``climb`` adds
units after them: all neighbours of the points kept so far, until that finds nothing new.
"""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.permutation import permuted
from headrace.search.problem import Problem
from headrace.search.sweep import Known, Swept, sweep, sweep_indices

__all__ = ["BULK", "Bulk"]

BULK = ("exhaustive", "random", "climb")

_UNIT = 1 << 20
_MOST_UNITS = 4096
_MOST_EXHAUSTIVE = 10**11
_CLIMBS = 64
_ROUNDS = 32


class Bulk:
    """The units of a bulk strategy, and what has been kept of those that are done.

    Parameters
    ----------
    problem : Problem

    Raises
    ------
    InputError
        The space is too large to be exhausted.
    """

    def __init__(self, problem: Problem):
        spec, space = problem.spec, problem.space
        if spec.strategy == "exhaustive" and space.size > _MOST_EXHAUSTIVE:
            raise InputError(
                f"{space.size:,} points are too many to exhaust: at most {_MOST_EXHAUSTIVE:,}; "
                "fix some axes or sample at random"
            )
        self._problem = problem
        self.points = space.size if spec.strategy == "exhaustive" else min(spec.samples, space.size)
        self._unit = max(_UNIT, -(-self.points // _MOST_UNITS))
        self.sweeps = -(-self.points // self._unit)
        more = spec.strategy == "climb" and self.points < space.size
        self.climbs = _ROUNDS if more else 0
        several = len(problem.goal.objectives) > 1
        self._keep = 1 if several else max(spec.budgets.values(), default=1)
        self._known = Known(problem, self._keep)
        self._starts: set[int] = set()
        self._climbed = np.empty(0, np.int64)

    def add(self, pieces: list[NDArray[np.int64]]) -> None:
        """Take what units have kept into account."""
        self._known.add(np.concatenate([np.empty(0, np.int64), *pieces]))

    @property
    def kept(self) -> NDArray[np.int64]:
        """Indices of the front, or of the best points, of all units added."""
        return self._known.kept

    def sweep(self, number: int) -> Swept:
        """Work on unit `number`, less than `sweeps`."""
        start = number * self._unit
        stop = min(start + self._unit, self.points)
        problem, known = self._problem, self._known
        if problem.spec.strategy == "exhaustive":
            return sweep(problem, start, stop, order="range", keep=self._keep, known=known)
        return sweep(problem, start, stop, order="sample", keep=self._keep, known=known)

    def some(self, done: set[int], count: int) -> NDArray[np.int64]:
        """Return at most `count` points of the finished sweeps `done`, drawn with the seed."""
        problem = self._problem
        ranges = [
            (n * self._unit, min((n + 1) * self._unit, self.points))
            for n in sorted(done)
            if n < self.sweeps
        ]
        total = sum(stop - start for start, stop in ranges)
        if not total:
            return np.empty(0, np.int64)
        chosen = np.unique(permuted(0, min(count, total), total, problem.spec.seed))
        ends = np.cumsum([stop - start for start, stop in ranges])
        at = np.searchsorted(ends, chosen, side="right")
        starts = np.array([start for start, _ in ranges]) - np.concatenate([[0], ends[:-1]])
        positions = chosen + starts[at]
        if problem.spec.strategy == "exhaustive":
            return np.asarray(positions)
        seed = problem.spec.seed
        return np.concatenate([problem.space.sample(p, p + 1, seed) for p in positions.tolist()])

    def near(self) -> NDArray[np.int64]:
        """Return what the next climbing unit evaluates: all points one axis away from the kept.

        From at most 64 of these, spread over them, no point twice. To be called once for every
        climbing unit, done or not, in their order.
        """
        places = np.linspace(0, len(self.kept) - 1, min(len(self.kept), _CLIMBS))
        found = [int(self.kept[i]) for i in places.astype(np.int64)]
        fresh = [index for index in found if index not in self._starts]
        self._starts.update(fresh)
        around = [self._problem.space.neighbours(index) for index in fresh]
        near = np.setdiff1d(np.concatenate([np.empty(0, np.int64), *around]), self._climbed)
        self._climbed = np.concatenate([self._climbed, near])
        return near

    def climb(self, near: NDArray[np.int64]) -> Swept:
        """Evaluate points that `near` gave."""
        return sweep_indices(self._problem, near, keep=self._keep, known=self._known)
