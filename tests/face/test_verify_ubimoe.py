"""UbiMoE's ``verify`` face: what it draws, what it compares, and that it can fail."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.design import Design
from headrace.arch.point import Point
from headrace.arch.ubimoe.axes import AXES, CONSTRAINTS
from headrace.arch.ubimoe.machine import block_sizes
from headrace.arch.ubimoe.reduce import reduced
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.rtl import netlist
from headrace.rtl.netlist import NetlistCounts
from headrace.rtl.ubimoe.combine import Combine
from headrace.verification import ubimoe_cases
from headrace.verification.check import Check
from headrace.verification.stream_checks import paused
from headrace.verification.ubimoe import KERNELS, VERIFY
from headrace.verification.ubimoe_draw import draw_cases

DESIGN = Design(
    name="ubimoe",
    summary="",
    axes=AXES,
    constraints=CONSTRAINTS,
    resources=lambda point: {},
    default_device="zcu102",
    default_network="m3vit-tiny",
)
POINT = DESIGN.point()
UNEVEN = DESIGN.point(
    {"numerics": "int8", "exp_units": "lane", "attention_modules": 3,
     "attention_dims": 16, "tile_in": 4, "tile_out": 32, "linear_lanes": 2, "weight_ports": 4,
     "msa_weight_ports": 1, "weight_slots": 1}
)  # fmt: skip


def verify(
    kernel: str,
    *witnesses: str,
    point: Point = POINT,
    vectors: int = 6,
    simulators: tuple[str, ...] = ("icarus",),
) -> list[Check]:
    return VERIFY(
        point,
        kernel=kernel,
        witnesses=witnesses,
        vectors=vectors,
        seed=0,
        full_size=False,
        simulators=simulators,
        say=lambda line: None,
    )


def failed(checks: list[Check]) -> list[str]:
    return [check.what for check in checks if not check.passed]


def points(count: int) -> list[Point]:
    """Return points of all structures that the axes allow, drawn from one seed."""
    rng = np.random.default_rng(7)
    found: list[Point] = []
    while len(found) < count:
        values = {a.name: a.choices[rng.integers(len(a.choices))] for a in AXES if a.choices}
        try:
            found.append(DESIGN.point(values))
        except InputError:
            continue
    return found


def test_reduced_points_are_valid_and_keep_the_structure() -> None:
    for point in points(60):
        small = reduced(point)
        assert dict(DESIGN.point(dict(small))) == dict(small)
        for axis in ("numerics", "exp_units", "keys", "weight_slots", "overlap"):
            assert small[axis] == point[axis]
        whole, few = block_sizes(point), block_sizes(small)
        for wide, narrow in ((whole.msa, few.msa), (whole.moe, few.moe)):
            relation = np.sign([wide.tile_in - wide.dims, wide.tile_out - wide.dims])
            assert np.sign(
                [narrow.tile_in - narrow.dims, narrow.tile_out - narrow.dims]
            ).tolist() == relation.tolist()  # fmt: skip
        assert few.msa.linear.multipliers <= 3 * 16
        assert few.msa.max_tokens <= 10


@pytest.mark.parametrize("kernel", ["dispatch", "layer_norm"])
def test_bits_and_cycles_in_icarus(kernel: str) -> None:
    checks = verify(kernel, "bits", "cycles")
    assert failed(checks) == []
    assert [c.witness for c in checks] == ["bits"] * 2 + ["cycles"] * 5
    assert all(c.expected > 0 for c in checks)
    assert {c.point for c in checks} == {reduced(POINT)}
    free, stalling = (c.measured for c in checks if c.what.startswith("cycles, "))
    assert stalling > 1.1 * free


def test_wrong_results_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fixed.dispatch

    def wrong(*words: Any) -> Any:
        *jobs, last = right(*words)
        return [*jobs, last._replace(probabilities=last.probabilities ^ 1)]

    monkeypatch.setattr(fixed, "dispatch", wrong)
    checks = verify("dispatch", "bits", "cycles")
    assert failed(checks) == [check.what for check in checks]
    assert all(check.measured == 0 for check in checks)
    assert "instead of" in checks[0].note


def test_a_broken_kernel_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of another size, so that values come in another order than the kernel thinks."""
    broken = lambda sizes: Combine(replace(sizes, lanes=sizes.lanes + 1))  # noqa: E731
    monkeypatch.setattr(ubimoe_cases, "Combine", broken)
    checks = verify("combine", "bits")
    assert "MoE: results, free streams" in failed(checks)


