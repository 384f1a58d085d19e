"""TPE from Optuna, in small batches."""

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from headrace.search.problem import Evaluated, Problem
from headrace.search.strategies.genome import Genome
from headrace.search.strategies.history import History
from headrace.search.strategies.library import Library, quiet

__all__ = ["Tpe"]

_BATCH = 8
_STARTUP = 64
_TRIES = 4


class Tpe:
    """Optuna's multivariate tree-structured Parzen estimator on the genomes of a space.

    The first batch is 64 random points (the published one among them), then come batches of 8
    that the constant liar keeps apart. Proposals that are known already are left to the liar too,
    so that the next one differs; random points fill up what is missing.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem):
        self._history = History(problem)
        self._genome = Genome(problem.space)
        self._library = Library(self._genome, len(problem.goal.objectives))
        self._study = self._library.study()
        self._asked: NDArray[np.int64] | None = None

    def ask(self) -> NDArray[np.int64]:
        """Return the next few points."""
        if self._asked is None:
            if self._history.batches:
                wanted, count = self._proposals(), _BATCH
            else:
                wanted, count = self._history.unseen(self._history.published), _STARTUP
            wanted += self._history.random(count - len(wanted), wanted)
            self._asked = np.array(wanted, np.int64)
        return self._asked

    def tell(self, found: Evaluated) -> None:
        """Add the results to the study."""
        self._study.add_trials(self._library.trials(self._history.add(found), {}))
        self._asked = None

    def _proposals(self) -> list[int]:
        with quiet():
            self._study.sampler = TPESampler(
                n_startup_trials=1, multivariate=True, seed=self._history.seed(1)
            )
            running, new = list[optuna.Trial](), list[int]()
            while len(running) < _TRIES * _BATCH and len(new) < min(_BATCH, self._history.left):
                running.append(self._library.ask(self._study))
                genes = self._library.genes(running[-1])
                new += self._history.unseen(self._genome.indices(genes[None]).tolist(), new)
            for trial in running:  # they were here for the liar only
                self._study.tell(trial, state=TrialState.FAIL)
        return new
