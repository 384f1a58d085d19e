"""The graph of UbiMoE's dispatch against its RTL, transfer by transfer."""

import re

import numpy as np
import pytest

from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.dispatch import Dispatch
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.dispatch import dispatch_graph

PORTS = ("command", "choices", "jobs", "rows")


def draw(rng):
    """Return sizes, and for each command the experts of every token, shape (tokens, top_k)."""
    experts = int(rng.choice([1, 2, 3, 5, 8, 16]))
    top_k = int(rng.integers(1, min(experts, 4) + 1))
    sizes = DispatchSizes(max_tokens=int(rng.integers(1, 13)), experts=experts, top_k=top_k)
    commands = []
    for _ in range(rng.integers(1, 5)):
        allowed = rng.permutation(experts)[: rng.integers(top_k, experts + 1)]
        tokens = rng.integers(1, sizes.max_tokens + 1)
        commands.append(np.array([rng.permutation(allowed)[:top_k] for _ in range(tokens)]))
    return sizes, commands


def loads_of(sizes, commands):
    return [np.bincount(choices.ravel(), minlength=sizes.experts).tolist() for choices in commands]


def vectors(sizes, commands, rng=None):
    """Return scores of zero; with `rng`, every port stalls at random."""
    beats = [sum(int(e) << 31 * k for k, e in enumerate(t)) for c in commands for t in c]
    jobs = sum(np.count_nonzero(load) for load in loads_of(sizes, commands))
    inputs = {"command": [len(c) for c in commands], "choices": beats}
    results = {"jobs": [0] * jobs, "rows": [0] * len(beats) * sizes.top_k}
    if rng is None:
        return StreamVectors(inputs, results)
    arrivals = {
        name: np.cumsum(rng.integers(0, int(rng.choice([1, 2, 4, 12])), len(items)))
        for name, items in {**inputs, **results}.items()
    }
    return StreamVectors(inputs, results, arrivals=arrivals)


def predicted(sizes, commands, feed):
    graph = dispatch_graph(sizes, loads_of(sizes, commands), feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, commands = draw(rng)
    feed = vectors(sizes, commands, rng if stalls else None)
    run = simulate_streams(Dispatch(sizes), feed)
    assert same(run.times) == predicted(sizes, commands, feed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 220))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_every_transfer_of_the_verilog():
    rng = np.random.default_rng(77)
    sizes, commands = draw(rng)
    feed = vectors(sizes, commands, rng)
    # The Verilog regression compares results as well; those of the simulator do here.
    results = simulate_streams(Dispatch(sizes), feed).results
    feed = StreamVectors(feed.inputs, results, arrivals=feed.arrivals)
    done = run_regression(to_verilog(Dispatch(sizes), "dispatch"), "dispatch", feed, "icarus")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, commands, feed)


@pytest.mark.parametrize("seed", range(100))
def test_formula_is_exact(seed):
    sizes, commands = draw(np.random.default_rng(seed))
    times = predicted(sizes, commands, vectors(sizes, commands))
    ends = np.cumsum([len(choices) * sizes.top_k for choices in commands]) - 1
    cycles = np.array(times["rows"])[ends] - times["command"] + 1
    assert cycles.tolist() == [sizes.cycles(len(choices)) for choices in commands]


@pytest.mark.parametrize(
    "load", [[1, 1], [3, 0, 0, 1], [1, 1, 0, 1], [-1, 1, 1, 1], [5, 5, 0, 0], [0, 0, 0, 0]]
)
def test_loads_are_checked(load):
    sizes = DispatchSizes(max_tokens=4, experts=4, top_k=2)
    message = "tokens = [05] is not" if sum(load) in (0, 10) else re.escape(f"loads of {load} rows")
    with pytest.raises(InputError, match=f"^{message}"):
        dispatch_graph(sizes, [load])


def test_no_work():
    with pytest.raises(InputError, match="no work"):
        dispatch_graph(DispatchSizes(max_tokens=4, experts=4, top_k=2), [])
