"""Stage two of the heuristic search: the cheapest value of every axis that loses nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.search.problem import Evaluated
from headrace.search.strategies.genome import Genome

__all__ = ["Bisection"]


@dataclass
class _Search:
    """A binary search along one axis: `near` loses nothing, beyond `far` something is lost."""

    gene: int
    near: int
    far: int

    @property
    def middle(self) -> int:
        """Half-way, rounded towards `far`."""
        return (self.near + self.far + (self.far > self.near)) // 2

    def narrow(self, loses_nothing: bool) -> None:
        """Continue in the half that holds the boundary."""
        if loses_nothing:
            self.near = self.middle
        else:
            self.far = self.middle - (1 if self.far > self.near else -1)


class Bisection:
    """Binary searches along every axis around given points.

    From a point, each ordered axis is bisected towards both of its ends for the farthest value
    that is feasible and no worse in any cost; on an axis of names every other name is tried. As
    in a set of weighings, what is asked next follows from the answers so far. The answers are
    looked up among the points told, whoever asked for them: so nothing has to be remembered from
    batch to batch, and what another stage has evaluated costs nothing here.

    Parameters
    ----------
    genome : Genome
    """

    def __init__(self, genome: Genome):
        self._genome = genome
        self._told: dict[int, tuple[NDArray[np.float64], bool]] = {}
        self._finished: set[int] = set()  # what is told does not change: finished for good

    def __contains__(self, index: int) -> bool:
        return index in self._told

    def add(self, found: Evaluated) -> None:
        """Take answers into account."""
        feasible = (found.violation == 0).tolist()
        answers = zip(found.costs, feasible, strict=True)
        self._told.update(zip(found.indices.tolist(), answers, strict=True))

    def probes(self, start: int) -> list[int]:
        """Return the points to evaluate next around `start`, which has been told.

        None are left when all binary searches from there have ended.
        """
        if start in self._finished:
            return []
        genes = self._genome.genes(np.array([start]))[0]
        costs = self._told[start][0]
        searches, wanted = self._searches(genes), list[int]()
        while searches:
            going = []
            for search, index in zip(searches, self._middles(genes, searches), strict=True):
                if index not in self._told:
                    wanted.append(index)
                    continue
                found, feasible = self._told[index]
                search.narrow(feasible and bool((found <= costs).all()))
                if search.near != search.far:
                    going.append(search)
            searches = going
        if not wanted:
            self._finished.add(start)
        return wanted

    def _searches(self, genes: NDArray[np.int64]) -> list[_Search]:
        searches = []
        for gene, (at, size) in enumerate(zip(genes.tolist(), self._genome.sizes, strict=True)):
            if self._genome.ordered[gene]:
                searches += [_Search(gene, at, end) for end in (0, int(size) - 1) if end != at]
            else:
                searches += [_Search(gene, v - 1, v) for v in range(int(size)) if v != at]
        return searches

    def _middles(self, genes: NDArray[np.int64], searches: list[_Search]) -> list[int]:
        """Return the points half-way; where rules forbid one, other axes give way."""
        moved = np.repeat(genes[None], len(searches), axis=0)
        firm = np.zeros(moved.shape, np.bool_)
        for row, search in enumerate(searches):
            moved[row, search.gene] = search.middle
            firm[row, search.gene] = True
        found: list[int] = self._genome.indices(moved, firm).tolist()
        return found