def test_other_cycles_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = ubimoe_cases.dispatch_graph

    def slower(sizes: Any, loads: Any, arrivals: Any) -> Any:
        late = {**arrivals, "rows": arrivals.get("rows", np.zeros(12, np.int64)) + 30}
        return graph(sizes, loads, late)

    monkeypatch.setattr(ubimoe_cases, "dispatch_graph", slower)
    checks = verify("dispatch", "bits", "cycles", vectors=5)
    assert [c.passed for c in checks if c.witness == "bits"] == [True, True]
    assert len(failed(checks)) == 4
    assert "cycles of the first command, closed form" not in failed(checks)


def test_hls_is_compared_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(kernel: Any, commands: int, words: Any) -> dict[str, list[int]]:
        (case,) = draw_cases(reduced(POINT), "gate", 6, 0)
        assert case.hls is not None
        assert words == case.hls.inputs
        return {"choices": [*case.hls.results["choices"][:-1], 0]}

    monkeypatch.setattr("headrace.hls.ubimoe.csim", changed)
    (check,) = verify("gate", "hls")
    assert not check.passed
    assert check.measured == check.expected - 1


def test_resources_are_those_of_the_netlist(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = NetlistCounts(
        lut=100, lutram=0, ff=10, carry=0, dsp=5, bram36=0, uram=1, yosys_version="0"
    )
    monkeypatch.setattr(netlist, "map_netlist", lambda verilog, top: counts)
    checks = {c.what: c for c in verify("dispatch", "resources")}
    assert {"dsp", "bram36", "uram"} <= set(checks)
    assert not checks["dsp"].passed
    assert not checks["uram"].passed
    assert checks["dsp"].measured == 5
    assert (checks["lut"].tolerance, checks["dsp"].tolerance) == (0.5, 0.0)


def test_machines_without_rtl_are_refused() -> None:
    point = DESIGN.point({"attention": "rows", "softmax": "passes"})
    with pytest.raises(InputError, match="^attention = rows has no RTL: attention = fused needed$"):
        verify("gate", "bits", point=point)


@pytest.mark.parametrize("point", [POINT, UNEVEN])
@pytest.mark.parametrize("kernel", KERNELS)
def test_work_is_the_same_every_time_and_covers_the_point(kernel: str, point: Point) -> None:
    small = reduced(point)
    cases, again = (draw_cases(small, kernel, 6, 3) for _ in range(2))
    assert [c.vectors.inputs for c in cases] == [c.vectors.inputs for c in again]
    assert [c.vectors.results for c in cases] == [c.vectors.results for c in again]
    for case in cases:
        starts = case.predicted(case.vectors)
        given = {**case.vectors.inputs, **case.vectors.results}
        assert all(len(given[name]) == len(found) for name, found in starts.items()
                   if name in given)  # fmt: skip
        # the graph of the attention takes queries with their keys
        assert set(given) - set(starts) <= {"queries"}
    halves = {"linear": 2, "combine": 2, "prefetch": 1 + (small.integer("msa_weight_ports") > 0)}
    assert len(cases) == halves.get(kernel, 1)


def test_an_encoder_block_runs_both_kinds_of_layers() -> None:
    (case,) = draw_cases(reduced(UNEVEN), "encoder_block", 6, 3)
    assert {command >> 16 for command in case.vectors.inputs["command"]} == {0, 1}


def test_pauses_are_in_every_stream_and_memory() -> None:
    (case,) = draw_cases(reduced(POINT), "prefetch", 300, 3)
    free = case.predicted(case.vectors)
    late = paused(case.vectors, free, np.random.default_rng(1))
    plan = late.memories["port0_"]
    times = {**late.arrivals, "port0_ar": plan.addresses, "port0_r": plan.words}
    assert set(times) == set(free)
    for name, found in times.items():
        assert np.all(np.diff(found) >= 0)
        delays = np.asarray(found) - free[name]
        assert delays[0] >= 0
        assert 0 < delays[-1] < free["weights"][-1]
    assert case.vectors.memories["port0_"].addresses == ()


@pytest.mark.slow
@pytest.mark.parametrize("point", [POINT, UNEVEN])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_in_both_simulators_and_hls(kernel: str, point: Point) -> None:
    checks = verify(
        kernel,
        "bits",
        "cycles",
        "hls",
        point=point,
        vectors=30,
        simulators=("icarus", "verilator"),
    )
    assert failed(checks) == []
    assert {c.simulator for c in checks} >= {"icarus", "verilator"}
    noted = kernel == "encoder_block" and point is UNEVEN
    assert all(("two weight slots" in c.note) == noted for c in checks)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS[:6])
def test_every_netlist(kernel: str) -> None:
    pytest.importorskip("pyosys")
    assert failed(verify(kernel, "resources", point=UNEVEN)) == []
