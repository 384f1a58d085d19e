"""V-Rex in time: what adds up, what bounds what, and what is refused."""

import numpy as np
import pytest

from headrace.arch.calibration import constant
from headrace.arch.device import load_device
from headrace.arch.vrex import VREX
from headrace.arch.vrex.machine import core_sizes, table_row_bytes
from headrace.errors import InputError
from headrace.models.kv_policies import StepTrace, Traffic, Work
from headrace.models.network import load_network
from headrace.sim.vrex.layers import LayerCost, LayerModel
from headrace.sim.vrex.link import Offload
from headrace.sim.vrex.machine import METRICS, simulate
from headrace.sim.vrex.platform import platform_of
from headrace.sim.vrex.processor import Cores, Prediction
from headrace.sim.vrex.timeline import lay_out
from headrace.sim.workload import Workload

LLAMA = load_network("llama-3-8b")
SHORT = Workload(context_tokens=600, frames=3, prompt_tokens=5, output_tokens=4)
LAYER_BYTES = 2 * 218_103_808  # weights of one layer of Llama-3 8B, bfloat16


def run(values=None, device="vrex8", workload=SHORT, fidelity="cycle"):
    return simulate(VREX.point(values or {}), load_device(device), LLAMA, workload, fidelity)


def trace(tokens=10, cached=6000, kept=2000, fetched=300, requests=10, clusters=190, walked=4):
    heads = 8
    return StepTrace(
        layer=0,
        stands_for=32,
        stage="frame",
        tokens=tokens,
        cached=cached,
        kept=np.full(heads, kept),
        fetched=np.full(heads, fetched),
        requests=np.full(heads, requests),
        traffic=Traffic(
            device_read_bytes=0, device_write_bytes=0, link_read_bytes=0, link_write_bytes=0
        ),
        table_bytes=clusters * 2056,
        work=Work(macs=1_000_000, comparisons=100_000),
        clusters=clusters,
        opens=np.zeros(tokens, np.bool_),
        chosen=np.ones((heads, clusters), np.bool_),
        walked=np.full((heads, 4 * tokens), walked),
    )


def test_published_sizes():
    sizes = core_sizes(VREX.point())
    assert sizes.peak_flop_per_s == 2 * 8 * (64 * 64 + 64) * 800_000_000
    assert sizes.engine_bytes == 128 + 4096 + 8192 + 8192 == 20.125 * 1024
    assert table_row_bytes(1024, 32) == 2184
    assert sum(sizes.area_mm2().values()) == pytest.approx(8 * 1.89, rel=1e-3)
    assert sum(sizes.power_w().values()) == pytest.approx(8 * 2.60943, rel=1e-3)


def test_area_follows_the_sizes():
    wide = core_sizes(VREX.point({"wtu_lanes": 32, "cores": 4})).area_mm2()
    base = core_sizes(VREX.point()).area_mm2()
    assert wide["wtu"] == pytest.approx(base["wtu"])
    assert wide["dpe"] == pytest.approx(base["dpe"] / 2)


@pytest.mark.parametrize("fidelity", ["analytic", "cycle"])
def test_phases_add_up_to_the_metrics(fidelity):
    outcome = run(fidelity=fidelity)
    for stage, metric, passes in (
        ("frame", "frame_s", 3),
        ("question", "question_s", 1),
        ("answer", "tpot_s", 4),
    ):
        cycles = sum(phase.cycles for phase in outcome.phases[stage])
        assert cycles == pytest.approx(outcome.metrics[metric] * passes * 800e6, abs=1)
    assert tuple(outcome.metrics) == METRICS
    assert outcome.metrics["dialogue_s"] == pytest.approx(
        3 * outcome.metrics["frame_s"] + outcome.metrics["question_s"]
        + 4 * outcome.metrics["tpot_s"]
    )  # fmt: skip


def test_a_token_of_the_answer_reads_every_weight():
    """With all tokens resident nothing but device memory counts, and it is used fully."""
    outcome = run()
    weights = 32 * LAYER_BYTES + 2 * 4096 * 128_256
    cached = 600 + 30 + 5 + 1.5  # mean over the answer
    kv = (cached + 2) * 131_072  # the new token is written and read
    rate = 204.8e9 * 0.917
    assert outcome.metrics["tpot_s"] == pytest.approx((weights + kv) / rate, rel=5e-3)


