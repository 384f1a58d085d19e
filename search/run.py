"""Carry out a study: claim units, work on them, commit them, until nothing is left.

Everything on record is taken as it stands, so that a study goes on where it was stopped, and
several processes may carry out one study at the same time.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.bulk import BULK, Bulk
from headrace.search.cluster import Executor, measure_point, open_executor
from headrace.search.ladder import measured_costs, promote
from headrace.search.measure import Measurement
from headrace.search.points import Known, analytic
from headrace.search.problem import Problem
from headrace.search.store import Evaluation, Study, UnitResult
from headrace.search.strategies import make
from headrace.search.sweep import Swept

__all__ = ["Progress", "candidates", "owner_name", "run"]

Progress = Callable[[str, int, int], None]
"""Takes what is going on, work done and work to do."""

_LEASE_S = 60.0
_SERIAL_LEASE_S = 3600.0
"""Without workers nobody renews a lease while this process measures a point."""
_RENEW_S = 15.0
_PAUSE_S = 0.1
_POLL_S = 0.5
_BURY_S = 2.0
_FINISHED = "finished"


def owner_name() -> str:
    """Return who this process is: host, process number and when it began."""
    process = psutil.Process()
    return f"{socket.gethostname()}/{process.pid}/{process.create_time():.2f}"


def _dead(owner: str) -> bool:
    """Whether `owner` was a process of this machine that is gone."""
    host, _, rest = owner.partition("/")
    number, _, began = rest.partition("/")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" != began
    except (psutil.NoSuchProcess, OverflowError):
        return True
    except psutil.Error:
        return False


def run(
    study: Study,
    problem: Problem,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Bring a study to its end.

    Parameters
    ----------
    study : Study
    problem : Problem
        Of the study's specification.
    workers : int, optional
        Local processes for the rungs above the first; one per core when left out, 0 for none:
        then this process works itself.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:port``, whose workers are used instead.
    progress : callable, optional

    Raises
    ------
    InputError
        The database or the scheduler fails, or a tool is missing. What is done stays done.
    """
    job = _Run(study, problem, owner_name(), progress or (lambda what, done, total: None))
    count = os.cpu_count() or 1 if workers is None else workers
    try:
        job.bury()
        job.first_rung()
        lower = problem.spec.fidelities[0]
        for rung in problem.spec.fidelities[1:]:
            job.upper_rung(lower, rung, scheduler, count)
            lower = rung
        study.set_note(_FINISHED, True)
    finally:
        study.release(job.owner)


