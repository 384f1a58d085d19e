"""Two-stage heuristic search: a genetic stage and binary search, each going on from the other."""

import numpy as np
from numpy.typing import NDArray

from headrace.search.pareto import Front
from headrace.search.problem import Evaluated, Problem
from headrace.search.strategies.bisection import Bisection
from headrace.search.strategies.genome import Genome
from headrace.search.strategies.history import History
from headrace.search.strategies.selection import crowding, joined, survivors

__all__ = ["TwoStage"]

_BATCH = 32
_PROBES = 8
_POPULATION = 64
_CROSSOVER = 0.9
_TRIES = 8


class TwoStage:
    """The two-stage heuristic of UbiMoE, for any design and any number of objectives.

    The first batch holds the published point, both corners of the space, and the ends of every
    axis around the published point (without one, around the middle). Then every batch of 32 gets
    up to 8 points from stage two (`Bisection`), which goes through the front found so far,
    extremes and loneliest points first, then through the survivors. The rest are children of
    stage one: two parents out of 64 survivors, each the better of two drawn, exchange about half
    of their genes; each gene is moved with a probability of one in the number of genes, along an
    ordered axis by 1, 2, 3 ... positions with probability 1/2, 1/4, 1/8 ..., among names to any.
    Front and survivors are chosen among all points told, whichever stage asked for them.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem):
        objectives = len(problem.goal.objectives)
        self._history = History(problem)
        self._genome = Genome(problem.space)
        self._bisection = Bisection(self._genome)
        self._front = Front(objectives)
        self._survivors = Evaluated(
            np.empty(0, np.int64), np.empty((0, objectives)), np.empty(0, np.float64)
        )
        self._asked: NDArray[np.int64] | None = None

    def ask(self) -> NDArray[np.int64]:
        """Return the next batch."""
        if self._asked is None:
            if self._history.batches and self._history.left:
                wanted = self._probes()
                wanted += self._children(_BATCH - len(wanted), wanted)
            else:
                wanted = self._history.unseen(self._first())
            wanted += self._history.random(_BATCH - len(wanted), wanted)
            self._asked = np.array(wanted, np.int64)
        return self._asked

    def tell(self, found: Evaluated) -> None:
        """Update front and survivors."""
        fresh = self._history.add(found)
        self._bisection.add(fresh)
        feasible = fresh.violation == 0
        self._front.update(fresh.costs[feasible], fresh.indices[feasible])
        self._survivors = survivors(joined(self._survivors, fresh), _POPULATION)
        self._asked = None

    def _first(self) -> list[int]:
        """Return the published point, the corners of the space and the ends of every axis."""
        sizes = self._genome.sizes
        corners = self._genome.indices(np.stack([np.zeros_like(sizes), sizes - 1])).tolist()
        centre = self._history.published or self._genome.indices(sizes[None] // 2).tolist()
        genes = self._genome.genes(np.array(centre, np.int64))
        moved = np.repeat(genes, 2 * len(sizes), axis=0)
        firm = np.repeat(np.eye(len(sizes), dtype=np.bool_), 2, axis=0)
        moved[firm] = np.stack([np.zeros_like(sizes), sizes - 1], axis=1).ravel()
        return [*centre, *corners, *self._genome.indices(moved, firm).tolist()]

    def _probes(self) -> list[int]:
        """Return new points of stage two."""
        ids, lonely = self._front.ids, crowding(self._front.costs)
        feasible = self._survivors.indices[self._survivors.violation == 0]
        starts = dict.fromkeys([*ids[np.lexsort((ids, -lonely))].tolist(), *feasible.tolist()])
        wanted = list[int]()
        for start in starts:
            wanted += self._history.unseen(self._bisection.probes(start), wanted)
            if len(wanted) >= _PROBES:
                break
        return wanted[:_PROBES]

    def _children(self, count: int, taken: list[int]) -> list[int]:
        """Return new points of stage one."""
        generator = self._history.generator(1)
        population = self._genome.genes(self._survivors.indices)
        wanted = list[int]()
        for _ in range(_TRIES):
            # Survivors are sorted, so the better of two is the one with the lower number.
            mother, father = generator.integers(len(population), size=(2, 2, count)).min(axis=1)
            mixed = generator.random((count, 1)) < _CROSSOVER
            swapped = mixed & (generator.random((count, len(self._genome))) < 0.5)
            child = np.where(swapped, population[father], population[mother])
            moved, firm = self._mutated(child, generator)
            children = self._genome.indices(moved, firm).tolist()
            wanted += self._history.unseen(children, [*taken, *wanted])
            if len(wanted) >= count:
                break
        return wanted[:count]

    def _mutated(
        self, genes: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return genomes with some genes moved, and which ones these are."""
        move = generator.random(genes.shape) < 1 / max(1, len(self._genome))
        step = generator.geometric(0.5, genes.shape) * generator.choice((-1, 1), genes.shape)
        other = generator.integers(0, self._genome.sizes, genes.shape)
        target = np.where(self._genome.ordered, genes + step, other)
        return np.where(move, np.clip(target, 0, self._genome.sizes - 1), genes), move
