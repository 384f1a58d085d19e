"""Tasks on a Dask cluster, local or of somebody else's."""

import re
import shutil
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from headrace.errors import InputError
from headrace.search.workers import LocalWorkers, quiet

__all__ = ["Cluster", "connect", "start_workers"]

_TRIES = 3  # workers that one task may take down with it
_CONNECT_S = 10
_FIRST_WORKER_S = 30
_CLOSE_S = 5
_POLL_S = 0.02
_COUNT_S = 0.3  # between questions to the scheduler
_ADDRESS = re.compile(r"(tcp|tls)://([^\s/:\[\]]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


def start_workers(workers: int) -> "Cluster":
    """Start a scheduler in this process, and `workers` processes for it."""
    from distributed import Client, LocalCluster

    with ExitStack() as begun:
        begun.callback(quiet())
        folder = Path(tempfile.mkdtemp(prefix="headrace-workers-"))
        begun.callback(shutil.rmtree, folder, ignore_errors=True)
        # The workers are processes of ours rather than the cluster's own, see `LocalWorkers`.
        cluster = LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            silence_logs=False,
            scheduler_kwargs={
                "allowed_failures": _TRIES - 1,
                "local_directory": str(folder),
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
            },
        )
        begun.callback(_close, cluster)
        client = Client(cluster, set_as_default=False)
        begun.callback(_close, client)
        started = LocalWorkers(cluster.scheduler_address, workers, folder)
        begun.callback(started.stop)
        return Cluster(client, begun.pop_all(), started)


def _close(part: Any) -> None:
    """Close a client or cluster; in what state it is then does not matter any more."""
    with suppress(Exception):
        part.close(timeout=_CLOSE_S)


def connect(address: str) -> "Cluster":
    """Connect to a scheduler that somebody else has started.

    Parameters
    ----------
    address : str
        Such as ``tcp://host:port``.

    Raises
    ------
    InputError
        It cannot be understood or reached, has no workers, or some with another headrace.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or not 1 <= int(parts[3]) <= 65535:
        raise InputError(f"scheduler {address!r} is not allowed: tcp://host:port needed")
    from distributed import Client

    with ExitStack() as begun:
        begun.callback(quiet())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client = Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"scheduler {address} cannot be reached: no Dask there") from error
        begun.callback(_close, client)
        _check_workers(client, address)
        return Cluster(client, begun.pop_all())


def _check_workers(client: Any, address: str) -> None:
    """Require workers, and this version of headrace on each."""

    def installed() -> str:  # nested, so that it travels whole: a worker may lack headrace
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("headrace")
        except PackageNotFoundError:
            return "none"

    try:
        client.wait_for_workers(1, timeout=_FIRST_WORKER_S)
        found = client.run(installed)
    except (OSError, TimeoutError) as error:
        raise InputError(
            f"scheduler {address} has no workers: none came within {_FIRST_WORKER_S} s"
        ) from error
    mine = version("headrace")
    for worker, theirs in sorted(found.items()):
        if theirs != mine:
            raise InputError(
                f"worker {worker} of {address} has headrace {theirs}, {mine} is needed on all"
            )


class Cluster:
    """Runs tasks on a Dask cluster; see `headrace.search.cluster.Executor`.

    No more are handed to Dask than there are threads. So a task is never kept waiting behind
    another on a worker that dies, and starts again only if it had begun.

    Parameters
    ----------
    client : distributed.Client
    begun : contextlib.ExitStack
        Ends the client and all that was begun for it.
    local : LocalWorkers, optional
        Those that are ours to keep alive.
    """

    def __init__(self, client: Any, begun: ExitStack, local: LocalWorkers | None = None):
        from distributed import as_completed

        self._client = client
        self._address = client.scheduler.address
        self._begun = begun
        self._local = local
        self._prefix = f"headrace-{uuid4().hex[:8]}"
        self._submitted = 0
        self._threads_found, self._counted = 0, -_COUNT_S
        self._waiting: deque[tuple[int, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._running: dict[str, tuple[int, Any]] = {}
        # Fetches results at once: one that stays on a worker is lost when the worker dies.
        self._completed = as_completed(loop=client.loop, with_results=True, raise_errors=False)

    @property
    def capacity(self) -> int:
        """Local workers; of a foreign cluster the threads that are there now."""
        return self._local.count if self._local else max(1, self._threads())

    def submit(self, key: int, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` run."""
        self._waiting.append((key, function, args))
        self._feed()

    def done(self, timeout: float) -> list[tuple[int, Any | Exception]]:
        """Return what has finished, after at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            results = [self._unwrap(*item) for item in self._completed.next_batch(block=False)]
            if self._local is not None:
                self._local.revive(progress=bool(results))
            self._feed()
            if results or time.monotonic() >= deadline:
                return results
            time.sleep(_POLL_S)

    def close(self, *, wait: bool = False) -> None:
        """End everything that was begun, after what was submitted if it is to `wait`."""
        try:
            while wait and (self._running or self._waiting):
                self.done(1)
        finally:
            with self._begun, suppress(Exception):
                if self._local is None:
                    self._client.cancel([future for _, future in self._running.values()])

    def _threads(self) -> int:
        """Threads of all workers that were connected a moment ago."""
        if time.monotonic() - self._counted >= _COUNT_S:
            try:
                self._threads_found = sum(self._client.nthreads().values())
            except (OSError, RuntimeError, TypeError) as error:
                raise self._gone() from error
            self._counted = time.monotonic()
        return self._threads_found

    def _feed(self) -> None:
        """Hand over tasks while there are threads without one."""
        if not self._waiting:
            return
        room = self._threads() - len(self._running)
        while self._waiting and room > 0:
            key, function, args = self._waiting.popleft()
            self._submitted += 1
            name = f"{self._prefix}-{self._submitted}"
            future = self._client.submit(function, *args, key=name, pure=False)
            self._running[name] = key, future
            self._completed.add(future)
            room -= 1

    def _unwrap(self, future: Any, result: Any) -> tuple[int, Any | Exception]:
        """Return the key and the value of a future that has finished."""
        from distributed import CancelledError, KilledWorker

        key, _ = self._running.pop(future.key)
        if isinstance(result, CancelledError):
            raise self._gone()
        if future.status != "error":
            return key, result
        _, error, _ = result
        if isinstance(error, KilledWorker):
            error = RuntimeError("every worker that ran this has died; out of memory?")
        return key, error if isinstance(error, Exception) else RuntimeError(repr(error))

    def _gone(self) -> InputError:
        return InputError(f"the connection to the scheduler {self._address} is lost")
