"""SN40L's fused pipeline: the whole of the reference's bits, under stalls, in both simulators.

A vector is a beat of results: a bfloat16 per lane of a chain.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.sn40l.fused_pipeline import FusedPipeline
from headrace.rtl.sn40l.multicast import Multicast
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "sn40l_fused", Path(__file__).parent / "sn40l_fused.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
GRIDS, made = _shared.GRIDS, _shared.made

SMALL, TINY = GRIDS["2x2"], GRIDS["2x1, two chains"]
TILES = dict(zip(GRIDS, (80, 80, 10, 80, 20, 20), strict=True))  # 6,760 vectors


def stalled(batches, seed):
    """Return the streams with a chance to stall of each port's own."""
    ports = (*batches.streams, *batches.results)
    chances = np.random.default_rng(seed).choice([0, 0.1, 0.4], len(ports))
    return batches.vectors(stall=dict(zip(ports, chances.tolist(), strict=True)))


def test_two_batches_in_the_reference_bits():
    """Two chains, each with operands of its own in every batch, and numbers of every kind."""
    batches = made(TINY, (1, 2), 3, wild=0.3)
    run = simulate_streams(FusedPipeline(batches.sizes), batches.vectors(), 5_000)
    assert run.results == batches.results


def test_verilog_agrees_under_stalls():
    batches = made(SMALL, (2, 3), 5, wild=0.2)
    vectors = stalled(batches, 5)
    verilog = to_verilog(FusedPipeline(SMALL), "fused_pipeline")
    done = run_regression(verilog, "fused_pipeline", vectors, "icarus", 1)
    assert done.passed, done.message


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
def test_bits_in_both_simulators(grid):
    """With the same stalls every transfer is in the same cycle in both."""
    sizes, tiles = GRIDS[grid], TILES[grid]
    batches = made(sizes, (tiles // 2, tiles - tiles // 2 - 1, 1), 7, wild=0.1)
    vectors = stalled(batches, 11)
    verilog = to_verilog(FusedPipeline(sizes), "fused_pipeline")
    done = [run_regression(verilog, "fused_pipeline", vectors, s, 3) for s in SIMULATORS]
    for run in done:
        assert run.passed, run.message
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in done)
    assert one == two
    count = sum(map(len, batches.results.values()))
    print(f"{grid}: {count} vectors of {sizes.unit.lanes}, {done[0].cycles} cycles")


@pytest.mark.parametrize(
    "component",
    [Multicast(8, 3), pytest.param(FusedPipeline(TINY), marks=pytest.mark.slow)],
    ids=["multicast", "pipeline"],
)
def test_verilog_is_clean(component):
    assert lint(to_verilog(component, "top"), "top").findings == ()


def test_transposed_reads_meet_no_bank_twice():
    """All vectors of all memories take one round: diagonals, not `lanes` rounds per column."""
    for sizes in GRIDS.values():
        for batch in sizes.programs((2, 1)):
            for name, memory in sizes.memories.items():
                for program in (batch.write[name], batch.read[name]):
                    assert (program.rounds(memory) == 1).all()
        plain = replace(batch.read["scaled"], stripe_shift=None)
        assert (plain.rounds(sizes.memories["scaled"]) == sizes.unit.lanes).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chains": 9}, "chains = 9 is not allowed: 1 to 8"),
        ({"unit": replace(SMALL.unit, lanes=1)}, "lanes = 1 is not allowed: at least 2"),
        ({"depth": 0}, "depth = 0 is not allowed: a multiple of 1"),
        ({"rows": 6}, "rows = 6 is not allowed: a multiple of 2 and of 4"),
        ({"columns": 10}, "columns = 10 is not allowed: a multiple of 4"),
        ({"outputs": 5}, "outputs = 5 is not allowed: a multiple of 2"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}"):
        replace(SMALL, **change)


def test_too_many_tiles_are_refused():
    with pytest.raises(InputError, match="^count = "):
        SMALL.programs((60_000,))
