"""TeLLMe in time: budgets, the paper's exact figures, and one fidelity against the other."""

import numpy as np
import pytest

from headrace.arch.calibration import calibration
from headrace.arch.device import load_device
from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes
from headrace.arch.tellme.job import Compute, EngineJob, Load
from headrace.errors import InputError
from headrace.models.network import load_network, network_from_config
from headrace.sim.analytic import analyse
from headrace.sim.cycle import simulate as fire
from headrace.sim.tellme import simulate
from headrace.sim.tellme.engine import engine_graph
from headrace.sim.tellme.formulas import (
    engine_cycles,
    finish_time,
    prefill_steps,
    tile_groups,
)
from headrace.sim.tellme.mapping import memory_rates, network_shape, tiles
from headrace.sim.tellme.tokens import token_graph
from headrace.sim.workload import Workload

KV260 = load_device("kv260")
LARGE = load_network("bitnet-b1.58-large")
BETTER = {
    "block_gap_cycles": 0,
    "activation_lanes": 16,
    "table_buffers": 2,
    "weight_slots": 2,
    "weight_words": 12288,
    "weight_layout": "exact",
    "weight_packing": "group",
}


def run(fidelity="analytic", network=LARGE, axes=None, **workload):
    return simulate(TELLME.point(axes), KV260, network, Workload(**workload), fidelity)


@pytest.mark.parametrize(("tokens", "steps"), [(8, 8), (16, 24), (64, 288), (128, 1088)])
def test_reversed_key_steps_match_the_worked_example(tokens, steps):
    assert prefill_steps(tokens, 8, True) == steps


def test_forward_key_steps_visit_every_key():
    assert prefill_steps(128, 8, False) == 2048


@pytest.mark.parametrize("tokens", [1, 7, 9, 100])
def test_key_steps_count_a_partial_last_batch(tokens):
    counted = sum(tokens - first for first in range(0, tokens, 8))
    assert prefill_steps(tokens, 8, True) == counted


def test_one_pass_streams_the_published_bytes():
    assert run().metrics["weight_bytes"] == 24 * 13 * 19 * 308 * 96 == 175_279_104


def test_lookups_and_write_outs_of_one_token_match_the_worked_example():
    phases = [p for p in run().phases["decode"] if p.layer == 0 and p.kernel == "ternary_matmul"]
    assert sum(p.steady for p in phases) == 21_728
    assert sum(p.drain for p in phases) == 992
    sizes = engine_sizes(TELLME.point())
    rows = sum(sizes.row_blocks(linear.inputs) for linear in network_shape(LARGE).linears)
    assert rows == 163
    assert rows * sizes.read_cycles == 13_692
    assert sum(p.stall for p in phases) == 163 * sizes.block_gap


@pytest.mark.parametrize("axes", [{}, BETTER], ids=["published", "better"])
@pytest.mark.parametrize("fidelity", ["analytic", "cycle"])
def test_phases_add_up_to_the_metrics(axes, fidelity):
    outcome = run(fidelity, axes=axes)
    for stage, metric in (("prefill", "ttft_s"), ("decode", "decode_s")):
        seconds = sum(p.cycles for p in outcome.phases[stage]) / 250e6
        assert seconds + outcome.metrics["lm_head_s"] == pytest.approx(outcome.metrics[metric])
    macs = sum(p.macs for p in outcome.phases["prefill"])
    assert macs == sum(op.macs(128) for op in LARGE.operators_of("ternary_matmul", "attention"))


def test_few_banks_hold_a_load_up():
    """Many short vectors come with each beat, and a bank takes one at a time."""
    axes = {
        "tables": 4, "copies": 64, "weight_banks": 16,
        "weight_layout": "exact", "weight_words": 20480,
    }  # fmt: skip
    sizes = engine_sizes(TELLME.point(axes))
    tile = EngineJob([Load(128, 24)], [Compute(128, 24, 24, 1)])
    fired = fire(engine_graph(sizes, tile), iterations=1)
    alone = fired.first_start["compute"]  # as in RTL, with every beat there in time
    for fidelity in ("analytic", "cycle"):
        phases = run(fidelity, axes=axes).phases["decode"]
        (q,) = [p for p in phases if p.name == "layers.0.q_proj"]
        assert q.memory == pytest.approx(alone, rel=0.01)


def test_tiles_do_not_count_padded_outputs_as_work():
    # 13 heads of 16: 208 outputs are 7 groups of 32, the last one half empty, in several tiles
    network = network_from_config(
        {
            "model_type": "bitnet", "hidden_size": 208, "intermediate_size": 304,
            "num_hidden_layers": 1, "num_attention_heads": 13, "vocab_size": 99,
            "max_position_embeddings": 64,
        }
    )  # fmt: skip
    axes = {"copies": 32, "weight_banks": 32, "weight_words": 8, "weight_layout": "exact"}
    phases = run(network=network, axes=axes, prompt_tokens=5, context_tokens=5).phases["prefill"]
    parts = [p for p in phases if p.operator == "layers.0.q_proj"]
    assert len(parts) > 1
    assert sum(p.macs for p in parts) == 5 * 208 * 208
    macs = sum(op.macs(5) for op in network.operators_of("ternary_matmul", "attention"))
    assert sum(p.macs for p in phases) == macs


