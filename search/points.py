"""Single points at the analytic fidelity, as records and as what strategies are told."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.ladder import measured_costs
from headrace.search.problem import Evaluated, Problem
from headrace.search.store import Evaluation

__all__ = ["Known", "analytic"]


def analytic(
    problem: Problem, indices: Sequence[int] | NDArray[np.int64], owner: str = "", unit: int = 0
) -> tuple[list[Evaluation], tuple[int, ...]]:
    """Evaluate points one by one on record.

    Parameters
    ----------
    problem : Problem
    indices : sequence of int
    owner : str
        Who evaluates.
    unit : int
        The unit to which the points belong.

    Returns
    -------
    list of Evaluation
        Infeasible points have ``violation`` in their detail: how many budgets and constraints
        they break.
    tuple of int
        How many points exceed each budget.
    """
    if not len(indices):
        return [], (0,) * len(problem.evaluator.budgets)
    rows = problem.space.rows(np.asarray(indices, np.int64))
    began = time.perf_counter()
    batch = problem.evaluator.evaluate(rows)
    _, violation = problem.judge(batch)
    seconds = (time.perf_counter() - began) / len(rows)
    bits = range(len(problem.evaluator.budgets))
    broken = tuple(int(np.count_nonzero(batch.broken >> bit & 1)) for bit in bits)
    return [
        Evaluation(
            rung=problem.spec.fidelities[0],
            index=int(index),
            hash=problem.space.decode(rows[i]).hash,
            feasible=bool(violation[i] == 0),
            agrees=True,
            figures={name: float(column[i]) for name, column in batch.columns.items()},
            detail={"violation": float(violation[i])} if violation[i] else {},
            artefacts={},
            seconds=seconds,
            cached=False,
            owner=owner,
            unit=unit,
        )
        for i, index in enumerate(indices)
    ], broken


class Known:
    """What the points of a sequential strategy are worth, by index.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem):
        self._problem = problem
        self._worth: dict[int, tuple[NDArray[np.float64], float]] = {}

    def __len__(self) -> int:
        return len(self._worth)

    def __contains__(self, index: int) -> bool:
        return index in self._worth

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        """Take evaluations on record into account.

        Raises
        ------
        InputError
            One contradicts itself.
        """
        fresh = [e for e in evaluations if e.index not in self._worth]
        costs, _ = measured_costs(self._problem, [e.figures for e in fresh])
        for e, cost in zip(fresh, costs, strict=True):
            violation = e.detail.get("violation", 0.0)
            if (
                not isinstance(violation, (int, float))
                or not abs(violation) < 1e6
                or (violation == 0) != e.feasible
            ):
                raise InputError(f"evaluation of point {e.hash[:12]} is damaged")
            self._worth[e.index] = cost, float(violation)

    def of(self, indices: NDArray[np.int64]) -> Evaluated:
        """Return what is known of `indices`, in their order.

        Raises
        ------
        InputError
            There is a point that nobody has evaluated.
        """
        if not len(indices):
            raise InputError("the record of a step is damaged: it has no points")
        try:
            worth = [self._worth[index] for index in indices.tolist()]
        except KeyError as error:
            raise InputError(f"the record lacks an evaluation of index {error}") from error
        return Evaluated(
            indices, np.array([w[0] for w in worth]), np.array([w[1] for w in worth], np.float64)
        )
