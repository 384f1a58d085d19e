"""The graph of SN40L's compute unit against its RTL, transfer by transfer, and the formulas."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.sn40l.compute_program import ComputeProgram, Reduction
from headrace.arch.sn40l.compute_unit import ComputeUnitSizes
from headrace.rtl.sn40l.compute_unit import ComputeUnit
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.sn40l.compute_unit import compute_unit_graph

_SPEC = importlib.util.spec_from_file_location(
    "sn40l_compute", Path(__file__).parents[1] / "rtl" / "sn40l_compute.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)

PORTS = ("commands", "left", "results")
PACES = (1, 2, 4, 12)  # each transfer is delayed by fewer cycles more than the one before


def draw_sizes(rng, lanes=(1, 2)):
    return ComputeUnitSizes(
        lanes=int(rng.choice(lanes)),
        stages=int(rng.integers(1, 4)),
        multiply_registers=int(rng.integers(1, 5)),
        add_registers=int(rng.integers(1, 6)),
    )


def predicted(sizes, program, arrivals=None):
    """Return the cycles of all transfers."""
    graph = compute_unit_graph(sizes, program, arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    times = {name: starts[name].tolist() for name in PORTS}
    served = sizes.interleave if program.systolic else 1
    times["right"] = times["left"][served - 1 :: served] if program.reads_right else []
    return times


def stalled(rng, times):
    """Return arrivals that are later and later than the transfers would be."""
    return {
        name: np.array(early, np.int64)
        + np.cumsum(rng.integers(0, rng.choice(PACES), len(early)), dtype=np.int64)
        for name, early in times.items()
    }


def check(rng, systolic, stalls):
    sizes = draw_sizes(rng)
    program = _shared.draw_program(rng, sizes, systolic)
    feed = _shared.streams(sizes, [_shared.make(rng, sizes, program)])
    arrivals = stalled(rng, predicted(sizes, program)) if stalls else {}
    feed = replace(feed, arrivals=arrivals)
    run = simulate_streams(ComputeUnit(sizes), feed, 20_000)
    assert run.results == feed.results
    found = {name: run.times[name].tolist() for name in (*PORTS, "right")}
    assert found == predicted(sizes, program, arrivals), (sizes, program)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("systolic", [False, True])
def test_every_transfer(seed, systolic):
    check(np.random.default_rng(seed), systolic, seed > 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
@pytest.mark.parametrize("systolic", [False, True])
def test_every_transfer_of_many(seed, systolic):
    check(np.random.default_rng(seed), systolic, True)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("systolic", [False, True])
def test_every_transfer_in_verilog(simulator, systolic):
    rng = np.random.default_rng(7)
    sizes = draw_sizes(rng)
    program = _shared.draw_program(rng, sizes, systolic)
    feed = _shared.streams(sizes, [_shared.make(rng, sizes, program)])
    arrivals = stalled(rng, predicted(sizes, program))
    verilog = to_verilog(ComputeUnit(sizes), "compute_unit")
    done = run_regression(verilog, "compute_unit", replace(feed, arrivals=arrivals), simulator)
    assert done.passed, done.message
    found = {name: done.times[name].tolist() for name in (*PORTS, "right")}
    assert found == predicted(sizes, program, arrivals)


def test_formulas_are_those_of_the_graph():
    rng = np.random.default_rng(5)
    for point in range(200):
        sizes = draw_sizes(rng, lanes=(1, 4, 16))
        program = ComputeProgram(
            count=int(rng.integers(1, 9)),
            depth=int(rng.integers(1, 12)) if point % 2 else 0,
            reduction=Reduction(rng.choice([0, 1, 2])),
        )
        last = predicted(sizes, program)["results"][-1]
        assert last + 1 == sizes.cycles(program), (sizes, program)


def test_an_array_goes_on_while_results_wait():
    """Two tiles are taken, the third one when the first has left."""
    sizes = ComputeUnitSizes(lanes=1, stages=2)
    program = ComputeProgram(count=3, depth=3)
    tile = 3 * sizes.interleave
    late = np.full(sizes.results(program), 1000)
    left = predicted(sizes, program, {"results": late})["left"]
    assert left[: 2 * tile] == list(range(1, 2 * tile + 1))
    assert left[2 * tile] > 1000
