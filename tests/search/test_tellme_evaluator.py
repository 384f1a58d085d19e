from typing import Any

import numpy as np
import pytest

from headrace.arch.device import load_device
from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes, write_cycles
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search.explain import explain
from headrace.search.explore import explore
from headrace.search.space import Space
from headrace.search.tellme import SPACE
from headrace.search.tellme.sizes import engine_of
from headrace.sim.tellme import simulate
from headrace.sim.workload import Workload

KV260 = load_device("kv260")
LARGE = load_network("bitnet-b1.58-large")
FITS = 0b11111  # budgets of the device; the simulator does not look at these


def agree(choices: dict[str, Any], count: int, network: str, workload: Workload, seed: int) -> None:
    """Compare `count` random points with the analytic simulation, figure by figure."""
    space = Space(TELLME, choices)
    net = load_network(network)
    evaluator = SPACE.evaluator(KV260, net, workload)
    rows = space.rows(space.sample(0, count, seed))
    batch = evaluator.evaluate(rows)
    compared = 0
    for i, row in enumerate(rows):
        point = space.decode(row)
        if batch.broken[i] & ~FITS:
            with pytest.raises(InputError):
                simulate(point, KV260, net, workload)
            continue
        found = simulate(point, KV260, net, workload)
        total = {}
        for part in found.resources.values():
            for name, value in part.as_dict().items():
                total[name] = total.get(name, 0.0) + value
        for name, value in (dict(found.metrics) | total).items():
            assert batch.columns[name][i] == pytest.approx(value, rel=1e-9), (name, point)
        assert KV260.resources is not None
        over = [total[n] > limit for n, limit in KV260.resources.as_dict().items()]
        assert [bool(batch.broken[i] >> b & 1) for b in range(5)] == over
        compared += 1
    assert compared > count // 2


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_equals_the_analytic_simulation(slots: int) -> None:
    workload = Workload(prompt_tokens=128, context_tokens=64, output_tokens=10)
    agree({"weight_slots": [slots]}, 25, "bitnet-b1.58-large", workload, seed=slots)


def test_equals_it_where_loads_and_computation_balance() -> None:
    # One prompt token makes prefill memory-bound too; small slots make many tiles.
    choices = {"weight_slots": [2, 3, 4], "weight_words": [4096], "copies": [16, 32]}
    workload = Workload(prompt_tokens=1, context_tokens=900)
    agree(choices, 25, "bitnet-b1.58-large", workload, seed=9)


def test_equals_it_for_grouped_queries_and_values_beside_the_choices() -> None:
    choices = {
        "clock_mhz": [117, 250], "tables": [9, 30, 100], "weight_words": [30000, 65536],
        "activation_lanes": [5, 12], "accumulator_bits": [21, 24], "prefill_lanes": [3, 7],
        "max_outputs": [8192],
    }  # fmt: skip
    workload = Workload(prompt_tokens=40, context_tokens=7)
    agree(choices, 25, "bitnet-b1.58-2b-4t", workload, seed=4)


@pytest.mark.slow
def test_equals_the_analytic_simulation_on_many_points() -> None:
    agree({}, 1500, "bitnet-b1.58-large", Workload(), seed=77)


def test_sizes_equal_those_of_the_architecture() -> None:
    space = Space(TELLME)
    rows = space.rows(space.sample(0, 300, seed=2))
    for i, row in enumerate(rows):
        sizes = engine_sizes(space.decode(row))
        found = engine_of(rows, i)
        for name in (
            "block_inputs",
            "copies",
            "table_buffers",
            "slots",
            "words_per_group",
            "lookup_cycles",
            "slot_words",
            "front_cycles",
            "beat_bits",
            "max_groups",
        ):
            assert getattr(found, name) == getattr(sizes, name), name
        assert found.drain_cycles == sizes.drain_cycles(0)
        pattern = write_cycles(sizes)
        assert found.writes * len(pattern) == sum(pattern) * found.write_pattern
        assert found.unpack * len(pattern) == sum(max(1, c) for c in pattern) * found.write_pattern


def test_published_point() -> None:
    evaluator = SPACE.evaluator(KV260, LARGE, Workload(prompt_tokens=64))
    columns = evaluator.evaluate(Space(TELLME).encode([TELLME.point()])).columns
    assert columns["weight_bytes"][0] == 175_279_104
    assert columns["uram"][0] == pytest.approx(60, rel=0.1)
    assert columns["ttft_s"][0] == pytest.approx(0.45, rel=0.05)
    assert columns["decode_tok_per_s"][0] == pytest.approx(25, rel=0.05)


