import dataclasses
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.search.store import Evaluation, UnitResult, open_store


def _unit(number, kept=(), **other):
    values = {"evaluated": 100, "feasible": 60, "broken": (3, 40), "seconds": 0.5, **other}
    return UnitResult(number=number, kept=np.array(kept, np.int64), **values)


def _point(index, unit=0, rung="analytic", **other):
    values = {
        "hash": f"{index:064x}",
        "feasible": True,
        "agrees": True,
        "figures": {"lut": 1.5 * index},
        **other,
    }
    return Evaluation(rung=rung, index=index, unit=unit, **values)


@pytest.fixture
def study(where, spec):
    with open_store(where, create=True) as store:
        yield store.create("s", spec)


# What is stored comes back.


def test_a_study_is_found_again_by_another_process_with_all_that_decides_it(where, spec):
    with open_store(where, create=True) as store:
        made = store.create("first", spec)
    with open_store(where) as store:
        found = store.open()
        assert (found.name, found.spec, found.created) == ("first", spec, made.created)
        assert found.created.endswith("+00:00")
        assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
        assert found.versions["numpy"] == np.__version__
        assert [(i.name, i.spec, i.units, i.evaluations) for i in store.studies()] == [
            ("first", spec, 0, 0)
        ]


def test_create_opens_an_equal_study_and_refuses_another(where, spec):
    with open_store(where, create=True) as store:
        store.create("s", spec).set_note("k", 1)
        assert store.create("s", spec).note("k") == 1
        with pytest.raises(InputError) as caught:
            store.create("s", dataclasses.replace(spec, seed=7))
    assert str(caught.value).endswith(
        "study s has another specification: seed = 7, not 0; take another name"
    )


def test_a_name_is_needed_where_there_are_several(where, spec):
    with open_store(where, create=True) as store:
        with pytest.raises(InputError, match="which study.*none yet"):
            store.open()
        store.create("a", spec)
        store.create("b", dataclasses.replace(spec, seed=1))
        assert store.open("b").spec.seed == 1
        with pytest.raises(InputError, match="which study.*one of: a, b"):
            store.open()
        with pytest.raises(InputError, match="no study 'c'; there is a, b"):
            store.open("c")
        for name in ("", " a", "a\n", "x" * 201):
            with pytest.raises(InputError, match="is not allowed: 1 to 200 printable"):
                store.create(name, spec)


@pytest.mark.parametrize(
    "kept",
    [
        [],
        [1 << 62],
        [5, 3, 4, 0],
        list(range(0, 700_000, 7)),
        np.random.default_rng(3).integers(0, 1 << 62, 1000).tolist(),
    ],
)
def test_units_come_back_bit_by_bit(study, kept):
    unit = _unit(1 << 62, kept, evaluated=1 << 62, feasible=0, broken=(1 << 62,), seconds=0.1)
    assert study.commit("analytic", 1 << 62, "me", unit)
    (found,) = study.units("analytic")
    assert found.kept.tolist() == list(kept)
    assert found.kept.dtype == np.int64
    assert (found.number, found.evaluated, found.feasible) == (1 << 62, 1 << 62, 0)
    assert (found.broken, found.seconds, found.owner) == ((1 << 62,), 0.1, "me")


def test_ascending_indices_take_little_room(tmp_path, spec):
    kept = np.sort(np.random.default_rng(0).choice(1 << 22, 100_000, replace=False))
    with open_store(str(tmp_path / "s.db"), create=True) as store:
        store.create("s", spec).commit("analytic", 0, "me", _unit(0, kept))
    assert (tmp_path / "s.db").stat().st_size < 200_000  # 800,000 bytes as they are


