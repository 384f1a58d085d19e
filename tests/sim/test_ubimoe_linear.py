"""The graph of UbiMoE's linear kernel against its RTL, transfer by transfer."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.linear import Linear
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.linear import LinearWork, linear_graph

PORTS = ("load", "weights", "compute", "inputs", "results")


def draw_sizes(rng):
    """Draw small sizes; one multiplier or two per lane, since only cycles are looked at."""
    most_in, most_out = int(rng.integers(1, 8)), int(rng.integers(1, 6))
    return LinearSizes(
        formats=FORMATS["int8"],
        tile_in=int(rng.choice([1, 2, 5])),
        tile_out=1,
        lanes=int(rng.integers(1, 5)),
        max_in_tiles=most_in,
        max_out_tiles=most_out,
        max_tiles=most_in * most_out,
        slots=int(rng.integers(1, 3)),
        beat_bits=int(rng.choice([8, 16, 64])),
        bias_fraction=10,
        gelu=bool(rng.integers(2)),
    )


def draw_work(sizes, rng, most=4):
    return [
        LinearWork(
            rows=int(rng.integers(1, 4 * sizes.lanes + 1)),
            in_tiles=int(rng.integers(1, sizes.max_in_tiles + 1)),
            out_tiles=int(rng.integers(1, sizes.max_out_tiles + 1)),
        )
        for _ in range(rng.integers(1, most + 1))
    ]


def vectors(sizes, work, rng=None):
    """Return zeros for everything but commands; with `rng`, every port stalls at random."""
    tile = -(-sizes.tile_in * sizes.tile_out * 8 // sizes.beat_bits)
    bias = -(-sizes.tile_out * 16 // sizes.beat_bits)
    weights = sum(w.out_tiles * (bias + w.in_tiles * tile) for w in work)
    inputs = sum(w.rows * w.in_tiles for w in work)
    results = sum(w.rows * w.out_tiles for w in work)
    commands = {
        "load": [w.in_tiles | w.out_tiles << 16 for w in work],
        "compute": [w.rows | w.in_tiles << 16 | w.out_tiles << 32 for w in work],
        "weights": [0] * weights,
        "inputs": [0] * inputs,
    }
    out = {"results": [0] * results}
    if rng is None:
        return StreamVectors(commands, out)
    arrivals = {}
    for name, items in {**commands, **out}.items():
        span = int(rng.choice([1, 60] if name == "load" else [1, 2, 5]))
        arrivals[name] = np.cumsum(rng.integers(0, span, len(items)))
    return StreamVectors(commands, out, arrivals=arrivals)


def predicted(sizes, work, feed):
    graph = linear_graph(sizes, work, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    work = draw_work(sizes, rng)
    feed = vectors(sizes, work, rng if stalls else None)
    assert same(simulate_streams(Linear(sizes), feed).times) == predicted(sizes, work, feed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 220))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_every_transfer_of_the_verilog():
    rng = np.random.default_rng(77)
    sizes = draw_sizes(rng)
    work = draw_work(sizes, rng)
    feed = vectors(sizes, work, rng)
    done = run_regression(to_verilog(Linear(sizes), "linear"), "linear", feed, "icarus")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, work, feed)


def alone(sizes, work):
    """Return the cycles from the command to the last result if the weights are there."""
    feed = vectors(sizes, [work])
    wait = 2 * len(feed.inputs["weights"])
    arrivals = {"compute": np.array([wait], np.int64)}
    found = predicted(sizes, [work], replace(feed, arrivals=arrivals))
    return found["results"][-1] - found["compute"][0] + 1


@pytest.mark.parametrize("seed", range(100))
def test_formula_in_the_steady_state_is_exact(seed):
    rng = np.random.default_rng(seed)
    lanes = int(rng.integers(1, 5))
    sizes = replace(draw_sizes(rng), lanes=lanes, max_in_tiles=8, max_out_tiles=8, max_tiles=64)
    work = LinearWork(
        rows=int(rng.integers(1, 6 * lanes)),
        in_tiles=int(rng.integers(lanes, 9)),
        out_tiles=int(rng.integers(lanes + 1, 9)),
    )
    formula = sizes.compute_cycles(work.rows, work.in_tiles, work.out_tiles)
    assert formula == alone(sizes, work)


@pytest.mark.parametrize("seed", range(200))
def test_formula_elsewhere_is_close(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    (work,) = draw_work(sizes, rng, most=1)
    exact = alone(sizes, work)
    groups = -(-work.rows // sizes.lanes)
    formula = sizes.compute_cycles(work.rows, work.in_tiles, work.out_tiles)
    assert exact - 2 * groups <= formula <= exact


def test_formula_takes_arrays():
    sizes = draw_sizes(np.random.default_rng(4))
    rows, out_tiles = np.arange(1, 12)[:, None], np.arange(1, 5)
    table = sizes.compute_cycles(rows, 3, out_tiles)
    each = [[sizes.compute_cycles(n, 3, o) for o in range(1, 5)] for n in range(1, 12)]
    assert table.tolist() == each


@pytest.mark.parametrize(
    "lanes, rows, inputs, outputs, cycles, beats",
    [
        (1, 129, 192, 576, 55_728, 3 * 192 * 12),  # Q, K and V of M3ViT
        (1, 129, 192, 192, 18_576, 192 * 12),  # projection
        (3, 129, 192, 768, 24_768, 9_216),  # half a dense FFN
        (3, 16, 192, 384, 1_728, 4_608),  # half an expert
        (1, 197, 384, 1536, 453_888, 36_864),  # half an FFN of ViT-S
    ],
)
def test_published_sizes_add_little(lanes, rows, inputs, outputs, cycles, beats):
    """Beside the products of 16 x 16 tiles: the first rows, and the way through the pipeline."""
    sizes = LinearSizes(
        formats=FORMATS["w16a32"],
        tile_in=16,
        tile_out=16,
        lanes=lanes,
        max_in_tiles=24,
        max_out_tiles=96,
        max_tiles=2304,
        slots=1,
        bias_fraction=9,
        gelu=True,
    )
    work = LinearWork(rows=rows, in_tiles=inputs // 16, out_tiles=outputs // 16)
    assert sizes.load_beats(work.in_tiles, work.out_tiles) == beats + work.out_tiles
    found = alone(sizes, work)
    assert found == sizes.compute_cycles(work.rows, work.in_tiles, work.out_tiles)
    assert 0 < found - cycles <= lanes * work.in_tiles + 20


def test_two_slots_hide_loading():
    """With one slot loads and computations take turns."""
    rng = np.random.default_rng(1)
    two = replace(
        draw_sizes(rng), lanes=2, max_in_tiles=8, max_out_tiles=8, max_tiles=64, slots=2,
        tile_in=1, beat_bits=16,
    )  # fmt: skip
    work = [LinearWork(rows=6, in_tiles=6, out_tiles=6)] * 4
    load = 1 + 6 * (1 + 6)
    compute = 3 * 6 * 6
    times = {}
    for slots in (1, 2):
        sizes = replace(two, slots=slots)
        times[slots] = predicted(sizes, work, vectors(sizes, work))["results"][-1]
    assert times[1] > 4 * (load + compute)
    assert times[2] < load + 4 * compute + 30


@pytest.mark.parametrize(
    "change, name",
    [
        ({"rows": 0}, "rows = 0"),
        ({"in_tiles": 4}, "in_tiles = 4"),
        ({"out_tiles": 4}, "out_tiles = 4"),
        ({"in_tiles": 3, "out_tiles": 3}, "in_tiles x out_tiles = 9"),
    ],
)
def test_work_is_checked(change, name):
    sizes = replace(
        draw_sizes(np.random.default_rng(0)), max_in_tiles=3, max_out_tiles=3, max_tiles=8
    )
    item = replace(LinearWork(rows=1, in_tiles=1, out_tiles=1), **change)
    with pytest.raises(InputError, match=f"^work 0: {name} is not allowed: 1 to "):
        linear_graph(sizes, [item])


def test_no_work():
    with pytest.raises(InputError, match="no work"):
        linear_graph(draw_sizes(np.random.default_rng(0)), [])
