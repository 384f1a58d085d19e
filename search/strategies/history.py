"""What a strategy has been told, what it may still ask for, and its random numbers."""

from collections.abc import Iterable

import numpy as np

from headrace.errors import InputError
from headrace.search.problem import Evaluated, Problem

__all__ = ["History"]


class History:
    """The points told so far, each once, and the budget that is left.

    Parameters
    ----------
    problem : Problem
        Its specification gives the budget (`samples`) and the seed.

    Attributes
    ----------
    batches : int
        How often `add` was called.
    """

    def __init__(self, problem: Problem):
        self._space = problem.space
        self._seed = problem.spec.seed
        self._budget = min(problem.spec.samples, problem.space.size)
        self._told: dict[int, int] = {}
        self.batches = 0
        self.published = _published(problem)

    def __len__(self) -> int:
        return len(self._told)

    def __contains__(self, index: int) -> bool:
        return index in self._told

    @property
    def left(self) -> int:
        """Evaluations that are left: the budget, or all points of a smaller space."""
        return max(0, self._budget - len(self._told))

    def add(self, found: Evaluated) -> Evaluated:
        """Record a batch and return the points that are new.

        A cost that is infinite can never win, so it counts as one more violation; the cost itself
        becomes a number (0, or -1e30 for a win that is infinite), which samplers can work with.
        """
        self.batches += 1
        fresh = []
        for row, index in enumerate(found.indices.tolist()):
            if index not in self._told:
                self._told[index] = len(self._told)
                fresh.append(row)
        costs = found.costs[fresh]
        useless = np.isposinf(costs) | np.isnan(costs)
        violation = found.violation[fresh] + useless.any(axis=1)
        return Evaluated(
            found.indices[fresh], np.where(useless, 0, np.maximum(costs, -1e30)), violation
        )

    def seed(self, purpose: int) -> int:
        """Return 32 bits that depend on the study's seed, the batch and `purpose` alone."""
        sequence = np.random.SeedSequence([self._seed, self.batches, purpose])
        return int(sequence.generate_state(1)[0])

    def generator(self, purpose: int) -> np.random.Generator:
        """Return a generator that depends on the study's seed, the batch and `purpose` alone."""
        return np.random.default_rng([self._seed, self.batches, purpose])

    def unseen(self, wanted: Iterable[int], taken: Iterable[int] = ()) -> list[int]:
        """Return what is worth asking for: new, each once, in order, within the budget."""
        taken = set(taken)
        found = [i for i in dict.fromkeys(wanted) if i not in self._told and i not in taken]
        return found[: max(0, self.left - len(taken))]

    def random(self, count: int, taken: Iterable[int] = ()) -> list[int]:
        """Return at most `count` new points drawn evenly from the space, within the budget."""
        taken = list(taken)
        draw, found = 0, list[int]()
        while len(found) < min(count, self.left - len(taken)):
            sample = self._space.sample(draw, draw + 4 * count, self.seed(0)).tolist()
            found += self.unseen(sample, [*taken, *found])
            draw += 4 * count
        return found[:count]


def _published(problem: Problem) -> list[int]:
    """Return the index of the design's published point, if it is in the space."""
    try:
        return [problem.space.index(problem.design.point())]
    except InputError:
        return []