def test_evaluations_come_back_in_order_with_all_they_hold(study):
    full = _point(
        9,
        unit=1,
        rung="cycle",
        feasible=False,
        agrees=False,
        figures={"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1, "e": 1e-320, "f": 7},
        detail={"cycles": 12.0, "nan": math.nan, "text": "nan", "tool": 'a "b" \0 ü'},
        artefacts={"top.v": "ab" * 32},
        seconds=3.25,
        cached=True,
        owner="host:1",
    )
    assert study.commit("cycle", 1, "me", _unit(1), [full, _point(2, 1, "cycle")])
    assert study.commit("cycle", 0, "me", _unit(0), [_point(8, 0, "cycle")])
    assert study.commit("analytic", 0, "me", _unit(0), [_point(5), _point(1 << 62), _point(4)])
    found = study.evaluations()
    assert [(e.rung, e.index) for e in found] == [
        *(("analytic", i) for i in (5, 1 << 62, 4)),
        *(("cycle", i) for i in (8, 9, 2)),
    ]
    assert repr(found[4]) == repr(full).replace("'f': 7}", "'f': 7.0}")
    assert [e.index for e in study.evaluations("analytic")] == [5, 1 << 62, 4]


def test_units_after_a_number(study):
    for number in (2, 0, 5):
        study.commit("analytic", number, "me", _unit(number))
    study.claim("analytic", [7], "me")
    assert [u.number for u in study.units("analytic")] == [0, 2, 5]
    assert [u.number for u in study.units("analytic", after=2)] == [5]
    assert study.units("cycle") == []


def test_a_note_is_set_once(study):
    assert study.note("plan") is None
    assert study.set_note("plan", [1, 1 << 62]) == [1, 1 << 62]
    assert study.set_note("plan", [2]) == [1, 1 << 62]
    assert study.notes() == {"plan": [1, 1 << 62]}


def test_studies_of_one_database_do_not_touch_each_other(where, spec):
    with open_store(where, create=True) as store:
        a, b = store.create("a", spec), store.create("b", spec)
        assert a.claim("analytic", [0], "me") == b.claim("analytic", [0], "you") == [0]
        assert a.commit("analytic", 0, "me", _unit(0), [_point(1)])
        assert (b.units("analytic"), b.evaluations(), b.owners()) == ([], [], ["you"])
        assert b.commit("analytic", 0, "you", _unit(0), [_point(1)])


# Claims.


def test_claims_are_exclusive_and_units_are_committed_once(study):
    numbers = range(1 << 62)
    assert study.claim("analytic", numbers, "a", most=3) == [0, 1, 2]
    assert study.claim("analytic", numbers, "b", most=2) == [3, 4]
    assert study.claim("analytic", numbers, "a", most=9) == [0, 1, 2, *range(5, 11)]
    assert study.claim("cycle", [0], "b") == [0]
    assert study.claim("analytic", [1, 2], "b") == []
    assert study.commit("analytic", 1, "a", _unit(1), [_point(5, 1)])
    assert not study.commit("analytic", 1, "b", _unit(1, feasible=1), [_point(6, 1)])
    assert study.claim("analytic", [1], "a") == []
    assert [e.index for e in study.evaluations()] == [5]
    assert study.units("analytic")[0].feasible == 60


def test_claims_keep_the_order_of_preference_and_reach_beyond_many_done(study):
    study.commit_all("analytic", [(_unit(n), "a", ()) for n in range(3000)])
    assert study.claim("analytic", range(5000), "b", most=2) == [3000, 3001]
    assert study.claim("analytic", [4005, 10, 4001], "b", most=3) == [4005, 4001]


def test_a_lease_ends_is_renewed_and_given_back(study):
    assert study.claim("analytic", [0, 1], "a", lease_s=0.3, most=2) == [0, 1]
    study.renew("analytic", "a", 60)
    assert study.claim("cycle", [0], "a", lease_s=0.3) == [0]
    time.sleep(0.4)
    assert study.claim("analytic", [0, 1], "b", most=2) == []
    assert study.claim("cycle", [0], "b", lease_s=60) == [0]
    # The first owner has lost the unit; if it is done all the same, its work counts.
    assert study.claim("cycle", [0], "a") == []
    assert study.commit("cycle", 0, "a", _unit(0))
    assert not study.commit("cycle", 0, "b", _unit(0))
    assert study.owners() == ["a"]
    study.release("a")
    assert study.owners() == []
    assert study.claim("analytic", [0, 1], "b", most=2) == [0, 1]


def test_a_lease_that_a_wrong_clock_gave_does_not_last_for_ever(tmp_path, spec):
    path = tmp_path / "study.db"
    with open_store(str(path), create=True) as store:
        store.create("s", spec).claim("analytic", [0], "a")
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE headrace_units SET lease = 1e300")
    with open_store(str(path)) as store:
        assert store.open().claim("analytic", [0], "b") == [0]


def test_a_point_that_a_rung_has_keeps_its_first_evaluation(study):
    study.commit("analytic", 0, "a", _unit(0), [_point(5)])
    assert study.commit("analytic", 1, "a", _unit(1), [_point(5, 1, figures={}), _point(6, 1)])
    assert [(e.index, e.unit) for e in study.evaluations()] == [(5, 0), (6, 1)]


def test_a_commit_that_fails_leaves_nothing(study):
    bad = _point(7, seconds=-1.0)
    with pytest.raises(ValueError, match="not a time"):
        study.commit("analytic", 0, "a", _unit(0), [_point(6), bad])
    with pytest.raises(ValueError, match="does not match"):
        study.commit("analytic", 0, "a", _unit(0), [_point(6, unit=1)])
    assert (study.units("analytic"), study.evaluations()) == ([], [])
    assert study.commit("analytic", 0, "a", _unit(0), [_point(6)])


def test_threads_share_a_study(study):
    def work(name):
        while claimed := study.claim("analytic", range(60), name, most=2):
            for number in claimed:
                assert study.commit("analytic", number, name, _unit(number))
                study.renew("analytic", name)

    threads = [threading.Thread(target=work, args=[f"t{i}"]) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [u.number for u in study.units("analytic")] == list(range(60))


# Several processes.

_WORKER = """
import os, signal, sys, time
import numpy as np
from headrace.search.store import Evaluation, UnitResult, open_store

def say(words):
    os.write(1, f"{words}\\n".encode())  # whole lines, whoever else writes

def work(where, name, units, points, most, lease_s):
    total = started = 0
    with open_store(where) as store:
        study = store.open()
        while True:
            taken = study.claim("analytic", range(units), name, lease_s, most)
            if not started:
                say("work")
            started = 1
            if not taken and len(study.units("analytic")) == units:
                break
            for n in taken:
                kept = np.arange(n, n + 200) * 3
                unit = UnitResult(number=n, evaluated=points, feasible=n % points, broken=(n,),
                                  kept=kept, seconds=0.0)
                rows = [Evaluation(rung="analytic", index=n * points + i, hash="ab", feasible=True,
                                   agrees=True, figures={"lut": n + i / 64}, unit=n, owner=name)
                        for i in range(points)]
                total += study.commit("analytic", n, name, unit, rows)
            if not taken:
                time.sleep(0.01)
    say(f"total {name} {total}")

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    where, name, *numbers = line.rstrip().split("|")
    pid = os.fork()
    if pid == 0:
        work(where, name, *(int(n) for n in numbers[:3]), float(numbers[3]))
        os._exit(0)
    say(f"pid {pid}")
"""


class _Nursery:
    """A process that has everything loaded and forks workers."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def start(self, where, name, units, points, most=4, lease_s=60.0):
        self.process.stdin.write(f"{where}|{name}|{units}|{points}|{most}|{lease_s}\n")
        self.process.stdin.flush()

    def wait(self, **counts):
        """Read until every kind of line has come as often as given; return them by kind."""
        said = {kind: [] for kind in counts}
        while any(len(said[kind]) < count for kind, count in counts.items()):
            kind, *words = self.process.stdout.readline().split()
            said.setdefault(kind, []).append(words)
        return said


@pytest.fixture
def nursery():
    nursery = _Nursery()
    yield nursery
    nursery.process.stdin.close()
    nursery.process.stdout.read()
    nursery.process.wait(60)


def _check_whole(study, units, points):
    """Check that all units that are there are whole, each once; return how many."""
    done = study.units("analytic")
    assert len({u.number for u in done}) == len(done)
    found = {}
    for e in study.evaluations("analytic"):
        assert e.figures == {"lut": e.unit + (e.index - e.unit * points) / 64}
        found.setdefault(e.unit, []).append(e.index - e.unit * points)
    assert set(found) == {u.number for u in done}
    for u in done:
        assert 0 <= u.number < units
        assert found[u.number] == list(range(points))
        assert (u.evaluated, u.feasible, u.broken) == (points, u.number % points, (u.number,))
        assert u.kept.tolist() == list(range(3 * u.number, 3 * u.number + 600, 3))
    return len(done)


@pytest.mark.parametrize("units", [800, pytest.param(5000, marks=pytest.mark.slow)])
def test_processes_commit_each_unit_once_and_lose_none(where, spec, nursery, units):
    points, workers = 2, 4
    with open_store(where, create=True) as store:
        study = store.create("s", spec)
        for i in range(workers):
            nursery.start(where, f"w{i}", units, points, most=8)
        totals = nursery.wait(total=workers)["total"]
        assert sum(int(count) for _, count in totals) == units
        assert _check_whole(study, units, points) == units
        owners = {u.number: u.owner for u in study.units("analytic")}
        assert all(e.owner == owners[e.unit] for e in study.evaluations())


@pytest.mark.parametrize("rounds", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_processes_leave_whole_units(where, spec, nursery, rounds):
    chance = random.Random(rounds)
    units, points = 40 * rounds, 20
    with open_store(where, create=True) as store:
        store.create("s", spec)
    seen = met = 0
    for round_ in range(rounds):
        for i in range(2):
            nursery.start(where, f"{round_}.{i}", units, points, lease_s=0.2)
        pids = nursery.wait(pid=2, work=2)["pid"]
        time.sleep(0.15 * chance.random())
        for pid in (int(words[0]) for words in pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                met += 1
        if "://" not in where:
            with closing(sqlite3.connect(where)) as raw:
                assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with open_store(where) as store:
            count = _check_whole(store.open(), units, points)
            assert count >= seen
            seen = count
    assert seen
    assert met
    nursery.start(where, "last", units, points, lease_s=0.2)
    totals = dict(nursery.wait(total=1, work=1)["total"])
    while "last" not in totals:
        totals |= dict(nursery.wait(total=1)["total"])
    assert int(totals["last"]) == units - seen
    with open_store(where) as store:
        assert _check_whole(store.open(), units, points) == units


def test_figures_are_strict_json(tmp_path, spec):
    path = tmp_path / "study.db"
    with open_store(str(path), create=True) as store:
        point = _point(0, figures={"a": math.nan, "b": -math.inf, "c": 2.0})
        store.create("s", spec).commit("analytic", 0, "a", _unit(0), [point])
    (text,) = sqlite3.connect(path).execute("SELECT figures FROM headrace_evaluations").fetchone()
    strict = json.loads(text, parse_constant=pytest.fail)
    assert strict == {"a": {"float": "nan"}, "b": {"float": "-inf"}, "c": 2.0}