@dataclass
class _Run:
    study: Study
    problem: Problem
    owner: str
    progress: Progress
    looked: float = float("-inf")

    def bury(self) -> None:
        """Free what dead processes of this machine hold; called wherever others are waited for."""
        if time.monotonic() - self.looked > _BURY_S:
            self.looked = time.monotonic()
            for owner in self.study.owners():
                if _dead(owner):
                    self.study.release(owner)

    @property
    def _first(self) -> str:
        return self.problem.spec.fidelities[0]

    def first_rung(self) -> None:
        if self.problem.spec.strategy in BULK:
            self._bulk()
        else:
            self._steps()

    def _bulk(self) -> None:
        """Sweep and climb. Units are taken in any order, whoever is free."""
        bulk = Bulk(self.problem)
        todo = set(range(bulk.sweeps))
        points = 0
        last_poll = 0.0
        while todo:
            if time.monotonic() - last_poll > _POLL_S:
                last_poll = time.monotonic()
                fresh = [u for u in self.study.units(self._first, min(todo) - 1)]
                fresh = [u for u in fresh if u.number in todo]
                bulk.add([u.kept for u in fresh])
                points += sum(u.evaluated for u in fresh)
                todo -= {u.number for u in fresh}
                self.progress("exploring", points, bulk.points)
            claimed = self.study.claim(self._first, sorted(todo)[:64], self.owner, _LEASE_S)
            for number in claimed:
                unit = self._commit_sweep(number, partial(bulk.sweep, number))
                points += unit.evaluated
                bulk.add([unit.kept])
                todo.discard(number)
                self.progress("exploring", points, bulk.points)
            if todo and not claimed:
                self.bury()
                time.sleep(_PAUSE_S)
        for number in range(bulk.sweeps, bulk.sweeps + bulk.climbs):
            near = bulk.near()
            if not len(near):
                break
            unit = self._once(number, partial(self._climb, bulk, near))
            bulk.add([unit.kept])

    def _climb(self, bulk: Bulk, near: NDArray[np.int64], number: int) -> UnitResult:
        return self._commit_sweep(number, partial(bulk.climb, near))

    def _commit_sweep(self, number: int, work: Callable[[], Swept]) -> UnitResult:
        began = time.perf_counter()
        swept = work()
        unit = UnitResult(
            number=number,
            evaluated=swept.evaluated,
            feasible=swept.feasible,
            broken=swept.broken,
            kept=swept.kept,
            seconds=time.perf_counter() - began,
            owner=self.owner,
        )
        self.study.commit(self._first, number, self.owner, unit)
        return unit

    def _once(self, number: int, work: Callable[[int], UnitResult]) -> UnitResult:
        """Return unit `number`: from the record, from another process, or by `work`."""
        while True:
            done = self.study.units(self._first, after=number - 1)
            if done and done[0].number == number:
                return done[0]
            if self.study.claim(self._first, [number], self.owner, _LEASE_S):
                return work(number)
            self.bury()
            time.sleep(_PAUSE_S)

    def _steps(self) -> None:
        """Follow a sequential strategy step by step."""
        strategy, known = make(self.problem), Known(self.problem)
        recorded = {u.number: u for u in self.study.units(self._first)}
        known.add(self.study.evaluations(self._first))
        number = 0
        while True:
            unit = recorded.get(number)
            if unit is None:
                asked = strategy.ask()
                if not len(asked):
                    break
                unit = self._once(number, partial(self._step, known, asked))
                if unit.owner != self.owner:  # another process was faster
                    known.add(self.study.evaluations(self._first))
            strategy.tell(known.of(unit.kept))
            number += 1
            if number >= len(recorded):  # what is on record is not work
                self.progress("exploring", len(known), self.problem.spec.samples)

    def _step(self, known: Known, asked: NDArray[np.int64], number: int) -> UnitResult:
        """Evaluate what a strategy asked for, and commit it."""
        began = time.perf_counter()
        fresh = np.array([i for i in dict.fromkeys(asked.tolist()) if i not in known], np.int64)
        evaluations, broken = analytic(self.problem, fresh, self.owner, number)
        known.add(evaluations)
        unit = UnitResult(
            number=number,
            evaluated=len(fresh),
            feasible=sum(e.feasible for e in evaluations),
            broken=broken,
            kept=asked,
            seconds=time.perf_counter() - began,
            owner=self.owner,
        )
        if self.study.commit(self._first, number, self.owner, unit, evaluations):
            return unit
        return self.study.units(self._first, after=number - 1)[0]

    def upper_rung(self, lower: str, rung: str, scheduler: str | None, workers: int) -> None:
        """Measure the points that are promoted from `lower` to `rung`."""
        plan = self._plan(lower, rung)
        done = self._done(rung, plan)
        if len(done) == len(plan):
            return
        self.progress(f"{rung} rung", len(done), len(plan))
        executor = open_executor(scheduler, workers)
        try:
            serial = workers == 0 and scheduler is None
            lease_s = _SERIAL_LEASE_S if serial else _LEASE_S
            self._measure(rung, plan, done, executor, lease_s)
        finally:
            executor.close()

    def _done(self, rung: str, plan: list[int]) -> set[int]:
        """Return which units of the plan are on record."""
        return {u.number for u in self.study.units(rung) if u.number < len(plan)}

    def _plan(self, lower: str, rung: str) -> list[int]:
        """Return the points to promote; whoever comes first decides."""
        if (noted := self.study.note(f"plan/{rung}")) is None:
            budget = self.problem.spec.budgets[rung]
            indices, costs = candidates(self.study, self.problem, lower)
            chosen = promote(indices, costs, budget).tolist()
            noted = self.study.set_note(f"plan/{rung}", chosen)
        size = self.problem.space.size
        if (
            type(noted) is not list
            or not all(type(i) is int and 0 <= i < size for i in noted)
            or len(set(noted)) < len(noted)
        ):
            raise InputError(f"study {self.study.name}: the plan of rung {rung} is damaged")
        return noted

    def _measure(
        self, rung: str, plan: list[int], done: set[int], executor: Executor, lease_s: float
    ) -> None:
        running: set[int] = set()
        renewed = time.monotonic()
        while len(done) < len(plan):
            waiting = [n for n in range(len(plan)) if n not in done and n not in running]
            free = min(executor.capacity - len(running), len(waiting))
            if free > 0:
                claimed = self.study.claim(rung, waiting, self.owner, lease_s, most=free)
                for n in claimed:
                    self._submit(executor, rung, n, plan[n])
                    running.add(n)
                if len(claimed) < free:  # others hold or have done what is left
                    done |= self._done(rung, plan)
            if not running:
                self.bury()
                time.sleep(_PAUSE_S)
            for n, outcome in executor.done(_POLL_S):
                self._commit_point(rung, n, plan[n], outcome)
                running.discard(n)
                done.add(n)
                self.progress(f"{rung} rung", len(done), len(plan))
            if time.monotonic() - renewed > _RENEW_S:
                self.study.renew(rung, self.owner, lease_s)
                renewed = time.monotonic()

    def _submit(self, executor: Executor, rung: str, number: int, index: int) -> None:
        p = self.problem
        point = p.space.decode(p.space.rows(np.array([index], np.int64))[0])
        executor.submit(
            number,
            measure_point,
            rung,
            p.design.name,
            dict(point),
            p.spec.device,
            p.network,
            p.spec.workload,
        )

    def _commit_point(
        self, rung: str, number: int, index: int, outcome: Measurement | Exception
    ) -> None:
        """Record what a worker found; a point that cannot be measured is a result too."""
        if isinstance(outcome, InputError):  # a missing tool: the next point would not fare better
            raise outcome
        if isinstance(outcome, (OSError, MemoryError)):  # of this machine's, not of the point
            raise InputError(f"{rung} rung: {outcome}; resume when this is mended") from outcome
        if isinstance(outcome, Exception):
            text = f"{type(outcome).__name__}: {outcome}"[:500]
            outcome = Measurement(figures={}, agrees=False, detail={"error": text})
        p = self.problem
        _, feasible = measured_costs(p, [outcome.figures])
        good = bool(feasible[0]) and outcome.agrees and bool(outcome.figures)
        evaluation = Evaluation(
            rung=rung,
            index=index,
            hash=p.space.decode(p.space.rows(np.array([index], np.int64))[0]).hash,
            feasible=good,
            agrees=outcome.agrees,
            figures=outcome.figures,
            detail=outcome.detail,
            artefacts=outcome.artefacts,
            seconds=outcome.seconds,
            cached=outcome.cached,
            owner=self.owner,
            unit=number,
        )
        unit = UnitResult(
            number=number,
            evaluated=1,
            feasible=int(good),
            broken=(),
            kept=np.array([index], np.int64),
            seconds=outcome.seconds,
            owner=self.owner,
        )
        self.study.commit(rung, number, self.owner, unit, [evaluation])


