"""The SN40L in time: what adds up, what bounds what, compositions of experts, and refusals."""

import pytest

from headrace.arch.calibration import constant
from headrace.arch.device import load_device
from headrace.arch.sn40l import SN40L
from headrace.arch.sn40l.published import DGX_MS
from headrace.errors import InputError
from headrace.models.experts import CompositionOfExperts
from headrace.models.network import load_network
from headrace.sim.sn40l.buffers import Tiling
from headrace.sim.sn40l.composition import dgx_host, sn40l_host
from headrace.sim.sn40l.generation import TILE_ROWS, generation_s, pass_time
from headrace.sim.sn40l.machine import METRICS, simulate
from headrace.sim.sn40l.node import node_of
from headrace.sim.sn40l.workload import Pass
from headrace.sim.workload import Workload

LLAMA = load_network("llama-2-7b")
NODE = load_device("sn40l-node")
CHAT = Workload(prompt_tokens=128, context_tokens=138, output_tokens=20)
WEIGHTS = 2 * 6_738_415_616


def run(values=None, network=LLAMA, workload=CHAT, fidelity="analytic", device=NODE):
    return simulate(SN40L.point(values or {}), device, network, workload, fidelity)


def node(**values):
    return node_of(SN40L.point(values), NODE)


def decode(context=138, batch=1):
    return Pass(network=LLAMA, tokens=1, context=context, batch=batch, tensor_parallel=8)


@pytest.mark.parametrize("fidelity", ["analytic", "cycle"])
def test_phases_add_up(fidelity):
    outcome = run(fidelity=fidelity)
    for stage, metric in (("prefill", "ttft_s"), ("decode", "tpot_s")):
        cycles = sum(phase.cycles for phase in outcome.phases[stage])
        count = len(outcome.phases[stage])
        assert cycles == pytest.approx(outcome.metrics[metric] * 1.6e9, abs=count)
    metrics = outcome.metrics
    assert metrics["request_s"] == pytest.approx(metrics["ttft_s"] + 19 * metrics["tpot_s"])
    assert set(metrics) == {m for m in METRICS if not m.startswith("coe_")}


def test_decode_reads_every_weight_once():
    """Weights over HBM at its efficiency, 64 all-reduces, 34 launches, and little else."""
    seconds = pass_time(decode(), node(), "full").seconds
    weights = WEIGHTS - 2 * 32_000 * 4096  # of the embedding one row is read
    kv = 138 * LLAMA.kv_bytes_per_token
    hbm = (weights + kv) / (8 * 1.8e12 * 0.85)
    waits = 64 * constant("sn40l.all_reduce_s") + 34 * constant("sn40l.hardware_launch_s")
    assert seconds == pytest.approx(hbm + waits, rel=0.03)
    assert seconds > hbm + waits


def test_prefill_is_bound_by_the_units():
    work = Pass(network=LLAMA, tokens=4096, batch=8, tensor_parallel=8)
    found = pass_time(work, node(), "full")
    flop = 2 * 8 * LLAMA.macs(4096, 0)
    assert found.seconds > flop / (8 * 638.976e12)
    layers = [times for kernel, times, _ in found.kernels if kernel.segment == "layer"]
    assert all(times.bound == "units" for times in layers)


def test_fusion_saves_traffic_and_launches():
    levels = ("unfused", "partial", "full")
    found = [pass_time(decode(), node(launch="software"), level) for level in levels]
    assert found[0].launches > found[1].launches > found[2].launches
    assert found[0].seconds > found[1].seconds > found[2].seconds
    traffic = [each.program.hbm_bytes for each in found]
    assert traffic[0] >= traffic[1] >= traffic[2]
    assert found[0].program.flop == found[2].program.flop


def test_launches_cost_what_they_cost():
    by_host, by_schedule = (
        pass_time(decode(), node(launch=kind), "full") for kind in ("software", "hardware")
    )
    gap = constant("sn40l.software_launch_s") - constant("sn40l.hardware_launch_s")
    assert by_host.seconds - by_schedule.seconds == pytest.approx(by_host.launches * gap)
    looped = pass_time(decode(), node(launch="software", looping=True), "full")
    assert looped.launches < 5 < by_host.launches


@pytest.mark.parametrize("batch", [1, 8])
def test_the_pipeline_tile_by_tile_follows_the_closed_form(batch):
    work = Pass(network=LLAMA, tokens=1024, batch=batch, tensor_parallel=8)
    one, other = (pass_time(work, node(), "full", f).seconds for f in ("analytic", "cycle"))
    assert other == pytest.approx(one, rel=0.05)


