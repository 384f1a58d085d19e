import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.sim.analytic import analyse
from headrace.sim.cycle import Deadlock, simulate
from headrace.sim.graph import StreamGraph, pulse

_SPEC = importlib.util.spec_from_file_location("witness", Path(__file__).parent / "witness.py")
witness = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(witness)


def test_equals_cycle_on_random_graphs():
    rng = np.random.default_rng(21)
    live = 0
    for _ in range(150):
        graph = witness.random_graph(rng)
        try:
            result = simulate(graph, iterations=3000)
        except Deadlock:
            with pytest.raises(InputError, match="deadlocks"):
                analyse(graph)
            continue
        live += 1
        analysis = analyse(graph)
        assert result.regime.period == analysis.period
        assert analysis.cycles(1) == simulate(graph, iterations=1).cycles
        for iterations in (30, 200, 3000):
            cycles = simulate(graph, iterations=iterations).cycles
            assert abs(analysis.cycles(iterations) - cycles) <= max(0.01 * cycles, 3), graph.name
    assert live >= 60


def test_two_stage_loop_by_hand():
    # Three tokens go round a loop of 5 + 6 cycles: 11/3 cycles per firing.
    graph = StreamGraph()
    graph.add_node("a", latency=5)
    graph.add_node("b", latency=6)
    graph.add_edge("a", "b")
    graph.add_edge("b", "a", initial=3)
    analysis = analyse(graph)
    assert analysis.period == Fraction(11, 3)
    assert analysis.bound in ("a > b", "b > a")
    assert analysis.first == 11


def test_overtaking_tokens_keep_their_order():
    # The second token is computed sooner, yet leaves after the first: 0 + 9, not 1 + 2.
    graph = StreamGraph()
    graph.add_node("a", ii=(1, 1), latency=(9, 2))
    graph.add_node("b")
    graph.add_edge("a", "b", produce=(0, 1), consume=1)
    graph.add_edge("b", "a", produce=1, consume=(1, 0), initial=1)
    assert analyse(graph).period == 10
    assert simulate(graph, iterations=50).regime.period == 10


def test_fill_and_drain_by_hand():
    # 4 cycles to the bottleneck, of 5 cycles each; the last takes 6 to come out, and 3 more.
    graph = StreamGraph()
    graph.add_node("before", latency=4)
    graph.add_node("bottleneck", ii=5, latency=6)
    graph.add_node("after", latency=3)
    graph.add_edge("before", "bottleneck", depth=9)
    graph.add_edge("bottleneck", "after", depth=9)
    analysis = analyse(graph)
    assert (analysis.fill, analysis.period, analysis.drain) == (4, 5, 6 + 3)
    assert analysis.bound == "bottleneck"
    assert analysis.cycles(10) == simulate(graph, iterations=10).cycles == 4 + 9 * 5 + 9


def test_server_bound():
    graph = StreamGraph()
    graph.add_node("a", server="ddr", server_cycles=4)
    graph.add_node("b", server="ddr", server_cycles=3)
    graph.add_edge("a", "b", depth=2)
    assert analyse(graph).bound == "server ddr"
    assert analyse(graph).period == 7
    assert simulate(graph, iterations=500).regime.period == 7


def test_large_expansion():
    # One block of the published engine: 27 table writes, 96 groups of outputs, 19 row blocks.
    graph = StreamGraph()
    graph.add_node("build", phases=27)
    graph.add_node("lookup", phases=96, latency=6)
    graph.add_edge(
        "build", "lookup", produce=pulse(27, -1), claim=pulse(27, 0),
        consume=pulse(96, 0), free=pulse(96, -1), depth=1,
    )  # fmt: skip
    analysis = analyse(graph)
    assert analysis.period == 27 + 96
    assert analysis.cycles(19) == 19 * 123 + 5
    assert simulate(graph, iterations=19).cycles == analysis.cycles(19)


def test_per_firing_timings_are_refused():
    graph = StreamGraph("bursty")
    graph.add_node("in", arrivals=[3, 4])
    with pytest.raises(InputError, match="node 'in' of 'bursty': the closed form"):
        analyse(graph)
    with pytest.raises(InputError, match="iterations must be at least 1, not 0"):
        analyse_one().cycles(0)


def analyse_one():
    graph = StreamGraph()
    graph.add_node("a")
    return analyse(graph)


def test_rigid_pipelines_are_refused():
    graph = StreamGraph("g")
    graph.add_node("a")
    graph.add_node("b")
    graph.add_edge("a", "b", rigid=True)
    with pytest.raises(InputError, match="edge 'a->b' of 'g': the closed form has no rigid"):
        analyse(graph)
