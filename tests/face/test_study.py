"""Studies from the command line: the whole way, and every refusal in one line."""

import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from headrace.cli import main

HEADRACE = str(Path(sys.executable).with_name("headrace"))
SMALL = ["explore", "tellme", "--strategy", "two-stage", "--samples", "200", "--workers", "0",
         "--objective", "min ttft_s, min lut"]  # fmt: skip


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *words):
    """Run a command that must be refused; return its one line."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"headrace: [^\n]+\n", err), err
    return err


def accepted(capsys, *words):
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def study(tmp_path, capsys):
    path = tmp_path / "study.db"
    accepted(capsys, *SMALL, "--fidelity", "analytic,cycle", "--budget", "cycle=3", "--study", path)
    return path


def test_the_whole_way(study, tmp_path, capsys):
    again = accepted(capsys, "study", "resume", study)
    shown = accepted(capsys, "study", "show", study)
    assert shown["finished"] is True
    assert (again["evaluated"], again["evaluations_per_s"]) == (200, 0.0)
    assert again["pareto"] == shown["pareto"]
    assert again["best"] == shown["best"]
    (rung,) = shown["rungs"]
    assert rung["fidelity"] == "cycle"
    assert len(rung["evaluations"]) == 3
    assert {c["objective"] for c in rung["changes"]} == {"min ttft_s", "min lut"}
    (item,) = accepted(capsys, "study", "list", study)["items"]
    assert (item["name"], item["evaluations"]) == ("tellme", 203)
    for suffix in ("csv", "parquet"):
        file = tmp_path / f"out.{suffix}"
        assert accepted(capsys, "study", "export", study, "-o", file)["rows"] == 203
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    best = [row for row in table if row["hash"] == shown["best"]["hash"] and row["rung"] == "cycle"]
    assert best[0]["ttft_s"] == shown["best"]["metrics"]["ttft_s"]
    assert {name: best[0][name] for name in shown["best"]["point"]} == shown["best"]["point"]
    page = tmp_path / "page.html"
    assert accepted(capsys, "report", study, "-o", page)["bytes"] == page.stat().st_size


def test_people_see_the_same(study, capsys):
    code, out, _ = run(capsys, "study", "show", study)
    assert code == 0
    assert "study tellme, finished" in out
    assert "from analytic to cycle" in out
    assert "rank correlation" in out


def test_a_merged_study_is_the_study(study, tmp_path, capsys):
    other = tmp_path / "other.db"
    (item,) = accepted(capsys, "study", "merge", other, study)["items"]
    assert (item["evaluations"], item["conflicts"]) == (203, 0)
    assert (
        accepted(capsys, "study", "show", other)["pareto"]
        == accepted(capsys, "study", "show", study)["pareto"]
    )
    (item,) = accepted(capsys, "study", "merge", other, study)["items"]
    assert (item["units"], item["evaluations"], item["conflicts"]) == (0, 0, 0)
    compared = accepted(capsys, "study", "compare", study, other)
    assert compared["hypervolume_a"] == compared["hypervolume_b"]


def test_other_versions_are_announced(study, capsys):
    _, _, err = run(capsys, "study", "resume", study)
    assert "versions" not in err
    with sqlite3.connect(study) as database:
        ((text,),) = database.execute("select versions from headrace_studies")
        text = json.dumps({**json.loads(text), "numba": "0.1", "amaranth\x1b[31m": "1"})
        database.execute("update headrace_studies set versions = ?", [text])
    _, _, err = run(capsys, "study", "resume", study)
    assert "study tellme began with other versions: " in err
    assert "numba 0.1, now " in err
    assert "\x1b" not in err


def test_two_studies_in_one_database_are_told_apart(study, capsys):
    accepted(capsys, *SMALL, "--seed", "1", "--study", study, "--name", "other")
    assert "tellme, other" in refused(capsys, "study", "show", study)
    assert accepted(capsys, "study", "show", study, "--name", "other")["name"] == "other"
    assert "nothing" in refused(capsys, "study", "show", study, "--name", "nothing")


def test_another_specification_under_the_same_name_is_refused(study, capsys):
    before = run(capsys, "study", "show", study)
    line = refused(capsys, *SMALL, "--seed", "5", "--study", study)
    assert "seed = 5, not 0" in line
    assert run(capsys, "study", "show", study) == before


@pytest.mark.parametrize(
    "words, message",
    [
        (["--fidelity", "rtl"], "beginning with analytic"),
        (["--fidelity", "analytic,rtl,cycle"], "in this order"),
        (["--fidelity", "analytic,magic"], "fidelity analytic,magic is not allowed"),
        (["--budget", "cycle=3"], "budget of cycle is not allowed"),
        (["--fidelity", "analytic,cycle", "--budget", "cycle"], "RUNG=N needed"),
        (["--fidelity", "analytic,cycle", "--budget", "cycle=-1"], "RUNG=N needed"),
        (["--fidelity", "analytic,cycle", "--budget", "cycle=0"], "budget of cycle = 0"),
        (["--workers", "-1"], "--workers"),
        (["--strategy", "nsga3"], "one of auto, exhaustive, random, climb, two-stage, nsga2, tpe"),
        (["--strategy", "exhaustive"], "too many to exhaust"),
        (["--fidelity", "analytic,cycle", "--scheduler", "http://x"], "http://x"),
    ],
)
def test_bad_options(words, message, tmp_path, capsys):
    assert message in refused(capsys, *SMALL, "--study", tmp_path / "study.db", *words)


def test_places_that_hold_no_study(tmp_path, capsys):
    (tmp_path / "random.db").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "text.db").write_text("hello")
    with sqlite3.connect(tmp_path / "foreign.db") as other:
        other.execute("create table accounts (name text)")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("random.db", "text.db", "foreign.db", "folder", "pipe", "none/study.db"):
        path = tmp_path / name
        before = path.read_bytes() if path.is_file() else None
        for words in ([*SMALL, "--study"], ["study", "resume"], ["study", "show"], ["report"]):
            assert name in refused(capsys, *words, path)
        assert (path.read_bytes() if path.is_file() else None) == before
    assert "missing.db" in refused(capsys, "study", "show", tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


def test_the_password_stays_out_of_messages(capsys):
    line = refused(capsys, *SMALL, "--study", "postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in line


def command(*words, **options):
    return subprocess.run(
        [HEADRACE, *map(str, words)], capture_output=True, text=True, timeout=120, **options
    )


def test_a_full_disk_keeps_what_was_there(study, tmp_path):
    """The file may not grow further, which the system reports as a full disk does."""
    limit = study.stat().st_size + 20_000

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = [*SMALL, "--seed", "9", "--samples", "4000", "--study", study, "--name", "more"]
    done = command(*words, preexec_fn=small)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"headrace: [^\n]*study\.db[^\n]*\n", done.stderr), done.stderr
    assert json.loads(command("study", "show", study, "--name", "tellme", "--json").stdout)
    assert command(*words).returncode == 0


def test_ctrl_c_says_where_the_work_is(tmp_path):
    words = ["explore", "tellme", "--strategy", "random", "--samples", "900000000",
             "--study", str(tmp_path / "study.db")]  # fmt: skip
    process = subprocess.Popen(
        [HEADRACE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    kept = 0
    deadline = time.monotonic() + 100
    while not kept and time.monotonic() < deadline:
        time.sleep(0.5)
        listed = command("study", "list", tmp_path / "study.db", "--json")
        if listed.returncode == 0 and (items := json.loads(listed.stdout)["items"]):
            kept = items[0]["units"]
    assert kept
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-2:] == [
        f"what is done is kept in {tmp_path / 'study.db'}; the same command goes on",
        "headrace: interrupted",
    ]
    (item,) = json.loads(command("study", "list", tmp_path / "study.db", "--json").stdout)["items"]
    assert item["units"] >= kept


def test_a_place_that_cannot_be_written_is_refused_before_the_work(study, tmp_path, capsys):
    for words in ([*SMALL], ["report", study], ["study", "export", study]):
        assert "no folder" in refused(capsys, *words, "-o", tmp_path / "none" / "file.csv")
        assert "it is a folder" in refused(capsys, *words, "-o", tmp_path)


def test_a_missing_source_makes_no_target(tmp_path, capsys):
    refused(capsys, "study", "merge", tmp_path / "new.db", tmp_path / "missing.db")
    assert list(tmp_path.iterdir()) == []


def test_names_cannot_send_commands_to_a_terminal(study, capsys):
    with sqlite3.connect(study) as database:
        database.execute("update headrace_studies set name = ?", ["a\x1b[31mb\x07"])
    for words in (["study", "show", study], ["study", "list", study], ["study", "resume", study]):
        code, out, err = run(capsys, *words)
        assert not {"\x1b", "\x07"} & set(out + err), (code, out, err)
