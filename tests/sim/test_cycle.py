import importlib.util
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.sim.cycle import Deadlock, simulate
from headrace.sim.graph import StreamGraph, pulse

_SPEC = importlib.util.spec_from_file_location("witness", Path(__file__).parent / "witness.py")
witness = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(witness)


def check_against_witness(graph, firings, **options):
    try:
        expected = witness.step_through(graph, firings)
    except witness.Stuck:
        with pytest.raises(Deadlock) as caught:
            simulate(graph, firings=firings)
        assert caught.value.fifos
        return False
    result = simulate(graph, firings=firings, starts=True, **options)
    for name, starts in expected.items():
        np.testing.assert_array_equal(result.starts[name], starts, err_msg=name)
    return True


@pytest.mark.parametrize("servers", [False, True])
def test_equals_witness(servers):
    rng = np.random.default_rng(11)
    live = 0
    for _ in range(150):
        graph = witness.random_graph(rng, servers=servers, bounded=bool(rng.random() < 0.7))
        count = {name: 6 * q for name, q in graph.repetitions().items()}
        live += check_against_witness(graph, count)
    assert 60 <= live < 150  # both outcomes are really exercised


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_equals_witness_at_length(seed):
    rng = np.random.default_rng([14, seed])
    for _ in range(300):
        graph = witness.random_graph(rng, servers=seed % 2 == 1, bounded=bool(rng.random() < 0.7))
        count = {name: 12 * q for name, q in graph.repetitions().items()}
        if rng.random() < 0.3:
            count[f"n{rng.integers(len(count))}"] += 1
        check_against_witness(graph, count)


@pytest.mark.parametrize("servers", [False, True])
def test_skipping_periods_changes_nothing(servers):
    rng = np.random.default_rng(12)
    skipped = 0
    for _ in range(150):
        graph = witness.random_graph(rng, servers=servers)
        iterations = int(rng.integers(1, 400))
        try:
            full = simulate(graph, iterations=iterations, periodic=False, starts=True)
        except Deadlock:
            with pytest.raises(Deadlock):
                simulate(graph, iterations=iterations)
            continue
        short = simulate(graph, iterations=iterations, starts=True)
        assert (short.cycles, short.finish) == (full.cycles, full.finish)
        assert (short.first_start, short.last_start) == (full.first_start, full.last_start)
        for name, starts in full.starts.items():
            np.testing.assert_array_equal(short.starts[name], starts)
        skipped += short.regime is not None
    assert skipped >= 50


@pytest.mark.parametrize("seed", range(10))
def test_rigid_pipelines_equal_witness(seed):
    rng = np.random.default_rng([15, seed])
    live = stands = 0
    for _ in range(60):
        graph = witness.rigid_graph(rng)
        count = graph.repetitions()
        live += check_against_witness(graph, count)
        stands += stood_still(graph)
    assert live >= 15
    assert stands >= 15


def stood_still(graph):
    """Tell whether an elastic pipeline in place of the last rigid one gives other times."""
    elastic = StreamGraph()
    for node in graph.nodes.values():
        timing = {"latency": node.latency, "arrivals": node.arrivals}
        elastic.add_node(node.name, ii=node.ii, phases=node.phases, **timing)
    for edge in graph.edges.values():
        rates = {what: getattr(edge, what) for what in ("produce", "consume", "free", "initial")}
        depth = int(graph.nodes[edge.src].latency[0]) if edge.rigid else edge.depth
        elastic.add_edge(edge.src, edge.dst, depth=depth, release=edge.release, **rates)
    try:
        found, other = (simulate(g, iterations=1, starts=True).starts for g in (graph, elastic))
    except Deadlock:
        return False
    return any((found[name] != other[name]).any() for name in found)


def test_a_rigid_pipeline_keeps_its_bubbles():
    """Tokens enter in 0 and 5 and take 3 cycles; the first one waits until 9 for its firing."""
    graph = StreamGraph()
    graph.add_node("in", arrivals=[0, 2, 5, 6], latency=3, phases=4)
    graph.add_node("out", arrivals=[9, 0], phases=2)
    graph.add_edge("in", "out", produce=(1, 0, 1, 0), rigid=True)
    starts = simulate(graph, iterations=1, starts=True).starts
    # it stands from 3 to 8: what would enter in 5 enters in 9, together with the first result
    assert starts["in"].tolist() == [0, 2, 9, 10]
    assert starts["out"].tolist() == [9, 12]


def test_arrivals_and_service():
    rng = np.random.default_rng(13)
    for _ in range(60):
        graph = StreamGraph()
        count = int(rng.integers(1, 40))
        graph.add_node("in", arrivals=np.sort(rng.integers(0, 99, count)))
        graph.add_node(
            "work", service=rng.integers(0, 9, count), service_latency=rng.integers(0, 9, count)
        )
        graph.add_node("port", ii=1, service=rng.integers(1, 4, count), server="ddr")
        graph.add_node("out", server="ddr", server_cycles=2, priority=-1)
        for src, dst in (("in", "work"), ("work", "port"), ("port", "out")):
            graph.add_edge(src, dst, depth=int(rng.integers(1, 5)))
        assert check_against_witness(graph, dict.fromkeys(graph.nodes, count))


