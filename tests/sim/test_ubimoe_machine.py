"""UbiMoE's machine in time, against figures counted by hand."""

import json
from pathlib import Path

import pytest

from headrace.arch.device import load_device
from headrace.arch.ubimoe import UBIMOE
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.sim.ubimoe.machine import rows_of_experts, simulate
from headrace.sim.ubimoe.mapping import machine_of, network_shape, ports_of
from headrace.sim.ubimoe.steps import Step, job_finish
from headrace.sim.workload import Workload

ZCU102 = load_device("zcu102")
TINY = load_network("m3vit-tiny")
EDGE = {"attention": "reordered", "linear_lanes": 1, "key_ports": 1}


def run(device=ZCU102, network=TINY, workload=None, **values):
    return simulate(UBIMOE.point(values), device, network, workload or Workload())


def cycles(outcome, suffix):
    return [p.cycles for p in outcome.phases["image"] if p.name.endswith(suffix)]


@pytest.mark.parametrize(
    ("slots", "finish"),
    [
        # Loads end at 10, 20 and 30, the third one waits for nothing: 35.
        (2, 35),
        # Load and compute in turn.
        (1, 45),
    ],
)
def test_loads_and_computations_share_slots(slots: int, finish: int) -> None:
    jobs = [(10, 5)] * 3
    assert job_finish(jobs, slots=slots, begin=0, loader=0) == (finish, 15)


def test_a_slot_is_filled_again_when_it_has_been_used() -> None:
    # Computations end at 110, 210; the third load may begin at 110 and is hidden.
    assert job_finish([(10, 100)] * 3, slots=2, begin=0, loader=0) == (310, 300)
    # What is loaded before the block begins is not waited for.
    assert job_finish([(10, 100)] * 3, slots=2, begin=0, loader=-20) == (300, 300)


def test_the_longer_of_computing_and_moving_counts() -> None:
    step = Step.longer("a", "linear", compute=10, memory=25)
    assert (step.cycles, step.memory, step.bound) == (25, 15, "ports")
    step = Step.longer("a", "linear", compute=25, memory=10)
    assert (step.cycles, step.memory, step.bound) == (25, 0, "compute")


def test_attention_through_memory_is_bound_by_its_beats() -> None:
    """Edge-MoE: QK and PV each read S rows of 24 beats; one after the other on one port."""
    interval = ports_of(UBIMOE.point(EDGE), ZCU102).interval
    assert interval == pytest.approx(32 * 300e6 / _port_rate())
    expected = 2 * 4257 * 24 * interval
    assert cycles(run(**EDGE), "attention") == pytest.approx([expected] * 12, abs=1)
    expected = 2 * 129 * 129 * 24 * interval
    found = cycles(run(**{**EDGE, "attention": "rows"}), "attention")
    assert found == pytest.approx([expected] * 12, abs=1)
    # One pass over both, PV 128 steps behind QK.
    expected = (4257 + 128) * 24 * interval
    assert cycles(run(), "attention") == pytest.approx([expected] * 12, abs=1)


def _port_rate() -> float:
    from headrace.arch.calibration import constant

    return 1e9 * constant("ubimoe.ddr_port_gb_per_s")


def test_each_feature_of_edge_moe_costs_what_its_count_says() -> None:
    """Scores, hidden values and multiplications by hand; serial units at their stated cycles."""
    steps = [{}, {"attention": "rows"}, {"linear": "separate"}, {"gelu": "erf"},
             {"softmax": "passes"}]  # fmt: skip
    point = dict(EDGE)
    totals = []
    for change in steps:
        point |= change
        totals.append(run(**point).metrics["latency_s"] * 300e6)
    scores, hidden = 12 * 3 * 129 * 129, 6 * 129 * 768 + 6 * 258 * 384
    assert totals[3] - totals[2] == pytest.approx(43 * hidden, rel=1e-3)
    assert totals[4] - totals[3] == pytest.approx(37 * scores, rel=1e-6)
    macs = 12 * 4 * 129 * 192 * 192 + 6 * 2 * 129 * 192 * 768 + 6 * 2 * 258 * 192 * 384
    phases = run(**(EDGE | {"linear": "separate"})).phases["image"]
    computing = sum(p.cycles - p.memory for p in phases if p.kernel == "linear")
    assert computing == pytest.approx(macs / 16, rel=1e-3)


def test_every_token_loads_its_experts_again_without_their_order() -> None:
    by_expert, by_token = (
        run(**EDGE, expert_order=order).phases["image"] for order in ("expert", "token")
    )
    loads = [sum(p.bytes["ddr"] for p in phases if p.name.endswith("experts"))
             for phases in (by_expert, by_token)]  # fmt: skip
    image = 2 * 16 * (24 * (1 + 12 * 16) + 12 * (1 + 24 * 16))  # bytes of an expert: bias, weights
    assert loads == [6 * 16 * image, 6 * 258 * image]


