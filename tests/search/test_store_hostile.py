"""A study database is opened as if a stranger had sent it, on disks that fill up and vanish."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.search.store import Evaluation, UnitResult, database, open_store


def _unit(number, kept):
    kept = np.asarray(kept, np.int64)
    return UnitResult(number=number, evaluated=9, feasible=5, broken=(4,), kept=kept, seconds=1.0)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Return the path of a study with something of everything in it."""
    from headrace.search.spec import Spec
    from headrace.sim.workload import Workload

    path = tmp_path_factory.mktemp("original") / "study.db"
    spec = Spec(
        design="tellme", device="kv260", network="tiny-bitnet", network_hash="0" * 64,
        workload=Workload(), objective="min lut", strategy="random", samples=9,
    )  # fmt: skip
    with open_store(str(path), create=True) as store:
        study = store.create("s", spec)
        for number in range(3):
            points = [
                Evaluation(
                    rung="analytic", index=number * 50 + i, hash="ab", feasible=True, agrees=True,
                    figures={"lut": 1.0}, detail={"a": "b"}, artefacts={"c": "d"}, unit=number,
                )
                for i in range(50)
            ]  # fmt: skip
            study.commit("analytic", number, "me", _unit(number, range(2000)), points)
        study.set_note("plan", [1, 2])
    return path


@pytest.fixture
def path(original, tmp_path):
    return shutil.copy(original, tmp_path / "study.db")


def _use(where, **options):
    """Read and write all that a study offers."""
    with open_store(str(where), **options) as store:
        store.studies()
        study = store.open("s")
        study.units("analytic")
        study.evaluations()
        study.notes()
        study.owners()
        claimed = study.claim("analytic", range(100), "you")
        study.commit("analytic", claimed[0], "you", _unit(claimed[0], [1]))
        study.renew("analytic", "you")
        study.release("you")


def _refused(where, **options):
    with pytest.raises(InputError) as caught:
        _use(where, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(where) in message
    return message


def test_the_copy_is_good(path):
    _use(path)


def test_closing_leaves_one_file(path):
    with open_store(str(path)) as store:
        store.open().claim("analytic", [7], "me")
        assert (path.parent / "study.db-wal").exists()
    assert [p.name for p in path.parent.iterdir()] == ["study.db"]


_KILLED = """
import os, sys
from headrace.search.store import open_store
store = open_store(sys.argv[1])
assert store.open().claim("analytic", [7], "killed") == [7]
os.kill(os.getpid(), 9)
"""


def test_what_a_kill_leaves_is_tidied_by_the_next_even_if_it_only_reads(path):
    subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False, timeout=60)
    assert (path.parent / "study.db-wal").exists()
    with open_store(str(path)) as store:
        assert store.open().owners() == ["killed"]
    assert [p.name for p in path.parent.iterdir()] == ["study.db"]
    with open_store(f"sqlite:///{path}?mode=ro") as store:
        assert store.open().owners() == ["killed"]


# Things that are no study database.