def test_analytic_is_near_cycle():
    workload = Workload(context_tokens=7000, frames=6, prompt_tokens=5, output_tokens=6)
    one, other = (run(workload=workload, fidelity=f).metrics for f in ("analytic", "cycle"))
    for name in ("frame_s", "tpot_s", "frame_j"):
        assert one[name] == pytest.approx(other[name], rel=0.05)


def test_layers_overlap_as_in_figure_5():
    """Prediction and fetch for the next layer hide behind attention and FFN, no further."""

    def cost(attention, ffn, beside, fetch):
        prediction = Prediction(matrix_s=0.5, beside_s=beside, units_s={})
        return LayerCost(
            qkv_s=1.0, attention_s=attention, ffn_s=ffn, predict_s=0.5, prediction=prediction,
            fetch_s=fetch, evict_s=0.25, link_bytes=7, macs={}, bytes={},
        )  # fmt: skip

    costs = [cost(2, 3, 1, 1), cost(1, 1, 0, 6)]
    ahead = sum(span.seconds for span in lay_out(costs, 1.0, ahead=True))
    # Layer 0 fetches 6 for layer 1 behind 2 + 3; layer 1 takes 1 + 1 for layer 0 behind 1 + 1.
    assert ahead == (1 + 0.5 + 5 + 1 + 0.25) + (1 + 0.5 + 2 + 0 + 0.25)
    alone = sum(span.seconds for span in lay_out(costs, 1.0, ahead=False))
    assert alone == (1 + 0.5 + 5 + 2 + 0.25) + (1 + 0.5 + 2 + 6 + 0.25)


def model(resident=6000, **values):
    platform = platform_of(VREX.point(values), load_device("vrex8"))
    return LayerModel(
        network=LLAMA,
        processor=platform.processor,
        memory_bytes_per_s=platform.memory_bytes_per_s,
        offload=platform.offload,
        batch=1,
        resident_tokens=resident,
    )


def test_costs_of_a_layer():
    cost = model().cost(trace())
    assert cost.bytes["qkv"] + cost.bytes["ffn"] == LAYER_BYTES
    # Per KV head: 2000 kept and 10 new tokens read, 300 fetched and 10 new ones written.
    assert cost.bytes["attention"] == 8 * 512 * (2010 + 310)
    assert cost.macs["attention"] == 2 * 10 * 32 * 128 * 2010
    assert cost.link_bytes == 8 * 512 * (300 + 10)
    assert cost.evict_s == 10 * constant("vrex.evict_s")
    assert model(evict="page").cost(trace()).evict_s == 0
    assert model(resident=6004).cost(trace()).evict_s == 6 * constant("vrex.evict_s")
    assert model(resident=None).cost(trace()).evict_s == 0


def test_units_share_clusters_and_rows():
    """One core compares 10 tokens with 190 clusters, eight compare with 24 each."""
    one = Cores(core_sizes(VREX.point({"cores": 1})))
    eight = Cores(core_sizes(VREX.point()))
    alone, shared = (p.prediction(trace(), 1).units_s for p in (one, eight))
    assert alone["hcu"] * 800e6 == pytest.approx(10 * (2 * 190 + 3) + 2)
    assert shared["hcu"] * 800e6 == pytest.approx(10 * (2 * 24 + 3) + 2)
    row = core_sizes(VREX.point()).threshold.row_cycles(190, 4)
    assert alone["wtu"] * 800e6 == pytest.approx(1 + 12 + 320 * row)
    assert shared["wtu"] * 800e6 == pytest.approx(1 + 12 + 40 * row)


def test_vector_units_take_longer_than_the_units():
    units = Cores(core_sizes(VREX.point())).prediction(trace(), 1)
    cores = Cores(core_sizes(VREX.point()), has_units=False).prediction(trace(), 1)
    assert units.matrix_s == cores.matrix_s
    assert set(units.units_s) == {"hcu", "wtu"}
    assert set(cores.units_s) == {"vpe"}


