"""NSGA-II from Optuna, generation by generation."""

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from headrace.search.problem import Evaluated, Problem
from headrace.search.strategies.genome import Genome
from headrace.search.strategies.history import History
from headrace.search.strategies.library import Library, quiet
from headrace.search.strategies.selection import joined

__all__ = ["Nsga2"]

_POPULATION = 64
_TRIES = 8
_GENERATION = "NSGAIISampler:generation"


class Nsga2:
    """Optuna's NSGA-II on the genomes of a space.

    A batch is one generation of 64 points, none of which was evaluated before: children that are
    known already are replaced by further children (random points when there are hardly any
    others). Between batches nothing is kept but the 64 survivors, which Optuna selects when a
    generation is told, so a batch costs the same however long the study is.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem):
        self._history = History(problem)
        self._genome = Genome(problem.space)
        self._library = Library(self._genome, len(problem.goal.objectives))
        self._parents = Evaluated(
            np.empty(0, np.int64), np.empty((0, len(problem.goal.objectives))), np.empty(0)
        )
        self._asked: NDArray[np.int64] | None = None

    def ask(self) -> NDArray[np.int64]:
        """Return the next generation."""
        if self._asked is None:
            wanted = self._history.unseen(self._history.published)
            if self._history.batches and self._history.left:
                wanted = self._children()
            wanted += self._history.random(_POPULATION - len(wanted), wanted)
            self._asked = np.array(wanted[:_POPULATION], np.int64)
        return self._asked

    def tell(self, found: Evaluated) -> None:
        """Select the survivors of a generation and their parents."""
        fresh = self._history.add(found)
        pool = joined(self._parents, fresh)
        chosen = np.array([t.number for t in self._survivors(pool)], np.int64)
        self._parents = Evaluated(pool.indices[chosen], pool.costs[chosen], pool.violation[chosen])
        self._asked = None

    def _survivors(self, pool: Evaluated) -> list[FrozenTrial]:
        """Return Optuna's choice; trials without parameters suffice for it."""
        study = self._library.study()
        study.add_trials(self._library.trials(pool, {_GENERATION: 0}, genes=False))
        with quiet():
            chosen: list[FrozenTrial] = NSGAIISampler(population_size=_POPULATION).select_parent(
                study, 1
            )
        return chosen

    def _children(self) -> list[int]:
        """Return new points among the children of the survivors."""
        study = self._library.study()
        study.add_trials(self._library.trials(self._parents, {_GENERATION: 0}))
        with quiet():
            sampler = NSGAIISampler(
                population_size=len(self._parents.indices), seed=self._history.seed(1)
            )
            child = create_trial(state=TrialState.RUNNING, system_attrs={_GENERATION: 1})
            children: dict[int, None] = {}
            for _ in range(_TRIES):
                genes = [self._library.child(study, sampler, child) for _ in range(_POPULATION)]
                found = self._genome.indices(np.array(genes, np.int64))
                children.update(dict.fromkeys(found.tolist()))
                if len(new := self._history.unseen(children)) >= _POPULATION:
                    break
        return new
