"""Local worker processes of a Dask scheduler.

Dask's own local workers are started with `multiprocessing`, which runs the user's script once more
in each of them unless it guards its main part, and they share the terminal: Ctrl-C reaches them and
they say so on standard error. Those here are commands of their own, each in a session of its own.
What a worker starts (Yosys, a simulator, a compiler) belongs to its session and ends with it.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headrace.errors import InputError

__all__ = ["LocalWorkers", "quiet", "serve"]

_COMMAND = "from headrace.search.workers import serve; serve({starter})"
_OPTIONS = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
_START_S = 60
_PATIENCE = 4  # deaths per worker without any result before all are given up
# Several workers share the processors, so none of them starts threads for arrays.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}


class LocalWorkers:
    """Worker processes that are replaced when they die.

    Parameters
    ----------
    address : str
        The scheduler's.
    count : int
        Workers, of one thread each.
    folder : Path
        For their scratch files. Whoever made it removes it, and the workers do if that one is
        killed.
    """

    def __init__(self, address: str, count: int, folder: Path):
        self.count = count
        self._address = address
        self._deaths = 0
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(count):
                self._processes.append(self._start(number))
        except BaseException:
            self.stop()
            raise

    def revive(self, *, progress: bool) -> None:
        """Replace workers that have died.

        Parameters
        ----------
        progress : bool
            Whether a task has finished since the last call.

        Raises
        ------
        InputError
            Too many have died and nothing has finished in between.
        """
        if progress:
            self._deaths = 0
        for number, process in enumerate(self._processes):
            if process.poll() is None:
                continue
            _kill(process)  # what it started and left behind
            self._deaths += 1
            if self._deaths > _PATIENCE * self.count:
                raise InputError(f"workers end as soon as they are started: {self._last(number)}")
            self._processes[number] = self._start(number)

    def stop(self) -> None:
        """Kill all workers with what they have started."""
        for process in self._processes:
            _kill(process)
        for process in self._processes:
            process.wait()

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        # Scratch files are made in this folder, so that those of a killed worker go with it.
        scratch = self._folder / f"{number}"
        scratch.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            **_ENVIRONMENT,
            "PYTHONPATH": os.pathsep.join(str(path) or os.getcwd() for path in sys.path),
            "TMPDIR": str(scratch),
        }
        command = [
            sys.executable,
            "-P",
            "-c",
            _COMMAND.format(starter=os.getpid()),
            self._address,
            *_OPTIONS,
        ]
        command += ["--local-directory", str(scratch), "--death-timeout", str(_START_S)]
        with self._log(number).open("wb") as log:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, number: int) -> Path:
        return self._folder / f"{number}" / "worker.log"

    def _last(self, number: int) -> str:
        """Return the last line that a worker wrote."""
        lines = self._log(number).read_text("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def serve(starter: int) -> None:
    """Be a worker: Dask's command, in a process that ends with the one that started it.

    Parameters
    ----------
    starter : int
        Process that may be killed at any time, which this one then notices within a second.
    """
    from distributed.cli.dask_worker import main

    threading.Thread(target=_follow, args=(starter,), daemon=True).start()
    main()


def _follow(starter: int) -> None:
    """End this session, with all that a task has started, once `starter` is gone."""
    while os.getppid() == starter:
        time.sleep(1)
    shutil.rmtree(Path(os.environ["TMPDIR"]).parent, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def quiet() -> Callable[[], None]:
    """Silence the loggers of Dask and its network library; return what undoes it."""
    import distributed  # noqa: F401  (sets the levels that are put back)

    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in _LOUD]
    before = [(logger, logger.level) for logger in map(logging.getLogger, names)]
    for logger, _ in before:
        logger.setLevel(logging.CRITICAL + 1)

    def undo() -> None:
        for logger, level in before:
            logger.setLevel(level)

    return undo


_LOUD = ("distributed", "tornado", "asyncio")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and everything in its session's group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