def test_places_that_cannot_be_a_database(tmp_path):
    assert "no such file" in _refused(tmp_path / "none.db")
    assert "there is no folder" in _refused(tmp_path / "none" / "study.db", create=True)
    assert not (tmp_path / "none").exists()
    assert "it is a folder" in _refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in _refused(tmp_path / "pipe", create=True)
    (tmp_path / "empty.db").touch()
    assert "it is empty" in _refused(tmp_path / "empty.db")
    (tmp_path / "text.db").write_text("point = 3\n" * 1000)
    assert "not a SQLite database" in _refused(tmp_path / "text.db", create=True)
    (tmp_path / "text.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
    assert "damaged" in _refused(tmp_path / "text.db") or "not a SQLite database" in _refused(
        tmp_path / "text.db"
    )


@pytest.mark.parametrize("where", ["", "a\nb", "mysql://h/d", "sqlite:///a?x=1", "://", "a://["])
def test_names_that_are_no_place(where):
    with pytest.raises(InputError) as caught:
        open_store(where, create=True)
    assert "\n" not in str(caught.value)


def test_an_empty_file_becomes_a_database_when_asked(tmp_path):
    (tmp_path / "study.db").touch()  # what a kill leaves before the first transaction
    with open_store(str(tmp_path / "study.db"), create=True) as store:
        assert store.studies() == []


def test_the_database_of_another_application_stays_as_it_is(tmp_path):
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE photos (name TEXT)")
        raw.execute("PRAGMA journal_mode=WAL")
    before = path.read_bytes()
    assert "belongs to another application" in _refused(path, create=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change, reason",
    [
        ("UPDATE headrace_meta SET value = '2' WHERE key = 'schema'", "newer headrace"),
        ("UPDATE headrace_meta SET value = 'x' WHERE key = 'schema'", "damaged"),
        ("DELETE FROM headrace_meta", "another application"),
        ("DROP TABLE headrace_notes", "headrace_notes is missing"),
        ("CREATE TABLE extra (a)", "'extra', which headrace did not write"),
        ("CREATE VIEW v AS SELECT 1", "'v', which headrace did not write"),
        (
            "CREATE TRIGGER t AFTER UPDATE ON headrace_units BEGIN DELETE FROM headrace_units; END",
            "'t', which headrace did not write",
        ),
        ("ALTER TABLE headrace_units RENAME COLUMN kept TO keep", "damaged"),
    ],
)
def test_a_schema_that_is_not_ours(path, change, reason):
    with sqlite3.connect(path) as raw:
        raw.execute(change)
    assert reason in _refused(path)


def test_a_view_in_the_place_of_a_table_is_never_run(path):
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE headrace_meta")
        raw.execute(
            "CREATE VIEW headrace_meta AS WITH RECURSIVE n(key, value) AS "
            "(SELECT 1, 1 UNION ALL SELECT key + 1, 1 FROM n) SELECT key, value FROM n"
        )
    assert "which headrace did not write" in _refused(path)  # the query would not end


_DAMAGE = [
    ("studies", "spec", "{}"),
    ("studies", "spec", "[" * 100_000),
    ("studies", "versions", "3"),
    ("units", "kept", b"abc"),
    ("units", "kept", None),
    ("units", "kept", "text"),
    ("units", "kept_count", 1999),
    ("units", "kept_count", 1 << 50),
    ("units", "kept_count", -1),
    ("units", "evaluated", -1),
    ("units", "evaluated", 1.5),
    ("units", "feasible", (1 << 63) - 1),
    ("units", "broken", "[NaN]"),
    ("units", "broken", "[-1]"),
    ("units", "broken", '{"a": 1}'),
    ("units", "seconds", "soon"),
    ("units", "seconds", float("inf")),
    ("units", "owner", b"\xff"),
    ("units", "owner", "x" * 5000),
    ("units", "number", "three"),
    ("evaluations", "figures", "[]"),
    ("evaluations", "figures", '{"lut": "many"}'),
    ("evaluations", "figures", '{"lut": {"float": "1"}}'),
    ("evaluations", "figures", '{"lut": NaN}'),
    ("evaluations", "detail", '{"a": [1]}'),
    ("evaluations", "artefacts", '{"a": 1}'),
    ("evaluations", "artefacts", "[" * 100_000),
    ("evaluations", "point", -1),
    ("evaluations", "unit", "one"),
    ("evaluations", "place", "first"),
    ("evaluations", "hash", b"\xff"),
    ("evaluations", "seconds", -1.0),
    ("notes", "value", "{"),
    ("notes", "value", b"\xff\xfe"),
]


@pytest.mark.parametrize("table, column, value", _DAMAGE)
def test_damaged_rows(path, table, column, value):
    with sqlite3.connect(path) as raw:
        row = raw.execute(f"SELECT max(rowid) FROM headrace_{table}").fetchone()
        raw.execute(f"UPDATE headrace_{table} SET {column} = ? WHERE rowid = ?", (value, *row))
    if column == "place":  # only the order depends on it
        _use(path)
    else:
        _refused(path)


def test_a_blob_that_unfolds_to_gigabytes_is_not_unfolded(path):
    import zlib

    bomb = zlib.compress(bytes(1 << 26), 9)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE headrace_units SET kept = ? WHERE number = 0", (bomb,))
    assert "unit 0 is damaged: not 2000 indices" in _refused(path)


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_never_surprises(original, tmp_path, seed):
    chance = random.Random(seed)
    raw = original.read_bytes()
    refused = 0
    for trial in range(25):
        bad = bytearray(raw)
        for _ in range(chance.choice((1, 8, 200))):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        if chance.random() < 0.4:
            del bad[chance.randrange(1, len(bad)) :]
        path = tmp_path / f"{trial}.db"
        path.write_bytes(bad)
        try:
            _use(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
            assert str(path) in str(error)
    assert refused > 5


# Disks and locks.


def test_a_database_for_reading_only(path):
    where = f"sqlite:///{path}?mode=ro"
    with open_store(where) as store:
        study = store.open()
        assert len(study.units("analytic")) == 3
        with pytest.raises(InputError, match="read-only"):
            study.claim("analytic", [7], "me")
    assert [p.name for p in path.parent.iterdir()] == ["study.db"]


@pytest.fixture
def mount(tmp_path):
    """Return a function that mounts a small file system in memory, where that is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def attach(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() or not shutil.which("mount") or subprocess.run(command).returncode:
            pytest.skip("mounting a file system is not permitted here")
        return folder

    yield attach
    subprocess.run(["umount", "-l", str(folder)], check=False, stderr=subprocess.DEVNULL)


def test_a_read_only_disk(original, mount):
    folder = mount("size=4m")
    shutil.copy(original, folder / "study.db")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with open_store(str(folder / "study.db")) as store:
        assert len(store.open().units("analytic")) == 3
    assert "read-only" in _refused(folder / "study.db")
    assert "cannot be opened" in _refused(folder / "new.db", create=True)


def _fill(study, most=1000):
    """Commit large units until one fails; return how many were stored and the message."""
    chance = np.random.default_rng(0)
    for number in range(10, most):
        kept = chance.integers(0, 1 << 62, 5000)
        try:
            assert study.commit("analytic", number, "me", _unit(number, kept))
        except InputError as error:
            return number - 10, str(error)
    raise AssertionError("the disk has never been full")


def test_a_full_disk(original, mount):
    folder = mount("size=1m")
    path = folder / "study.db"
    shutil.copy(original, path)
    (folder / "ballast").write_bytes(bytes(300_000))
    with open_store(str(path)) as store:
        study = store.open()
        stored, message = _fill(study)
        assert stored > 0
        assert message == (
            f"{path}: the disk is full: nothing of this step was stored; make room and go on"
        )
        assert len(study.units("analytic")) == 3 + stored
        (folder / "ballast").unlink()
        assert study.commit("analytic", 5000, "me", _unit(5000, [1]))
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open_store(str(path)) as store:
        assert len(store.open().units("analytic")) == 4 + stored


_LIMITED = """
import resource, sys
import numpy as np
from headrace.errors import InputError
from headrace.search.store import UnitResult, open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
store = open_store(sys.argv[1])
chance = np.random.default_rng(0)
for number in range(10, 100):
    kept = chance.integers(0, 1 << 62, 5000)
    unit = UnitResult(number=number, evaluated=9, feasible=5, broken=(), kept=kept, seconds=1.0)
    try:
        store.open().commit("analytic", number, "me", unit)
    except InputError as error:
        print(number - 10, error)
        break
store.close()
"""


def test_a_file_that_may_not_grow(path):
    command = [sys.executable, "-c", _LIMITED, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    stored, message = run.stdout.rstrip().split(" ", 1)
    assert (
        message == f"{path}: reading or writing failed: check the disk, quotas and file size limits"
    )
    with open_store(str(path)) as store:
        assert len(store.open().units("analytic")) == 3 + int(stored)
    _use(path)


def test_a_database_that_another_process_keeps_locked(path, monkeypatch):
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.2)
    holder = sqlite3.connect(path, isolation_level=None)
    with open_store(str(path)) as store:
        study = store.open()
        holder.execute("BEGIN IMMEDIATE")
        assert len(study.units("analytic")) == 3
        with pytest.raises(InputError, match="another process has kept it locked"):
            study.claim("analytic", [7], "me")
        holder.execute("ROLLBACK")
        assert study.claim("analytic", [7], "me") == [7]


def test_two_that_create_at_once_do_not_disturb_each_other(tmp_path):
    failures = []

    def make():
        try:
            open_store(str(tmp_path / "study.db"), create=True).close()
        except InputError as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    with open_store(str(tmp_path / "study.db")) as store:
        assert store.studies() == []


def test_memory(original):
    with open_store("sqlite://", create=True) as store, open_store(str(original)) as other:
        study = store.create("s", other.open().spec)
        assert study.claim("analytic", [0], "me") == [0]
        assert study.commit("analytic", 0, "me", _unit(0, [1]))
        assert len(store.open().units("analytic")) == 1
