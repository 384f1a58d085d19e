"""Regression of any component whose ports are streams: every result, in order, in any simulator.

Reads ``vectors.json`` from the folder of this file:

inputs, results : object of lists of hex strings
    Payloads of every stream, in order; those of the results are what must come out.
arrivals : object of lists of int
    Earliest cycle in which each item is offered (inputs) or accepted (results); streams that are
    not named have no such limit. Cycle 0 is the first after reset.
stall : object of float
    Chance, per cycle, that a stream which could go on does not.
memories : object
    What lies behind AXI4 read masters (`axi_memory`), by the prefix of their ports.
levels : object of int
    Inputs that keep one level.

Writes ``report.json``: for every stream the cycle of each of its transfers, for memories those of
addresses and words as ``PREFIXar`` and ``PREFIXr``.
"""

import json
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

# both are copied into the folder of this file
from axi_memory import ReadMemory, ReadPlan  # type: ignore[import-not-found] # isort: skip
from port_names import stream_signals  # type: ignore[import-not-found] # isort: skip

FOLDER = Path(__file__).resolve().parent
LIMIT_CYCLES_WITHOUT_PROGRESS = 20_000


def bits_of(signal: Any) -> int:
    """Return the width of a signal; a single bit has no length to cocotb."""
    return len(signal) if hasattr(signal, "__len__") else 1


class Stream:
    """One side of a stream: items, when each may go, and when it went."""

    def __init__(self, dut: Any, name: str, vectors: dict[str, Any], kind: str) -> None:
        self.name = name
        self.payload, self.valid, self.ready = stream_signals(dut, name)
        self.items = [int(item, 16) for item in vectors[kind][name]]
        self.arrivals = vectors["arrivals"].get(name)
        self.stall = vectors["stall"].get(name, 0.0)
        self.times: list[int] = []
        self.offered = False

    def pay(self, item: int) -> None:
        """Drive the payload."""
        for part in self.payload:
            part.value = item & (1 << bits_of(part)) - 1
            item >>= bits_of(part)

    def paid(self) -> int:
        """Return the payload."""
        value = 0
        for part in reversed(self.payload):
            value = value << bits_of(part) | int(part.value)
        return value

    def goes_on(self, cycle: int) -> bool:
        """Tell whether the next item may go in this cycle."""
        done = len(self.times)
        if done == len(self.items):
            return False
        if self.arrivals is not None and self.arrivals[done] > cycle:
            return False
        return bool(self.stall == 0.0 or random.random() >= self.stall)


class Source(Stream):
    """Offers the items of an input; an offer stands until it is taken."""

    def drive(self, cycle: int) -> None:
        """Offer the next item, or stall."""
        if not self.offered:
            self.offered = self.goes_on(cycle)
            if self.offered:
                self.pay(self.items[len(self.times)])
            self.valid.value = int(self.offered)

    def sample(self, cycle: int) -> bool:
        """Note whether the offer is taken at the coming clock edge."""
        if self.offered and self.ready.value == 1:
            self.times.append(cycle)
            self.offered = False
            return True
        return False


class Sink(Stream):
    """Takes the items of an output and compares them."""

    def drive(self, cycle: int) -> None:
        """Be ready, or stall."""
        self.offered = self.goes_on(cycle)
        self.ready.value = int(self.offered)

    def sample(self, cycle: int) -> bool:
        """Compare what comes at the coming clock edge."""
        if not self.offered or self.valid.value != 1:
            return False
        place = len(self.times)
        got = self.paid()
        assert got == self.items[place], (
            f"{self.name} {place}: {got:x} instead of {self.items[place]:x}"
        )
        self.times.append(cycle)
        return True


class Memory:
    """A memory behind one AXI4 read master."""

    def __init__(self, dut: Any, prefix: str, plan: dict[str, Any]) -> None:
        self.model = ReadMemory(ReadPlan.of(plan))
        self.outputs = [getattr(dut, prefix + name) for name in ReadMemory.OUTPUTS]
        self.inputs = [getattr(dut, prefix + name) for name in ReadMemory.INPUTS]

    def drive(self, cycle: int) -> None:
        """Drive the outputs of the memory."""
        for signal, level in zip(self.outputs, self.model.drive(cycle), strict=True):
            signal.value = level

    def sample(self, cycle: int) -> bool:
        """Note what is transferred at the coming clock edge."""
        return bool(self.model.sample(cycle, *(int(s.value) for s in self.inputs)))


@cocotb.test()
async def results_are_exact(dut: Any) -> None:
    """All results equal the expected ones, in order, and every input is taken."""
    vectors = json.loads((FOLDER / "vectors.json").read_text())
    sources = [Source(dut, name, vectors, "inputs") for name in vectors["inputs"]]
    sinks = [Sink(dut, name, vectors, "results") for name in vectors["results"]]
    memories = {name: Memory(dut, name, plan) for name, plan in vectors["memories"].items()}
    streams: list[Source | Sink] = [*sources, *sinks]
    dut.rst.value = 1
    for name, level in vectors["levels"].items():
        getattr(dut, name).value = level
    for memory in memories.values():
        for signal in memory.outputs:
            signal.value = 0
    for sink in sinks:
        sink.ready.value = 0
    for source in sources:
        source.pay(0)
        source.valid.value = 0
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    cycle = idle = 0
    while any(len(stream.times) < len(stream.items) for stream in streams):
        # Signals are driven at the falling edge and stand until the next one, so that what is
        # read after they settled is what the rising edge between sees.
        for side in (*streams, *memories.values()):
            side.drive(cycle)
        await ReadOnly()
        progress = [side.sample(cycle) for side in (*streams, *memories.values())]
        idle = 0 if any(progress) else idle + 1
        left = {s.name: len(s.items) - len(s.times) for s in streams}
        assert idle < LIMIT_CYCLES_WITHOUT_PROGRESS, f"stopped in cycle {cycle}, left: {left}"
        cycle += 1
        await FallingEdge(dut.clk)
    times = {stream.name: stream.times for stream in streams}
    for name, memory in memories.items():
        times[f"{name}ar"] = memory.model.address_times
        times[f"{name}r"] = memory.model.word_times
    (FOLDER / "report.json").write_text(json.dumps(times) + "\n")
    dut._log.info("%d results exact", sum(len(sink.items) for sink in sinks))
