"""V-Rex in the search: its columns are the simulator's figures, its budgets what that refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.arch.device import load_device
from headrace.arch.vrex import VREX
from headrace.cli import main
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search.explain import explain
from headrace.search.explore import explore
from headrace.search.space import Space
from headrace.search.vrex import SPACE
from headrace.search.vrex.measure import measure
from headrace.sim.vrex.machine import METRICS, simulate
from headrace.sim.workload import Workload

EDGE = load_device("vrex8")
LLAMA = load_network("llama-3-8b")
SHORT = Workload(context_tokens=700, frames=3, prompt_tokens=5, output_tokens=2)
FEW: dict[str, Any] = {
    "resident_tokens": (0, 200, 500),
    "cache_tokens": (0, 100, 300),
    "frame_tokens": (8, 10),
    "link_mb_per_s": (0, 1000, 16_000),
}


def agree(device: str, workload: Workload, count: int, seed: int, **choices: Any) -> int:
    space = Space(VREX, FEW | choices)
    evaluator = SPACE.evaluator(load_device(device), LLAMA, workload)
    rows = space.rows(space.sample(0, count, seed))
    batch = evaluator.evaluate(rows)
    assert set(batch.columns) == set(METRICS)
    compared = 0
    for i, row in enumerate(rows):
        point = space.decode(row)
        if batch.broken[i]:
            with pytest.raises(InputError, match="device memory|16 bits"):
                simulate(point, load_device(device), LLAMA, workload)
            assert np.isnan(batch.columns["frame_s"][i])
            continue
        for name, value in simulate(point, load_device(device), LLAMA, workload).metrics.items():
            assert batch.columns[name][i] == pytest.approx(value, rel=1e-9), (name, point)
        compared += 1
    return compared


def test_equals_the_analytic_simulation() -> None:
    assert agree("vrex8", SHORT, 24, 1) == 24


@pytest.mark.parametrize("device", ["agx-orin", "vrex48"])
def test_equals_it_on_other_devices(device: str) -> None:
    assert agree(device, SHORT, 8, 2) == 8


def test_refuses_what_the_simulation_refuses() -> None:
    many = Workload(context_tokens=1600, frames=3, prompt_tokens=5, output_tokens=2, batch=128)
    choices = {"resident_tokens": (0, 1000, 2000), "cache_tokens": (0, 1000), "frame_tokens": (10,)}
    compared = agree("vrex8", many, 16, 3, policy=("full", "streaming_llm", "duo_attention"),
                     **choices)  # fmt: skip
    assert 0 < compared < 16


def test_device_memory_holds_weights_and_tokens() -> None:
    """Llama-3 8B keeps 128 KiB of keys and values per token, which follows from its shape."""
    token = 2 * 32 * 8 * 128 * 2
    at = {"context_tokens": 48_000, "frames": 1, "prompt_tokens": 1, "output_tokens": 1}
    point = VREX.point({"resident_tokens": 48_000})
    row = Space(VREX).encode([point])[0]
    one, eight = (SPACE.evaluator(EDGE, LLAMA, Workload(batch=n, **at)) for n in (1, 8))
    needs = [evaluator.demands(row)[0][0] for evaluator in (one, eight)]
    assert needs[1] - needs[0] == 7 * 48_000 * token
    assert needs[0] - 48_000 * token == pytest.approx(2 * (8.03e9 + 0.325e9), rel=0.002)
    assert one.evaluate(row[None], only=()).broken.tolist() == [0]
    assert eight.evaluate(row[None]).broken.tolist() == [1]
    assert eight.demands(row)[1][0] == 32 * 2**30
    with pytest.raises(InputError, match="device memory of vrex8: .* needed, 34,359,738,368"):
        simulate(point, EDGE, LLAMA, Workload(batch=8, **at))


def test_counts_of_16_bits() -> None:
    long = Workload(context_tokens=65_535, frames=1, prompt_tokens=1, output_tokens=1)
    evaluator = SPACE.evaluator(EDGE, LLAMA, long)
    rows = Space(VREX).encode([VREX.point(), VREX.point({"policy": "full"})])
    assert evaluator.evaluate(rows, only=()).broken.tolist() == [2, 0]
    with pytest.raises(InputError, match="16 bits"):
        simulate(VREX.point(), EDGE, LLAMA, long)


def test_a_search_finds_the_best_of_all() -> None:
    choices = {axis.name: [axis.default] for axis in VREX.axes}
    choices |= {"cores": [4, 8], "evict": ["token", "page"], "vision": ["before", "beside"]}
    choices |= {"resident_tokens": [200, 1000]}
    found = explore(
        VREX, EDGE, LLAMA, SHORT, fixed=choices, objective="min frame_s s.t. area_mm2 <= 15.88"
    )
    times = [
        simulate(Space(VREX, choices).decode(row), EDGE, LLAMA, SHORT).metrics["frame_s"]
        for row in Space(VREX, choices).rows(np.arange(16))
    ]
    assert found.evaluated == 16
    assert found.best is not None
    assert found.best.metrics["frame_s"] == min(times)


def test_explore_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best point of a short search, run again by `simulate`, has the same figures."""
    best = str(tmp_path / "best.toml")
    sizes = ["--context-tokens", "700", "--frames", "3", "--prompt-tokens", "5", "--batch", "2"]
    options = ["--objective", "min frame_s s.t. area_mm2 <= 15.88", "--strategy", "two-stage"]
    options += ["--samples", "24", "--fix", "policy=resv,full", "--fix", "resident_tokens=0,200"]
    assert main(["explore", "vrex", *sizes, *options, "-o", best, "--json"]) == 0
    explored = json.loads(capsys.readouterr().out)
    assert explored["best"]["metrics"]["area_mm2"] <= 15.88
    assert main(["simulate", "vrex", *sizes, "--point", best, "--json"]) == 0
    simulated = json.loads(capsys.readouterr().out)
    for name, value in simulated["metrics"].items():
        assert explored["best"]["metrics"][name] == pytest.approx(value, rel=1e-9)


def test_the_best_points_climb_to_every_pass() -> None:
    choices = {axis.name: [axis.default] for axis in VREX.axes}
    choices |= {"evict": ["token", "page"], "resident_tokens": [200, 1000]}
    found = explore(
        VREX, EDGE, LLAMA, SHORT, fixed=choices, objective="min frame_s",
        fidelities=("analytic", "cycle"), budgets={"cycle": 2},
    )  # fmt: skip
    assert found.choice is not None
    every_pass = simulate(found.choice.point, EDGE, LLAMA, SHORT, "cycle").metrics
    assert found.choice.metrics == pytest.approx(every_pass, rel=1e-12)
    with pytest.raises(InputError, match="vrex has analytic and cycle"):
        measure("rtl", VREX.point(), EDGE, LLAMA, SHORT)


def test_it_explains_what_does_not_fit() -> None:
    eight = Workload(context_tokens=40_000, frames=1, prompt_tokens=1, output_tokens=1, batch=8)
    (lack,) = explain(VREX.point({"resident_tokens": 24_000}), EDGE, LLAMA, eight)
    assert lack.text().startswith("device memory, for weights and the tokens that stay: ")
    assert ("resident_tokens", 16_000) in lack.knobs


def test_other_networks_and_devices_are_refused() -> None:
    with pytest.raises(InputError, match="keeps no keys"):
        SPACE.evaluator(EDGE, load_network("vit-small"), SHORT)
    with pytest.raises(InputError, match="vrex cannot run on"):
        SPACE.evaluator(load_device("kv260"), LLAMA, SHORT)
