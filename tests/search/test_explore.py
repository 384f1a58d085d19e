import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.arch.axis import Axis, Constraint
from headrace.arch.design import Design
from headrace.arch.device import load_device
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search import explain as explain_module
from headrace.search.evaluator import Batch, Budget
from headrace.search.explain import explain
from headrace.search.explore import explore
from headrace.search.outcome import Exploration
from headrace.search.space import Space
from headrace.sim.workload import Workload

CALLS: list[int] = []


class Toy:
    """time = 24 / (x y) + z, lut = 10 x + y y, at most 60 LUT and x <= z + 3."""

    metrics = ("time_s",)
    resources = ("lut", "ff")
    budgets = (Budget("lut", "LUT", "look-up tables"), Budget("reach", "steps", "reach of z"))

    def evaluate(self, rows: NDArray[Any], *, only: Sequence[str] | None = None) -> Batch:
        CALLS.append(len(rows))
        x, y, z = (rows[:, i].astype(float) for i in range(3))
        lut = 10 * x + y * y
        broken = (lut > 60) * 1 + (x > z + 3) * 2
        return Batch({"time_s": 24 / (x * y) + z, "lut": lut, "ff": 0 * x}, broken)

    def demands(self, row: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x, y, z = row[:3].astype(float)
        return np.array([10 * x + y * y, x]), np.array([60.0, z + 3])


class Face:
    def evaluator(self, device: Any, network: Any, workload: Any) -> Toy:
        return Toy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyDesign(Design):
    def face(self, layer: str) -> Any:
        assert layer == "search"
        return Face()


TOY = ToyDesign(
    name="toy",
    summary="",
    axes=(
        Axis(name="x", default=1, summary="", choices=(1, 2, 3, 4, 5, 6), low=1, high=20),
        Axis(name="y", default=1, summary="", choices=(1, 2, 3, 4, 5, 6), low=1, high=20),
        Axis(name="z", default=0, summary="", choices=(0, 1, 2), low=0, high=20),
    ),
    constraints=(
        Constraint(
            name="order",
            rule="x + y <= 10",
            holds=lambda p: p["x"] + p["y"] <= 10,
            knobs=("x", "y"),
        ),
    ),
    resources=lambda point: {},
    default_device="",
    default_network="",
)


def run(**options: Any) -> Exploration:
    return explore(TOY, load_device("kv260"), load_network("tiny-bitnet"), Workload(), **options)


def everything() -> list[tuple[tuple[int, int, int], float, float]]:
    """All feasible points with time and LUT, by plain loops."""
    found = []
    for x in range(1, 7):
        for y in range(1, 7):
            for z in range(3):
                lut = 10 * x + y * y
                if x + y <= 10 and lut <= 60 and x <= z + 3:
                    found.append(((x, y, z), 24 / (x * y) + z, lut))
    return found


def test_optimum_of_an_exhaustive_search() -> None:
    result = run(objective="min time_s s.t. lut <= 50")
    value, _, expected = min((t, lut, p) for p, t, lut in everything() if lut <= 50)
    assert result.strategy == "exhaustive"
    assert result.best is not None
    assert tuple(result.best.point.values()) == expected
    assert result.best.metrics == {"time_s": value}
    assert result.evaluated == result.space_size == 99
    assert result.feasible == sum(lut <= 50 for _, _, lut in everything())
    assert result.pareto == (result.best,)


def test_ties_go_to_the_fewest_resources_then_to_the_lowest_index() -> None:
    # x y = 6 four times over: lut 46 (1, 6), 29 (2, 3), 34 (3, 2), 61 (6, 1).
    result = run(objective="min time_s", fixed={"z": [2]}, constraints=["time_s == 6"])
    assert result.best is not None
    assert tuple(result.best.point.values()) == (2, 3, 2)
    result = run(objective="min ff")
    assert result.best is not None
    assert tuple(result.best.point.values()) == (1, 1, 0)


def test_front_equals_brute_force() -> None:
    result = run(objective="min time_s, min lut")
    points = everything()
    expected = {
        p
        for p, t, lut in points
        if not any(u <= t and m <= lut and (u < t or m < lut) for _, u, m in points)
    }
    assert {tuple(c.point.values()) for c in result.pareto} == expected
    times = [c.metrics["time_s"] for c in result.pareto]
    assert times == sorted(times)
    assert result.best in result.pareto
    assert result.pareto[0].hash == result.pareto[0].point.hash


def test_random_search_of_everything_finds_the_same() -> None:
    whole = run(objective="min time_s, min lut")
    drawn = run(objective="min time_s, min lut", strategy="random", samples=99, seed=3)
    assert list(drawn.pareto) == list(whole.pareto)
    assert drawn.feasible == whole.feasible


def test_a_front_is_a_sequence() -> None:
    front = run(objective="min time_s, min lut").pareto
    whole = list(front)
    assert [front[i] for i in range(len(front))] == whole
    assert front[-1] == whole[-1]
    assert list(front[1:4]) == whole[1:4]
    with pytest.raises(IndexError):
        front[len(front)]


def test_climbing_to_the_optimum() -> None:
    best = run(objective="min lut").best
    climbed = run(objective="min lut", strategy="climb", samples=5, seed=1)
    assert climbed.best == best
    plain = run(objective="min lut", strategy="random", samples=5, seed=1)
    assert plain.evaluated == 5
    assert plain.best != best
    again = run(objective="min lut", strategy="random", samples=5, seed=1)
    assert (again.best, again.feasible) == (plain.best, plain.feasible)


def test_nothing_feasible() -> None:
    result = run(objective="min time_s", constraints=["lut < 1"])
    assert (result.best, result.pareto, result.feasible) == (None, (), 0)
    result = run(objective="min time_s", fixed={"x": [6]}, strategy="random")
    assert result.best is None
    assert result.broken == {"lut": 12, "reach": 12}


def test_progress_and_interruption() -> None:
    seen = []
    run(objective="min time_s", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 99), (99, 99)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(objective="min time_s", progress=stop)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"objective": "min speed"}, "unknown name 'speed': one of time_s, lut, ff"),
        ({"constraints": ["lut"]}, "one of < <= > >= == expected"),
        ({"strategy": "annealing"}, "strategy 'annealing' is not allowed: one of auto, exhaustive"),
        ({"samples": 0}, "samples = 0 is not allowed: at least 1"),
        ({"fixed": {"w": [1]}}, "toy has no axis 'w': one of x, y, z"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        run(**({"objective": "min time_s"} | options))


def explained(**values: int) -> list[explain_module.Violation]:
    none: Any = None
    return explain(TOY.point(values), none, none, Workload(), design=TOY)


def test_feasible_points_need_no_explanation() -> None:
    assert explained(x=3, y=3) == []


def test_one_budget_and_the_smallest_changes_first() -> None:
    (violation,) = explained(x=4, y=6, z=1)  # 76 LUT
    assert (violation.budget, violation.unit) == ("lut", "LUT")
    assert (violation.needed, violation.available, violation.excess) == (76.0, 60.0, 16.0)
    # x = 2: 56; y = 4: 56. One step of either (66, 65) is not enough.
    assert violation.knobs[:3] == (("x", 2), ("y", 4), ("x", 1))
    assert violation.text() == (
        "look-up tables: 76 LUT needed, 60 available, 16 too many; "
        "try x = 2 or y = 4 or x = 1 or y = 3"
    )


def test_two_budgets_at_once() -> None:
    lut, reach = explained(x=6, y=4, z=2)  # 76 LUT; 6 > 5
    assert (lut.budget, reach.budget) == ("lut", "reach")
    assert lut.knobs == (("x", 4), ("x", 3), ("x", 2), ("x", 1))
    assert reach.knobs[0] == ("x", 5)


def test_value_beside_the_choices_and_no_way_out() -> None:
    (violation,) = explained(x=1, y=9)  # 91 LUT
    assert math.isclose(violation.excess, 31.0)
    assert violation.knobs[0] == ("y", 6)
    lut, reach = explained(x=9, y=1)
    assert lut.knobs[0] == ("x", 5)
    assert reach.knobs[0] == ("x", 3)


def test_neighbour_space_contains_the_point() -> None:
    point = TOY.point({"x": 9, "y": 1})
    space = Space(TOY, explain_module._with(TOY, point))
    assert space.decode(space.rows(np.array([space.index(point)]))[0]) == point
