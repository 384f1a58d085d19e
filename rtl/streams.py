"""Run components whose ports are streams: in Amaranth's simulator, and their Verilog in others."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.rtl.axi_memory import ReadMemory, ReadPlan
from headrace.rtl.port_names import stream_signals
from headrace.rtl.simulators import run_cocotb

__all__ = [
    "BENCH",
    "RegressionResult",
    "StreamRun",
    "StreamVectors",
    "pack",
    "run_regression",
    "simulate_streams",
    "unpack",
]

BENCH = ("cocotb_streams.py", "axi_memory.py", "port_names.py")
"""Files of this package that `run_regression` needs beside the vectors."""


@dataclass(frozen=True, eq=False)
class StreamVectors:
    """What goes into every input stream and what must come out of every output stream.

    Streams are named as `stream_signals` takes them.

    Attributes
    ----------
    inputs, results : mapping of str to sequence of int
        Payloads, as unsigned numbers of all their bits, by port name, in order.
    arrivals : mapping of str to int array
        Earliest cycle in which each item is offered, or accepted; ports that are not named have
        no such limit. Cycle 0 is the first after reset.
    stall : mapping of str to float
        Chance per cycle that a stream which could go on does not (Verilog regressions only).
    memories : mapping of str to ReadPlan
        What lies behind AXI4 read masters, by the prefix of their ports (``m_axi_``).
    levels : mapping of str to int
        Inputs that keep one level.
    """

    inputs: Mapping[str, Sequence[int]]
    results: Mapping[str, Sequence[int]]
    arrivals: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    stall: Mapping[str, float] = field(default_factory=dict)
    memories: Mapping[str, ReadPlan] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StreamRun:
    """What a component did.

    Attributes
    ----------
    results : dict of str to list of int
        Payloads of every output stream.
    times : dict of str to int64 array
        Cycle of each transfer of every stream, and of a memory's ``PREFIXar`` and ``PREFIXr``.
    """

    results: dict[str, list[int]]
    times: dict[str, NDArray[np.int64]]

    @property
    def cycles(self) -> int:
        """Cycles from the first transfer of any stream to the last, both included."""
        used = [times for times in self.times.values() if len(times)]
        return int(max(t[-1] for t in used) - min(t[0] for t in used)) + 1


@dataclass(frozen=True)
class RegressionResult:
    """Outcome of `run_regression`: the cycle of each transfer by port, or what went wrong."""

    passed: bool
    times: Mapping[str, NDArray[np.int64]]
    message: str

    @property
    def cycles(self) -> int:
        """Cycles from the first transfer of any stream to the last, both included."""
        return StreamRun({}, dict(self.times)).cycles


def pack(rows: Iterable[Iterable[int]], bits: int) -> list[int]:
    """Return each row of numbers as one payload of fields `bits` wide, the first one lowest."""
    mask = (1 << bits) - 1
    return [sum((int(v) & mask) << (i * bits) for i, v in enumerate(row)) for row in rows]


def unpack(payloads: Iterable[int], bits: int, lanes: int) -> NDArray[np.int64]:
    """Return the signed fields of payloads, shape (payloads, lanes); `bits` at most 63."""
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    rows = [[((p >> (i * bits) & mask) ^ sign) - sign for i in range(lanes)] for p in payloads]
    return np.array(rows, np.int64).reshape(-1, lanes)


def simulate_streams(
    component: Any, vectors: StreamVectors, limit_cycles: int = 1_000_000
) -> StreamRun:
    """Run a component in Amaranth's simulator.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
        Not elaborated before; its ports named in `vectors` are streams in the domain ``sync``.
    vectors : StreamVectors
        Results are counted, not compared.
    limit_cycles : int
        Give up after so many cycles.

    Raises
    ------
    InputError
        Not everything was transferred within the limit.
    """
    from amaranth.sim import Simulator  # imported here: slow, and only simulation needs it

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    sources = [_Side(component, name, items, vectors) for name, items in vectors.inputs.items()]
    sinks = [_Side(component, name, items, vectors) for name, items in vectors.results.items()]
    memories = [_Memory(component, prefix, plan) for prefix, plan in vectors.memories.items()]
    handshakes = [s for side in (*sources, *sinks) for s in (side.valid, side.ready)]
    payloads = [sink.payload for sink in sinks]
    asked = [signal for memory in memories for signal in memory.inputs]

    async def bench(context: Any) -> None:
        for name, level in vectors.levels.items():
            context.set(getattr(component, name), level)
        for cycle in range(limit_cycles):
            for source in sources:
                source.offer(context, cycle)
            for sink in sinks:
                context.set(sink.ready, int(sink.goes_on(cycle)))
            for memory in memories:
                memory.drive(context, cycle)
            levels = iter((await context.tick().sample(*handshakes, *payloads, *asked))[2:])
            moved = [bool(next(levels) & next(levels)) for _ in (*sources, *sinks)]
            for side, went in zip((*sources, *sinks), moved, strict=True):
                if went:
                    side.times.append(cycle)
            for sink, went in zip(sinks, moved[len(sources) :], strict=True):
                value = int(next(levels))
                if went:
                    sink.got.append(value)
            for memory in memories:
                memory.model.sample(cycle, *(next(levels) for _ in memory.inputs))
            if all(side.done for side in (*sources, *sinks)):
                return

    simulator.add_testbench(bench)
    simulator.run()
    left = {s.name: len(s.items) - len(s.times) for s in (*sources, *sinks) if not s.done}
    if left:
        raise InputError(f"after {limit_cycles} cycles these transfers are left: {left}")
    times = {s.name: np.array(s.times, np.int64) for s in (*sources, *sinks)}
    for memory in memories:
        times[f"{memory.prefix}ar"] = np.array(memory.model.address_times, np.int64)
        times[f"{memory.prefix}r"] = np.array(memory.model.word_times, np.int64)
    return StreamRun({s.name: s.got for s in sinks}, times)


class _Memory:
    """A memory behind one AXI4 read master of a component under simulation."""

    def __init__(self, component: Any, prefix: str, plan: ReadPlan) -> None:
        self.prefix = prefix
        self.model = ReadMemory(plan)
        self.outputs = [getattr(component, prefix + name) for name in ReadMemory.OUTPUTS]
        self.inputs = [getattr(component, prefix + name) for name in ReadMemory.INPUTS]

    def drive(self, context: Any, cycle: int) -> None:
        for signal, level in zip(self.outputs, self.model.drive(cycle), strict=True):
            context.set(signal, level)


class _Side:
    """One stream of a component under simulation."""

    def __init__(self, component: Any, name: str, items: Sequence[int], vectors: StreamVectors):
        from amaranth.hdl import Cat

        self.name = name
        payload, self.valid, self.ready = stream_signals(component, name)
        self.payload = Cat(_bits(part) for part in payload)
        self.items = items
        self.arrivals = vectors.arrivals.get(name)
        if self.arrivals is not None and len(self.arrivals) != len(items):
            raise InputError(f"{name}: {len(self.arrivals)} arrivals for {len(items)} transfers")
        self.times: list[int] = []
        self.got: list[int] = []
        self.offered = -1

    @property
    def done(self) -> bool:
        return len(self.times) == len(self.items)

    def goes_on(self, cycle: int) -> bool:
        return not self.done and (
            self.arrivals is None or int(self.arrivals[len(self.times)]) <= cycle
        )

    def offer(self, context: Any, cycle: int) -> None:
        there = self.goes_on(cycle)
        if there and self.offered != len(self.times):
            self.offered = len(self.times)
            context.set(self.payload, self.items[self.offered])
        context.set(self.valid, int(there))


def _bits(payload: Any) -> Any:
    """Return a payload as one unsigned value."""
    value = payload.as_value() if hasattr(payload, "as_value") else payload
    return value.as_unsigned() if value.shape().signed else value


def run_regression(
    verilog: str,
    top: str,
    vectors: StreamVectors,
    simulator: str,
    seed: int = 0,
    folder: Path | None = None,
) -> RegressionResult:
    """Run a component's Verilog in a simulator and compare every result.

    Parameters
    ----------
    verilog, top : str
        Source and the name of its top module; reset ``rst``, clock ``clk``.
    vectors : StreamVectors
    simulator : {"icarus", "verilator"}
    seed : int
        Of the random stalls.
    folder : Path, optional
        Keep sources, vectors and the build there; a second run with the same Verilog builds
        nothing. By default nothing is kept.
    """
    if folder is None:
        with TemporaryDirectory(prefix="headrace-") as name:
            return run_regression(verilog, top, vectors, simulator, seed, Path(name))
    folder.mkdir(parents=True, exist_ok=True)
    source, report = folder / f"{top}.v", folder / "report.json"
    if not source.is_file() or source.read_text("utf-8") != verilog:
        source.write_text(verilog, "utf-8")
    for name in BENCH:
        with as_file(files("headrace.rtl") / name) as original:
            shutil.copyfile(original, folder / name)
    (folder / "vectors.json").write_text(json.dumps(_plain(vectors)), "utf-8")
    report.unlink(missing_ok=True)
    outcome = run_cocotb([source], top, folder / BENCH[0], simulator, folder / simulator, seed)
    if not outcome.passed or not report.is_file():
        return RegressionResult(False, {}, outcome.log)
    times = json.loads(report.read_text("utf-8"))
    return RegressionResult(True, {k: np.array(v, np.int64) for k, v in times.items()}, "")


def _plain(vectors: StreamVectors) -> dict[str, Any]:
    def hexadecimal(streams: Mapping[str, Sequence[int]]) -> dict[str, list[str]]:
        return {name: [f"{int(item):x}" for item in items] for name, items in streams.items()}

    return {
        "inputs": hexadecimal(vectors.inputs),
        "results": hexadecimal(vectors.results),
        "arrivals": {name: [int(t) for t in times] for name, times in vectors.arrivals.items()},
        "stall": dict(vectors.stall),
        "memories": {prefix: plan.plain() for prefix, plan in vectors.memories.items()},
        "levels": dict(vectors.levels),
    }
