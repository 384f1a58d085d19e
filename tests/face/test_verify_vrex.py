"""V-Rex's ``verify`` face: what it draws, what it compares, and that it can fail."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.point import Point
from headrace.arch.vrex import VREX
from headrace.arch.vrex.units import unit_sizes
from headrace.cli import main
from headrace.rtl import netlist
from headrace.rtl.netlist import NetlistCounts
from headrace.rtl.vrex import emission
from headrace.rtl.vrex.threshold import ThresholdUnit
from headrace.verification import vrex_cases
from headrace.verification.check import Check
from headrace.verification.vrex import KERNELS, VERIFY
from headrace.verification.vrex_cases import DRAWN, draw_cases

POINT = VREX.point({"wtu_lanes": 4, "wtu_buckets": 8})
UNEVEN = VREX.point({"hcu_lanes": 7, "hcu_accumulators": 8, "wtu_lanes": 32, "wtu_buckets": 20})
COUNTS = NetlistCounts(
    lut=100, lutram=3, ff=10, carry=0, dsp=5, bram36=1.5, uram=1, yosys_version="0.0"
)


def verify(
    kernel: str,
    *witnesses: str,
    point: Point = POINT,
    vectors: int = 8,
    full_size: bool = False,
    simulators: tuple[str, ...] = ("icarus",),
) -> list[Check]:
    return VERIFY(
        point,
        kernel=kernel,
        witnesses=witnesses,
        vectors=vectors,
        seed=0,
        full_size=full_size,
        simulators=simulators,
        say=lambda line: None,
    )


def failed(checks: list[Check]) -> list[str]:
    return [check.what for check in checks if not check.passed]


def test_the_face_knows_every_unit() -> None:
    assert VREX.face("verify") is VERIFY
    assert VERIFY.kernels == tuple(DRAWN) == tuple(emission.UNITS)


@pytest.mark.parametrize("kernel", ["hash_cluster", "score_align"])
def test_bits_and_cycles_in_icarus(kernel: str) -> None:
    checks = verify(kernel, "bits", "cycles")
    assert failed(checks) == []
    assert [c.witness for c in checks] == ["bits"] * 2 + ["cycles"] * 5
    assert all(c.expected for c in checks)
    assert {c.point for c in checks} == {POINT}
    free, stalling = (c.measured for c in checks if c.what.startswith("cycles, "))
    assert stalling > 1.1 * free


def test_wrong_results_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    right = vrex_cases.align_scores
    monkeypatch.setattr(vrex_cases, "align_scores", lambda scores: right(scores) ^ 1)
    checks = verify("score_align", "bits", "cycles")
    assert failed(checks) == [check.what for check in checks]
    assert all(check.measured == 0 for check in checks)
    assert "instead of" in checks[0].note


def test_a_broken_unit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sizes: Any) -> ThresholdUnit:
        return ThresholdUnit(replace(sizes, buckets=sizes.buckets + 1))

    monkeypatch.setitem(emission.UNITS, "threshold", broken)
    assert failed(verify("threshold", "bits", vectors=40)) == ["results, free streams"]


def test_other_cycles_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = vrex_cases.kv_management_graph

    def slower(sizes: Any, work: Any, arrivals: Any) -> Any:
        return graph(replace(sizes, clusters=sizes.clusters + 1), work, arrivals)

    monkeypatch.setattr(vrex_cases, "kv_management_graph", slower)
    checks = verify("kv_management", "bits", "cycles")
    assert len([c for c in checks if c.witness == "bits" and c.passed]) == 2
    assert len(failed(checks)) >= 2
    assert "cycles of the first command, closed form" not in failed(checks)


@pytest.mark.parametrize("kernel", KERNELS)
def test_cells_are_facts(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlist, "map_netlist", lambda verilog, top: COUNTS)
    checks = verify(kernel, "resources")
    assert {c.what: c.measured for c in checks} == {
        "lut": 100, "lutram": 3, "ff": 10, "dsp": 5, "bram36": 1.5, "uram": 1
    }  # fmt: skip
    assert all(c.expected is None and c.passed for c in checks)
    assert "not cells of an ASIC" in checks[0].note


def test_the_command_tells_facts_from_checks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(netlist, "map_netlist", lambda verilog, top: COUNTS)
    words = ["verify", "vrex", "--kernel", "kv_management", "--witness", "resources"]
    assert main([*words, "--json"]) == 0
    body = json.loads(capfd.readouterr().out)
    assert [(c["what"], c["expected"], c["error"]) for c in body["checks"][:2]] == [
        ("lut", None, None),
        ("lutram", None, None),
    ]
    assert main(words) == 0
    shown = capfd.readouterr().out
    assert shown.count("fact") == 6
    assert "pass" not in shown.partition("netlists")[0]


def test_there_is_no_hls() -> None:
    said: list[str] = []
    checks = VERIFY(
        POINT, kernel="threshold", witnesses=("hls",), vectors=4, seed=0, full_size=False,
        simulators=("icarus",), say=said.append,
    )  # fmt: skip
    assert checks == []
    assert said == ["threshold has no HLS: V-Rex is RTL alone"]


@pytest.mark.parametrize("point", [POINT, UNEVEN])
@pytest.mark.parametrize("kernel", KERNELS)
def test_work_is_the_same_every_time_and_covers_the_ports(kernel: str, point: Point) -> None:
    cases, again = (draw_cases(point, kernel, 20, 3, whole=False) for _ in range(2))
    assert [c.vectors.inputs for c in cases] == [c.vectors.inputs for c in again]
    assert [c.vectors.results for c in cases] == [c.vectors.results for c in again]
    for case in cases:
        given = {**case.vectors.inputs, **case.vectors.results}
        assert all(given.values())
        if case.graph is not None:
            starts = case.predicted(case.vectors)
            assert {name: len(found) for name, found in starts.items()} == {
                name: len(items) for name, items in given.items()
            }
        for closed in case.closed:
            assert type(closed.cycles) is int  # JSON knows no other
            assert closed.transfers <= len(given[closed.end])


def test_whole_tables_and_rows() -> None:
    sizes = unit_sizes(POINT)
    (case,) = draw_cases(POINT, "threshold", 4, 0, whole=True)
    assert case.vectors.inputs["command"][0] & 0xFFFF == sizes.threshold.max_clusters
    (case,) = draw_cases(POINT, "hash_cluster", 4, 0, whole=True)
    assert len(case.vectors.inputs["table"]) >= sizes.hash_cluster.clusters * 3 // 4
    (case,) = draw_cases(POINT, "kv_management", 4, 0, whole=True)
    assert len(case.vectors.inputs["clusters"]) > 30_000


def test_the_engine_fetches_and_changes_layers() -> None:
    at_once, alone = draw_cases(POINT, "retrieval_engine", 60, 0, whole=False)
    assert at_once.vectors.results == alone.vectors.results
    command = at_once.vectors.inputs["command"]
    assert {word >> 32 & 0xFF for word in command} == {0, 1}
    bits = unit_sizes(POINT).kv_management.place_bits
    assert sum(word >> bits & 0xFFFF for word in alone.vectors.results["reads"]) > 64
    assert len(alone.closed) > 5
    assert alone.vectors.arrivals["command"][-1] > 5 * alone.closed[-1].cycles
    assert np.all(np.diff(alone.vectors.arrivals["command"]) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("point", [VREX.point(), UNEVEN])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_unit_in_both_simulators(kernel: str, point: Point) -> None:
    checks = verify(
        kernel,
        "bits",
        "cycles",
        point=point,
        vectors=60,
        simulators=("icarus", "verilator"),
    )
    assert failed(checks) == []
    assert {c.simulator for c in checks} == {"icarus", "verilator"}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_unit_with_whole_tables(kernel: str) -> None:
    assert failed(verify(kernel, "bits", "cycles", point=VREX.point(), full_size=True)) == []
