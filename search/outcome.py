"""The outcome of a study: its front, its best point, what the rungs changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.search.bulk import BULK
from headrace.search.ladder import Change, change, measured_costs, nearest
from headrace.search.objective import Goal
from headrace.search.pareto import pareto_front
from headrace.search.points import analytic
from headrace.search.problem import Problem
from headrace.search.run import candidates
from headrace.search.store import Evaluation, Study

__all__ = ["Candidate", "Candidates", "Exploration", "Rung", "outcome", "recorded"]

_CHUNK = 1 << 10


@dataclass(frozen=True)
class Candidate:
    """A feasible point with its figures."""

    point: Point
    metrics: Mapping[str, float]
    resources: Mapping[str, float]

    @property
    def hash(self) -> str:
        """Content hash of the point."""
        return self.point.hash


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What one rung above the first found.

    Parameters
    ----------
    fidelity : str
    evaluations : tuple of Evaluation
        In the order in which the points were promoted.
    seconds : float
        Work in all, that of cached results not counted.
    changes : tuple of Change
        Against the rung below, objective by objective.
    best : Candidate or None
        The best point by this rung's own figures.
    """

    fidelity: str
    evaluations: tuple[Evaluation, ...]
    seconds: float
    changes: tuple[Change, ...]
    best: Candidate | None


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """The outcome of a search.

    Parameters
    ----------
    goal : Goal
        Objectives and constraints, parsed.
    strategy : str
        One of `headrace.search.spec.STRATEGIES`.
    space_size, evaluated, feasible : int
        Points in the space; evaluated on the first rung, whenever that was; of these inside all
        budgets and constraints.
    seconds : float
        Wall clock of this call.
    worked : int
        Points that this call evaluated on the first rung.
    pareto : sequence of Candidate
        The front in the order of its first objective; with one objective only the optimum.
    best : Candidate or None
        By the figures of the first rung. With one objective its optimum; ties go to the fewest
        resources (in the order of `Resources`), then to the lowest index in the space. With
        several the point of the front that is nearest to the ideal: every cost scaled to 0..1
        over the front, Euclidean distance to 0. None if nothing is feasible.
    broken : mapping of str to int
        How many points exceeded each budget.
    rungs : tuple of Rung
        The rungs above the first.
    """

    goal: Goal
    strategy: str
    space_size: int
    evaluated: int
    feasible: int
    seconds: float
    worked: int
    pareto: Sequence[Candidate]
    best: Candidate | None
    broken: Mapping[str, int]
    rungs: tuple[Rung, ...] = ()

    @property
    def evaluations_per_s(self) -> float:
        """Points per second of this call, everything included."""
        return self.worked / self.seconds

    @property
    def choice(self) -> Candidate | None:
        """The best point by the highest rung that has measured anything; None if it refused all."""
        best = [rung.best for rung in self.rungs if rung.evaluations]
        return best[-1] if best else self.best


def outcome(
    study: Study, problem: Problem, *, seconds: float = 0.0, before: int | None = None
) -> Exploration:
    """Return what is on record of a study, finished or not.

    Parameters
    ----------
    study : Study
    problem : Problem
        Of its specification.
    seconds : float
        Of the call that worked on it.
    before : int, optional
        Points on record when that call began; all there are when left out.
    """
    first = problem.spec.fidelities[0]
    units = study.units(first)
    evaluated = sum(u.evaluated for u in units)
    pareto, best = _front(*candidates(study, problem, first), problem)
    names = [budget.name for budget in problem.evaluator.budgets]
    for unit in units:
        if len(unit.broken) != len(names):
            raise InputError(f"{study.where}: unit {unit.number} of {first} is damaged: broken")
    return Exploration(
        goal=problem.goal,
        strategy=problem.spec.strategy,
        space_size=problem.space.size,
        evaluated=evaluated,
        feasible=sum(u.feasible for u in units),
        seconds=max(seconds, 1e-9),
        worked=0 if before is None else evaluated - before,
        pareto=pareto,
        best=best,
        broken={name: sum(u.broken[i] for u in units) for i, name in enumerate(names)},
        rungs=_rungs(study, problem),
    )


