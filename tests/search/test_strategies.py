import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.arch.axis import Axis, Constraint
from headrace.arch.design import Design
from headrace.arch.device import load_device
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search.evaluator import Batch, Budget
from headrace.search.problem import Evaluated, Problem, network_hash
from headrace.search.spec import Spec
from headrace.search.strategies import SEQUENTIAL, make
from headrace.search.strategies.genome import Genome
from headrace.sim.workload import Workload

NETWORK = load_network("bitnet-b1.58-large")


class Toy:
    """A block that is busy for 960 / (a b) beside one that is busy for 40 / c, plus extras."""

    metrics = ("time_s", "broken_s")
    resources = ("lut",)
    budgets = (Budget("lut", "LUT", "look-up tables"),)

    def evaluate(self, rows: NDArray[Any]) -> Batch:
        a, b, c, method, fast = (rows[:, i].astype(float) for i in range(5))
        seconds = np.maximum(960 / (a * b), 40 / c) * (1 + 0.25 * (method == 1)) - fast
        lut = 20 * a + 3 * b * b + 8 * c + 30 * (method == 2) + 15 * fast
        broken = np.where(a > 6, np.inf, np.where(b > 6, np.nan, seconds))
        columns = {"time_s": seconds, "lut": lut, "broken_s": broken}
        return Batch(columns, (lut > 500) * np.int64(1))

    def demands(self, row: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        raise NotImplementedError


class Face:
    def evaluator(self, device: Any, network: Any, workload: Any) -> Toy:
        return Toy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyDesign(Design):
    def face(self, layer: str) -> Any:
        return Face()


def tied(p: Mapping[str, Any]) -> Any:
    return p["a"] + p["b"] >= 5


NUMBERS = tuple(range(1, 13))
TOY = ToyDesign(
    name="toy",
    summary="",
    axes=(
        Axis(name="a", default=4, summary="", choices=NUMBERS, low=1, high=20),
        Axis(name="b", default=4, summary="", choices=NUMBERS, low=1, high=20),
        Axis(name="c", default=4, summary="", choices=NUMBERS[::-1], low=1, high=20),
        Axis(name="method", default="x", summary="", choices=("x", "y", "z")),
        Axis(name="fast", default=False, summary="", choices=(False, True)),
        Axis(name="idle", default=7, summary="", choices=(7,)),
    ),
    constraints=(Constraint(name="sum", rule="a + b >= 5", holds=tied, knobs=("a", "b")),),
    resources=lambda point: {},
    default_device="",
    default_network="",
)
POINTS = (144 - 6) * 12 * 3 * 2


def problem(
    strategy: str,
    objective: str = "min time_s, min lut",
    samples: int = 300,
    seed: int = 0,
    fixed: Mapping[str, tuple[Any, ...]] | None = None,
) -> Problem:
    spec = Spec(
        design="toy",
        device="kv260",
        network="bitnet-b1.58-large",
        network_hash=network_hash(NETWORK),
        workload=Workload(),
        objective=objective,
        strategy=strategy,
        samples=samples,
        seed=seed,
        fixed=fixed or {},
    )
    return Problem(spec, TOY, load_device("kv260"), NETWORK)


def batches(study: Problem) -> list[Evaluated]:
    strategy, found = make(study), list[Evaluated]()
    while len(asked := strategy.ask()):
        found.append(study.evaluate(asked))
        strategy.tell(found[-1])
    return found


def indices(found: list[Evaluated]) -> list[list[int]]:
    return [batch.indices.tolist() for batch in found]


@pytest.mark.parametrize("strategy", SEQUENTIAL)
@pytest.mark.parametrize("objective", ["min time_s", "min time_s, min lut s.t. lut >= 100"])
def test_stopped_after_any_batch_it_goes_on_as_if_it_had_not_been(
    strategy: str, objective: str
) -> None:
    study = problem(strategy, objective, samples=260, seed=3)
    found = batches(study)
    assert sum(map(len, indices(found))) == 260
    assert len(found) >= 4
    for stop in range(len(found) + 1):
        resumed = make(study)
        for batch in found[:stop]:
            resumed.tell(batch)
        following = found[stop].indices.tolist() if stop < len(found) else []
        assert resumed.ask().tolist() == following
        assert resumed.ask().tolist() == following


@pytest.mark.parametrize("strategy", SEQUENTIAL)
def test_seeds_differ_and_no_point_comes_twice(strategy: str) -> None:
    first, again, other = (
        indices(batches(problem(strategy, samples=200, seed=seed))) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    asked = [i for batch in first for i in batch]
    assert len(set(asked)) == len(asked) == 200
    assert 0 <= min(asked) <= max(asked) < POINTS


@pytest.mark.parametrize("strategy", SEQUENTIAL)
def test_a_small_space_is_evaluated_once_and_whole(strategy: str) -> None:
    fixed = {"a": (4, 5), "b": (1, 2, 3), "c": (9,), "method": ("y",)}
    found = indices(batches(problem(strategy, samples=10_000, fixed=fixed)))
    assert sorted(i for batch in found for i in batch) == list(range(12))


@pytest.mark.parametrize("strategy", SEQUENTIAL)
def test_one_point_and_one_evaluation(strategy: str) -> None:
    alone = {name: (4,) for name in "abc"} | {"method": ("x",), "fast": (False,)}
    assert indices(batches(problem(strategy, fixed=alone))) == [[0]]
    study = problem(strategy, samples=1)
    published = study.space.index(TOY.point())
    assert indices(batches(study)) == [[published]]


@pytest.mark.parametrize("strategy", SEQUENTIAL)
def test_infinite_costs_and_what_nothing_satisfies(strategy: str) -> None:
    # broken_s is infinite above a = 6 and not a number above b = 6: a quarter of the points is
    # usable.
    found = batches(problem(strategy, "min broken_s, min lut", samples=150))
    usable = np.isfinite(np.concatenate([f.costs for f in found])).all(axis=1)
    assert usable[-50:].mean() > 0.5
    assert len(indices(batches(problem(strategy, "min time_s s.t. lut < 0", samples=150)))) > 1


@pytest.mark.parametrize("strategy", SEQUENTIAL)
def test_nothing_is_written_on_standard_error(
    strategy: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    batches(problem(strategy, samples=140))
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_other_strategies_are_refused() -> None:
    with pytest.raises(InputError, match="strategy 'random' is not allowed here: one of two-stage"):
        make(problem("random"))


@pytest.mark.parametrize("strategy", SEQUENTIAL)
def test_ten_thousand_recorded_points_are_told_in_two_seconds(strategy: str) -> None:
    spec = dataclasses.replace(
        problem(strategy, "min ttft_s, min lut", samples=11_000).spec, design="tellme"
    )
    study = Problem(spec, network=NETWORK)
    drawn = study.evaluate(study.space.sample(0, 10_000, seed=5))
    told = make(study)
    begin = time.process_time()
    for start in range(0, 10_000, 64):
        part = slice(start, start + 64)
        told.tell(Evaluated(drawn.indices[part], drawn.costs[part], drawn.violation[part]))
    assert time.process_time() - begin < 2


def test_genes_are_positions_in_ascending_order() -> None:
    space = problem("tpe").space
    genome = Genome(space)
    assert genome.axes == (0, 1, 2, 3, 4)
    assert genome.sizes.tolist() == [12, 12, 12, 3, 2]
    assert genome.ordered.tolist() == [True, True, True, False, True]
    point = TOY.point({"a": 3, "b": 11, "c": 2, "method": "z", "fast": True})
    index = np.array([space.index(point)])
    np.testing.assert_array_equal(genome.genes(index), [[2, 10, 1, 2, 1]])
    everything = space.range(0, POINTS)
    np.testing.assert_array_equal(genome.indices(genome.genes(everything)), everything)


def test_forbidden_genomes_become_the_nearest_allowed() -> None:
    space = problem("tpe").space
    genome = Genome(space)
    # a + b = 1 + 2: two steps of one axis suffice, and a comes first.
    wanted = TOY.point({"a": 1, "b": 4, "c": 1, "method": "x", "fast": False})
    assert genome.indices(np.array([[0, 1, 0, 0, 0]])).tolist() == [space.index(wanted)]
    # Beyond the ends of an axis.
    wanted = TOY.point({"a": 12, "b": 1, "c": 12, "method": "x", "fast": False})
    assert genome.indices(np.array([[99, -3, 12, 0, 0]])).tolist() == [space.index(wanted)]
