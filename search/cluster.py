"""Where expensive evaluations run: in this process, on local workers, on a Dask cluster.

Dask's scheduler hands out the tasks; which of them there are, and what has come back, is the
business of whoever submits. Nothing here changes a result: a task is a function of its arguments,
and one whose worker dies runs again on another.
"""

import os
import re
import shutil
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from headrace.arch.axis import Value
from headrace.arch.design import load_design
from headrace.arch.device import load_device
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.measure import Measure, Measurement
from headrace.search.workers import LocalWorkers, quiet
from headrace.sim.workload import Workload

__all__ = ["MAX_WORKERS", "Executor", "measure_point", "open_executor"]

MAX_WORKERS = 1024
_TRIES = 3  # workers that one task may take down with it
_CONNECT_S = 10
_FIRST_WORKER_S = 30
_CLOSE_S = 5
_POLL_S = 0.02
_ADDRESS = re.compile(r"(tcp|tls)://([^\s/:\[\]]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


class Executor(Protocol):
    """Runs functions somewhere and returns what they return, in any order."""

    @property
    def capacity(self) -> int:
        """Tasks that can run at once, at least 1; of a cluster, at this moment."""
        ...

    def submit(self, key: int, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` run; `key` is free and names the result.

        Function and arguments are pickled, so the workers must be able to import the function.
        """
        ...

    def done(self, timeout: float) -> list[tuple[int, Any | Exception]]:
        """Return what has finished, by key; each result once.

        Parameters
        ----------
        timeout : float
            Seconds to wait when nothing has finished yet.

        Returns
        -------
        list of (int, result or Exception)
            An exception of the function is a value here. A task that has taken three workers
            down (out of memory, say) ends as a `RuntimeError`.

        Raises
        ------
        InputError
            The scheduler is gone.
        RuntimeError
            Local workers end as soon as they are started.
        """
        ...

    def close(self, *, wait: bool = False) -> None:
        """Stop; nothing of it runs on this machine afterwards.

        Parameters
        ----------
        wait : bool
            Let tasks that were submitted finish first. Without it they are given up: local
            workers are killed with what they started; of a foreign cluster's tasks those that
            run already do finish, since no thread can be stopped from outside.
        """
        ...


def open_executor(scheduler: str | None, workers: int) -> Executor:
    """Open the place where tasks run.

    Parameters
    ----------
    scheduler : str, optional
        Address ``tcp://host:port`` of a running Dask scheduler. It trusts whoever reaches it,
        and so do its workers.
    workers : int
        Local worker processes of one thread each; 0 runs everything in this process, one after
        the other. Ignored when there is a `scheduler`.

    Raises
    ------
    InputError
        The address cannot be understood or reached, the cluster has no workers or some with
        another version of headrace; or `workers` is out of range.
    """
    if scheduler is not None:
        return _connect(scheduler)
    if not 0 <= workers <= MAX_WORKERS:
        raise InputError(f"workers = {workers} is not allowed: 0 to {MAX_WORKERS}")
    if workers and not hasattr(os, "killpg"):
        raise InputError(f"workers = {workers} is not allowed: 0, or a scheduler, on this system")
    return _local(workers) if workers else _Serial()


def measure_point(
    fidelity: str,
    design: str,
    values: Mapping[str, Value],
    device: str,
    network: Network,
    workload: Workload,
) -> Measurement:
    """Measure a point on a rung above the first: what a worker is asked to do.

    Parameters
    ----------
    fidelity : str
        ``cycle`` or ``rtl``.
    design, device : str
        Names; worker and submitter have the same version of headrace.
    values : mapping of str to Value
        The point.
    network, workload : Network, Workload

    Raises
    ------
    InputError
        A name or value is not allowed, the design has no such fidelity, or a tool is missing.
    """
    chosen = load_design(design)
    measure: Measure = chosen.face("measure")
    return measure(fidelity, chosen.point(values), load_device(device), network, workload)


class _Serial:
    """Runs one task in every call of `done`, in this process."""

    capacity = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, key: int, function: Callable[..., Any], *args: Any) -> None:
        self._waiting.append((key, function, args))

    def done(self, timeout: float) -> list[tuple[int, Any | Exception]]:
        if not self._waiting:
            return []
        key, function, args = self._waiting.popleft()
        try:
            return [(key, function(*args))]
        except Exception as error:
            return [(key, error)]

    def close(self, *, wait: bool = False) -> None:
        self._waiting.clear()


def _local(workers: int) -> "_Cluster":
    """Start a scheduler in this process, and workers."""
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
        return _Cluster(client, begun.pop_all(), started)


def _close(part: Any) -> None:
    """Close a client or cluster; in what state it is then does not matter any more."""
    with suppress(Exception):
        part.close(timeout=_CLOSE_S)


def _connect(address: str) -> "_Cluster":
    """Connect to a scheduler that somebody else has started."""
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
        return _Cluster(client, begun.pop_all())


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


class _Cluster:
    """Tasks on a Dask cluster.

    No more are handed to Dask than there are threads. So a task is never kept waiting behind
    another on a worker that dies, and starts again only if it had begun.

    Parameters
    ----------
    client : distributed.Client
    begun : contextlib.ExitStack
        Ends what `open_executor` has begun.
    local : LocalWorkers, optional
        Those that are ours to keep alive.
    """

    def __init__(self, client: Any, begun: ExitStack, local: LocalWorkers | None = None):
        from distributed import as_completed

        self._client = client
        self._begun = begun
        self._local = local
        self._prefix = f"headrace-{uuid4().hex[:8]}"
        self._count = 0
        self._waiting: deque[tuple[int, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._running: dict[str, tuple[int, Any]] = {}
        # Fetches results at once: one that stays on a worker is lost when the worker dies.
        self._completed = as_completed(loop=client.loop, with_results=True, raise_errors=False)

    @property
    def capacity(self) -> int:
        return self._local.count if self._local else max(1, self._threads())

    def submit(self, key: int, function: Callable[..., Any], *args: Any) -> None:
        self._waiting.append((key, function, args))
        if len(self._running) < self.capacity:
            self._feed()

    def done(self, timeout: float) -> list[tuple[int, Any | Exception]]:
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
        try:
            while wait and (self._running or self._waiting):
                self.done(1)
        finally:
            with self._begun, suppress(Exception):
                if self._local is None:
                    self._client.cancel([future for _, future in self._running.values()])

    def _threads(self) -> int:
        """Threads of all workers that are connected now."""
        try:
            return sum(self._client.nthreads().values())
        except (OSError, RuntimeError, TypeError) as error:
            raise self._gone() from error

    def _feed(self) -> None:
        """Hand over tasks while there are threads without one."""
        if not self._waiting:
            return
        room = self._threads() - len(self._running)
        while self._waiting and room > 0:
            key, function, args = self._waiting.popleft()
            self._count += 1
            name = f"{self._prefix}-{self._count}"
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
        address = getattr(self._client.scheduler, "address", "")
        return InputError(f"the connection to the scheduler {address} is lost")