def _front(
    indices: NDArray[np.int64], costs: NDArray[np.float64], problem: Problem
) -> tuple[Sequence[Candidate], Candidate | None]:
    """Return the front, in the order of its first objective, and the best point."""
    if not len(indices):
        return (), None
    if costs.shape[1] == 1:
        at = np.flatnonzero(costs[:, 0] == costs[:, 0].min())
        columns = problem.evaluator.evaluate(problem.space.rows(indices[at])).columns
        keys = [columns[name] for name in problem.evaluator.resources]
        first = at[np.lexsort((indices[at], *reversed(keys)))[0]]
        best = Candidates(problem, indices[first : first + 1])[0]
        return (best,), best
    order = np.argsort(indices)
    indices, costs = indices[order], costs[order]
    if problem.spec.strategy not in BULK:  # which keep nothing but the front
        on_front = pareto_front(costs)
        indices, costs = indices[on_front], costs[on_front]
    if not len(indices):
        return (), None
    place = nearest(costs)
    order = np.lexsort((indices, *reversed(costs.T)))
    found = Candidates(problem, indices[order])
    return found, found[int(np.flatnonzero(order == place)[0])]


class Candidates(Sequence[Candidate]):
    """Feasible points of a space, made when they are asked for: a front may be very long.

    Parameters
    ----------
    problem : Problem
    indices : int64 array, shape (n,)
        Places in the space.
    """

    def __init__(self, problem: Problem, indices: NDArray[np.int64]):
        self._problem, self.indices = problem, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...
    @overload
    def __getitem__(self, at: slice) -> "Candidates": ...
    def __getitem__(self, at: int | slice) -> "Candidate | Candidates":
        if isinstance(at, slice):
            return Candidates(self._problem, self.indices[at])
        return next(iter(self._made(np.array([self.indices[at]]))))

    def __iter__(self) -> Iterator[Candidate]:
        for first in range(0, len(self), _CHUNK):
            yield from self._made(self.indices[first : first + _CHUNK])

    def _made(self, indices: NDArray[np.int64]) -> Iterator[Candidate]:
        rows = self._problem.space.rows(indices)
        columns = self._problem.evaluator.evaluate(rows).columns
        figures = [
            {name: float(column[i]) for name, column in columns.items()} for i in range(len(rows))
        ]
        for row, mine in zip(rows, figures, strict=True):
            yield _candidate(self._problem, row, mine)


def _candidate(problem: Problem, row: NDArray[Any], figures: Mapping[str, float]) -> Candidate:
    return Candidate(
        problem.space.decode(row),
        {name: figures[name] for name in problem.evaluator.metrics if name in figures},
        {name: figures[name] for name in problem.evaluator.resources if name in figures},
    )


def _rungs(study: Study, problem: Problem) -> tuple[Rung, ...]:
    """Return the rungs above the first as far as they are on record."""
    found = []
    below: Sequence[Evaluation] = ()
    for rung in problem.spec.fidelities[1:]:
        evaluations = study.evaluations(rung)
        if not below:
            below, _ = analytic(problem, [e.index for e in evaluations])
        found.append(
            Rung(
                fidelity=rung,
                evaluations=tuple(evaluations),
                seconds=sum(e.seconds for e in evaluations if not e.cached),
                changes=change(problem, below, evaluations),
                best=_best(problem, evaluations),
            )
        )
        below = evaluations
    return tuple(found)


def recorded(study: Study, problem: Problem) -> list[Evaluation]:
    """Return all evaluations on record; of a bulk strategy the points that it kept."""
    found = study.evaluations()
    if problem.spec.strategy not in BULK:
        return found
    indices, _ = candidates(study, problem, problem.spec.fidelities[0])
    return analytic(problem, indices)[0] + found


def _best(problem: Problem, evaluations: Sequence[Evaluation]) -> Candidate | None:
    """Return the best feasible point by the figures of its own rung."""
    good = [e for e in evaluations if e.feasible]
    if not good:
        return None
    costs, _ = measured_costs(problem, [e.figures for e in good])
    front = pareto_front(costs)
    if not len(front):
        return None
    chosen = good[int(front[nearest(costs[front])])]
    return _candidate(
        problem, problem.space.rows(np.array([chosen.index], np.int64))[0], chosen.figures
    )
