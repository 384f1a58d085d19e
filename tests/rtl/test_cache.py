"""Results kept by content hash."""

import json
import os
import subprocess
import sys

import pytest

from headrace.rtl import cache
from headrace.rtl.cache import content_hash, keep

FORM = {"cells": int, "share": float, "tool": str}
FACTS = {"cells": 3, "share": 0.5, "tool": "x"}
KEY = content_hash("a", b"b")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    return tmp_path


def never():
    pytest.fail("computed again")


def test_hash_knows_where_parts_end():
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash("é") == content_hash("é".encode())


def test_second_time_comes_from_the_cache(folder):
    first = keep("things", KEY, FORM, lambda: FACTS)
    again = keep("things", KEY, FORM, never)
    assert (first.cached, again.cached) == (False, True)
    assert (again.facts, again.seconds) == (FACTS, first.seconds)
    assert [p.name for p in (folder / "things").iterdir()] == [f"{KEY}.json"]  # no lock is left


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_text("{"),
        lambda p: p.write_text("[]"),
        lambda p: p.write_bytes(b"\xff" * 9),
        lambda p: p.write_text("[" * 100_000),
        lambda p: p.write_text(" " * (2 << 20)),
        lambda p: edit(p, lambda data: data["facts"].update(cells=4)),
        lambda p: edit(p, lambda data: data.update(seconds=data["seconds"] + 1)),
        lambda p: edit(p, lambda data: data.pop("sum")),
    ],
)
def test_damaged_entry_is_computed_again_and_rewritten(folder, damage):
    keep("things", KEY, FORM, lambda: FACTS)
    (entry,) = (folder / "things").iterdir()
    damage(entry)
    assert not keep("things", KEY, FORM, lambda: FACTS).cached
    assert keep("things", KEY, FORM, never).facts == FACTS


def test_entry_of_another_key_is_not_taken(folder):
    keep("things", KEY, FORM, lambda: FACTS)
    (entry,) = (folder / "things").iterdir()
    other = content_hash("other")
    entry.rename(entry.with_name(f"{other}.json"))
    assert not keep("things", other, FORM, lambda: FACTS).cached


@pytest.mark.parametrize("form", [{"cells": int}, {**FORM, "cells": float}])
def test_entry_of_another_form_is_not_taken(form):
    keep("things", KEY, FORM, lambda: FACTS)
    assert not keep("things", KEY, form, lambda: FACTS).cached


def test_failure_is_not_kept(folder):
    with pytest.raises(ZeroDivisionError):
        keep("things", KEY, FORM, lambda: {"cells": 1 // 0})
    assert list((folder / "things").iterdir()) == []


_PROCESS = """
import sys, time
from headrace.rtl.cache import keep
def compute():
    open(sys.argv[1], "a").write("computed\\n")
    time.sleep(0.5)
    return {"cells": 3}
keep("things", "key", {"cells": int}, compute)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="without file locks work may be done twice")
def test_processes_share_one_computation(tmp_path):
    log = tmp_path / "log"
    runs = [subprocess.Popen([sys.executable, "-c", _PROCESS, log]) for _ in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    assert log.read_text() == "computed\n"


def test_place(monkeypatch):
    monkeypatch.delenv("HEADRACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", os.sep + "x")
    assert cache.cache_directory().parts[-2:] == ("x", "headrace")
