import itertools
import re
from collections.abc import Sequence

import numba
import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search import sweep as module
from headrace.search.problem import Problem, network_hash
from headrace.search.spec import DEFAULT_OBJECTIVE, Spec
from headrace.search.sweep import Known, Swept, merge, sweep, sweep_indices
from headrace.sim.workload import Workload

NETWORK = "bitnet-b1.58-large"
FIXED = {
    "clock_mhz": (250,), "group_size": (3,), "tables": (16, 28), "copies": (16,),
    "activation_lanes": (1, 16), "block_gap_cycles": (0,), "weight_banks": (8, 16),
    "weight_words": (4096, 10944), "weight_slots": (1, 2), "weight_ports": (3,),
    "accumulator_bits": (16, 24), "prefill_lanes": (8,), "prefill_adders": (32,),
    "prefill_pv_units": (1,), "prefill_order": ("reversed",), "decode_lanes": (8, 16),
    "max_context": (1024, 2048),
}  # fmt: skip
GOALS = (
    DEFAULT_OBJECTIVE,
    "max decode_tok_per_s, min ttft_s, min lut s.t. power_w <= 5 and uram <= 52",
    "min lut, min uram",
    "min ttft_s / (lut - lut), min power_w",  # always infinite: nothing wins
)


def problem(objective: str, seed: int = 3) -> Problem:
    network = load_network(NETWORK)
    return Problem(
        Spec(
            design="tellme", device="kv260", network=NETWORK, network_hash=network_hash(network),
            workload=Workload(), objective=objective, strategy="exhaustive", samples=1, seed=seed,
            fixed=FIXED,
        )
    )  # fmt: skip