def test_finds_a_better_point_inside_the_published_totals() -> None:
    found = explore(
        TELLME,
        KV260,
        LARGE,
        Workload(prompt_tokens=128, context_tokens=64),
        objective="min ttft_s s.t. decode_tok_per_s >= 30",
        constraints=["lut <= 98303 and dsp <= 610", "bram36 <= 98.5", "uram <= 60"],
        strategy="random",
        samples=200_000,
    )
    assert found.best is not None
    assert explain(found.best.point, KV260, LARGE, Workload()) == []
    again = simulate(found.best.point, KV260, LARGE, Workload())
    assert again.metrics["ttft_s"] <= 0.6
    assert again.metrics["decode_tok_per_s"] >= 30


def test_explanation_names_budget_amount_and_knob() -> None:
    point = TELLME.point({"weight_words": 16384})
    (violation,) = explain(point, KV260, LARGE, Workload())
    # Eight banks of four rows and two columns of URAM, and twelve elsewhere.
    assert (violation.budget, violation.needed, violation.available) == ("uram", 76.0, 64.0)
    assert ("weight_words", 12288) in violation.knobs
    mended = TELLME.point({**point, violation.knobs[0][0]: violation.knobs[0][1]})
    assert explain(mended, KV260, LARGE, Workload()) == []


def test_explains_what_the_simulator_refuses() -> None:
    point = TELLME.point({"weight_words": 8192})
    (violation,) = explain(point, KV260, LARGE, Workload())
    assert (violation.budget, violation.needed, violation.available) == (
        "weight_words", 10944.0, 8192.0,
    )  # fmt: skip
    assert ("weight_words", 10944) in violation.knobs
    (violation,) = explain(TELLME.point(), KV260, LARGE, Workload(context_tokens=1500))
    assert (violation.budget, violation.needed, violation.available) == (
        "max_context", 1501.0, 1024.0,
    )  # fmt: skip
    assert ("max_context", 2048) in violation.knobs
    # 127 x 4096 = 520,192 needs 19 bits and a sign.
    (violation,) = explain(TELLME.point({"accumulator_bits": 16}), KV260, LARGE, Workload())
    assert (violation.budget, violation.needed) == ("accumulator_bits", 20.0)
    assert violation.knobs == (("accumulator_bits", 20), ("accumulator_bits", 24),
                               ("accumulator_bits", 32))  # fmt: skip


@pytest.mark.parametrize(
    "workload, message",
    [
        (Workload(batch=2), "batch = 1 and frames = 1 needed"),
        (Workload(prompt_tokens=4096), "prompt_tokens = 4096 is not allowed: 1 to 2048"),
        (Workload(context_tokens=2048), "context_tokens = 2048 is not allowed: 1 to 2047"),
    ],
)
def test_bad_workloads(workload: Workload, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SPACE.evaluator(KV260, LARGE, workload)


def test_device_and_network_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="an FPGA with ports is needed"):
        SPACE.evaluator(load_device("a100"), LARGE, Workload())
    with pytest.raises(InputError, match="does not map to tellme"):
        SPACE.evaluator(KV260, load_network("vit-tiny"), Workload())


def test_chunks_give_the_same_columns() -> None:
    space = Space(TELLME)
    rows = space.rows(space.sample(0, 5000, seed=5))
    evaluator = SPACE.evaluator(KV260, LARGE, Workload())
    whole = {n: c.copy() for n, c in evaluator.evaluate(rows).columns.items()}
    for name, column in evaluator.evaluate(rows[1000:1100]).columns.items():
        np.testing.assert_array_equal(column, whole[name][1000:1100])


@pytest.mark.parametrize("share", [0.05, 0.4, 0.8])
def test_neighbours_that_share_an_engine_do_not_share_figures(share: float) -> None:
    space = Space(TELLME)
    start = int(space.size * share)
    rows = space.rows(space.range(start, start + 6000))
    evaluator = SPACE.evaluator(KV260, LARGE, Workload())
    whole = {n: c.copy() for n, c in evaluator.evaluate(rows).columns.items()}
    order = np.random.default_rng(6).permutation(len(rows))
    for first in range(0, 600, 3):  # too few for a run of one engine
        chosen = order[first : first + 3]
        for name, column in evaluator.evaluate(rows[chosen]).columns.items():
            np.testing.assert_array_equal(column, whole[name][chosen])
