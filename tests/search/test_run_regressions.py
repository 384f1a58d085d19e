"""What reviews have found in the driver: each once broken, each to stay mended."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from headrace.arch.design import load_design
from headrace.arch.device import load_device
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search import run as run_module
from headrace.search.explore import conduct, specify
from headrace.search.outcome import outcome
from headrace.search.problem import Problem
from headrace.search.run import owner_name, run
from headrace.search.store import Evaluation, UnitResult, open_store
from headrace.search.sweep import sweep
from headrace.search.transfer import merge
from headrace.sim.workload import Workload


def problem(**options):
    spec = specify(
        load_design("tellme"),
        load_device("kv260"),
        load_network("bitnet-b1.58-large"),
        Workload(),
        **{"objective": "min ttft_s, min lut", "samples": 100, **options},
    )
    return Problem(spec)


def ladder(**options):
    return problem(fidelities=("analytic", "cycle"), budgets={"cycle": 2}, **options)


@pytest.mark.parametrize("objective", ["min ttft_s", "min ttft_s, min lut"])
def test_a_rung_that_refuses_all_points_leaves_no_best(objective):
    study_problem = ladder(strategy="two-stage", objective=objective)
    with open_store("sqlite://", create=True) as store:
        study = store.create("study", study_problem.spec)
        found = conduct(study, study_problem, workers=0)
        assert found.choice is not None
        refused = store.create("refused", study_problem.spec)
        for unit in study.units("analytic"):
            mine = [e for e in study.evaluations("analytic") if e.unit == unit.number]
            refused.commit("analytic", unit.number, "", unit, mine)
        for e, unit in zip(study.evaluations("cycle"), study.units("cycle"), strict=True):
            bad = Evaluation(**{**vars(e), "feasible": False})
            refused.commit("cycle", unit.number, "", unit, [bad])
        again = outcome(refused, study_problem)
        assert again.best == found.best
        assert again.choice is None


@pytest.mark.parametrize("more", ["", ", min lut"])
@pytest.mark.parametrize("strategy", ["two-stage", "random"])
def test_an_objective_that_is_no_number_anywhere_has_no_best(strategy, more):
    study_problem = ladder(strategy=strategy, objective="min ttft_s / (lut - lut)" + more)
    with open_store("sqlite://", create=True) as store:
        found = conduct(store.create("study", study_problem.spec), study_problem, workers=0)
    assert (len(found.pareto), found.best, found.choice) == (0, None, None)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError("none")])
def test_a_failing_machine_is_not_a_result(error, monkeypatch):
    def fail(*args):
        raise error

    study_problem = ladder(strategy="random")
    with open_store("sqlite://", create=True) as store:
        study = store.create("study", study_problem.spec)
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "measure_point", fail)
            with pytest.raises(InputError, match="cycle rung: .*resume when this is mended"):
                run(study, study_problem, workers=0)
        assert study.units("cycle") == []
        assert study.note("finished") is None
        run(study, study_problem, workers=0)
        assert all(e.agrees for e in study.evaluations("cycle"))


def test_a_failing_point_is_a_result(monkeypatch):
    def fail(*args):
        raise RuntimeError("three workers died")

    study_problem = ladder(strategy="random")
    with open_store("sqlite://", create=True) as store:
        study = store.create("study", study_problem.spec)
        monkeypatch.setattr(run_module, "measure_point", fail)
        run(study, study_problem, workers=0)
        details = [e.detail["error"] for e in study.evaluations("cycle")]
        assert details == ["RuntimeError: three workers died"] * 2
        assert outcome(study, study_problem).choice is None


def test_what_a_process_holds_that_dies_meanwhile_is_taken_over(tmp_path):
    study_problem = ladder(strategy="random")
    peer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host = owner_name().split("/")[0]
    began = run_module.psutil.Process(peer.pid).create_time()
    with open_store(str(tmp_path / "study.db"), create=True) as store:
        study = store.create("study", study_problem.spec)
        owner = f"{host}/{peer.pid}/{began:.2f}"
        assert study.claim("cycle", [0], owner, lease_s=3600) == [0]
        waits = []

        def tick(what, done, total):
            if what == "cycle rung" and done == 1:  # the other one is all that is left
                assert study.owners() == [owner]
                os.kill(peer.pid, signal.SIGKILL)
                peer.wait()
                waits.append(time.monotonic())

        run(study, study_problem, workers=0, progress=tick)
        assert len(waits) == 1
        assert time.monotonic() - waits[0] < 60
        assert len(study.units("cycle")) == 2


def test_sweeps_in_another_order_merge(tmp_path):
    study_problem = problem(strategy="random", samples=2_200_000)
    with (
        open_store(str(tmp_path / "a.db"), create=True) as a,
        open_store(str(tmp_path / "b.db"), create=True) as b,
    ):
        studies = [store.create("study", study_problem.spec) for store in (a, b)]
        run(studies[0], study_problem, workers=0)
        # The same units, none of which knows of another: they keep more.
        for unit in studies[0].units("analytic"):
            start = sum(u.evaluated for u in studies[0].units("analytic") if u.number < unit.number)
            alone = sweep(study_problem, start, start + unit.evaluated, order="sample")
            result = UnitResult(
                number=unit.number, evaluated=alone.evaluated, feasible=alone.feasible,
                broken=alone.broken, kept=alone.kept, seconds=0.0, owner="b",
            )  # fmt: skip
            studies[1].commit("analytic", unit.number, "b", result)
        kept = [[u.kept.tolist() for u in s.units("analytic")] for s in studies]
        assert kept[0] != kept[1]
        expected = [c.hash for c in outcome(studies[0], study_problem).pareto]
        assert [c.hash for c in outcome(studies[1], study_problem).pareto] == expected
        assert merge(studies[1], a).conflicts == 0


@pytest.mark.parametrize("samples", [100, 10_000])
def test_climbing_counts_no_point_twice_among_neighbours(samples):
    free = ("tables", "copies")
    design = load_design("tellme")
    fixed = {a.name: (a.default,) for a in design.axes if a.name not in free}
    fixed |= {"weight_layout": ("exact",), "block_gap_cycles": (0, 119)}
    study_problem = problem(strategy="climb", samples=samples, fixed=fixed, objective="min ttft_s")
    size = study_problem.space.size
    with open_store("sqlite://", create=True) as store:
        found = conduct(store.create("study", study_problem.spec), study_problem)
    # Of samples, neighbours are evaluated again; among themselves they are not.
    if samples < size:
        assert samples < found.evaluated <= samples + size
        return
    assert found.evaluated == size
    whole = problem(strategy="exhaustive", fixed=fixed, objective="min ttft_s")
    with open_store("sqlite://", create=True) as store:
        assert conduct(store.create("study", whole.spec), whole).best == found.best


def test_units_beyond_the_plan_do_not_finish_a_rung():
    study_problem = ladder(strategy="random")
    with open_store("sqlite://", create=True) as store:
        study = store.create("study", study_problem.spec)
        for number in (900, 901):
            unit = UnitResult(
                number=number, evaluated=1, feasible=1, broken=(), kept=np.array([number]),
                seconds=0.0, owner="x",
            )  # fmt: skip
            study.commit("cycle", number, "x", unit)
        run(study, study_problem, workers=0)
        assert len(study.evaluations("cycle")) == 2


def test_a_plan_names_no_point_twice():
    study_problem = ladder(strategy="random")
    with open_store("sqlite://", create=True) as store:
        study = store.create("study", study_problem.spec)
        study.set_note("plan/cycle", [1, 1])
        with pytest.raises(InputError, match="plan of rung cycle is damaged"):
            run(study, study_problem, workers=0)
