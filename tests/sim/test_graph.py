import numpy as np
import pytest

from headrace.errors import InputError
from headrace.sim.graph import StreamGraph, pulse


def pair(**node):
    graph = StreamGraph("g")
    graph.add_node("a", **node)
    graph.add_node("b", phases=3)
    return graph


def test_repetitions():
    graph = pair(ii=(1, 2))
    # Each cycle of the two phases of a makes 5 tokens, each cycle of the three of b takes 3.
    graph.add_edge("a", "b", produce=(2, 3), consume=1)
    graph.add_node("alone")
    assert graph.repetitions() == {"a": 6, "b": 15, "alone": 1}


def test_inconsistent_edge_is_named():
    graph = pair()
    graph.add_edge("a", "b", produce=3)
    graph.add_edge("a", "b", produce=2)
    with pytest.raises(InputError, match="edge 'a->b#2' of 'g': 2 tokens produced and 3 consumed"):
        graph.repetitions()


def test_pulse():
    assert pulse(4, -1, 9).tolist() == [0, 0, 0, 9]
    with pytest.raises(InputError, match="pulse at phase 4: there are 4 phases"):
        pulse(4, 4)


def test_arrays_given_are_copied():
    rates = np.array([1, 2, 3])
    graph = pair()
    edge = graph.add_edge("a", "b", produce=6, consume=rates)
    rates[:] = 0
    assert edge.consume.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ii": -1}, "node 'c' of 'g': ii must be 0 to 2\\^40, not -1"),
        ({"ii": 2**50}, "ii must be 0 to 2\\^40"),
        ({"ii": 1.5}, "ii must be an integer or a sequence of integers"),
        ({"ii": ()}, "ii must be an integer or a sequence of integers"),
        ({"ii": (1, 2), "latency": (1, 2, 3)}, "ii must have 1 or 3 values, not 2"),
        ({"phases": 0}, "phases must be at least 1, not 0"),
        ({"server_cycles": 1}, "server_cycles needs server"),
        ({"service_latency": [1]}, "service_latency needs service"),
        ({"service": [1, 2], "service_latency": [1, 2, 3]}, "must have 1 or 2 values, not 3"),
    ],
)
def test_bad_nodes(options, message):
    with pytest.raises(InputError, match=message):
        pair().add_node("c", **options)


def test_node_names_are_unique():
    with pytest.raises(InputError, match="node 'a' of 'g': the name is taken already"):
        pair().add_node("a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dst": "z"}, "edge 'a->z' of 'g': there is no node 'z'"),
        ({"consume": (1, 1)}, "consume must have 1 or 3 values, not 2"),
        ({"produce": 0}, "must not be zero in every phase"),
        ({"depth": 0}, "depth must be at least 1 token, not 0"),
        ({"depth": 2, "initial": 3}, "initial must be 0 to the depth 2, not 3"),
        ({"initial": -1}, "initial must be 0 to the depth None, not -1"),
        ({"release": -1}, "release must be at least 0 cycles, not -1"),
        ({"claim": 2}, "claim must come no later than produce, and as much of it"),
        ({"consume": (0, 0, 1), "free": (1, 0, 0)}, "free must come no earlier than consume"),
    ],
)
def test_bad_edges(options, message):
    with pytest.raises(InputError, match=message):
        pair().add_edge("a", **{"dst": "b", **options})


@pytest.mark.parametrize(
    ("node", "options", "message"),
    [
        ({}, {"produce": 2}, "a rigid pipeline moves one token at a time"),
        ({}, {"consume": (2, 0, 1)}, "a rigid pipeline moves one token at a time"),
        ({}, {"free": (0, 1, 2)}, "a rigid pipeline moves one token at a time"),
        ({"latency": (1, 2)}, {}, "a rigid pipeline has one latency, of at least 1 cycle"),
        ({"latency": 0}, {}, "a rigid pipeline has one latency, of at least 1 cycle"),
        ({"service": (1, 1)}, {}, "a rigid pipeline has one latency, of at least 1 cycle"),
        ({"server": "port"}, {}, "'a' has a server, and feeds no rigid pipeline"),
        ({}, {"depth": 4}, "a rigid pipeline has no depth and no initial tokens"),
        ({}, {"initial": 1}, "a rigid pipeline has no depth and no initial tokens"),
        ({}, {"dst": "c"}, "'a' feeds the rigid pipeline 'a->c' already"),
    ],
)
def test_bad_rigid_pipelines(node, options, message):
    graph = pair(**node)
    if options.get("dst") == "c":
        graph.add_node("c")
        graph.add_edge("a", "c", rigid=True)
        options = {"name": "a->b"}
    with pytest.raises(InputError, match=f"edge 'a->.' of 'g': {message}"):
        graph.add_edge("a", **{"dst": "b", "rigid": True, **options})


def test_edge_names_are_unique():
    graph = pair()
    graph.add_edge("a", "b", name="fifo")
    with pytest.raises(InputError, match="edge 'fifo' of 'g': the name is taken already"):
        graph.add_edge("a", "b", name="fifo")


def test_empty_graph():
    with pytest.raises(InputError, match="graph 'graph' has no node"):
        StreamGraph().repetitions()