def table_lookup(buffers):
    """Fill a table over 5 cycles, then look 7 outputs up in it."""
    graph = StreamGraph("tables")
    graph.add_node("build", phases=5)
    graph.add_node("lookup", phases=7, latency=3)
    graph.add_edge(
        "build",
        "lookup",
        produce=pulse(5, -1),
        claim=pulse(5, 0),
        consume=pulse(7, 0),
        free=pulse(7, -1),
        depth=buffers,
    )
    return graph


def test_single_and_double_buffered_tables():
    # One table: building and looking up take turns, 5 + 7; two: the slower one sets the pace.
    assert simulate(table_lookup(1), iterations=9).cycles == 9 * 12 + 2
    assert simulate(table_lookup(2), iterations=9).cycles == 5 + 9 * 7 + 2


def test_register_stages():
    # A stage that is ready only when empty passes every second cycle, one that looks through
    # to its reader every cycle.
    for release, cycles in ((1, 2 * 99 + 2), (0, 99 + 2)):
        graph = StreamGraph()
        graph.add_node("a")
        graph.add_node("b")
        graph.add_edge("a", "b", depth=1, release=release)
        assert simulate(graph, iterations=100).cycles == cycles


def test_long_run_is_exact():
    result = simulate(table_lookup(1), iterations=10**9)
    assert result.cycles == 12 * 10**9 + 2
    assert result.regime.period == 12


def test_too_long_without_a_period():
    graph = StreamGraph("race")
    graph.add_node("fast", ii=1)
    graph.add_node("slow", ii=2)
    graph.add_edge("fast", "slow")
    # The unbounded FIFO fills for ever, so the state never repeats.
    result = simulate(graph, iterations=1000)
    assert (result.cycles, result.regime) == (2001, None)
    with pytest.raises(InputError, match="no periodic regime was found; run fewer, and bound"):
        simulate(graph, iterations=10**8, periodic=False)


def test_first_ready_then_priority():
    graph = StreamGraph()
    for name, arrival, priority in (("late", 1, 0), ("low", 0, 5), ("high", 0, 4)):
        graph.add_node(name, ii=10, arrivals=[arrival], server="ddr", priority=priority)
    result = simulate(graph, iterations=1)
    assert result.first_start == {"high": 0, "low": 10, "late": 20}


def test_deadlock_names_the_fifos():
    graph = StreamGraph("fork")
    for name in ("split", "long", "join"):
        graph.add_node(name)
    graph.add_edge("split", "join", depth=3)
    graph.add_edge("split", "long", depth=8)
    graph.add_edge("long", "join", consume=1, produce=1, depth=8)
    simulate(graph, iterations=20)
    graph.add_node("block", phases=8)
    graph.add_edge("long", "block", depth=8)
    graph.add_edge("block", "join", produce=pulse(8, -1, 8), depth=8)
    with pytest.raises(Deadlock, match="'block->join' is empty") as caught:
        simulate(graph, iterations=20)
    assert ("split->join", "full") in caught.value.fifos
    assert caught.value.fired["split"] == 3
    assert isinstance(caught.value, InputError)


def test_deadlock_names_a_pipeline_that_stands():
    graph = StreamGraph()
    for name in ("in", "out", "end"):
        graph.add_node(name, phases=4)
    graph.add_edge("in", "out", rigid=True)
    graph.add_edge("out", "end", depth=1)
    graph.add_edge("in", "end", consume=(4, 0, 0, 0))
    with pytest.raises(Deadlock) as caught:
        simulate(graph, iterations=1)
    assert set(caught.value.fifos) == {
        ("in->out", "full"),
        ("out->end", "full"),
        ("in->end", "empty"),
    }
    assert caught.value.fired == {"in": 2, "out": 1, "end": 0}


def test_feedback_without_tokens():
    graph = StreamGraph("loop")
    graph.add_node("a")
    graph.add_node("b")
    graph.add_edge("a", "b")
    graph.add_edge("b", "a")
    with pytest.raises(Deadlock) as caught:
        simulate(graph, iterations=2)
    assert set(caught.value.fifos) == {("a->b", "empty"), ("b->a", "empty")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either iterations or firings"),
        ({"iterations": 1, "firings": {"in": 1}}, "either iterations or firings"),
        ({"iterations": 0}, "at least 1"),
        ({"firings": {}}, "names no node"),
        ({"firings": {"no": 1}}, "no node 'no'"),
        ({"firings": {"in": 4}}, "arrivals has 3 values, the run needs 4"),
    ],
)
def test_bad_arguments(arguments, message):
    graph = StreamGraph()
    graph.add_node("in", arrivals=[0, 1, 2])
    with pytest.raises(InputError, match=message):
        simulate(graph, **arguments)