def candidates(
    study: Study, problem: Problem, rung: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the feasible points of a rung that are worth comparing, and their costs.

    With one objective they are in the order of `Swept.kept`: of equals, those with the fewest
    resources come first.
    """
    if rung == problem.spec.fidelities[0] and problem.spec.strategy in BULK:
        bulk = Bulk(problem)
        bulk.add([u.kept for u in study.units(rung)])
        return bulk.kept, problem.evaluate(bulk.kept).costs
    good: Sequence[Evaluation] = [e for e in study.evaluations(rung) if e.feasible]
    costs, _ = measured_costs(problem, [e.figures for e in good])
    indices = np.array([e.index for e in good], np.int64)
    if len(indices) and indices.max() >= problem.space.size:
        raise InputError(f"{study.where}: an evaluation is damaged: index {indices.max()}")
    finite = np.all(costs < np.inf, axis=1)  # what is not a number is never best
    good = [e for e, kept in zip(good, finite.tolist(), strict=True) if kept]
    indices, costs = indices[finite], costs[finite]
    if costs.shape[1] > 1:
        return indices, costs
    ties = [
        np.array([e.figures.get(name, np.inf) for e in good])
        for name in problem.evaluator.resources
    ]
    order = np.lexsort((indices, *reversed(ties), costs[:, 0]))
    return indices[order], costs[order]
