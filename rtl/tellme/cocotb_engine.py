"""Regression of the ternary matmul engine: every result, while all streams stall at random.

Runs in any simulator of cocotb 2. Reads ``vectors.npz`` from the folder of this file:

loads, computes : int64, shape (n, 2) and (n, 4)
    Commands: rows, groups; rows, groups, stride, tokens.
beats : uint8, shape (beats, beat bits / 8)
    Weight beats of all loads, least significant byte first.
activations : int8, shape (transfers, lanes)
    Transfers of all computations.
results : int64, shape (results, Q)
    Expected accumulators.
stall : float64, shape (5,)
    Chance of a stall, per cycle, of load, compute, weights, activations, results.
"""

import json
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

FOLDER = Path(__file__).resolve().parent
STREAMS = ("load", "compute", "weights", "activations")
LIMIT_CYCLES_WITHOUT_PROGRESS = 20_000


class Source:
    """Offers the items of one input stream; an offer stands until it is taken."""

    def __init__(self, dut: Any, name: str, items: list[int], stall: float) -> None:
        self.payload = getattr(dut, f"{name}__payload")
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.name = name
        self.items = items
        self.stall = stall
        self.sent = 0
        self.offered = False

    def drive(self) -> None:
        """Offer the next item, or stall."""
        if not self.offered:
            if self.sent < len(self.items) and random.random() >= self.stall:
                self.payload.value = self.items[self.sent]
                self.offered = True
            self.valid.value = int(self.offered)

    def sample(self) -> bool:
        """Note whether the offer is taken at the coming clock edge."""
        if self.offered and self.ready.value == 1:
            self.sent += 1
            self.offered = False
            return True
        return False


def pack(rows: Any, width: int) -> list[int]:
    """Return each row of numbers as one integer of fields `width` bits wide."""
    mask = (1 << width) - 1
    return [sum((int(v) & mask) << (i * width) for i, v in enumerate(row)) for row in rows]


def unpack(value: int, count: int, width: int) -> list[int]:
    """Return the `count` signed fields, `width` bits wide, of an integer."""
    fields = [(value >> (i * width)) & ((1 << width) - 1) for i in range(count)]
    return [f - (1 << width) if f >> (width - 1) else f for f in fields]


@cocotb.test()
async def results_are_exact(dut: Any) -> None:
    """All results equal the expected accumulators, in order."""
    vectors = np.load(FOLDER / "vectors.npz")
    items = {
        "load": pack(vectors["loads"], 16),
        "compute": pack(vectors["computes"], 16),
        "weights": [int.from_bytes(beat.tobytes(), "little") for beat in vectors["beats"]],
        "activations": pack(vectors["activations"], 8),
    }
    *stalls, result_stall = (float(s) for s in vectors["stall"])
    expected = vectors["results"].tolist()
    copies = len(expected[0])
    width = len(dut.results__payload) // copies
    sources = [Source(dut, n, items[n], s) for n, s in zip(STREAMS, stalls, strict=True)]
    dut.rst.value = 1
    dut.results__ready.value = 0
    for source in sources:
        source.payload.value = 0
        source.valid.value = 0
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0

    cycles = idle = taken = 0
    begun = False
    while taken < len(expected):
        # Signals are driven at the falling edge and stand until the next one, so that what is
        # read after they settled is what the rising edge between sees.
        for source in sources:
            source.drive()
        ready = random.random() >= result_stall
        dut.results__ready.value = int(ready)
        await ReadOnly()
        progress = [source.sample() for source in sources]
        begun = begun or progress[0] or progress[1]
        cycles += begun
        if ready and dut.results__valid.value == 1:
            got = unpack(dut.results__payload.value.to_unsigned(), copies, width)
            assert got == expected[taken], f"result {taken}: {got} instead of {expected[taken]}"
            taken += 1
            progress.append(True)
        idle = 0 if any(progress) else idle + 1
        assert idle < LIMIT_CYCLES_WITHOUT_PROGRESS, f"stopped after {taken} results"
        await FallingEdge(dut.clk)
    left = {s.name: len(s.items) - s.sent for s in sources if s.sent < len(s.items)}
    assert not left, f"not taken: {left}"
    report = {"results": taken, "cycles": cycles}
    (FOLDER / "report.json").write_text(json.dumps(report) + "\n")
    dut._log.info("%d results exact, %d cycles", taken, cycles)
