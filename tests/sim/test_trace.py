import json

import pytest

from headrace.errors import InputError
from headrace.sim.budget import Phase
from headrace.sim.cycle import simulate
from headrace.sim.graph import StreamGraph
from headrace.sim.trace import Trace


def test_structure(tmp_path):
    graph = StreamGraph("pipe")
    graph.add_node('quoted "node"', ii=2)
    graph.add_node("b", ii=(3, 1))
    graph.add_edge('quoted "node"', "b", depth=2, produce=1, consume=1)
    trace = Trace(250e6)
    phases = [
        Phase(name=f"p{i}", kernel=kernel, operator="o", cycles=5, steady=5, bound="lookup")
        for i, kernel in enumerate(["matmul", "norm", "matmul"])
    ]
    assert trace.add_phases(phases) == 15
    result = simulate(graph, iterations=2, starts=True)
    trace.add_firings(graph, result.starts, begin_cycles=100)
    path = tmp_path / "trace.json"
    trace.write(path)

    events = json.loads(path.read_text())["traceEvents"]
    names = {(e["pid"], e["tid"], e["name"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert set(names.values()) == {"phases", "matmul", "norm", "pipe", 'quoted "node"', "b"}
    complete = [e for e in events if e["ph"] == "X"]
    assert len(complete) == len(events) - len(names) == 3 + sum(result.firings.values())
    for event in complete:
        assert {"ph", "name", "pid", "tid", "ts", "dur"} <= event.keys()
        assert (event["pid"], event["tid"], "thread_name") in names
        assert (event["pid"], 0, "process_name") in names
    assert [e["ts"] for e in complete[:3]] == pytest.approx([0, 0.02, 0.04])
    b = [e for e in complete if e["name"].startswith("b[")]
    assert [e["args"]["cycles"] for e in b] == [3, 1, 3, 1]
    assert b[0]["ts"] == pytest.approx((100 + 1) / 250)


def test_events_of_a_track_do_not_overlap(tmp_path):
    graph = StreamGraph()
    graph.add_node("a", ii=2, latency=9)
    trace = Trace(1e6)
    trace.add_firings(graph, simulate(graph, iterations=5, starts=True).starts)
    trace.write(tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    spans = [(e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X"]
    assert spans == [(2 * k, 2 * k + 2) for k in range(5)]


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="above 0 Hz, not 0"):
        Trace(0)
    with pytest.raises(InputError, match="cannot write"):
        Trace(1e6).write(tmp_path / "missing" / "t.json")


def test_empty_trace_is_valid(tmp_path):
    Trace(1e6).write(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"] == []