def allowed(study: Problem, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices and costs of the points inside all budgets and constraints."""
    found = study.evaluate(indices)
    feasible = found.violation == 0
    return indices[feasible], found.costs[feasible]


def front_by_definition(indices: np.ndarray, costs: np.ndarray) -> list[int]:
    front = []
    finite = np.isfinite(costs).all(axis=1)
    indices, costs = indices[finite], costs[finite]
    for index, row in zip(indices, costs, strict=True):
        below = (costs <= row).all(axis=1)
        equal = (costs == row).all(axis=1)
        if not (below & ~equal).any() and index == indices[equal].min():
            front.append(int(index))
    return sorted(front)


def pieces(study: Problem, cuts: Sequence[int], **options: object) -> list[Swept]:
    bounds = [0, *sorted(cuts), study.space.size]
    return [
        sweep(study, a, b, order="range", **options)  # type: ignore[arg-type]
        for a, b in itertools.pairwise(bounds)
    ]


@pytest.mark.parametrize("objective", GOALS)
def test_front_equals_the_definition(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = problem(objective)
    indices = np.arange(study.space.size)
    feasible, costs = allowed(study, indices)
    assert len(indices) > 3000
    expected = front_by_definition(feasible, costs)
    whole = sweep(study, 0, len(indices), order="range")
    assert whole.kept.tolist() == expected
    assert (whole.evaluated, whole.feasible) == (len(indices), len(feasible))
    broken = study.evaluator.evaluate(study.space.rows(indices)).broken
    assert whole.broken == tuple(
        int((broken >> b & 1).sum()) for b in range(len(study.evaluator.budgets))
    )
    monkeypatch.setattr(module, "_CHUNK", 700)
    assert sweep(study, 0, len(indices), order="range").kept.tolist() == expected
    assert sweep(study, 0, len(indices), order="sample").kept.tolist() == expected
    assert sweep_indices(study, indices[::-1]).kept.tolist() == expected


@pytest.mark.parametrize("objective", GOALS[:2])
def test_merged_pieces_are_the_whole_in_any_order(objective: str) -> None:
    study = problem(objective)
    whole = sweep(study, 0, study.space.size, order="range")
    rng = np.random.default_rng(1)
    for _ in range(3):
        found = pieces(study, rng.integers(0, study.space.size, 4).tolist())
        kept = [found[i].kept for i in rng.permutation(len(found))]
        assert merge(study, kept).tolist() == whole.kept.tolist()
        assert merge(study, [merge(study, kept[:2]), *kept]).tolist() == whole.kept.tolist()
        assert sum(s.feasible for s in found) == whole.feasible
        total = np.sum([s.broken for s in found], axis=0)
        assert tuple(total.tolist()) == whole.broken


@pytest.mark.parametrize("objective, keep", [(GOALS[0], 1), ("min lut", 5)])
def test_what_is_known_spares_work_and_changes_nothing(objective: str, keep: int) -> None:
    study = problem(objective)
    whole = sweep(study, 0, study.space.size, order="range", keep=keep)
    blind = pieces(study, [1000, 2500, 3300], keep=keep)
    for order in itertools.permutations(range(len(blind))):
        known, found = Known(study, keep), []
        bounds = [0, 1000, 2500, 3300, study.space.size]
        for i in order:
            a, b = bounds[i : i + 2]
            swept = sweep(study, a, b, order="range", keep=keep, known=known)
            assert set(swept.kept) <= set(blind[i].kept)
            assert (swept.feasible, swept.broken) == (blind[i].feasible, blind[i].broken)
            known.add(swept.kept)
            found.append(swept.kept)
        assert known.kept.tolist() == whole.kept.tolist()
        assert merge(study, found, keep=keep).tolist() == whole.kept.tolist()


@pytest.mark.parametrize("objective", ["min lut", "min uram s.t. lut <= 98303", "max ttft_s"])
@pytest.mark.parametrize("keep", [1, 7, 10**6])
def test_the_best_few_in_order(objective: str, keep: int) -> None:
    study = problem(objective)
    feasible, costs = allowed(study, np.arange(study.space.size))
    figures = study.evaluator.evaluate(study.space.rows(feasible)).columns
    ties = [figures[name].tolist() for name in study.evaluator.resources]
    expected = [row[-1] for row in sorted(zip(costs[:, 0], *ties, feasible, strict=True))][:keep]
    whole = sweep(study, 0, study.space.size, order="range", keep=keep)
    assert whole.kept.tolist() == expected
    assert sweep(study, 0, study.space.size, order="sample", keep=keep).kept.tolist() == expected
    found = pieces(study, [17, 1500, 1501], keep=keep)
    assert merge(study, [s.kept for s in reversed(found)], keep=keep).tolist() == expected


def test_values_that_are_no_numbers_never_win() -> None:
    study = problem("min ttft_s / (lut - lut)")
    swept = sweep(study, 0, study.space.size, order="range", keep=3)
    assert swept.feasible > 0
    assert len(swept.kept) == 0


def test_cores_do_not_matter() -> None:
    study = problem(DEFAULT_OBJECTIVE)
    whole = sweep(study, 0, study.space.size, order="range")
    cores = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert sweep(study, 0, study.space.size, order="range").kept.tolist() == whole.kept.tolist()
    finally:
        numba.set_num_threads(cores)


def test_samples_are_those_of_the_seed() -> None:
    study = problem("min lut, min ttft_s", seed=8)
    indices = study.space.sample(100, 900, 8)
    expected = front_by_definition(*allowed(study, indices))
    assert sweep(study, 100, 900, order="sample").kept.tolist() == expected


def test_tick_comes_after_every_chunk_and_can_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 100)
    study, seen = problem("min lut, min ttft_s"), []
    sweep(study, 50, 300, order="range", tick=seen.append)
    assert seen == [100, 200, 250]

    def stop(done: int) -> None:
        if done == 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(study, 0, 1000, order="range", tick=stop)


def test_nothing_to_sweep() -> None:
    study = problem(DEFAULT_OBJECTIVE)
    swept = sweep(study, 5, 5, order="range")
    assert (swept.evaluated, swept.feasible, len(swept.kept)) == (0, 0, 0)
    assert len(merge(study, [])) == 0


def test_bad_arguments() -> None:
    study = problem("min lut")
    size = study.space.size
    with pytest.raises(InputError, match=re.escape(f"3 to {size + 1} are not allowed: 0 to")):
        sweep(study, 3, size + 1, order="range")
    with pytest.raises(InputError, match=re.escape("keep = 0 is not allowed: at least 1")):
        sweep(study, 0, 1, order="range", keep=0)
