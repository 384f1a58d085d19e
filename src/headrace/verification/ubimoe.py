"""Check UbiMoE's kernels and its encoder block: bits, cycles, HLS and resources."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.arch.point import Point
from headrace.arch.ubimoe.reduce import reduced
from headrace.errors import InputError
from headrace.verification.check import Check

if TYPE_CHECKING:
    from headrace.rtl.streams import StreamVectors
    from headrace.verification.ubimoe_cases import Case

__all__ = ["VERIFY", "UbimoeVerify", "paused"]

KERNELS = (
    "linear",
    "streaming_attention",
    "layer_norm",
    "gate",
    "dispatch",
    "combine",
    "prefetch",
    "encoder_block",
)

_NEEDED = {
    "attention": "fused",
    "softmax": "online",
    "gelu": "table",
    "linear": "unified",
    "expert_order": "expert",
}
"""Axes whose other choices are machines of the timing model alone."""

_FULL_ROWS = {"linear": 32, "encoder_block": 12}
"""Most vectors at full size, where simulation takes long; of the other kernels one sequence."""

_SMALL_ROWS = {"encoder_block": 40}
"""Most vectors otherwise."""

_PAUSED = 0.3  # share of a free run's cycles that a stream pauses
_LONGEST_PAUSE = 16
_RESOURCE_TOLERANCE = {"lut": 0.15, "ff": 0.15, "dsp": 0.0, "bram36": 0.0, "uram": 0.0}
_FEW_CELLS = 50
"""LUTs or flip-flops by which the model may be wrong even where that is a larger share."""

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
class _Run:
    """What every check needs."""

    point: Point
    simulators: Sequence[str]
    seed: int
    say: Callable[[str], None]
    note: str
    _verilog: dict[int, str] = field(default_factory=dict)
    _ran: dict[tuple[int, str], list[_Ran]] = field(default_factory=dict)

    def check(
        self, case: "Case", witness: str, what: str, simulator: str, **figures: float | str
    ) -> Check:
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

    def verilog(self, case: "Case") -> str:
        """Return a case's Verilog, emitted once."""
        from headrace.rtl.verilog import to_verilog

        if id(case) not in self._verilog:
            self._verilog[id(case)] = to_verilog(case.component(), case.kernel)
        return self._verilog[id(case)]

    def simulations(self, case: "Case", simulator: str) -> list[_Ran]:
        """Return the free run and, if all is well, one with pauses; each is done once."""
        key = id(case), simulator
        if key not in self._ran:
            self._ran[key] = list(_simulate(self, case, simulator))
        return self._ran[key]


class UbimoeVerify:
    """The ``verify`` face of the design ``ubimoe``."""

    kernels = KERNELS

    def __call__(
        self,
        point: Point,
        *,
        kernel: str,
        witnesses: Sequence[str],
        vectors: int,
        seed: int,
        full_size: bool,
        simulators: Sequence[str],
        say: Callable[[str], None],
    ) -> list[Check]:
        """Check a kernel of `point`; see `headrace.verification.check.Verify`.

        A vector is a row, or, for the prefetch, a beat. Kernels of both halves of the encoder
        block are checked at the sizes of both. The prefetch has no resource model of its own,
        the encoder block no HLS.
        """
        for axis, needed in _NEEDED.items():
            if point.text(axis) != needed:
                raise InputError(
                    f"{axis} = {point.text(axis)} has no RTL: {axis} = {needed} needed"
                )
        instance = point if full_size else reduced(point)
        if full_size:
            most = _FULL_ROWS.get(kernel, point.integer("max_tokens"))
        else:
            most = _SMALL_ROWS.get(kernel, vectors)
        from headrace.verification.ubimoe_draw import draw_cases

        cases = draw_cases(instance, kernel, min(vectors, most), seed)
        note = _differences(instance) if kernel == "encoder_block" else ""
        run = _Run(instance, simulators, seed, say, note)
        by_witness: dict[str, Callable[[Case], list[Check]]] = {
            "bits": partial(_bits, run),
            "cycles": partial(_cycles, run),
            "hls": partial(_hls, run),
            "resources": partial(_resources, run),
        }
        return [check for name in witnesses for case in cases for check in by_witness[name](case)]


