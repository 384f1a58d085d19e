"""The resource model against stored netlist counts, and the whole machine against the paper."""

import json
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.calibration import calibration
from headrace.arch.resources import Resources
from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes
from headrace.arch.tellme.engine_resources import (
    engine_bram36,
    engine_dsp,
    engine_ff,
    engine_lut,
    engine_resources,
    engine_uram,
    size_columns,
)
from headrace.arch.tellme.resources import resources

GOLDEN = json.loads((Path(__file__).parent / "golden/tellme_netlists.json").read_text("utf-8"))


def entries(role):
    return [entry for entry in GOLDEN["points"] if entry["role"] == role]


def sizes_of(entry):
    return engine_sizes(TELLME.point(entry["axes"]))


def relative_errors(role, resource):
    return [
        abs(getattr(engine_resources(sizes_of(e)), resource) / e["counts"][resource] - 1)
        for e in entries(role)
    ]


def test_golden_data_is_what_the_figures_need():
    fitted = [json.dumps(e["axes"]) for e in entries("fit")]
    kept_out = [json.dumps(e["axes"]) for e in entries("test")]
    assert len(fitted) >= 40
    assert len(kept_out) >= 24
    assert len({*fitted, *kept_out}) == len(fitted) + len(kept_out)
    for axis in ("group_size", "lookup_method", "table_buffers", "weight_packing"):
        assert len({e["axes"][axis] for e in entries("test")}) >= 2
    assert GOLDEN["yosys_version"]


@pytest.mark.parametrize("resource", ["lut", "ff"])
def test_points_that_were_not_fitted(resource):
    errors = relative_errors("test", resource)
    assert np.median(errors) <= 0.05
    assert max(errors) <= 0.15


@pytest.mark.parametrize("resource", ["dsp", "bram36", "uram"])
def test_blocks_are_exact(resource):
    for entry in GOLDEN["points"]:
        model = getattr(engine_resources(sizes_of(entry)), resource)
        assert model == entry["counts"][resource], entry["axes"]


# Seven times the lookups of the largest fit point: how far the model extrapolates.
def test_large_engines():
    assert {e["axes"]["tables"] for e in entries("large")} >= {28, 64}
    assert max(relative_errors("large", "lut")) <= 0.15
    assert max(relative_errors("large", "ff")) <= 0.15


def _map_again(entry):
    pytest.importorskip("pyosys")
    from headrace.rtl.netlist import map_netlist
    from headrace.rtl.tellme import RTL

    counts = map_netlist(RTL.verilog(TELLME.point(entry["axes"])), RTL.top)
    for name in ("dsp", "bram36", "uram"):
        assert getattr(counts, name) == entry["counts"][name]
    for name in ("lut", "ff"):
        # Names decide ties in the mapper, so that LUTs may move a little.
        assert getattr(counts, name) == pytest.approx(entry["counts"][name], rel=0.01)


def _smallest(count):
    chosen = sorted(entries("test"), key=lambda e: e["counts"]["lut"])[: 3 * count]
    rng = np.random.Generator(np.random.PCG64(7))
    return [chosen[i] for i in sorted(rng.choice(len(chosen), count, replace=False))]


@pytest.mark.parametrize("entry", _smallest(2), ids=lambda e: f"{e['counts']['lut']}-luts")
def test_stored_counts_are_what_yosys_says(entry):
    _map_again(entry)


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [*entries("fit"), *entries("test")],
    ids=lambda e: f"{e['role']}-{e['counts']['lut']}-luts",
)
def test_all_stored_counts_are_what_yosys_says(entry):
    _map_again(entry)


def test_columns_give_what_points_give():
    chosen = [sizes_of(e) for e in GOLDEN["points"]]
    columns = {
        name: np.array([getattr(s, name) for s in chosen]) for name in size_columns(chosen[0])
    }
    for function, name in (
        (engine_lut, "lut"),
        (engine_ff, "ff"),
        (engine_dsp, "dsp"),
        (engine_bram36, "bram36"),
        (engine_uram, "uram"),
    ):
        one_by_one = [getattr(engine_resources(s), name) for s in chosen]
        np.testing.assert_allclose(function(columns), one_by_one, rtol=1e-12)


@pytest.mark.parametrize(
    "changes, blocks",
    [
        ({}, 48),  # section 5 of the paper: 8 banks of 10,944 words of 140 bits
        ({"weight_words": 8192}, 32),
        ({"weight_words": 512}, 0),
    ],
)
def test_weight_buffer_uram(changes, blocks):
    modules = resources(TELLME.point(changes))
    assert modules["weight_buffer"].uram == blocks


def test_engine_parts_add_up():
    for entry in entries("fit")[:8]:
        point = TELLME.point(entry["axes"])
        modules = resources(point)
        together = modules["ternary_matmul"] + modules["weight_buffer"]
        whole = engine_resources(engine_sizes(point))
        for name, value in whole.as_dict().items():
            assert getattr(together, name) == pytest.approx(value)


def test_published_point_is_within_a_tenth():
    total = sum(resources(TELLME.point()).values(), start=Resources())
    published = {"lut": 98_303, "ff": 136_721, "dsp": 610, "bram36": 98.5, "uram": 60}
    for name, value in published.items():
        assert getattr(total, name) == pytest.approx(value, rel=0.1), name


def test_published_modules():
    modules = resources(TELLME.point())
    fused = ("ternary_matmul", "weight_buffer", "elementwise")
    assert sum(modules[m].lut for m in fused) == pytest.approx(43_137 + 6_885, rel=0.02)
    assert modules["prefill_attention"].lut == pytest.approx(18_072, rel=0.02)
    assert modules["prefill_attention"].dsp == pytest.approx(115)
    assert modules["decode_attention"].lut == pytest.approx(9_570, rel=0.02)
    assert modules["decode_attention"].dsp == pytest.approx(123)
    rest = modules["rms_max"] + modules["axi_shell"]
    assert rest.lut == pytest.approx(20_639, rel=0.02)


def test_what_was_fitted_says_so():
    for name in ("elementwise_lut", "rms_max_lut", "rms_max_bram36", "fabric_ff_per_lut"):
        assert calibration()[f"tellme.{name}"].fitted
