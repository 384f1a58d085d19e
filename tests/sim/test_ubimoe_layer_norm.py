"""The graph of UbiMoE's layer norm against its RTL, transfer by transfer."""

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.layer_norm import LayerNorm
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.layer_norm import layer_norm_graph

PORTS = ("command", "parameters", "inputs", "results")


def draw_sizes(rng):
    """Draw small sizes; few dims per beat, since only cycles are looked at."""
    dims = int(rng.integers(1, 4))
    return LayerNormSizes(
        formats=FORMATS[str(rng.choice(["w16a32", "int16", "int8"]))],
        width=dims * int(rng.choice([1, 2, 5, 12, 40])),
        dims=dims,
    )


def draw_tokens(sizes, rng):
    most = max(2, 150 // sizes.row_beats)
    return rng.integers(1, most + 1, rng.integers(1, 4)).tolist()


def vectors(sizes, tokens, rng=None):
    """Return zeros for all but commands; with `rng`, every port stalls at random."""
    beats = sum(tokens) * sizes.row_beats
    inputs = {
        "command": tokens,
        "parameters": [0] * (len(tokens) * sizes.row_beats),
        "inputs": [0] * beats,
    }
    out = {"results": [0] * beats}
    if rng is None:
        return StreamVectors(inputs, out)
    arrivals = {}
    for name, items in {**inputs, **out}.items():
        pace = rng.choice([0.1, 0.5, 2.0]) * (beats / len(items) if name != "parameters" else 1)
        steady = rng.geometric(1 / (1 + pace), len(items)) - 1
        pauses = rng.integers(0, 90, len(items)) * (rng.random(len(items)) < 3 / len(items))
        arrivals[name] = np.cumsum(steady + pauses)
    return StreamVectors(inputs, out, arrivals)


def predicted(sizes, tokens, feed):
    graph = layer_norm_graph(sizes, tokens, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    tokens = draw_tokens(sizes, rng)
    feed = vectors(sizes, tokens, rng if stalls else None)
    found = predicted(sizes, tokens, feed)
    assert same(simulate_streams(LayerNorm(sizes), feed).times) == found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_every_transfer_of_the_verilog():
    rng = np.random.default_rng(77)
    sizes = draw_sizes(rng)
    tokens = draw_tokens(sizes, rng)
    feed = vectors(sizes, tokens, rng)
    # bits are compared elsewhere: zeros give zeros
    done = run_regression(to_verilog(LayerNorm(sizes), "norm"), "norm", feed, "icarus")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, tokens, feed)


@pytest.mark.parametrize(
    ("width", "dims", "tokens"), [(192, 8, 129), (192, 192, 7), (384, 16, 197), (6, 1, 1)]
)
def test_formula_is_exact(width, dims, tokens):
    sizes = LayerNormSizes(formats=FORMATS["w16a32"], width=width, dims=dims)
    result = simulate(layer_norm_graph(sizes, [tokens]), iterations=1)
    assert result.last_start["results"] + 1 == sizes.cycles(tokens)


@pytest.mark.parametrize("tokens", [[], [3, 0]])
def test_commands_are_checked(tokens):
    sizes = LayerNormSizes(formats=FORMATS["int8"], width=4, dims=2)
    with pytest.raises(InputError, match="at least one command, each of at least one row"):
        layer_norm_graph(sizes, tokens)
