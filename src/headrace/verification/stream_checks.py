"""Simulate the Verilog of components with stream ports, and compare bits and cycles."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.arch.point import Point
from headrace.verification.check import Check

if TYPE_CHECKING:
    from headrace.rtl.streams import StreamVectors
    from headrace.verification.stream_case import StreamCase

__all__ = ["Run", "compare_bits", "compare_cycles", "paused"]

_PAUSED = 0.3  # share of a free run's cycles that a stream pauses
_LONGEST_PAUSE = 16
_FREE, _STALLING = "free", "stalling"

Times = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class _Ran:
    """One simulation; without times if it failed, for the reason in `message`."""

    streams: str
    vectors: "StreamVectors"
    times: Times
    message: str


@dataclass(frozen=True)
class Run:
    """What every check needs.

    Parameters
    ----------
    point : Point
        The instance that is checked.
    simulators : sequence of str
    seed : int
    say : callable
        Takes a line about what is being done.
    note : str
        Of every check that has none of its own.
    """

    point: Point
    simulators: Sequence[str]
    seed: int
    say: Callable[[str], None]
    note: str = ""
    _verilog: dict[int, str] = field(default_factory=dict)
    _ran: dict[tuple[int, str], list[_Ran]] = field(default_factory=dict)

    def check(
        self,
        case: "StreamCase",
        witness: str,
        what: str,
        simulator: str,
        **figures: float | str | None,
    ) -> Check:
        """Return a check of a case; `figures` are further fields of it."""
        note = str(figures.pop("note", "")) or self.note
        return Check(
            kernel=case.kernel,
            witness=witness,
            what=f"{case.half}: {what}" if case.half else what,
            simulator=simulator,
            point=self.point,
            note=note,
            **figures,  # type: ignore[arg-type]
        )

    def verilog(self, case: "StreamCase") -> str:
        """Return a case's Verilog, emitted once."""
        from headrace.rtl.verilog import to_verilog

        if id(case) not in self._verilog:
            self._verilog[id(case)] = to_verilog(case.component(), case.kernel)
        return self._verilog[id(case)]

    def simulations(self, case: "StreamCase", simulator: str) -> list[_Ran]:
        """Return the free run and, if all is well, one with pauses; each is done once."""
        key = id(case), simulator
        if key not in self._ran:
            self._ran[key] = list(_simulate(self, case, simulator))
        return self._ran[key]


def _simulate(run: Run, case: "StreamCase", simulator: str) -> Iterator[_Ran]:
    from headrace.rtl.streams import run_regression

    vectors, verilog = case.vectors, run.verilog(case)
    with TemporaryDirectory(prefix="headrace-") as name:
        for streams in (_FREE, _STALLING):
            run.say(f"{case.half} {case.kernel} in {simulator}: {streams} streams".strip())
            done = run_regression(verilog, case.kernel, vectors, simulator, run.seed, Path(name))
            yield _Ran(streams, vectors, done.times, _reason(done.message))
            if not done.passed:
                return
            rng = np.random.Generator(np.random.PCG64(run.seed))
            vectors = paused(case.vectors, done.times, rng)


def _reason(log: str) -> str:
    """Return the line of a simulator's output that says what is wrong, or the last one."""
    lines = [line.strip() for line in log.splitlines()] or [""]
    return next((line for line in lines if "AssertionError" in line), lines[-1])


def paused(vectors: "StreamVectors", times: Times, rng: np.random.Generator) -> "StreamVectors":
    """Return the vectors with random pauses in every stream, memories' too.

    A transfer is offered, or accepted, no earlier than in a free run, and later by all pauses
    before it: as many as make the run about a third longer, if the stream has transfers enough.

    Parameters
    ----------
    vectors : StreamVectors
    times : mapping of str to int array
        Cycles of a free run's transfers, by port.
    rng : numpy.random.Generator
    """
    span = max(int(found[-1]) for found in times.values() if len(found))
    late = {name: found + _pauses(len(found), span, rng) for name, found in times.items()}
    memories = {
        prefix: replace(
            plan, addresses=late.pop(f"{prefix}ar").tolist(), words=late.pop(f"{prefix}r").tolist()
        )
        for prefix, plan in vectors.memories.items()
    }
    return replace(vectors, arrivals=late, memories=memories)


def _pauses(transfers: int, span: int, rng: np.random.Generator) -> NDArray[np.int64]:
    pauses = min(transfers, 1 + int(2 * _PAUSED * span / _LONGEST_PAUSE))
    late = np.zeros(transfers, np.int64)
    where = rng.integers(0, max(1, transfers), pauses)
    np.add.at(late, where, rng.integers(1, _LONGEST_PAUSE, pauses))
    total: NDArray[np.int64] = np.cumsum(late)
    return total


def compare_bits(run: Run, case: "StreamCase") -> list[Check]:
    """Compare the RTL's results with the reference's, free and with pauses."""
    count = sum(len(items) for items in case.vectors.results.values())
    return [
        run.check(
            case, "bits", f"results, {ran.streams} streams", simulator,
            expected=count, measured=count if ran.times else 0, note=ran.message,
        )
        for simulator in run.simulators
        for ran in run.simulations(case, simulator)
    ]  # fmt: skip


def compare_cycles(run: Run, case: "StreamCase") -> list[Check]:
    """Compare every transfer's cycle with the timed graph, and commands with the closed form."""
    if case.graph is None and not case.closed:
        return []
    return [
        check
        for simulator in run.simulators
        for ran in run.simulations(case, simulator)
        for check in _cycles_of(run, case, simulator, ran)
    ]


def _cycles_of(run: Run, case: "StreamCase", simulator: str, ran: _Ran) -> Iterator[Check]:
    compare = partial(run.check, case, "cycles", simulator=simulator)
    if case.graph is not None:
        predicted, streams = case.predicted(ran.vectors), f"{ran.streams} streams"
        yield compare(
            what=f"cycles, {streams}",
            expected=_span(predicted),
            measured=_span({name: ran.times[name] for name in predicted if name in ran.times}),
        )
        equal = sum(
            int(np.count_nonzero(ran.times[name] == found))
            for name, found in predicted.items()
            if len(ran.times.get(name, ())) == len(found)
        )
        yield compare(
            what=f"transfers in their cycle, {streams}",
            expected=sum(len(found) for found in predicted.values()),
            measured=equal,
        )
    if case.closed and ran.streams == _FREE:
        expected = [closed.cycles for closed in case.closed]
        measured = [0] * len(expected)
        if ran.times:
            measured = [
                int(ran.times[c.end][c.transfers - 1] - ran.times[c.start][c.first]) + 1
                for c in case.closed
            ]
        which = "the first command" if len(expected) == 1 else f"{len(expected)} commands"
        what = f"cycles of {which}, closed form"
        yield compare(what=what, expected=sum(expected), measured=sum(measured))
        if len(expected) > 1:
            equal = sum(a == b for a, b in zip(expected, measured, strict=True))
            what = "commands in their cycles, closed form"
            yield compare(what=what, expected=len(expected), measured=equal)


def _span(times: Times) -> int:
    """Return the cycles from the first transfer to the last, both included."""
    used = [found for found in times.values() if len(found)]
    return int(max(t[-1] for t in used) - min(t[0] for t in used)) + 1 if used else 0
