"""Tasks in this process, on local workers and on a cluster of somebody else's."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from headrace.errors import InputError
from headrace.search import tasks as tasks_module
from headrace.search import workers
from headrace.search.cluster import MAX_WORKERS, open_executor

TASKS = """
import os, signal, subprocess, time
from pathlib import Path

def square(x):
    return x * x

def inverse(x):
    return 1 / x

def slow(x, folder, seconds):
    begun(x, folder)
    time.sleep(seconds)
    return x * x

def held(x, folder):
    begun(x, folder)
    tool = subprocess.Popen(["sleep", "600"])
    (Path(folder) / f"tool-{tool.pid}").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)
    return x * x

def poison(folder):
    begun("poison", folder)
    os.kill(os.getpid(), signal.SIGKILL)

def begun(name, folder):
    (Path(folder) / f"{name}.{os.getpid()}.{time.monotonic_ns()}").touch()

def threads():
    return [os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
"""

posix = pytest.mark.skipif(not hasattr(os, "killpg"), reason="local workers need POSIX")


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Return a module that workers can import as well."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "cluster_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(folder)
    import cluster_tasks

    yield cluster_tasks
    del sys.modules["cluster_tasks"]


def collect(executor, count, seconds=90):
    """Return the results of `count` tasks by key."""
    found, deadline = {}, time.monotonic() + seconds
    while len(found) < count:
        for key, result in executor.done(1):
            assert key not in found
            found[key] = result
        assert time.monotonic() < deadline, f"{len(found)} of {count} results"
    assert executor.done(0) == []
    return found


def begun(folder, name="*"):
    """Return the process of each task that has begun, in order."""
    files = sorted(folder.glob(f"{name}.*.*"), key=lambda p: int(p.name.split(".")[2]))
    return [int(p.name.split(".")[1]) for p in files]


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")")[1].split()[0] != "Z"


def test_serial_runs_one_task_at_a_time_when_asked(tasks):
    with closing(open_executor(None, 0)) as executor:
        assert executor.capacity == 1
        for x in (0, 4):
            executor.submit(x, tasks.inverse, x)
        ((key, error),) = executor.done(5)
        assert key == 0
        assert isinstance(error, ZeroDivisionError)
        assert executor.done(5) == [(4, 0.25)]
        assert executor.done(5) == []


@posix
def test_three_workers_give_what_one_process_gives(tasks):
    def run(count):
        with closing(open_executor(None, count)) as executor:
            for x in range(12):
                executor.submit(x, tasks.inverse if x % 2 else tasks.square, x - 3)
            found = collect(executor, 12)
            executor.submit(99, tasks.threads)
            return found, executor.capacity, count and collect(executor, 1)[99]

    serial, _, _ = run(0)
    parallel, capacity, threads = run(3)
    assert (capacity, threads) == (3, ["1"] * 4)
    assert {x: repr(r) for x, r in parallel.items()} == {x: repr(r) for x, r in serial.items()}
    assert isinstance(serial[3], ZeroDivisionError)


@posix
def test_killed_worker_costs_one_more_start(tasks, tmp_path):
    with closing(open_executor(None, 3)) as executor:
        for x in range(9):
            executor.submit(x, tasks.held, x, tmp_path)
        wait_for(lambda: executor.done(0) == [] and len(begun(tmp_path)) == 3)
        os.kill(begun(tmp_path)[1], signal.SIGKILL)
        (tmp_path / "go").touch()
        assert collect(executor, 9) == {x: x * x for x in range(9)}
    pids = begun(tmp_path)
    assert len(pids) == 9 + 1
    tools = [int(p.name.removeprefix("tool-")) for p in tmp_path.glob("tool-*")]
    assert len(tools) >= 9
    wait_for(lambda: not any(alive(pid) for pid in pids + tools), seconds=5)


@posix
def test_task_that_kills_its_workers_ends_as_an_error(tasks, tmp_path):
    with closing(open_executor(None, 2)) as executor:
        executor.submit(0, tasks.poison, tmp_path)
        for x in range(1, 4):
            executor.submit(x, tasks.square, x)
        found = collect(executor, 4)
    assert str(found.pop(0)) == "every worker that ran this has died; out of memory?"
    assert found == {1: 1, 2: 4, 3: 9}
    assert len(begun(tmp_path)) == 3


@posix
def test_close_can_wait(tasks, tmp_path):
    executor = open_executor(None, 1)
    executor.submit(0, tasks.slow, 0, tmp_path, 0.2)
    executor.submit(1, tasks.slow, 1, tmp_path, 0.2)
    executor.close(wait=True)
    assert len(begun(tmp_path)) == 2


@posix
def test_workers_that_do_not_start(tasks, monkeypatch):
    monkeypatch.setattr(workers, "_COMMAND", "raise SystemExit('no such thing')")
    with closing(open_executor(None, 1)) as executor:
        executor.submit(0, tasks.square, 1)
        with pytest.raises(InputError, match="as soon as they are started: no such thing"):
            collect(executor, 1)


SCRIPT = """
import sys, time
from headrace.search.cluster import open_executor
import cluster_tasks

executor = open_executor(None, 2)  # no `if __name__ == "__main__"` around it
try:
    for x in range(2):
        executor.submit(x, cluster_tasks.slow, x, sys.argv[1], 60)
    while True:
        executor.done(1)
except KeyboardInterrupt:
    sys.exit(130)
finally:
    executor.close()
"""


@posix
@pytest.mark.parametrize("how, code", [("SIGINT", 130), ("SIGKILL", -signal.SIGKILL)])
def test_nothing_is_left_of_a_script_that_is_stopped(tasks, tmp_path, how, code):
    script, scratch = tmp_path / "script.py", tmp_path / "scratch"
    script.write_text(SCRIPT)
    scratch.mkdir()
    path = os.pathsep.join([str(Path(tasks.__file__).parent), *sys.path])
    run = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_for(lambda: len(begun(tmp_path)) == 2)
        os.killpg(run.pid, getattr(signal, how))  # as a terminal does
        _, err = run.communicate(timeout=20)
    finally:
        run.kill()
    assert (run.returncode, err) == (code, b"")
    wait_for(lambda: not any(alive(pid) for pid in begun(tmp_path)), seconds=10)
    wait_for(lambda: not list(scratch.iterdir()), seconds=10)


@contextmanager
def foreign_cluster(folder, count, path=()):
    """Start Dask's own commands; yield the address and the processes, the scheduler first."""
    note = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path])}
    scheduler = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                 "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(note)]  # fmt: skip
    worker = ["dask_worker", "--scheduler-file", str(note), "--nthreads", "1", "--no-nanny",
              "--no-dashboard", "--local-directory", str(folder)]  # fmt: skip
    commands = [scheduler] + [worker] * count
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", f"distributed.cli.{name}", *options],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, *options in commands
    ]
    try:
        wait_for(lambda: note.exists() and note.read_text().endswith("}"))
        yield json.loads(note.read_text())["address"], processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_foreign_cluster(tasks, tmp_path):
    with foreign_cluster(tmp_path, 2) as (address, processes):
        with closing(open_executor(address, 0)) as executor:
            wait_for(lambda: executor.capacity == 2)
            for x in range(5):
                executor.submit(x, tasks.inverse, x)
            found = collect(executor, 5)
            assert isinstance(found.pop(0), ZeroDivisionError)
            assert found == {x: 1 / x for x in range(1, 5)}
            executor.submit(7, tasks.held, 7, tmp_path)
            wait_for(lambda: executor.done(0) == [] and len(begun(tmp_path)) == 1)
            os.kill(begun(tmp_path)[0], signal.SIGKILL)  # nobody starts this one again
            (tmp_path / "go").touch()
            assert collect(executor, 1) == {7: 49}
            for path in tmp_path.glob("tool-*"):  # a foreign worker leaves its tools behind
                os.kill(int(path.name.removeprefix("tool-")), signal.SIGKILL)
        assert [p.poll() for p in processes].count(None) == 2  # it goes on without us


