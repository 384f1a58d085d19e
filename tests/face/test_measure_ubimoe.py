"""UbiMoE's rungs above the analytic one."""

from pathlib import Path
from typing import Any

import pytest

from headrace.arch.device import load_device
from headrace.arch.ubimoe import UBIMOE
from headrace.arch.ubimoe.resources import resources
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.rtl.cache import Kept
from headrace.rtl.verilog import to_verilog
from headrace.search.measure import Measurement
from headrace.sim.ubimoe.machine import simulate
from headrace.sim.workload import Workload
from headrace.verification import attention as attention_module
from headrace.verification import measure_ubimoe as measure_module
from headrace.verification.attention import measure_attention, run_case
from headrace.verification.measure_ubimoe import measure
from headrace.verification.ubimoe_draw import draw_cases

DEVICE = load_device("u280")
NETWORK = load_network("m3vit-tiny")
SMALL = {"keys": "chip", "numerics": "int8", "attention_lanes": 1, "attention_dims": 2,
         "exp_units": "lane", "weight_ports": 8}  # fmt: skip
MAPPED = {"lut": 5000, "lutram": 0, "ff": 4000, "carry": 0, "dsp": 77, "bram36": 4.5, "uram": 0,
          "yosys_version": "x"}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def measured(fidelity: str, **changes: Any) -> Measurement:
    return measure(fidelity, UBIMOE.point(SMALL | changes), DEVICE, NETWORK, Workload())


def netlist_without_yosys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "kept_netlist", lambda *_: Kept(MAPPED, 1.0, True))


def closed_forms(
    point: Any, device: Any, network: Any, workload: Any, fidelity: str, modules: Any = None
) -> Any:
    """Simulate as fast as can be what the graphs take seconds for."""
    assert fidelity == "cycle"
    return simulate(point, device, network, workload, "analytic", modules)


def test_rtl_replaces_the_attention_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    netlist_without_yosys(monkeypatch)
    monkeypatch.setattr(measure_module, "simulate", closed_forms)
    cycle, rtl = measured("cycle").figures, measured("rtl")
    point = UBIMOE.point(SMALL)
    evaluator = UBIMOE.face("search").evaluator(DEVICE, NETWORK, Workload())
    assert tuple(cycle) == evaluator.metrics + evaluator.resources
    assert rtl.agrees
    assert rtl.detail["cycles_measured"] == rtl.detail["cycles_predicted"] > 0
    assert rtl.detail["results"] == (3 + 1) * 192 // 2
    model = resources(point)["msa_attention"].as_dict()
    for name, count in model.items():
        assert rtl.detail[f"attention_{name}_model"] == pytest.approx(count)
        assert rtl.figures[name] - MAPPED[name] == pytest.approx(cycle[name] - count)
    assert rtl.figures["latency_s"] == cycle["latency_s"]
    assert rtl.figures["power_w"] != cycle["power_w"]
    assert set(rtl.artefacts) == {"verilog", "vectors", "netlist"}


def test_wrong_bits_disagree_and_are_not_kept(cache: Path) -> None:
    (case,) = draw_cases(UBIMOE.point(SMALL), "streaming_attention", 3, 0)
    case.vectors.results["results"][-1] ^= 1  # type: ignore[index]
    ran = run_case(case, to_verilog(case.component(), case.kernel))
    assert (ran.facts["equal"], ran.facts["cycles"]) == (0, 0)
    assert "instead of" in str(ran.facts["message"])
    assert list((cache / "simulations").iterdir()) == []


def test_other_cycles_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    netlist_without_yosys(monkeypatch)
    facts = {"cycles": 1000, "equal": 1, "message": ""}
    monkeypatch.setattr(attention_module, "run_case", lambda *_: Kept(facts, 1.0, False))
    attention = measure_attention(UBIMOE.point(SMALL))
    assert not attention.agrees
    assert attention.cycles_measured == 1000 != attention.cycles_predicted


@pytest.mark.parametrize("fidelity", ["cycle", "rtl"])
def test_the_published_schedule_has_no_graph(fidelity: str) -> None:
    with pytest.raises(InputError, match="^fidelity cycle needs keys = chip"):
        measured(fidelity, keys="ports")


def test_other_fidelities_are_refused() -> None:
    with pytest.raises(InputError, match="^fidelity 'analytic' is not allowed: one of cycle, rtl"):
        measured("analytic")


@pytest.mark.slow
def test_attention_is_mapped() -> None:
    pytest.importorskip("pyosys")
    cycle, rtl = measured("cycle").figures, measured("rtl")
    analytic = simulate(UBIMOE.point(SMALL), DEVICE, NETWORK, Workload()).metrics
    assert rtl.agrees
    assert rtl.figures["latency_s"] == cycle["latency_s"] != analytic["latency_s"]
    for name in ("dsp", "bram36", "uram"):
        assert rtl.detail[f"attention_{name}_mapped"] == rtl.detail[f"attention_{name}_model"]
