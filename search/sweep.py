"""Evaluate very many points at the analytic fidelity and keep those worth keeping.

A sweep goes chunk by chunk through decoding, evaluation, constraints, costs and front, in memory
that grows with the front alone. What is kept of the pieces of a study is merged; neither how it
was cut nor the order of the pieces changes the result.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.pareto import Front
from headrace.search.problem import Problem

__all__ = ["Known", "Swept", "merge", "sweep", "sweep_indices"]

_CHUNK = 1 << 17
_AHEAD = 1021
"""One point in so many is looked at ahead of a range. A prime, so that no axis repeats with it."""

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Swept:
    """What became of the points of one piece.

    Parameters
    ----------
    evaluated, feasible : int
        Points; of these inside all budgets and constraints.
    broken : tuple of int
        How many exceed each of the evaluator's budgets.
    kept : int64 array
        Indices worth keeping. With several objectives the front, ascending; with one the best,
        ordered by cost, resources (in the evaluator's order) and index. Points that are known
        already, and those that known ones beat, are missing.
    """

    evaluated: int
    feasible: int
    broken: tuple[int, ...]
    kept: Ids


class Known:
    """The front of the pieces so far; with one objective the best of them.

    Parameters
    ----------
    problem : Problem
    keep : int
        How many of the best; a front is always kept whole.
    """

    def __init__(self, problem: Problem, keep: int = 1):
        if keep < 1:
            raise InputError(f"keep = {keep} is not allowed: at least 1")
        several = len(problem.goal.objectives)
        ties = len(problem.evaluator.resources)
        self._held = Front(several) if several > 1 else _Best(keep, 1 + ties)
        self._problem = problem

    @property
    def kept(self) -> Ids:
        """Indices in the order of `Swept.kept`."""
        return self._held.ids

    def add(self, indices: Ids) -> None:
        """Take points into account, such as `Swept.kept` of a piece."""
        _take_all(_Sweep(self._problem, self._held), np.unique(indices))

    def held(self) -> "Front | _Best":
        """Return a copy of what is kept, with its costs."""
        return self._held.copy()


def sweep(
    problem: Problem,
    start: int,
    stop: int,
    *,
    order: Literal["range", "sample"],
    keep: int = 1,
    known: Known | None = None,
    tick: Tick | None = None,
) -> Swept:
    """Evaluate the points at positions `start` to `stop` - 1.

    Parameters
    ----------
    problem : Problem
    start, stop : int
        0 <= start <= stop <= size of the space.
    order : {"range", "sample"}
        Whether a position is an index or one of the random order with the specification's seed.
    keep : int
        How many of the best to keep if there is one objective.
    known : Known, optional
        Of other pieces, with the same `keep`. Points that it beats are dropped early, so its own
        are to be merged with what this returns.
    tick : callable, optional
        Called with the positions done after every chunk; what it raises ends the sweep.

    Raises
    ------
    InputError
        Positions out of range, or `keep` less than 1.
    """
    space = problem.space
    if not 0 <= start <= stop <= space.size:
        raise InputError(f"positions {start} to {stop} are not allowed: 0 to {space.size}")
    known = known or Known(problem, keep)
    found = _Sweep(problem, known.held())
    if order == "range":
        # Neighbours are alike, so a front of the first ones alone would let most others pass.
        for first in range(start, stop, _AHEAD * _CHUNK):
            last = min(stop, first + _AHEAD * _CHUNK)
            found.take(np.arange(first, last, _AHEAD), count=False)
    for first in range(start, stop, _CHUNK):
        last = min(stop, first + _CHUNK)
        found.take(
            space.range(first, last)
            if order == "range"
            else space.sample(first, last, problem.spec.seed)
        )
        if tick is not None:
            tick(last - start)
    return found.swept(known)


def sweep_indices(
    problem: Problem, indices: Ids, *, keep: int = 1, known: Known | None = None
) -> Swept:
    """Evaluate the points at `indices`, each once; see `sweep`."""
    known = known or Known(problem, keep)
    found = _Sweep(problem, known.held())
    _take_all(found, indices)
    return found.swept(known)


def merge(problem: Problem, pieces: Iterable[Ids], *, keep: int = 1) -> Ids:
    """Return the front, or the `keep` best, of the points kept of all pieces.

    Parameters
    ----------
    problem : Problem
    pieces : iterable of int64 array
        `Swept.kept` of each, in any order; points may come several times.
    keep : int
        As it was for the pieces, or less.
    """
    known = Known(problem, keep)
    known.add(np.concatenate([np.empty(0, np.int64), *pieces]))
    return known.kept


def _take_all(found: "_Sweep", indices: Ids) -> None:
    for first in range(0, len(indices), _CHUNK):
        found.take(indices[first : first + _CHUNK])


class _Best:
    """The `keep` rows that come first in the order of their costs, then of their ids."""

    def __init__(self, keep: int, columns: int):
        self.keep = keep
        self.costs = np.empty((0, columns))
        self.ids = np.empty(0, np.int64)

    def copy(self) -> "_Best":
        """Return one that goes its own way from here; arrays are never changed."""
        other = _Best(self.keep, self.costs.shape[1])
        other.costs, other.ids = self.costs, self.ids
        return other

    @property
    def worst(self) -> float:
        """The first cost above which a row cannot be kept."""
        full = len(self.ids) == self.keep
        return float(self.costs[-1, 0]) if full else float(np.finfo(np.float64).max)

    def update(self, costs: Floats, ids: Ids) -> None:
        """Take rows into account; one that comes again changes nothing."""
        costs, ids = np.concatenate([self.costs, costs]), np.concatenate([self.ids, ids])
        ids, first = np.unique(ids, return_index=True)
        costs = costs[first]
        order = np.lexsort((ids, *reversed(costs.T)))[: self.keep]
        self.costs, self.ids = costs[order], ids[order]


class _Sweep:
    """What a sweep remembers from chunk to chunk."""

    def __init__(self, problem: Problem, held: Front | _Best):
        self.problem, self.held = problem, held
        evaluator = problem.evaluator
        self.names = sorted(problem.goal.names() or evaluator.metrics[:1])
        self.ties = evaluator.resources if isinstance(held, _Best) else ()
        self.only = tuple({**dict.fromkeys(self.names), **dict.fromkeys(self.ties)})
        self.evaluated = self.feasible = 0
        self.broken = np.zeros(len(evaluator.budgets), np.int64)
        self.rows = problem.space.rows(np.empty(0, np.int64))

    def take(self, indices: Ids, *, count: bool = True) -> None:
        """Evaluate the points at `indices` and keep what is worth keeping."""
        problem, goal = self.problem, self.problem.goal
        if len(self.rows) < len(indices):
            self.rows = problem.space.rows(indices)
        rows = problem.space.rows(indices, self.rows)
        batch = problem.evaluator.evaluate(rows, only=self.only)
        chosen = np.flatnonzero(batch.broken == 0)
        columns = {name: batch.columns[name][chosen] for name in self.names}
        for constraint in goal.constraints:
            holds = constraint.holds(columns)
            chosen = chosen[holds]
            columns = {name: column[holds] for name, column in columns.items()}
        if count:
            self.evaluated += len(indices)
            self.feasible += len(chosen)
            _tally(batch.broken, self.broken)
        costs = [objective.cost(columns) for objective in goal.objectives]
        if isinstance(self.held, _Best):
            near = costs[0] <= self.held.worst
            chosen = chosen[near]
            ties = (batch.columns[name][chosen] for name in self.ties)
            costs = [costs[0][near], *ties]
        if len(chosen):
            self.held.update(np.stack(costs, axis=1), indices[chosen])

    def swept(self, known: Known) -> Swept:
        """Return the outcome, without the points that were known before."""
        kept = self.held.ids
        kept = kept[~np.isin(kept, known.kept)]
        return Swept(self.evaluated, self.feasible, tuple(self.broken.tolist()), kept)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _tally(broken: Ids, counts: Ids) -> None:
    """Add to `counts` how many entries of `broken` have each bit set."""
    for bits in broken:
        bit = 0
        while bits:
            counts[bit] += bits & 1
            bits >>= 1
            bit += 1