VERIFY = UbimoeVerify()


def _differences(point: Point) -> str:
    """Return what the RTL's encoder block has, if the machine of the point has not."""
    has = {
        "Q, K and V on chip": point.text("keys") == "chip",
        "one attention module": point.integer("attention_modules") == 1,
        "two weight slots": point.integer("weight_slots") == 2,
    }
    missing = [name for name, there in has.items() if not there]
    return f"unlike the point, the RTL's block has {', '.join(missing)}" if missing else ""


def _simulate(run: _Run, case: "Case", simulator: str) -> Iterator[_Ran]:
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


def _bits(run: _Run, case: "Case") -> list[Check]:
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


def _cycles(run: _Run, case: "Case") -> list[Check]:
    """Compare every transfer's cycle with the timed graph, and a command with the closed form."""
    return [
        check
        for simulator in run.simulators
        for ran in run.simulations(case, simulator)
        for check in _cycles_of(run, case, simulator, ran)
    ]


def _cycles_of(run: _Run, case: "Case", simulator: str, ran: _Ran) -> Iterator[Check]:
    predicted = case.predicted(ran.vectors)
    compare = partial(run.check, case, "cycles", simulator=simulator)
    streams = f"{ran.streams} streams"
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
    closed = case.closed
    if closed is not None and ran.streams == _FREE:
        measured = 0
        if ran.times:
            end = ran.times[closed.end][closed.transfers - 1]
            measured = int(end - ran.times[closed.start][0]) + 1
        what = "cycles of the first command, closed form"
        yield compare(what=what, expected=closed.cycles, measured=measured)


def _span(times: Times) -> int:
    """Return the cycles from the first transfer to the last, both included."""
    used = [found for found in times.values() if len(found)]
    return int(max(t[-1] for t in used) - min(t[0] for t in used)) + 1 if used else 0


def _hls(run: _Run, case: "Case") -> list[Check]:
    """Compare the C simulation of the HLS C++ with the reference."""
    from headrace.hls.ubimoe import csim

    if case.hls is None:
        run.say(f"{case.kernel} has no HLS of its own; its kernels have")
        return []
    run.say(f"{case.half} {case.kernel}: HLS C++ with g++".strip())
    got = csim(case.hls.kernel(), case.hls.commands, case.hls.inputs)
    wanted = case.hls.results
    equal = sum(
        a == b for name, words in wanted.items() for a, b in zip(words, got[name], strict=False)
    )
    lengths = {len(words) - len(got[name]) for name, words in wanted.items()} == {0}
    count = sum(len(words) for words in wanted.values())
    return [
        run.check(case, "hls", "results", "g++", expected=count, measured=equal if lengths else 0)
    ]


def _resources(run: _Run, case: "Case") -> list[Check]:
    """Compare the resource model with the mapped netlist."""
    from headrace.rtl.netlist import map_netlist

    if case.resources is None:
        run.say(f"{case.kernel} has no model of its resources alone: it is one of ports")
        return []
    run.say(f"{case.half} {case.kernel}: mapping the netlist with Yosys".strip())
    mapped = map_netlist(run.verilog(case), case.kernel)
    model = case.resources().as_dict()
    note = f"Yosys {mapped.yosys_version}: an open proxy of Vivado's counts"
    checks = []
    for name, share in _RESOURCE_TOLERANCE.items():
        measured = float(getattr(mapped, name))
        tolerance = max(share, _FEW_CELLS / measured) if share and measured else share
        figures = {"expected": model[name], "measured": measured, "tolerance": tolerance}
        checks.append(run.check(case, "resources", name, "yosys", **figures, note=note))
    return checks