def test_scheduler_that_goes_away(tasks, tmp_path, monkeypatch):
    with (
        foreign_cluster(tmp_path, 1) as (address, processes),
        closing(open_executor(address, 0)) as executor,
    ):
        executor.submit(0, tasks.slow, 0, tmp_path, 60)
        wait_for(lambda: executor.done(0) == [] and begun(tmp_path))
        processes[0].kill()
        with pytest.raises(InputError, match=f"connection to the scheduler {address} is lost"):
            collect(executor, 1)


def test_cluster_without_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks_module, "_FIRST_WORKER_S", 0.2)
    with (
        foreign_cluster(tmp_path, 0) as (address, _),
        pytest.raises(InputError, match="has no workers: none came within 0.2 s"),
    ):
        open_executor(address, 0)


def test_worker_with_another_version(tmp_path):
    other = tmp_path / "other" / "headrace-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace\nVersion: 0.0.1\n")
    with (
        foreign_cluster(tmp_path, 1, [other.parent]) as (address, _),
        pytest.raises(InputError, match=r"^worker tcp://\S+ of tcp://\S+ has headrace 0.0.1, "),
    ):
        open_executor(address, 0)


@pytest.mark.parametrize(
    "address",
    ["", "tcp://", "tcp://host", "host:8786", "tcp://host:0", "tcp://host:99999", "tcp://a b:1",
     "http://host:80", "tcp://host:8786/x", "inproc://1"],
)  # fmt: skip
def test_address_that_is_none(address):
    with pytest.raises(InputError, match=r"is not allowed: tcp://host:port needed$"):
        open_executor(address, 0)


def test_scheduler_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(tasks_module, "_CONNECT_S", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"scheduler {address} cannot be reached"):
            open_executor(address, 0)


@pytest.mark.parametrize("count", [-1, MAX_WORKERS + 1])
def test_number_of_workers(count):
    with pytest.raises(InputError, match=f"workers = {count} is not allowed: 0 to {MAX_WORKERS}"):
        open_executor(None, count)
