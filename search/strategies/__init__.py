"""Sequential strategies: each asks for points and is told what they are worth.

Their state is a function of the specification and of what they have been told so far. So a study
is resumed by telling again what is on record, and every random choice comes from a generator that
is seeded with the study's seed and the number of the batch.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.problem import Evaluated, Problem

__all__ = ["SEQUENTIAL", "Strategy", "make"]

SEQUENTIAL = ("two-stage", "nsga2", "tpe")
"""Strategies that `make` knows; the others evaluate ranges of points in any order."""


class Strategy(Protocol):
    """Proposes points batch by batch."""

    def ask(self) -> NDArray[np.int64]:
        """Return the indices to evaluate next; none when the strategy has finished.

        Asking twice without telling in between gives the same answer. Points that were asked for
        before may come again: whoever evaluates remembers them.
        """
        ...

    def tell(self, found: Evaluated) -> None:
        """Take the results of the batch into account, in the order in which it was asked for.

        After a resume, batches are told that this object was not asked for.
        """
        ...


def make(problem: Problem) -> Strategy:
    """Return the sequential strategy that the problem's specification names.

    It asks for no point twice, and has finished when it has been told as many different points as
    the specification's `samples`, or all that there are.

    Raises
    ------
    InputError
        The strategy is not a sequential one.
    """
    if problem.spec.strategy == "two-stage":
        from headrace.search.strategies.two_stage import TwoStage

        return TwoStage(problem)
    # Optuna takes a second to import, so only studies that use it do.
    if problem.spec.strategy == "nsga2":
        from headrace.search.strategies.nsga2 import Nsga2

        return Nsga2(problem)
    if problem.spec.strategy == "tpe":
        from headrace.search.strategies.tpe import Tpe

        return Tpe(problem)
    raise InputError(
        f"strategy {problem.spec.strategy!r} is not allowed here: one of {', '.join(SEQUENTIAL)}"
    )