def test_a_row_of_images_overlaps_the_blocks() -> None:
    alone, row = (run(linear_lanes=2, overlap=o).metrics for o in ("none", "images"))
    assert alone["latency_s"] == row["latency_s"] == alone["interval_s"]
    assert row["msa_s"] <= row["interval_s"] < row["latency_s"]
    assert row["latency_s"] == pytest.approx(row["msa_s"] + row["ffn_s"])


def test_phases_add_up_to_the_latency() -> None:
    outcome = run(keys="chip", weight_ports=2)
    total = sum(p.cycles for p in outcome.phases["image"])
    assert total / 300e6 == pytest.approx(outcome.metrics["latency_s"])
    macs = sum(p.macs for p in outcome.phases["image"])
    patches = 128 * 768 * 192
    assert macs == TINY.macs(129) - patches


def test_rows_of_experts_follow_the_loads() -> None:
    shape = network_shape(TINY)
    uniform = rows_of_experts(shape, Workload())
    assert [r is None for r in uniform] == [True, False] * 6
    assert all(sum(r) == 258 for r in uniform if r)
    skewed = rows_of_experts(shape, Workload(expert_skew=0.7))
    assert skewed[1][0] > 2 * skewed[1][15]
    shares = tuple(tuple(1.0 if e < 2 else 0.0 for e in range(16)) for _ in range(6))
    shares = tuple(tuple(v / 2 for v in layer) for layer in shares)
    assert rows_of_experts(shape, Workload(expert_shares=shares))[3] == [129, 129] + [0] * 14
    assert (
        run(workload=Workload(expert_shares=shares), keys="chip").metrics["latency_s"]
        < (run(keys="chip").metrics["latency_s"])
    )
    with pytest.raises(InputError, match="expert_shares of 1 layers and 2 experts: 6 and 16"):
        rows_of_experts(shape, Workload(expert_shares=((0.5, 0.5),)))


def test_a_dense_network_runs_without_experts() -> None:
    outcome = run(network=load_network("vit-tiny"), max_tokens=197, expert_hidden=768)
    assert len(cycles(outcome, ".ffn")) == 12
    assert not cycles(outcome, "gate")


@pytest.mark.parametrize(
    ("values", "network", "device", "message"),
    [
        ({}, "bitnet-b1.58-large", "zcu102", "a vision transformer is needed"),
        ({}, "vit-small", "zcu102", "heads = 3 does not run vit-small: heads = 6 needed"),
        ({}, "m3vit-tiny-197", "zcu102", "m3vit-tiny-197 has 197 tokens"),
        ({"weight_ports": 8}, "m3vit-tiny", "zcu102", "11 memory ports are not allowed: hp has 4"),
        ({}, "m3vit-tiny", "kv260", "its constants are known for zcu102, u280"),
        ({}, "m3vit-tiny", "agx-orin", "an FPGA with ports is needed"),
    ],
)
def test_what_does_not_fit_is_refused(values, network, device, message) -> None:
    with pytest.raises(InputError, match=message):
        machine_of(UBIMOE.point(values), load_device(device), load_network(network))


def test_workloads_are_checked() -> None:
    for change in ({"batch": 2}, {"frames": 2}):
        with pytest.raises(InputError, match="one image at a time"):
            run(workload=Workload(**change))
    with pytest.raises(InputError, match="fidelity 'exact' is not allowed"):
        simulate(UBIMOE.point(), ZCU102, TINY, Workload(), "exact")
    for skew in (-1, float("nan"), 17, "1"):
        with pytest.raises(InputError, match="expert_skew = .* is not allowed: 0 to 16"):
            Workload(expert_skew=skew)
    for shares in (((float("nan"),),), ((-1.0,),), (("a",),), 5):
        with pytest.raises(InputError, match="expert_shares"):
            Workload(expert_shares=shares)


def test_only_the_rtls_block_keeps_keys_on_chip() -> None:
    with pytest.raises(InputError, match="as in the RTL, when keys = chip needed"):
        UBIMOE.point({"keys": "chip", "attention_modules": 3})
    with pytest.raises(InputError, match="fidelity cycle needs keys = chip"):
        simulate(UBIMOE.point(), ZCU102, TINY, Workload(), "cycle")


@pytest.mark.parametrize("change", [{}, {"attention_lanes": 6, "tile_out": 8, "linear_lanes": 3}])
def test_closed_forms_are_close_to_the_graph_of_the_encoder_block(change) -> None:
    point = UBIMOE.point({"keys": "chip", "weight_ports": 2} | change)
    analytic, cycle = (
        simulate(point, ZCU102, TINY, Workload(), fidelity).metrics["latency_s"]
        for fidelity in ("analytic", "cycle")
    )
    assert analytic == pytest.approx(cycle, rel=0.01)


def test_loads_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headrace.cli import main

    path = tmp_path / "loads.json"
    counts = [[129, 129] + [0] * 14] * 6
    path.write_text(json.dumps({"layers": counts}), "utf-8")
    words = ["simulate", "ubimoe", "--set", "keys=chip", "--expert-loads", str(path), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]["latency_s"]
    assert found < run(keys="chip").metrics["latency_s"]
