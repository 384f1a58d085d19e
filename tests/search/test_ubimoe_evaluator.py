"""UbiMoE in the search: its columns are the simulator's figures; heuristics against enumeration."""

from typing import Any

import numpy as np
import pytest

from headrace.arch.device import load_device
from headrace.arch.ubimoe import UBIMOE
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search.explain import explain
from headrace.search.explore import explore
from headrace.search.space import Space
from headrace.search.ubimoe import SPACE
from headrace.sim.ubimoe.machine import simulate
from headrace.sim.workload import Workload

ZCU102, U280 = load_device("zcu102"), load_device("u280")
TINY = load_network("m3vit-tiny")
DEVICE_BUDGETS = 5


def agree(device: Any, choices: dict[str, Any], workload: Workload, count: int, seed: int) -> None:
    space = Space(UBIMOE, choices)
    evaluator = SPACE.evaluator(device, TINY, workload)
    rows = space.rows(space.sample(0, count, seed))
    batch = evaluator.evaluate(rows)
    compared = 0
    for i, row in enumerate(rows):
        point = space.decode(row)
        if batch.broken[i] >> DEVICE_BUDGETS:
            with pytest.raises(InputError):
                simulate(point, device, TINY, workload)
            assert np.isnan(batch.columns["latency_s"][i])
            continue
        found = simulate(point, device, TINY, workload)
        total = {
            name: sum(part.as_dict()[name] for part in found.resources.values())
            for name in evaluator.resources
        }
        for name, value in {**found.metrics, **total}.items():
            assert batch.columns[name][i] == pytest.approx(value, rel=1e-9), (name, point)
        over = [total[n] > limit for n, limit in device.resources.as_dict().items()]
        assert [bool(batch.broken[i] >> b & 1) for b in range(DEVICE_BUDGETS)] == over
        compared += 1
    assert compared > count // 4


def test_equals_the_analytic_simulation_on_the_zcu102() -> None:
    agree(ZCU102, {"weight_ports": (1, 2)}, Workload(), 40, 1)


def test_equals_it_on_the_u280_with_skewed_experts() -> None:
    agree(U280, {"weight_ports": (4, 8)}, Workload(expert_skew=0.6), 40, 2)


def test_a_small_memory_or_another_network_breaks_a_budget() -> None:
    evaluator = SPACE.evaluator(ZCU102, load_network("m3vit-tiny-197"), Workload())
    fixed = {a.name: [a.default] for a in UBIMOE.axes}
    row = Space(UBIMOE, fixed).rows(np.array([0]))
    names = [budget.name for budget in evaluator.budgets]
    assert evaluator.evaluate(row).broken[0] == 1 << names.index("tokens")
    needs, there = evaluator.demands(row[0])
    assert (needs[names.index("tokens")], there[names.index("tokens")]) == (197, 129)
    small = SPACE.evaluator(ZCU102, load_network("vit-small"), Workload())
    assert small.evaluate(row).broken[0] >> names.index("network") & 1


def test_it_explains_what_a_point_lacks() -> None:
    point = UBIMOE.point({"weight_ports": 4})
    told = explain(point, ZCU102, TINY, Workload())
    assert any("ports" in violation.text() for violation in told)


SEARCHED = {
    axis.name: [axis.default]
    for axis in UBIMOE.axes
    if axis.name not in ("attention_dims", "attention_lanes", "tile_in", "tile_out", "linear_lanes")
}


@pytest.mark.slow
def test_the_two_stage_heuristic_comes_close_to_the_enumeration() -> None:
    goal = {"objective": "min latency_s s.t. dsp <= 1850", "fixed": SEARCHED}
    best = [
        explore(UBIMOE, ZCU102, TINY, Workload(), strategy=strategy, seed=1, **more, **goal)
        for strategy, more in (("two-stage", {"samples": 300}), ("exhaustive", {}))
    ]
    heuristic, optimum = (e.best.metrics["latency_s"] for e in best)
    assert optimum <= heuristic <= 1.02 * optimum