def test_attention_that_is_not_causal_waits_for_its_sequence():
    """Without that a tile of scores could begin with the first tile of keys."""
    tower = load_network("clip-vit-l-14-336")
    work = Pass(network=tower, tokens=577, batch=2, tensor_parallel=1)
    tiles = Tiling(577, 2, TILE_ROWS)
    found = pass_time(work, node(sockets=1), "full", "cycle")
    assert tiles.sequence_tiles == 10
    layer = next(times for kernel, times, _ in found.kernels if kernel.segment == "layer")
    alone = max(layer.compute_s, layer.hbm_s, layer.link_s)
    assert layer.fill_s > 5 / tiles.tiles * alone


def test_samba_coe_takes_what_the_paper_says():
    """Bytes over bandwidths, and the runs of the model."""
    samba = CompositionOfExperts(expert=LLAMA, router=LLAMA, experts=150)
    own = sn40l_host(node(), samba, "full", batch=8)
    assert own.switch_s == pytest.approx(13.48e-3, rel=1e-3)
    run_s = generation_s(LLAMA, node(), "full", prompt=128, output=20)
    assert own.times.run_s == run_s == pytest.approx(67e-3, rel=0.05)
    assert own.all_miss_s(8) == own.times.router_s + 8 * (own.switch_s + run_s)
    dgx = dgx_host(load_device("dgx-a100"), samba, batch=8)
    assert dgx.switch_s == pytest.approx(421.2e-3, rel=1e-3)
    assert dgx.all_miss_s(8) == pytest.approx(4.643, rel=1e-3)
    assert (dgx.fast_experts, dgx.all_experts, dgx.nodes_for(850)) == (47, 148, 19)
    assert DGX_MS["dgx-h100"][8] == 129.1


def test_a_composition_on_a_zipf_trace():
    skewed = Workload(
        prompt_tokens=128, context_tokens=138, output_tokens=20, batch=8, expert_skew=1.0
    )
    found = {}
    for policy in ("lru", "lfu", "lookahead", "belady"):
        for copies in ("exposed", "overlapped"):
            point = {"experts": 150, "expert_cache": policy, "copies": copies}
            found[policy, copies] = run(point, workload=skewed).metrics
    lru = found["lru", "exposed"]
    assert 0 < lru["coe_miss_share"] < 1
    assert lru["coe_batch_s"] < lru["coe_all_miss_s"]
    best = found["belady", "exposed"]["coe_miss_share"]
    assert all(each["coe_miss_share"] >= best for (_, c), each in found.items() if c == "exposed")
    hidden = found["lookahead", "overlapped"]["coe_switching_share"]
    assert hidden < 0.25 * lru["coe_switching_share"]


@pytest.mark.parametrize(
    ("values", "network", "workload", "message"),
    [
        ({"sockets": 7}, LLAMA, CHAT, "tensor_parallel = 7 does not divide"),
        ({"macs": 100}, LLAMA, CHAT, "macs = 100"),
        ({"experts": 2000}, LLAMA, CHAT, "experts = 2000 is not allowed"),
        ({"sockets": 1}, load_network("bloom-176b"), CHAT, "weights and KV cache take"),
        ({}, LLAMA, Workload(context_tokens=100_000, batch=64), "weights and KV cache take"),
    ],
)
def test_refusals(values, network, workload, message):
    with pytest.raises(InputError, match=message):
        run(values, network, workload)


def test_other_devices_and_fidelities_are_refused():
    with pytest.raises(InputError, match="sn40l cannot run on 'a100'"):
        run(device=load_device("a100"))
    with pytest.raises(InputError, match="fidelity"):
        run(fidelity="rtl")
    samba = CompositionOfExperts(expert=LLAMA, router=LLAMA, experts=150)
    with pytest.raises(InputError, match="published are 1, 2, 4, 8"):
        dgx_host(load_device("dgx-a100"), samba, batch=3)


def test_phases_count_all_sockets():
    """Products of the whole network, and bytes of all its weights."""
    outcome = run(workload=Workload(prompt_tokens=4096, context_tokens=138, batch=8))
    phases = outcome.phases["prefill"]
    assert sum(phase.macs for phase in phases) == pytest.approx(
        8 * LLAMA.macs(4096) - 8 * 4095 * LLAMA.lm_head_parameters, rel=1e-3
    )
    decode_bytes = sum(phase.bytes["hbm"] for phase in outcome.phases["decode"][:-1])
    assert decode_bytes == pytest.approx(WEIGHTS + 8 * 138 * LLAMA.kv_bytes_per_token, rel=0.02)
    points = {point.name: point for point in outcome.roofline_points()}
    assert points["prefill layer"].bound == "compute"
    assert points["prefill layer"].attained_flop_per_s > 0.9 * 8 * 638e12
