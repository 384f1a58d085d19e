"""The graph of SN40L's fused pipeline against its RTL, transfer by transfer; what fusion gains."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.sn40l.compute_unit import ComputeUnitSizes
from headrace.arch.sn40l.fused_pipeline import FusedPipelineSizes
from headrace.errors import InputError
from headrace.rtl.sn40l.fused_pipeline import FusedPipeline
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.sn40l.fused_pipeline import fused_pipeline_graph

_SPEC = importlib.util.spec_from_file_location(
    "sn40l_fused", Path(__file__).parents[1] / "rtl" / "sn40l_fused.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
GRIDS, made = _shared.GRIDS, _shared.made

TINY = GRIDS["2x1, two chains"]
PUBLISHED = FusedPipelineSizes(unit=ComputeUnitSizes(), depth=96, rows=96, columns=96, outputs=96)
PACES = (1, 2, 4, 12)  # each transfer is delayed by fewer cycles more than the one before


def predicted(batches, arrivals=None):
    """Return the cycles of all transfers of all ports."""
    graph = fused_pipeline_graph(batches.sizes, batches.tiles[0], arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {port: starts[port].tolist() for port in (*batches.streams, *batches.results)}


def stalled(batches, seed):
    """Return arrivals that are later and later than the transfers would be."""
    rng = np.random.default_rng(seed)
    return {
        port: np.array(times) + np.cumsum(rng.integers(0, rng.choice(PACES), len(times)))
        for port, times in predicted(batches).items()
    }


def cycles(sizes, tiles, **more):
    """Return the cycles from the commands to the last result."""
    graph = fused_pipeline_graph(sizes, tiles, **more)
    starts = simulate(graph, iterations=1, starts=True).starts
    return max(int(starts[f"results_{chain}"][-1]) for chain in range(sizes.chains)) + 1


@pytest.mark.parametrize("seed", [None, 4])
def test_every_transfer(seed):
    batches = made(TINY, (2,), 1, wild=0.1)
    arrivals = {} if seed is None else stalled(batches, seed)
    run = simulate_streams(FusedPipeline(TINY), batches.vectors(arrivals=arrivals), 10_000)
    assert run.results == batches.results
    times = predicted(batches, arrivals)
    assert {port: cycles.tolist() for port, cycles in run.times.items()} == times


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
def test_every_transfer_in_verilog(grid, tmp_path):
    """Without stalls, then with streams that are late, each at a pace of its own."""
    sizes = GRIDS[grid]
    batches = made(sizes, (8,), 1, wild=0.1)
    verilog = to_verilog(FusedPipeline(sizes), "fused_pipeline")
    for arrivals in ({}, stalled(batches, 1), stalled(batches, 2)):
        vectors = batches.vectors(arrivals=arrivals)
        done = run_regression(verilog, "fused_pipeline", vectors, "icarus", 0, tmp_path)
        assert done.passed, done.message
        times = predicted(batches, arrivals)
        assert {port: cycles.tolist() for port, cycles in done.times.items()} == times
        print(f"{grid}: {done.cycles} cycles, {'stalled' if arrivals else 'free'}")


@pytest.mark.parametrize("sizes", [*GRIDS.values(), PUBLISHED], ids=[*GRIDS, "16x6"])
def test_fused_and_one_by_one(sizes):
    """Fused, a tile costs what the slower array does; one by one, all units' cycles."""
    fused, apart = cycles(sizes, 12), cycles(sizes, 12, fused=False)
    first, second = sizes.steps
    beats = sizes.share * sizes.columns // sizes.unit.lanes
    print(f"fused {fused} cycles, one by one {apart}: {apart / fused:.2f} times as long")
    assert fused > 12 * max(first, second)
    assert apart > 12 * (first + beats + second)
    more = (cycles(sizes, 18) - fused) / 6, (cycles(sizes, 18, fused=False) - apart) / 6
    assert more[0] == pytest.approx(max(first, second), rel=0.1)
    assert more[1] == pytest.approx(first + beats + second, rel=0.1)


def test_too_many_tiles_are_refused():
    with pytest.raises(InputError, match="^count = "):
        fused_pipeline_graph(TINY, 60_000)
