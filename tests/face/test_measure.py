"""TeLLMe's rungs above the analytic one."""

import os
import time
from contextlib import closing

import pytest

from headrace.arch.design import load_design
from headrace.arch.device import load_device
from headrace.arch.resources import Resources
from headrace.arch.tellme.resources import resources
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.rtl import simulators
from headrace.search.cluster import measure_point, open_executor
from headrace.sim.tellme import simulate
from headrace.sim.workload import Workload
from headrace.verification import engine as engine_module
from headrace.verification.engine import draw_vectors, measure_engine, run_engine

DESIGN = load_design("tellme")
DEVICE = load_device("kv260")
NETWORK = load_network("tiny-bitnet")
WORKLOAD = Workload(prompt_tokens=8, context_tokens=4)
SMALL = {
    "tables": 4, "group_size": 2, "copies": 2, "weight_banks": 2, "lookup_method": "naive",
    "block_gap_cycles": 0, "weight_words": 16384, "weight_ports": 1, "port_bits": 128,
    "max_outputs": 1024, "activation_lanes": 8,
}  # fmt: skip
ENGINE = ("ternary_matmul", "weight_buffer")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def measure(fidelity, **changes):
    return measure_point(fidelity, "tellme", SMALL | changes, "kv260", NETWORK, WORKLOAD)


def test_names_are_those_of_the_search():
    evaluator = DESIGN.face("search").evaluator(DEVICE, NETWORK, WORKLOAD)
    assert tuple(measure("cycle").figures) == evaluator.metrics + evaluator.resources


def test_cycle_is_the_simulation():
    measured = measure("cycle")
    simulated = simulate(DESIGN.point(SMALL), DEVICE, NETWORK, WORKLOAD, "cycle")
    total = sum(simulated.resources.values(), Resources())
    assert measured.figures == {**simulated.metrics, **total.as_dict()}
    assert measured.agrees
    assert not measured.cached
    analytic = simulate(DESIGN.point(SMALL), DEVICE, NETWORK, WORKLOAD)
    assert measured.figures["ttft_s"] != analytic.metrics["ttft_s"]


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="local workers need POSIX")
def test_workers_measure_what_this_process_measures():
    changes = [{}, {"decode_lanes": 8}, {"clock_mhz": 100}]
    found = {}
    with closing(open_executor(None, 2)) as executor:
        for key, change in enumerate(changes):
            values = DESIGN.point(SMALL | change)
            task = measure_point, "cycle", "tellme", dict(values), "kv260", NETWORK, WORKLOAD
            executor.submit(key, *task)
        deadline = time.monotonic() + 60
        while len(found) < len(changes):
            found |= dict(executor.done(1))
            assert time.monotonic() < deadline
    for key, change in enumerate(changes):
        assert found[key].figures == measure("cycle", **change).figures


@pytest.mark.parametrize("fidelity", ["analytic", "netlist"])
def test_other_fidelities_are_refused(fidelity):
    with pytest.raises(InputError, match=f"^fidelity '{fidelity}' is not allowed: one of cycle, "):
        measure(fidelity)


def test_rtl_replaces_the_engine_and_is_shared_by_points_with_the_same_engine(monkeypatch):
    cycle, rtl = measure("cycle").figures, measure("rtl")
    assert rtl.agrees
    assert not rtl.cached
    detail = rtl.detail
    assert detail["cycles_measured"] == detail["cycles_predicted"] > 0
    modules = resources(DESIGN.point(SMALL))
    for name in Resources().as_dict():
        model = sum(getattr(modules[module], name) for module in ENGINE)
        assert detail[f"engine_{name}_model"] == pytest.approx(model)
        # Everything but the engine stays as it is.
        rest = rtl.figures[name] - detail[f"engine_{name}_mapped"]
        assert rest == pytest.approx(cycle[name] - model)
    assert rtl.figures["lut"] != cycle["lut"]
    # Times are those of the cycle rung, power follows the resources.
    assert rtl.figures["ttft_s"] == cycle["ttft_s"]
    lut = rtl.figures["lut"] - cycle["lut"]
    assert (rtl.figures["power_w"] - cycle["power_w"]) * lut > 0
    assert {"verilog", "vectors", "netlist"} == set(rtl.artefacts)
    assert all(len(value) == 64 for value in rtl.artefacts.values())

    monkeypatch.setattr(engine_module, "run_vectors", lambda *_: pytest.fail("simulated twice"))
    again = measure("rtl", decode_lanes=8)
    assert again.cached
    assert again.artefacts == rtl.artefacts
    assert again.seconds > rtl.seconds / 2
    assert again.figures["dsp"] < rtl.figures["dsp"]
    other = load_network("tiny-bitnet"), Workload(prompt_tokens=9, context_tokens=4)
    assert measure_point("rtl", "tellme", SMALL, "kv260", *other).cached


def drawn():
    from headrace.arch.tellme.engine import engine_sizes

    sizes = engine_sizes(DESIGN.point(SMALL))
    return sizes, DESIGN.face("rtl").verilog(DESIGN.point(SMALL)), draw_vectors(sizes)


def test_vectors_cover_more_than_one_block_and_token():
    _, _, vectors = drawn()
    computes = vectors.job.computes
    assert max(c.rows for c in computes) > 1
    assert max(c.groups for c in computes) > 1
    assert {c.tokens for c in computes} == {2}
    assert draw_vectors(drawn()[0]).results.tolist() == vectors.results.tolist()


def test_wrong_bits_are_seen_and_not_kept(cache):
    sizes, verilog, vectors = drawn()
    vectors.results[-1, 0] += 1
    ran = run_engine(sizes, verilog, vectors)
    assert (ran.facts["equal"], ran.facts["cycles"]) == (0, 0)
    assert f"result {len(vectors.results) - 1}:" in ran.facts["message"]
    assert list((cache / "simulations").iterdir()) == []


def test_verilog_that_cannot_be_built():
    sizes, _, vectors = drawn()
    with pytest.raises(RuntimeError, match="icarus cannot build ternary_matmul"):
        run_engine(sizes, "module ternary_matmul(", vectors)


def test_other_cycles_disagree_and_nothing_is_scaled(monkeypatch):
    sizes, _, _ = drawn()
    facts = {"cycles": 1000, "equal": 1, "message": ""}
    monkeypatch.setattr(
        engine_module, "run_engine", lambda *_: engine_module.Kept(facts, 1.0, cached=False)
    )
    counts = {"lut": 10, "lutram": 0, "ff": 0, "carry": 0, "dsp": 0, "bram36": 0.0, "uram": 0,
              "yosys_version": "x"}  # fmt: skip
    monkeypatch.setattr(
        engine_module, "kept_netlist", lambda *_: engine_module.Kept(counts, 1.0, cached=True)
    )
    measured = measure("rtl")
    assert not measured.agrees
    assert not measured.cached
    assert measured.detail["cycles_measured"] == 1000 != measured.detail["cycles_predicted"]
    assert measured.figures["ttft_s"] == measure("cycle").figures["ttft_s"]
    assert measure_engine(sizes).mapped.lut == 10


def test_missing_simulator_is_named(monkeypatch):
    simulators.icarus_version.cache_clear()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="^simulator icarus: there is no iverilog on the path"):
        measure("rtl")