def test_the_link_bounds_the_fetch():
    offload = platform_of(VREX.point(), load_device("vrex8")).offload
    assert isinstance(offload, Offload)
    size = 100_000_000
    assert offload.fetch_s(size, 6000) > size / 4e9
    assert offload.fetch_s(size, 200_000) > 2 * offload.fetch_s(size, 6000)
    assert offload.fetch_s(0, 0) == 0
    faster = platform_of(VREX.point({"link_mb_per_s": 8000}), load_device("vrex8")).offload
    assert faster.fetch_s(size, 6000) < offload.fetch_s(size, 6000)


def test_flexgen_waits_for_all_keys_and_values():
    """The baseline's frame takes at least the cache over the link's raw rate."""
    flexgen = {"policy": "full", "resident_tokens": 0}
    workload = Workload(context_tokens=20_000, frames=1, prompt_tokens=1, output_tokens=1)
    metrics = run(flexgen, "agx-orin", workload, "analytic").metrics
    kv = 20_000 * 131_072
    assert metrics["frame_link_bytes"] == pytest.approx(kv + 10 * 131_072, rel=1e-3)
    assert metrics["frame_s"] > kv / 4e9
    assert metrics["area_mm2"] == 0


def test_streams_share_weights():
    one, four = (
        run(workload=Workload(context_tokens=600, frames=1, output_tokens=1, batch=b)).metrics
        for b in (1, 4)
    )
    assert one["tpot_s"] < four["tpot_s"] < 1.2 * one["tpot_s"]
    assert four["frame_s"] > 1.5 * one["frame_s"]  # the vision tower sees four frames


def test_improvements_help():
    workload = Workload(context_tokens=9000, frames=3, prompt_tokens=1, output_tokens=1)
    base = run(workload=workload).metrics
    for values in ({"evict": "page"}, {"vision": "beside"}):
        assert run(values, workload=workload).metrics["frame_s"] < 0.9 * base["frame_s"]
    late = run({"prefetch": "none"}, workload=workload).metrics
    assert late["frame_s"] > base["frame_s"]
    cached = run({"cache_tokens": 4000}, workload=workload).metrics
    assert cached["frame_link_bytes"] < base["frame_link_bytes"]
    kept = run({"resident_tokens": 12_000}, workload=workload).metrics
    assert kept["frame_link_bytes"] == 0


@pytest.mark.parametrize(
    "policy", ["full", "streaming_llm", "duo_attention", "sir_llm", "rekv", "infinigen_p", "resv"]
)
def test_every_policy_runs(policy):
    metrics = run({"policy": policy, "resident_tokens": 200}).metrics
    assert 0 < metrics["frame_kept_share"] <= 1
    if policy == "streaming_llm":
        assert metrics["frame_link_bytes"] == 0
    if policy in ("full", "rekv"):
        assert metrics["frame_link_bytes"] > 0


def test_power_is_within_the_published_bounds():
    """No more than table I's 35 W; no less than the idle share of cores and link."""
    outcome = run()
    for stage in ("frame", "answer"):
        watts = sum(outcome.power[stage].values())
        assert 0.5 * (8 * 2.609 + 12) < watts < 35
    roofs = {point.name: point.bound for point in outcome.roofline_points()}
    assert roofs["answer ffn"] == "memory"
    assert roofs["frame vision"] == "compute"


@pytest.mark.parametrize(
    ("values", "device", "workload", "message"),
    [
        ({}, "zcu102", SHORT, "vrex cannot run on 'zcu102'"),
        ({}, "vrex8", Workload(context_tokens=70_000), "cached tokens"),
        ({"wtu_lanes": 24}, "vrex8", SHORT, "wtu_lanes = a power of two"),
    ],
)
def test_refusals(values, device, workload, message):
    with pytest.raises(InputError, match=message):
        run(values, device, workload)


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="keeps no keys and values"):
        simulate(VREX.point(), load_device("vrex8"), load_network("vit-tiny"), SHORT)
    with pytest.raises(InputError, match="fidelity"):
        run(fidelity="rtl")
