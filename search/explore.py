"""Search a design's space for an optimum or a Pareto front."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.arch.axis import Value
from headrace.arch.design import Design
from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.evaluator import Batch, Evaluator, SearchFace
from headrace.search.objective import Goal, parse_constraints, parse_goal
from headrace.search.pareto import Front
from headrace.search.space import Space
from headrace.sim.workload import Workload

__all__ = [
    "DEFAULT_OBJECTIVE",
    "DEFAULT_SAMPLES",
    "STRATEGIES",
    "Candidate",
    "Exploration",
    "explore",
]

STRATEGIES = ("auto", "exhaustive", "random")
DEFAULT_OBJECTIVE = "max decode_tok_per_s, min ttft_s, min lut, min uram, min power_w"
DEFAULT_SAMPLES = 2_000_000
"""Points that `random` evaluates, and the largest space that `auto` exhausts, by default."""

_CHUNK = 1 << 15
_MOST_EXHAUSTIVE = 10**11
_CLIMBS = 64
_ROUNDS = 32

Progress = Callable[[int, int], None]


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
class Exploration:
    """The outcome of a search.

    Parameters
    ----------
    goal : Goal
        Objectives and constraints, parsed.
    strategy : str
        ``exhaustive`` or ``random``.
    space_size, evaluated, feasible : int
        Points in the space; evaluated, the refinement's included; of these inside all budgets
        and constraints.
    seconds : float
        Wall clock of the search.
    pareto : tuple of Candidate
        The front in the order of its first objective; with one objective only the optimum.
    best : Candidate or None
        With one objective its optimum; ties go to the fewest resources (in the order of
        `Resources`), then to the lowest index in the space. With several the point of the front
        that is nearest to the ideal: every cost scaled to 0..1 over the front, Euclidean
        distance to 0. None if nothing is feasible.
    broken : mapping of str to int
        How many points exceeded each budget.
    """

    goal: Goal
    strategy: str
    space_size: int
    evaluated: int
    feasible: int
    seconds: float
    pareto: tuple[Candidate, ...]
    best: Candidate | None
    broken: Mapping[str, int]

    @property
    def evaluations_per_s(self) -> float:
        """Points per second, everything included."""
        return self.evaluated / self.seconds


def explore(
    design: Design,
    device: Device,
    network: Network,
    workload: Workload,
    *,
    objective: str = DEFAULT_OBJECTIVE,
    constraints: Sequence[str] = (),
    strategy: str = "auto",
    samples: int | None = None,
    seed: int = 0,
    fixed: Mapping[str, Sequence[Value]] | None = None,
    refine: bool = True,
    progress: Progress | None = None,
) -> Exploration:
    """Search the space of `design` for the points that serve `objective` best.

    Parameters
    ----------
    design, device, network, workload : Design, Device, Network, Workload
    objective : str
        See `headrace.search.objective`; several objectives ask for a Pareto front.
    constraints : sequence of str
        More constraints in the same language, such as ``lut <= 98303``.
    strategy : {"auto", "exhaustive", "random"}
        ``exhaustive`` evaluates every point, ``random`` `samples` of them without repetition,
        ``auto`` exhausts a space that has no more than `samples` points.
    samples : int, optional
        `DEFAULT_SAMPLES` unless given.
    seed : int
        Of the random order; the same seed gives the same result.
    fixed : mapping of str to sequence of Value, optional
        Values per axis to search instead of all its choices.
    refine : bool
        After ``random``, also evaluate all points that differ on one axis from a point of the
        front (from 64 spread over it, if it is longer), until that finds nothing new, at most
        32 times over.
    progress : callable, optional
        Called with points done and points to do after every chunk.

    Raises
    ------
    InputError
        A bad objective, constraint, strategy, axis or value; or the space is too large to be
        exhausted.
    """
    face: SearchFace = design.face("search")
    evaluator = face.evaluator(device, network, workload)
    goal = _goal(objective, constraints, evaluator)
    space = Space(design, fixed)
    strategy, count = _plan(strategy, samples, space)
    search = _Search(goal, evaluator, space)
    start = time.perf_counter()
    for first in range(0, count, _CHUNK):
        stop = min(first + _CHUNK, count)
        search.take(
            space.range(first, stop)
            if strategy == "exhaustive"
            else space.sample(first, stop, seed)
        )
        if progress is not None:
            progress(stop, count)
    if strategy == "random" and refine:
        search.refine()
    seconds = time.perf_counter() - start
    pareto, best = search.result()
    return Exploration(
        goal=goal,
        strategy=strategy,
        space_size=space.size,
        evaluated=search.evaluated,
        feasible=search.feasible,
        seconds=seconds,
        pareto=pareto,
        best=best,
        broken=dict(zip((b.name for b in evaluator.budgets), search.broken, strict=True)),
    )


def _goal(objective: str, constraints: Sequence[str], evaluator: Evaluator) -> Goal:
    names = (*evaluator.metrics, *evaluator.resources)
    goal = parse_goal(objective, names)
    more = tuple(c for text in constraints for c in parse_constraints(text, names))
    return Goal(goal.objectives, goal.constraints + more)


def _plan(strategy: str, samples: int | None, space: Space) -> tuple[str, int]:
    """Return the strategy to use and how many points to evaluate."""
    if strategy not in STRATEGIES:
        raise InputError(f"strategy {strategy!r} is not allowed: one of {', '.join(STRATEGIES)}")
    wanted = DEFAULT_SAMPLES if samples is None else samples
    if wanted < 1:
        raise InputError(f"samples = {wanted} is not allowed: at least 1")
    if strategy == "auto":
        strategy = "exhaustive" if space.size <= wanted else "random"
    if strategy == "random":
        return strategy, min(wanted, space.size)
    if space.size > _MOST_EXHAUSTIVE:
        raise InputError(
            f"{space.size:,} points are too many to exhaust: at most {_MOST_EXHAUSTIVE:,}; "
            "fix some axes or sample at random"
        )
    return strategy, space.size


class _Search:
    """What a search remembers from chunk to chunk."""

    def __init__(self, goal: Goal, evaluator: Evaluator, space: Space):
        self.goal, self.evaluator, self.space = goal, evaluator, space
        self.ties = evaluator.resources if len(goal.objectives) == 1 else ()
        self.front = Front(len(goal.objectives))
        self.champion: tuple[float, ...] | None = None
        self.evaluated = self.feasible = 0
        self.broken = [0] * len(evaluator.budgets)

    def take(self, indices: NDArray[np.int64]) -> None:
        """Evaluate the points at `indices` and keep what is worth keeping."""
        batch = self.evaluator.evaluate(self.space.rows(indices))
        allowed = batch.broken == 0
        for bit in range(len(self.broken)):
            self.broken[bit] += int(np.count_nonzero(batch.broken >> bit & 1))
        for constraint in self.goal.constraints:
            allowed &= constraint.holds(batch.columns)
        chosen = np.flatnonzero(allowed)
        self.evaluated += len(indices)
        self.feasible += len(chosen)
        if len(chosen):
            self._keep(batch, chosen, indices)

    def _keep(self, batch: Batch, chosen: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        costs = np.stack([o.cost(batch.columns)[chosen] for o in self.goal.objectives], axis=1)
        if len(self.goal.objectives) > 1:
            self.front.update(costs, indices[chosen])
            return
        lowest = costs.min()
        if lowest == np.inf or (self.champion is not None and lowest > self.champion[0]):
            return
        ties = chosen[costs[:, 0] == lowest]
        keys = [batch.columns[name][ties] for name in self.ties]
        first = np.lexsort((indices[ties], *reversed(keys)))[0]
        found = (float(lowest), *(float(key[first]) for key in keys), int(indices[ties[first]]))
        self.champion = found if self.champion is None else min(self.champion, found)

    def kept(self) -> NDArray[np.int64]:
        """Return the indices of the front or the optimum."""
        if len(self.goal.objectives) > 1:
            return self.front.ids
        return np.array([] if self.champion is None else [self.champion[-1]], np.int64)

    def refine(self) -> None:
        """Climb from the points found until none of their neighbours is better."""
        seen: set[int] = set()
        for _ in range(_ROUNDS):
            todo = [int(i) for i in _spread(self.kept()) if int(i) not in seen]
            if not todo:
                break
            seen.update(todo)
            near = np.unique(np.concatenate([self.space.neighbours(i) for i in todo]))
            for part in _pieces(near):
                self.take(part)

    def result(self) -> tuple[tuple[Candidate, ...], Candidate | None]:
        """Return the front, in the order of its first objective, and the best point."""
        indices = self.kept()
        if not len(indices):
            return (), None
        if len(self.goal.objectives) == 1:
            best = self._candidates(indices)[0]
            return (best,), best
        costs = self.front.costs
        span = np.ptp(costs, axis=0)
        scaled = (costs - costs.min(axis=0)) / np.where(span > 0, span, 1)
        nearest = int(np.argmin(np.square(scaled).sum(axis=1)))
        order = np.lexsort((indices, *reversed(costs.T)))
        candidates = self._candidates(indices[order])
        return candidates, candidates[int(np.flatnonzero(order == nearest)[0])]

    def _candidates(self, indices: NDArray[np.int64]) -> tuple[Candidate, ...]:
        found = []
        for part in _pieces(indices):
            rows = self.space.rows(part)
            columns = self.evaluator.evaluate(rows).columns
            for i, row in enumerate(rows):
                found.append(
                    Candidate(
                        self.space.decode(row),
                        {name: float(columns[name][i]) for name in self.evaluator.metrics},
                        {name: float(columns[name][i]) for name in self.evaluator.resources},
                    )
                )
        return tuple(found)


def _spread(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most `_CLIMBS` of the indices, evenly spread over the list."""
    places = np.linspace(0, len(indices) - 1, min(len(indices), _CLIMBS)).astype(np.int64)
    return np.asarray(indices[places])


def _pieces(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(indices), _CHUNK):
        yield indices[first : first + _CHUNK]
