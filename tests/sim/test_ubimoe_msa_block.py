"""The graph of UbiMoE's MSA block against its RTL, transfer by transfer."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.msa_block import MsaBlock
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.msa_block import msa_block_graph

PORTS = ("command", "norm", "weights", "inputs", "results")


def draw_sizes(rng):
    """Draw small sizes; few dims and tiles, since only cycles are looked at."""
    heads, head_dim = [(1, 4), (1, 16), (2, 4), (3, 4)][rng.integers(4)]
    width = heads * head_dim
    dims = int(rng.choice([1, 2, 4]))
    divisors = [t for t in range(1, width + 1) if width % t == 0]
    tiles_in = [t for t in divisors if t <= 8 and (t % dims == 0 or dims % t == 0)]
    tiles_out = [t for t in divisors if t <= 6 and t % dims == 0]
    lanes = int(rng.integers(1, 5))
    return MsaBlockSizes(
        formats=FORMATS[str(rng.choice(["w16a32", "int16", "int8"]))],
        heads=heads,
        head_dim=head_dim,
        max_tokens=int(rng.integers(lanes, 10)),
        dims=dims,
        attention_lanes=lanes,
        tile_in=int(rng.choice(tiles_in)),
        tile_out=int(rng.choice(tiles_out)),
        linear_lanes=int(rng.integers(1, 4)),
        beat_bits=int(rng.choice([16, 64, 256])),
    )


def draw_tokens(sizes, rng):
    return rng.integers(sizes.attention_lanes, sizes.max_tokens + 1, rng.integers(1, 4)).tolist()


def vectors(sizes, tokens, rng=None):
    """Return zeros for all but commands; with `rng`, every port stalls at random."""
    beats = sum(tokens) * sizes.row_beats
    bias = -(-16 * sizes.tile_out // sizes.beat_bits)
    tile = -(-sizes.tile_in * sizes.tile_out * sizes.formats.weight_bits // sizes.beat_bits)
    weights = 4 * sizes.row_tiles * (bias + sizes.in_tiles * tile)
    inputs = {
        "command": tokens,
        "norm": [0] * (len(tokens) * sizes.row_beats),
        "weights": [0] * (len(tokens) * weights),
        "inputs": [0] * beats,
    }
    out = {"results": [0] * beats}
    if rng is None:
        return StreamVectors(inputs, out)
    arrivals = {}
    for name, items in {**inputs, **out}.items():
        steady = rng.geometric(1 / (1 + rng.choice([0.1, 0.7, 2])), len(items)) - 1
        pauses = rng.integers(0, 300, len(items)) * (rng.random(len(items)) < 2 / len(items))
        arrivals[name] = np.cumsum(steady + pauses)
    return StreamVectors(inputs, out, arrivals)


def predicted(sizes, tokens, feed):
    graph = msa_block_graph(sizes, tokens, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", [5, 7, 9, 11])
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    tokens = draw_tokens(sizes, rng)
    feed = vectors(sizes, tokens, rng if stalls else None)
    found = predicted(sizes, tokens, feed)
    assert same(simulate_streams(MsaBlock(sizes), feed).times) == found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


@pytest.mark.slow
def test_every_transfer_of_the_verilog():
    rng = np.random.default_rng(77)
    sizes = draw_sizes(rng)
    tokens = draw_tokens(sizes, rng)
    feed = vectors(sizes, tokens, rng)
    # bits are compared elsewhere: zeros give zeros
    done = run_regression(to_verilog(MsaBlock(sizes), "msa_block"), "msa_block", feed, "icarus")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, tokens, feed)


@pytest.mark.parametrize("seed", range(60))
def test_formula_is_exact(seed):
    """Also with weights that are there long before the features."""
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    (tokens,) = draw_tokens(sizes, rng)[:1]
    feed = vectors(sizes, [tokens])
    free = predicted(sizes, [tokens], feed)
    assert free["results"][-1] + 1 == sizes.cycles(tokens)
    late = 10 + len(feed.inputs["weights"])
    arrivals = {"inputs": np.full(len(feed.inputs["inputs"]), late)}
    found = predicted(sizes, [tokens], StreamVectors(feed.inputs, feed.results, arrivals))
    # features come two cycles after the command at the earliest
    assert found["results"][-1] + 1 - (late - 2) == sizes.cycles(tokens, loaded=True)


@pytest.mark.parametrize("seed", range(60))
def test_interval_is_exact(seed):
    """Of sequences in a row, unless loading the weights takes longer than using them."""
    rng = np.random.default_rng(seed)
    sizes = replace(draw_sizes(rng), beat_bits=2048)
    (tokens,) = draw_tokens(sizes, rng)[:1]
    passes = [tokens] * 4
    results = predicted(sizes, passes, vectors(sizes, passes))["results"]
    ends = results[tokens * sizes.row_beats - 1 :: tokens * sizes.row_beats]
    interval = sizes.interval(tokens)
    assert sizes.weight_beats < interval / 2
    assert np.diff(ends).tolist() == [interval] * 3


@pytest.mark.parametrize(
    ("tokens", "heads", "lanes", "linear_lanes", "tile"),
    [(129, 3, 4, 1, 16), (129, 3, 4, 3, 16), (197, 6, 8, 1, 16), (197, 6, 4, 2, 32)],
)
def test_formula_is_exact_at_published_sizes(tokens, heads, lanes, linear_lanes, tile):
    sizes = MsaBlockSizes(
        formats=FORMATS["w16a32"],
        heads=heads,
        head_dim=64,
        max_tokens=tokens,
        dims=16,
        attention_lanes=lanes,
        tile_in=tile,
        tile_out=tile,
        linear_lanes=linear_lanes,
    )
    result = simulate(msa_block_graph(sizes, [tokens]), iterations=1)
    assert result.last_start["results"] + 1 == sizes.cycles(tokens)
    # no less than its two linears and the attention, and little more where they take turns
    linears = tokens * sizes.in_tiles * sizes.row_tiles * 4 // linear_lanes
    assert result.last_start["results"] > linears


def test_commands_are_checked():
    sizes = draw_sizes(np.random.default_rng(0))
    with pytest.raises(InputError, match="tokens = 20 is not allowed"):
        msa_block_graph(sizes, [sizes.max_tokens, 20])
    with pytest.raises(InputError, match="at least one command"):
        msa_block_graph(sizes, [])