def _random_axes(rng):
    copies = int(rng.choice([8, 16, 32]))
    slots = int(rng.choice([1, 2, 3]))
    return {
        "group_size": int(rng.integers(1, 6)),
        "tables": int(rng.integers(8, 33)),
        "copies": copies,
        "weight_banks": copies // int(rng.choice([1, 2, 4])),
        "lookup_method": str(rng.choice(["naive", "half", "full"])),
        "table_buffers": int(rng.choice([1, 2])),
        "activation_lanes": int(rng.choice([1, 4, 8])),
        "block_gap_cycles": int(rng.choice([0, 119])),
        "weight_packing": str(rng.choice(["beat", "group"])),
        "weight_layout": "exact",
        "weight_slots": slots,
        "weight_words": 20480,
    }


def test_fidelities_agree_within_one_percent_on_full_size_layers():
    rng = np.random.default_rng(20)
    for _ in range(25):
        axes = _random_axes(rng)
        workload = {
            "prompt_tokens": int(rng.integers(1, 200)),
            "context_tokens": int(rng.integers(1, 1000)),
        }
        analytic, cycle = (run(f, axes=axes, **workload) for f in ("analytic", "cycle"))
        for stage in analytic.phases:
            a, c = (sum(p.cycles for p in s.phases[stage]) for s in (analytic, cycle))
            assert abs(a / c - 1) < 0.01, (axes, workload, stage)


def _arguments(sizes, rows, groups, tokens):
    lookup, drain = groups * sizes.lookup_cycles, sizes.drain_cycles(groups)
    return rows, sizes.front_cycles, lookup, drain, tokens, sizes.table_buffers


def test_engine_closed_form_equals_its_graph():
    rng = np.random.default_rng(21)
    for _ in range(60):
        sizes = engine_sizes(TELLME.point(_random_axes(rng)))
        rows, groups, tokens = (int(rng.integers(1, n)) for n in (20, 300, 20))
        closed = engine_cycles(*_arguments(sizes, rows, groups, tokens))
        graph = token_graph(sizes, rows, groups)
        ratio = analyse(graph)  # the maximum cycle ratio of the same graph
        assert abs(ratio.cycles(tokens) / closed - 1) < 0.01
        if tokens > 1:
            assert closed - engine_cycles(*_arguments(sizes, rows, groups, tokens - 1)) == (
                ratio.period
            )
        assert fire(graph, iterations=tokens).cycles == closed
        assert fire(graph, iterations=tokens, periodic=False).cycles == closed


def test_loads_hide_behind_compute_only_with_more_than_one_slot():
    assert finish_time(100, 50, 30, 0, 0, 1, 0, 0) == (180, 130)
    assert finish_time(100, 50, 30, 0, 0, 2, 0, 0) == (150, 30)
    assert finish_time(100, 50, 30, 90, 95, 2, 0, 0) == (175, 125)
    assert finish_time(100, 50, 0, 90, 95, 2, 0, 0) == (150, 90)


@pytest.mark.parametrize(
    ("begin", "loaded"),
    [(0, 30), (30, 60), (31, 81), (50, 100), (70, 110), (80, 110), (90, 120)],
)
def test_loads_stand_still_while_attention_streams(begin, loaded):
    assert finish_time(200, 50, 30, begin, 0, 2, 60, 80) == (250, loaded)


def test_every_improvement_helps():
    published = run().metrics
    for axes in (
        {"block_gap_cycles": 0},
        {"activation_lanes": 16},
        {"table_buffers": 2},
        {"weight_layout": "exact"},
        {"weight_packing": "group"},
    ):
        assert run(axes=axes).metrics["decode_s"] < published["decode_s"], axes


def test_tiles_cover_a_matrix_and_fit_a_slot():
    rng = np.random.default_rng(22)
    for _ in range(200):
        groups, rows, words, per_group, most = (
            int(rng.integers(1, n)) for n in (300, 60, 9000, 5, 300)
        )
        size = tile_groups(groups, rows, words, per_group, most)
        if size == 0:
            assert rows * per_group > words
            continue
        assert size <= most
        assert rows * size * per_group <= words
        assert (groups - 1) // size == (groups - 1) // min(words // (rows * per_group), most)


def test_region_layout_needs_the_published_depth():
    shape = network_shape(LARGE)
    down = shape.linears[-1]
    sizes = engine_sizes(TELLME.point())
    (tile,) = tiles(down, sizes, "region", shape.hidden)
    assert (tile.rows, tile.groups, tile.load_rows, tile.load_groups) == (49, 96, 57, 96)
    smaller = engine_sizes(TELLME.point({"weight_words": 10943}))
    with pytest.raises(InputError, match="down_proj does not fit: 10944 words per bank"):
        tiles(down, smaller, "region", shape.hidden)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": load_network("llama-3-8b")}, "does not map to tellme"),
        ({"prompt_tokens": 2049}, "prompt_tokens = 2049 is not allowed: 1 to 2048"),
        ({"context_tokens": 1024}, "context_tokens = 1024 is not allowed: 1 to 1023"),
        ({"batch": 2}, "batch = 1"),
        ({"fidelity": "rtl"}, "one of analytic, cycle"),
        ({"axes": {"weight_words": 16, "weight_layout": "exact"}}, "q_proj does not fit"),
    ],
)
def test_what_the_machine_cannot_run_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        run(**change)


def test_device_limits_the_ports():
    with pytest.raises(InputError, match="cannot run tellme"):
        memory_rates(TELLME.point(), load_device("a100"))


def test_larger_ternary_network_maps_too():
    network = load_network("bitnet-b1.58-2b-4t")
    outcome = run(network=network, axes={"weight_layout": "exact"})
    assert outcome.metrics["weight_bytes"] > 2 * 175e6


def test_fitted_constants_say_on_what():
    for constant in calibration().values():
        assert constant.source
        assert bool(constant.fitted_on) == constant.fitted
