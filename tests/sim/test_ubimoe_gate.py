"""The graph of UbiMoE's gate against its RTL, transfer by transfer."""

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.gate import Gate
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.gate import gate_graph

PORTS = ("command", "weights", "inputs", "choices")


def draw(rng):
    """Return small sizes and the tokens of some commands."""
    experts = int(rng.choice([1, 2, 3, 4, 5, 8, 12, 16]))
    sizes = GateSizes(
        formats=FORMATS["int8"],
        experts=experts,
        top_k=int(rng.integers(1, experts + 1)),
        dims=int(rng.choice([1, 2, 3, 5, 8])),
        row_beats=int(rng.choice([1, 1, 2, 3, 8])),
        max_tokens=6,
    )
    return sizes, rng.integers(1, 7, rng.integers(1, 4)).tolist()


def vectors(sizes, tokens, rng=None):
    """Return zeros; with `rng`, every port stalls at random."""
    beats = sizes.row_beats
    inputs = {
        "command": tokens,
        "weights": [0] * (len(tokens) * sizes.experts * beats),
        "inputs": [0] * (sum(tokens) * beats),
    }
    results = {"choices": [0] * sum(tokens)}
    if rng is None:
        return StreamVectors(inputs, results)
    arrivals = {}
    for name, items in {**inputs, **results}.items():
        span = rng.choice([1, 2, 4] if name == "weights" else [1, 20, 100])
        arrivals[name] = np.cumsum(rng.integers(0, int(span), len(items)))
    return StreamVectors(inputs, results, arrivals=arrivals)


def predicted(sizes, tokens, feed):
    graph = gate_graph(sizes, tokens, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, tokens = draw(rng)
    feed = vectors(sizes, tokens, rng if stalls else None)
    run = simulate_streams(Gate(sizes), feed)
    assert same(run.times) == predicted(sizes, tokens, feed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_every_transfer_of_the_verilog():
    rng = np.random.default_rng(77)
    sizes, tokens = draw(rng)
    feed = vectors(sizes, tokens, rng)
    results = simulate_streams(Gate(sizes), feed).results
    feed = StreamVectors(feed.inputs, results, arrivals=feed.arrivals)
    done = run_regression(to_verilog(Gate(sizes), "gate"), "gate", feed, "icarus")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, tokens, feed)


@pytest.mark.parametrize("seed", range(100))
def test_formula_is_exact(seed):
    sizes, (tokens, *_) = draw(np.random.default_rng(seed))
    times = predicted(sizes, [tokens], vectors(sizes, [tokens]))
    assert times["choices"][-1] - times["command"][0] + 1 == sizes.cycles(tokens)


@pytest.mark.parametrize(
    "tokens, message",
    [([], "gate: no work"), ([3, 7], "tokens = 7 is not allowed: 1 to 6"), ([0], "tokens = 0")],
)
def test_work_is_checked(tokens, message):
    sizes, _ = draw(np.random.default_rng(0))
    with pytest.raises(InputError, match=f"^{message}"):
        gate_graph(sizes, tokens)
