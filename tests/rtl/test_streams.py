"""The bench for stream components, on one small enough to be known by heart."""

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams, unpack
from headrace.rtl.verilog import to_verilog

BITS, LANES = 9, 3


class Negate(wiring.Component):
    """One register: an item leaves the cycle after it came, negated."""

    def __init__(self) -> None:
        lanes = data.ArrayLayout(signed(BITS), LANES)
        super().__init__(
            {"items": In(stream.Signature(lanes)), "out": Out(stream.Signature(lanes))}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        full = Signal()
        m.d.comb += [self.out.valid.eq(full), self.items.ready.eq(~full | self.out.ready)]
        with m.If(self.items.ready):
            m.d.sync += full.eq(self.items.valid)
            m.d.sync += [self.out.payload[i].eq(-self.items.payload[i]) for i in range(LANES)]
        return m


def vectors(rows: Any, **more: Any) -> StreamVectors:
    return StreamVectors({"items": pack(rows, BITS)}, {"out": pack(-rows, BITS)}, **more)


def drawn(count: int = 50) -> Any:
    return np.random.default_rng(7).integers(-255, 256, (count, LANES))


def test_pack_and_unpack_are_inverse() -> None:
    assert pack([[1, -1, 0]], 4) == [0x0F1]
    rows = drawn()
    assert (unpack(pack(rows, BITS), BITS, LANES) == rows).all()


def test_amaranth_tells_results_and_cycles() -> None:
    rows = drawn()
    run = simulate_streams(Negate(), vectors(rows))
    assert (unpack(run.results["out"], BITS, LANES) == -rows).all()
    assert run.times["items"].tolist() == list(range(50))
    assert run.times["out"].tolist() == list(range(1, 51))
    assert run.cycles == 51


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_simulators_agree_on_cycles_with_arrivals(simulator: str, tmp_path: Any) -> None:
    rng = np.random.default_rng(3)
    arrivals = {
        "items": np.cumsum(rng.integers(0, 4, 50)),
        "out": np.cumsum(rng.integers(0, 4, 50)),
    }
    work = vectors(drawn(), arrivals=arrivals)
    run = simulate_streams(Negate(), work)
    done = run_regression(to_verilog(Negate(), "negate"), "negate", work, simulator)
    assert done.passed, done.message
    assert {k: v.tolist() for k, v in done.times.items()} == {
        k: v.tolist() for k, v in run.times.items()
    }
    assert run.cycles > 51


def test_wrong_results_are_found(tmp_path: Any) -> None:
    rows = drawn(5)
    work = StreamVectors({"items": pack(rows, BITS)}, {"out": pack(rows, BITS)}, stall={"out": 0.5})
    done = run_regression(to_verilog(Negate(), "negate"), "negate", work, "icarus")
    assert not done.passed
    assert "instead of" in done.message


def test_missing_results_are_told() -> None:
    rows = drawn(5)
    work = StreamVectors({"items": pack(rows, BITS)}, {"out": pack([*rows, rows[0]], BITS)})
    with pytest.raises(InputError, match="'out': 1"):
        simulate_streams(Negate(), work, limit_cycles=100)
