"""The graph of UbiMoE's MoE block against its RTL, transfer by transfer."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.rtl.streams import StreamVectors, simulate_streams
from headrace.rtl.ubimoe.moe_block import MoeBlock
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.moe_block import MoeWork, moe_block_graph

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_parameters", Path(__file__).parents[1] / "rtl" / "ubimoe_parameters.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)

PORTS = ("command", "norm", "gate_weights", "weights", "inputs", "jobs", "results")


def draw_sizes(rng):
    """Draw small sizes, beats and tiles of all ratios."""
    experts = int(rng.integers(1, 7))
    return MoeBlockSizes(
        formats=FORMATS["int8"],
        width=int(rng.choice([4, 8])),
        hidden=int(rng.choice([4, 8, 12])),
        experts=experts,
        top_k=int(rng.integers(1, min(3, experts) + 1)),
        max_tokens=int(rng.integers(1, 9)),
        dims=int(rng.choice([1, 2, 4])),
        tile_in=int(rng.choice([1, 2, 4])),
        tile_out=int(rng.choice([1, 2, 4])),
        linear_lanes=int(rng.integers(1, 5)),
        beat_bits=int(rng.choice([16, 64])),
        dense_parts=int(rng.integers(1, 4)),
    )


def draw(rng):
    """Return sizes, work and its streams, every weight of a linear zero."""
    sizes, reference = draw_sizes(rng), fixed.FORMATS["int8"]
    work, streams = [], {name: [] for name in PORTS}
    for _ in range(rng.integers(1, 4)):
        tokens = int(rng.integers(1, sizes.max_tokens + 1))
        x = rng.integers(-3000, 3000, (tokens, sizes.width))
        norm = _shared.norm_of(sizes.width, rng)
        loads, jobs = None, list(range(sizes.dense_parts))
        if rng.integers(3):
            gate = rng.integers(-128, 128, (sizes.experts, sizes.width))
            rows = fixed.layer_norm(x, norm.weights, norm.bias, reference)
            chosen = fixed.gate(rows, gate, reference, top_k=sizes.top_k).experts
            loads = tuple(np.bincount(chosen.ravel(), minlength=sizes.experts).tolist())
            jobs = [expert for expert, load in enumerate(loads) if load]
            streams["gate_weights"] += _shared.beats_of(gate, sizes.dims, 8)
        work.append(MoeWork(tokens=tokens, loads=loads))
        streams["command"].append(tokens | (loads is not None) << 16)
        streams["norm"] += _shared.norm_beats(norm, sizes.dims)
        streams["jobs"] += jobs
        streams["inputs"] += _shared.beats_of(x, sizes.dims, 16)
    halves = zip(sizes.in_tiles, sizes.out_tiles, strict=True)
    image = sum(sizes.linear.load_beats(*half) for half in halves)
    streams["weights"] = [0] * (image * len(streams["jobs"]))
    streams["results"] = [0] * len(streams["inputs"])
    results = {name: streams.pop(name) for name in ("jobs", "results")}
    return sizes, work, StreamVectors(streams, results)


def predicted(sizes, work, feed):
    graph = moe_block_graph(sizes, work, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() if name in starts else [] for name in PORTS}


def compare(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, work, feed = draw(rng)
    free = predicted(sizes, work, feed)
    if stalls:
        feed = _shared.with_arrivals(feed, seed, free["results"][-1])
    run = simulate_streams(MoeBlock(sizes), feed)
    found = predicted(sizes, work, feed)
    assert run.results["jobs"] == feed.results["jobs"]
    assert {name: run.times[name].tolist() for name in PORTS} == found
    return found["results"][-1] - free["results"][-1]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    assert (compare(seed, stalls) > 0) == stalls


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    compare(seed, stalls)


@pytest.mark.parametrize(
    "tokens, loads, message",
    [
        (0, None, "tokens = 0 is not allowed: 1 to 4"),
        (5, None, "tokens = 5 is not allowed: 1 to 4"),
        (4, (2, 2, 3), r"loads of \[2, 2, 3\] rows are not allowed"),
        (4, (2, 2, 2), r"work 0: loads of \[2, 2, 2\] rows are not allowed: 4 tokens of 2 rows"),
    ],
)
def test_work_is_checked(tokens, loads, message):
    sizes = replace(draw_sizes(np.random.default_rng(0)), experts=3, top_k=2, max_tokens=4)
    with pytest.raises(InputError, match=f"^{message}"):
        moe_block_graph(sizes, [MoeWork(tokens=tokens, loads=loads)])


def test_no_work():
    with pytest.raises(InputError, match="no work"):
        moe_block_graph(draw_sizes(np.random.default_rng(0)), [])


def draw_larger(rng):
    """Return sizes with up to 30 tokens, a number of them, and loads or none."""
    experts, width = int(rng.integers(1, 9)), int(rng.choice([4, 8, 16]))
    hidden = int(rng.choice([4, 8, 12, 16]))
    tiles = [tile for tile in (1, 2, 4, 8) if width % tile == hidden % tile == 0]
    sizes = MoeBlockSizes(
        formats=FORMATS["int8"],
        width=width,
        hidden=hidden,
        experts=experts,
        top_k=int(rng.integers(1, min(3, experts) + 1)),
        max_tokens=30,
        dims=int(rng.choice([dims for dims in (1, 2, 4, 8) if width % dims == 0])),
        tile_in=int(rng.choice(tiles)),
        tile_out=int(rng.choice(tiles)),
        linear_lanes=int(rng.integers(1, 5)),
        beat_bits=int(rng.choice([8, 16, 64, 256])),
        dense_parts=int(rng.integers(1, 4)),
    )
    tokens = int(rng.integers(1, 31))
    if rng.integers(3) == 0:
        return sizes, tokens, None
    allowed = rng.permutation(experts)[: rng.integers(sizes.top_k, experts + 1)]
    chosen = [rng.permutation(allowed)[: sizes.top_k] for _ in range(tokens)]
    return sizes, tokens, tuple(np.bincount(np.ravel(chosen), minlength=experts).tolist())


@pytest.mark.parametrize("seed", range(300))
def test_formula(seed):
    rng = np.random.default_rng(seed)
    sizes, tokens, loads = draw_larger(rng)
    first = int(rng.choice([0, 20, 500]))
    arrivals = {"inputs": np.full(tokens * sizes.norm.row_beats, first)}
    graph = moe_block_graph(sizes, [MoeWork(tokens=tokens, loads=loads)], arrivals)
    exact = simulate(graph, iterations=1).last_start["results"] + 1
    formula = sizes.cycles(tokens, loads, first=first)
    if sizes.tile_out < sizes.dims:
        assert 0.95 * exact <= formula <= exact + 1
    elif min(sizes.in_tiles) < sizes.linear_lanes:
        assert formula in (exact, exact + 1)
    else:
        assert formula == exact


@pytest.mark.parametrize("seed", range(40))
def test_interval(seed):
    sizes, tokens, loads = draw_larger(np.random.default_rng(seed))
    sizes = replace(sizes, dims=min(sizes.dims, sizes.tile_out), linear_lanes=1)
    work = [MoeWork(tokens=max(1, tokens // 2)), MoeWork(tokens=tokens, loads=loads)] * 2
    results = simulate(moe_block_graph(sizes, work), iterations=1, starts=True).starts["results"]
    ends = np.cumsum([item.tokens * sizes.norm.row_beats for item in work]) - 1
    intervals = [sizes.interval(item.tokens, item.loads) for item in work]
    assert np.diff(results[ends]).tolist() == intervals[1:]


@pytest.mark.parametrize("kind", ["dense", "even", "random", "skewed"])
def test_formula_at_the_published_size(kind):
    """M3ViT-T on UbiMoE's tiles: dense by twice an expert's size, or 16 experts, 2 per token."""
    sizes = MoeBlockSizes(
        formats=FORMATS["w16a32"],
        width=192,
        hidden=384,
        experts=16,
        top_k=2,
        max_tokens=129,
        dims=8,
        tile_in=16,
        tile_out=16,
        dense_parts=2,
    )
    rng = np.random.default_rng(5)
    loads = {
        "dense": None,
        "even": (16,) * 14 + (17,) * 2,
        "random": tuple(rng.multinomial(258, [1 / 16] * 16).tolist()),
        "skewed": (129, 100, 20, 9) + (0,) * 12,
    }[kind]
    graph = moe_block_graph(sizes, [MoeWork(tokens=129, loads=loads)])
    exact = simulate(graph, iterations=1).last_start["results"] + 1
    assert sizes.cycles(129, loads) == exact


@pytest.mark.parametrize(
    "tokens, loads, message",
    [
        (5, None, "tokens = 5 is not allowed: 1 to 4"),
        (4, (2, 2, 3), r"loads of \[2, 2, 3\] rows are not allowed: 3 experts"),
        (4, (2, 2, 2), r"loads of \[2, 2, 2\] rows are not those of 4 tokens"),
    ],
)
def test_what_the_formula_is_asked_is_checked(tokens, loads, message):
    sizes = replace(draw_sizes(np.random.default_rng(0)), experts=3, top_k=2, max_tokens=4)
    with pytest.raises(InputError, match=f"^{message}"):
        sizes.cycles(tokens, loads)
