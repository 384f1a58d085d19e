"""The command line as a process: signals, full and closed output, broken pipes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEADRACE = Path(sys.executable).with_name("headrace")
FULL = Path("/dev/full")
ONE_LINE = re.compile(r"headrace: [^\n]+\n")


def answer_ctrl_c():
    """Undo what a shell does to commands in the background: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*words, **options):
    # A session of its own, so that a signal to the group does not reach the tests.
    return subprocess.Popen(
        [HEADRACE, *words],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=answer_ctrl_c,
        **options,
    )


def finish(process, seconds=60):
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words", [["devices"], ["designs", "--json"], ["--help"], ["run", "tellme", "--prompt", "a"]]
)
def test_full_standard_output(words):
    with FULL.open("w") as full:
        code, _, err = finish(start(*words, stdout=full))
    assert code == 2
    assert err == "headrace: cannot read or write standard output: No space left on device\n"


@pytest.mark.parametrize("words", ["devices", "devices --json", "run tellme --prompt a"])
def test_closed_standard_output(words):
    run = subprocess.run(
        ["sh", "-c", f'"{HEADRACE}" {words} >&-'], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    assert ONE_LINE.fullmatch(run.stderr), run.stderr


def test_reader_that_leaves_early():
    process = start("designs", "tellme", "--json")
    process.stdout.close()
    process.stdout = None
    code, _, err = finish(process)
    assert (code, err) == (0, "")


def wait_until_running(process):
    """Wait until the command has set its handlers; before that a signal is Python's affair."""
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 30
    while status.exists() and time.monotonic() < deadline:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
        if caught is None or int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.02)


def interrupted(words, number, before, cwd, after):
    """Send a signal `after` seconds after the command begins its work; return the outcome."""
    process = start(*words, cwd=cwd)
    wait_until_running(process)
    time.sleep(after)
    if process.poll() is not None:
        return None
    os.killpg(process.pid, number)
    code, out, err = finish(process)
    assert sorted(p.name for p in cwd.iterdir()) == before
    assert "Traceback" not in err
    return code, out, err


LONG = {
    "explore": ["explore", "tellme", "--samples", "2000000000", "--strategy", "random",
                "-o", "best.toml"],
    "emit": ["emit", "tellme", "-o", "out"],
    "verify": ["verify", "tellme", "--vectors", "100000"],
    "run": ["run", "tellme", "--prompt", "a", "--max-tokens", "400", "--json"],
}  # fmt: skip


@pytest.mark.parametrize("command", LONG)
@pytest.mark.parametrize("after", [0.2, 1.5])
def test_ctrl_c_in_the_middle(command, after, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    outcome = interrupted(LONG[command], signal.SIGINT, ["mine.txt"], tmp_path, after)
    if outcome is None:
        pytest.skip(f"{command} was done within {after} s")
    assert outcome == (130, "", "headrace: interrupted\n")


def test_ctrl_c_keeps_the_file_that_was_there(tmp_path):
    (tmp_path / "best.toml").write_text('design = "tellme"\n')
    outcome = interrupted(LONG["explore"], signal.SIGINT, ["best.toml"], tmp_path, 2.0)
    assert outcome == (130, "", "headrace: interrupted\n")
    assert (tmp_path / "best.toml").read_text() == 'design = "tellme"\n'


def test_termination_leaves_nothing_behind(tmp_path):
    outcome = interrupted(LONG["explore"], signal.SIGTERM, [], tmp_path, 2.0)
    assert outcome == (143, "", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    code, out, err = finish(start("emit", "tellme", "-o", str(tmp_path / "out")))
    tmp_path.chmod(0o700)
    assert (code, out) == (2, "")
    assert ONE_LINE.fullmatch(err)
