"""Studies: stopped, killed, shared, and equal to one that was left in peace."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from headrace.arch.design import load_design
from headrace.arch.device import load_device
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search.bulk import BULK
from headrace.search.explore import conduct, explore, specify
from headrace.search.problem import Problem
from headrace.search.run import candidates, owner_name, run
from headrace.search.spec import Spec
from headrace.search.store import Study, open_store
from headrace.sim.workload import Workload

TELLME = load_design("tellme")
KV260 = load_device("kv260")
NETWORK = load_network("bitnet-b1.58-large")
FIXED = {
    "clock_mhz": (250,),
    "lookup_method": ("half",),
    "activation_lanes": (1, 8),
    "prefill_order": ("reversed",),
    "max_context": (2048,),
    "accumulator_bits": (16, 20),
    "weight_words": (1024,),
}
GOAL = "max decode_tok_per_s, min ttft_s, min lut"


def spec(**options: Any) -> Spec:
    options = {"objective": GOAL, "fixed": FIXED, "seed": 3, **options}
    return specify(TELLME, KV260, NETWORK, Workload(), **options)


def record(study: Study, rungs: tuple[str, ...]) -> list[Any]:
    """Return everything on record that does not depend on who worked when.

    Units of a sweep keep what nothing known by then beats, so it is all of them together that is
    the same.
    """
    problem = Problem(study.spec)
    indices, costs = candidates(study, problem, rungs[0])
    return [
        (indices.tolist(), costs.tolist()),
        *(_rung_record(study, rung, study.spec.strategy in BULK) for rung in rungs),
    ]


def _rung_record(study: Study, r: str, bulk: bool) -> list[Any]:
    return [
        [
            (u.number, u.evaluated, u.feasible, u.broken, None if bulk else u.kept.tolist())
            for u in study.units(r)
        ],
        [
            (e.index, e.hash, e.unit, e.feasible, e.agrees, repr(sorted(e.figures.items())))
            for e in study.evaluations(r)
        ],
        study.note(f"plan/{r}"),
    ]


SEQUENTIAL = [
    {"strategy": "two-stage", "samples": 200},
    {"strategy": "nsga2", "samples": 150},
    {"strategy": "tpe", "samples": 24},
]
SWEPT = [
    {"strategy": "random", "samples": 2_200_000},
    {"strategy": "climb", "samples": 20_000},
]


@pytest.fixture(params=[*SEQUENTIAL, *SWEPT], ids=lambda o: o["strategy"])
def options(request: Any) -> dict[str, Any]:
    return request.param  # type: ignore[no-any-return]


class Stop(Exception):
    pass


def test_a_study_that_is_stopped_again_and_again_equals_one_in_peace(options, tmp_path):
    chosen = spec(**options, fidelities=("analytic", "cycle"), budgets={"cycle": 5})
    problem = Problem(chosen)
    with open_store("sqlite://", create=True) as store:
        peace = store.create("study", chosen)
        run(peace, problem, workers=0)
        expected = record(peace, chosen.fidelities)
    stops = 0
    for ticks in [1, 1, 2, 3, 4, 5, 6, *[12] * 100]:
        left = ticks

        def tick(what: str, done: int, total: int) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Stop

        with open_store(str(tmp_path / "study.db"), create=True) as store:
            study = store.create("study", chosen)
            try:
                run(study, problem, workers=0, progress=tick)
                break
            except Stop:
                stops += 1
    assert stops >= 3
    with open_store(str(tmp_path / "study.db")) as store:
        assert record(store.open(), chosen.fidelities) == expected


def test_nothing_is_evaluated_twice_on_resume(tmp_path, monkeypatch):
    """A finished study asks the evaluator for its front alone."""
    chosen = spec(strategy="nsga2", samples=200)
    with open_store(str(tmp_path / "study.db"), create=True) as store:
        found = conduct(store.create("study", chosen), Problem(chosen))
        assert found.worked == found.evaluated
        problem = Problem(chosen)
        rows: list[int] = []
        evaluate = problem.evaluator.evaluate
        monkeypatch.setattr(
            problem.evaluator, "evaluate", lambda r: (rows.append(len(r)), evaluate(r))[1]
        )
        run(store.open(), problem)
        assert rows == []


def test_the_ladder_is_climbed_by_workers_as_by_one_process(tmp_path):
    chosen = spec(
        strategy="climb", samples=5000, fidelities=("analytic", "cycle"), budgets={"cycle": 8}
    )
    problem = Problem(chosen)
    outcomes = []
    for workers in (0, 2):
        with open_store("sqlite://", create=True) as store:
            study = store.create("study", chosen)
            found = conduct(study, problem, workers=workers)
            outcomes.append((record(study, chosen.fidelities), found.rungs[0].changes))
            (rung,) = found.rungs
            assert len(rung.evaluations) == 8
            assert rung.best is not None
            # Analytic and cycle are held to each other within 1 %.
            assert all(abs(c.largest) < 0.01 for c in rung.changes)
            assert {c.objective for c in rung.changes} == set(GOAL.split(", "))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("strategy", ["random", "two-stage"])
def test_of_equally_fast_points_the_smaller_ones_climb(strategy):
    chosen = spec(
        strategy=strategy,
        samples=400,
        objective="min weight_bytes",
        fidelities=("analytic", "cycle"),
        budgets={"cycle": 4},
    )
    problem = Problem(chosen)
    with open_store("sqlite://", create=True) as store:
        study = store.create("study", chosen)
        conduct(study, problem, workers=0)
        plan = study.note("plan/cycle")
        if strategy == "random":
            drawn = problem.space.sample(0, 400, chosen.seed)
        else:
            drawn = np.array([e.index for e in study.evaluations("analytic")])
    batch = problem.evaluator.evaluate(problem.space.rows(drawn))
    names = ("weight_bytes", *problem.evaluator.resources)
    expected = sorted(
        (*(float(batch.columns[n][i]) for n in names), int(drawn[i]))
        for i in np.flatnonzero(batch.broken == 0)
    )
    assert plan == [row[-1] for row in expected[:4]]
    assert expected[0][0] == expected[1][0], "the best are to be equal in the objective"


def test_explore_without_a_study_is_the_same_search(tmp_path):
    options: dict[str, Any] = {"strategy": "climb", "samples": 5000}
    free = explore(
        TELLME, KV260, NETWORK, Workload(), objective=GOAL, fixed=FIXED, seed=3, **options
    )
    chosen = spec(**options)
    with open_store(str(tmp_path / "study.db"), create=True) as store:
        kept = conduct(store.create("study", chosen), Problem(chosen))
    assert [c.hash for c in free.pareto] == [c.hash for c in kept.pareto]
    assert free.best == kept.best
    assert (free.evaluated, free.feasible, free.broken) == (
        kept.evaluated,
        kept.feasible,
        kept.broken,
    )


_WORKER = """
import sys
from headrace.search.problem import Problem
from headrace.search.run import run
from headrace.search.store import open_store
with open_store(sys.argv[1]) as store:
    study = store.open()
    problem = Problem(study.spec)
    problem.evaluator
    print("begun", flush=True)
    run(study, problem, workers=0)
    print("done", flush=True)
