"""A report's data from what is on record of a study."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.bulk import BULK, Bulk
from headrace.search.outcome import outcome
from headrace.search.problem import Problem
from headrace.search.report.build import build
from headrace.search.report.data import ReportData
from headrace.search.store import Study

__all__ = ["DEFAULT_POINTS", "MOST_POINTS", "study_report"]

DEFAULT_POINTS = 20_000
MOST_POINTS = 100_000


def study_report(
    study: Study,
    problem: Problem,
    points: int = DEFAULT_POINTS,
    tick: Callable[[int, int], None] | None = None,
) -> ReportData:
    """Collect what a report shows of a study, finished or not.

    Parameters
    ----------
    study : Study
    problem : Problem
        Of its specification.
    points : int
        Points to show at most, 1 to `MOST_POINTS`: first the front (evenly thinned if it is
        longer), then others of those evaluated, drawn with the study's seed. The published, the
        best and the measured points come on top.
    tick : callable, optional
        Called with points simulated and points to simulate for the details.

    Raises
    ------
    InputError
        Nothing has been evaluated yet, or `points` is out of range.
    """
    if not 1 <= points <= MOST_POINTS:
        raise InputError(f"points = {points} is not allowed: 1 to {MOST_POINTS}")
    found = outcome(study, problem)
    if not found.evaluated:
        raise InputError(f"{study.where}: nothing has been evaluated yet")
    front = np.array([problem.space.index(c.point) for c in found.pareto], np.int64)
    if len(front) > points:
        front = front[np.linspace(0, len(front) - 1, points).astype(np.int64)]
    others = _others(study, problem, points)
    others = others[~np.isin(others, front)][: points - len(front)]
    choice = found.choice
    return build(
        problem,
        np.concatenate([front, others]),
        front=front,
        best=None if choice is None else problem.space.index(choice.point),
        measured={
            rung.fidelity: {e.index: e.figures for e in rung.evaluations if e.figures}
            for rung in found.rungs
        },
        changes=[asdict(c) for rung in found.rungs for c in rung.changes],
        tick=tick,
        title=f"{study.name}: {problem.design.name} on {problem.device.name}",
        facts=[
            ("study", f"{study.name}, begun {study.created}"),
            ("evaluated", f"{found.evaluated:,} points, {found.feasible:,} of them feasible"),
            ("front", f"{len(found.pareto):,} points"),
            *(
                (
                    f"{rung.fidelity} rung",
                    f"{len(rung.evaluations)} points, "
                    f"{sum(e.agrees for e in rung.evaluations)} on which all witnesses agree, "
                    f"{sum(e.cached for e in rung.evaluations)} from the cache",
                )
                for rung in found.rungs
            ),
            ("versions", ", ".join(f"{k} {v}" for k, v in study.versions.items())),
        ],
    )


def _others(study: Study, problem: Problem, count: int) -> NDArray[np.int64]:
    """Return evaluated points beside the front."""
    first = problem.spec.fidelities[0]
    if problem.spec.strategy in BULK:
        return Bulk(problem).some({u.number for u in study.units(first)}, count)
    indices = np.array([e.index for e in study.evaluations(first)], np.int64)
    if len(indices) <= count:
        return indices
    chosen = np.random.default_rng(problem.spec.seed).choice(len(indices), count, replace=False)
    return np.asarray(indices[np.sort(chosen)])
