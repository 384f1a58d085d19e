"""SN40L in the search: its columns are the simulator's figures, its budgets what that refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.arch.device import load_device
from headrace.arch.sn40l import SN40L
from headrace.cli import main
from headrace.errors import InputError
from headrace.models.network import Network, load_network
from headrace.search.explain import explain
from headrace.search.explore import explore
from headrace.search.sn40l import SPACE
from headrace.search.space import Space
from headrace.sim.sn40l.machine import METRICS, simulate
from headrace.sim.workload import Workload

NODE = load_device("sn40l-node")
LLAMA = load_network("llama-2-7b")
CHAT = Workload(prompt_tokens=128, context_tokens=138, output_tokens=20, batch=8, expert_skew=1.0)
ONE = Workload(prompt_tokens=32, context_tokens=600, output_tokens=1)
# Few units: the simulator spreads them one by one.
FEW: dict[str, Any] = {"pcus": (40, 104), "pmus": (64, 260), "sockets": (2, 8, 16)}
REFUSED = "HBM|does not divide|do not fit|macs =|experts =|holds no expert|no KV cache"


def agree(
    count: int, seed: int, *, network: Network = LLAMA, workload: Workload = CHAT, **choices: Any
) -> int:
    """Compare points with the simulation; return how many of them can run."""
    space = Space(SN40L, FEW | choices)
    rows = space.rows(space.sample(0, count, seed))
    batch = SPACE.evaluator(NODE, network, workload).evaluate(rows)
    assert set(batch.columns) == set(METRICS)
    compared = 0
    for i, row in enumerate(rows):
        point = space.decode(row)
        if batch.broken[i]:
            with pytest.raises(InputError, match=REFUSED):
                simulate(point, NODE, network, workload)
            assert np.isnan(batch.columns["ttft_s"][i])
            continue
        expected = simulate(point, NODE, network, workload).metrics
        for name in METRICS:
            value = batch.columns[name][i]
            if name in expected:
                assert value == pytest.approx(expected[name], rel=1e-9), (name, point)
            else:
                assert np.isnan(value)
        compared += 1
    return compared


def test_equals_the_analytic_simulation() -> None:
    assert agree(16, 1, experts=(1, 150, 850)) > 8


def test_misses_are_the_same_at_all_times() -> None:
    same: dict[str, Any] = {"sockets": (8,), "experts": (150,), "fusion": ("full",)}
    same |= {"expert_cache": ("lru", "lfu", "belady"), "pcus": (104,), "pmus": (260,)}
    odd = Workload(prompt_tokens=32, context_tokens=40, output_tokens=3, batch=7, expert_skew=0.6)
    assert agree(12, 7, workload=odd, **same) == 12


def test_only_what_is_wanted() -> None:
    evaluator = SPACE.evaluator(NODE, LLAMA, CHAT)
    rows = Space(SN40L).encode([SN40L.point({"experts": 150})])
    alone = evaluator.evaluate(rows, only=("tpot_s",)).columns
    assert set(alone) == {"tpot_s"}
    both = evaluator.evaluate(rows, only=("tpot_s", "coe_batch_s")).columns
    assert both["tpot_s"] == alone["tpot_s"]
    every = evaluator.evaluate(rows).columns
    assert both["coe_batch_s"] == pytest.approx(every["coe_batch_s"], rel=1e-12)


def test_equals_it_with_one_token_and_one_sequence() -> None:
    assert agree(6, 2, workload=ONE, sockets=(4, 8), experts=(1, 150)) == 6
    clip = load_network("clip-vit-l-14-336")
    images = Workload(prompt_tokens=577, output_tokens=3)
    assert 0 < agree(6, 3, network=clip, workload=images, sockets=(4, 8)) < 6


def test_refuses_what_the_simulation_refuses() -> None:
    full: dict[str, Any] = {"fusion": ("full",), "sockets": (8,)}
    choices = full | {"sockets": (3, 8), "macs": (100, 192), "experts": (1, 979, 980)}
    assert 0 < agree(24, 4, **choices) < 24
    small = full | {"pmus": (8, 32, 128), "pmu_kib": (32, 512), "experts": (1, 850)}
    assert 0 < agree(16, 5, **small) < 16
    long = Workload(prompt_tokens=16, context_tokens=60_000, batch=17)
    assert 0 < agree(8, 6, workload=long, sockets=(8, 16)) < 8


def broken(values: dict[str, object], workload: Workload = CHAT) -> list[str]:
    """Return the names of the budgets that a point exceeds."""
    evaluator = SPACE.evaluator(NODE, LLAMA, workload)
    space = Space(SN40L)
    bits = int(evaluator.evaluate(space.encode([SN40L.point(values)]), only=()).broken[0])
    return [b.name for n, b in enumerate(evaluator.budgets) if bits >> n & 1]


def test_budgets_are_sizes() -> None:
    """13.477 GB of weights; 512 KiB of keys and values per token; 12 TiB of DDR hold 979."""
    assert broken({}) == []
    assert broken({"sockets": 1, "experts": 123}) == ["ddr"]
    assert broken({"sockets": 1, "experts": 122}) == []
    assert broken({"experts": 979}) == []
    assert broken({"experts": 980}) == ["ddr"]
    assert broken({"sockets": 64}) == ["sockets"]
    assert broken({"macs": 190}) == ["macs"]
    room = 512 * 2**30 - 13_476_831_232
    cached = Workload(batch=1, context_tokens=room // 2**19)
    assert broken({}, cached) == []
    assert broken({}, Workload(batch=1, context_tokens=room // 2**19 + 1)) == ["hbm"]


def test_it_explains_what_does_not_fit() -> None:
    (lack,) = explain(SN40L.point({"sockets": 16, "experts": 2000}), NODE, LLAMA, CHAT,
                      design=SN40L)  # fmt: skip
    assert lack.text().startswith("DDR, for all experts: 2,000 experts needed, 1,958 available")
    assert ("experts", 850) in lack.knobs


def test_a_search_finds_the_best_of_all() -> None:
    fixed: dict[str, Any] = {axis.name: [axis.default] for axis in SN40L.axes} | FEW
    fixed |= {
        "pmus": [260],
        "sockets": [8, 16],
        "experts": [150],
        "copies": ["exposed", "overlapped"],
    }
    fixed |= {"expert_cache": ["lru", "lookahead"], "clock_mhz": [1200, 1600]}
    found = explore(
        SN40L, NODE, LLAMA, CHAT, fixed=fixed, objective="min coe_batch_s s.t. peak_tflops <= 400"
    )
    space = Space(SN40L, fixed)
    runs = [
        simulate(space.decode(row), NODE, LLAMA, CHAT).metrics
        for row in space.rows(np.arange(space.size))
    ]
    assert found.evaluated == space.size == 32
    assert found.best is not None
    allowed = [m["coe_batch_s"] for m in runs if m["peak_tflops"] <= 400]
    assert found.best.metrics["coe_batch_s"] == pytest.approx(min(allowed), rel=1e-9)


def test_explore_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best point of a short search, run again by `simulate`, has the same figures."""
    best = str(tmp_path / "best.toml")
    sizes = ["--context-tokens", "138", "--output-tokens", "20", "--batch", "8"]
    options = ["--objective", "min coe_batch_s", "--strategy", "two-stage", "--samples", "24"]
    options += ["--fix", "experts=150,850", "--fix", "pcus=104", "--fix", "pmus=260"]
    assert main(["explore", "sn40l", *sizes, *options, "-o", best, "--json"]) == 0
    explored = json.loads(capsys.readouterr().out)
    assert main(["simulate", "sn40l", *sizes, "--point", best, "--json"]) == 0
    simulated = json.loads(capsys.readouterr().out)
    for name, value in simulated["metrics"].items():
        assert explored["best"]["metrics"][name] == pytest.approx(value, rel=1e-9)


def test_other_networks_and_devices_are_refused() -> None:
    with pytest.raises(InputError, match="sn40l cannot run on 'a100'"):
        SPACE.evaluator(load_device("a100"), LLAMA, CHAT)