"""


def worker(path: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(path)], stdout=subprocess.PIPE, text=True
    )


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def in_peace(chosen: Spec, path: Any) -> tuple[list[Any], float]:
    """Carry out a study in one process; return its record and the seconds it took."""
    with open_store(str(path), create=True) as store:
        store.create("study", chosen)
    process = worker(path)
    assert line(process) == "begun"
    start = time.monotonic()
    assert line(process) == "done"
    seconds = time.monotonic() - start
    assert process.wait() == 0
    with open_store(str(path)) as store:
        return record(store.open(), chosen.fidelities), seconds


KILLED = [
    {"strategy": "two-stage", "samples": 12_000},
    {"strategy": "nsga2", "samples": 1_500},
    {"strategy": "random", "samples": 100_000_000},
]


def survive(chosen: Spec, kills: int, seed: int, folder: Any) -> None:
    expected, seconds = in_peace(chosen, folder / "peace.db")
    generator = np.random.default_rng(seed)
    path = folder / "killed.db"
    with open_store(str(path), create=True) as store:
        store.create("study", chosen)
    done = 0
    while done < kills:
        process = worker(path)
        assert line(process) == "begun"
        time.sleep(generator.uniform(0, 1.4 * seconds / kills))
        assert process.poll() is None, f"finished after {done} kills"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
    process = worker(path)
    assert [line(process), line(process)] == ["begun", "done"]
    assert process.wait() == 0
    with open_store(str(path)) as store:
        assert record(store.open(), chosen.fidelities) == expected


@pytest.mark.parametrize("options", KILLED[:1], ids=lambda o: o["strategy"])
def test_kills_leave_no_trace(options, tmp_path):
    ladder: dict[str, Any] = {"fidelities": ("analytic", "cycle"), "budgets": {"cycle": 16}}
    options = {**options, "samples": 4000}
    survive(spec(**options, **ladder), kills=3, seed=1, folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("options", KILLED, ids=lambda o: o["strategy"])
def test_twenty_kills_leave_no_trace(options, tmp_path):
    ladder: dict[str, Any] = {"fidelities": ("analytic", "cycle"), "budgets": {"cycle": 300}}
    survive(spec(**options, **ladder), kills=20, seed=2, folder=tmp_path)


@pytest.mark.parametrize("options", [KILLED[1], {"strategy": "random", "samples": 6_000_000}])
def test_two_processes_share_a_study(options, tmp_path):
    chosen = spec(**options, fidelities=("analytic", "cycle"), budgets={"cycle": 30})
    expected, _ = in_peace(chosen, tmp_path / "peace.db")
    path = tmp_path / "shared.db"
    with open_store(str(path), create=True) as store:
        store.create("study", chosen)
    both = [worker(path), worker(path)]
    for process in both:
        assert [line(process), line(process)] == ["begun", "done"]
        assert process.wait() == 0
    with open_store(str(path)) as store:
        study = store.open()
        assert record(study, chosen.fidelities) == expected
        owners = {u.owner for r in chosen.fidelities for u in study.units(r)}
        assert len(owners) == 2


def test_what_a_dead_process_held_is_free_at_once(tmp_path):
    chosen = spec(strategy="random", samples=1000)
    host, number, _ = owner_name().split("/")
    with open_store(str(tmp_path / "study.db"), create=True) as store:
        study = store.create("study", chosen)
        assert study.claim("analytic", [0], f"{host}/{number}/0.00", lease_s=3600) == [0]
        start = time.monotonic()
        run(study, Problem(chosen), workers=0)
        assert time.monotonic() - start < 60
        assert len(study.units("analytic")) == 1


def test_a_living_process_keeps_what_it_holds(tmp_path):
    chosen = spec(strategy="random", samples=1000)
    with open_store(str(tmp_path / "study.db"), create=True) as store:
        study = store.create("study", chosen)
        assert study.claim("analytic", [0], "elsewhere/1/1.00", lease_s=3600) == [0]

        def tick(what: str, done: int, total: int) -> Iterator[None]:
            nonlocal ticks
            ticks += 1
            if ticks == 3:
                raise Stop
            return iter(())

        ticks = 0
        with pytest.raises(Stop):
            run(study, Problem(chosen), workers=0, progress=tick)  # type: ignore[arg-type]
        assert study.units("analytic") == []


def test_a_damaged_plan_is_refused(tmp_path):
    chosen = spec(
        strategy="random", samples=1000, fidelities=("analytic", "cycle"), budgets={"cycle": 2}
    )
    with open_store("sqlite://", create=True) as store:
        study = store.create("study", chosen)
        study.set_note("plan/cycle", [1, "x"])
        with pytest.raises(InputError, match="plan of rung cycle is damaged"):
            run(study, Problem(chosen), workers=0)


def test_a_specification_survives_its_text():
    chosen = spec(strategy="nsga2", fidelities=("analytic", "rtl"), budgets={"rtl": 3})
    again = Spec.from_json(chosen.to_json(), "here")
    assert again == chosen
    assert again.hash == chosen.hash


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": -1}, "seed = -1 is not allowed"),
        ({"seed": "1"}, "seed is no int"),
        ({"samples": True}, "samples is no int"),
        ({"strategy": "magic"}, "strategy 'magic' is not allowed"),
        ({"fidelities": ["rtl"]}, "fidelity rtl is not allowed"),
        ({"budgets": {"rtl": 1}}, "budget for rtl is not allowed"),
        ({"workload": {"prompt_tokens": 0}}, "prompt_tokens = 0"),
        ({"workload": {"tokens": 1}}, "damaged"),
        ({"fixed": 3}, "damaged"),
        ({"extra": 3}, "damaged"),
    ],
)
def test_a_damaged_specification_is_refused_in_one_line(change, message):
    raw = {**json.loads(spec().to_json()), **change}
    with pytest.raises(InputError, match=message) as caught:
        Spec.from_json(json.dumps(raw), "file.db")
    assert str(caught.value).startswith("file.db: ")
    assert "\n" not in str(caught.value)
