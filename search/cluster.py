"""Where expensive evaluations run: in this process, on local workers, on a Dask cluster.

Dask's scheduler hands out the tasks; which of them there are, and what has come back, is the
business of whoever submits. Nothing here changes a result: a task is a function of its arguments,
and one whose worker dies runs again on another.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from headrace.arch.axis import Value
from headrace.arch.design import load_design
from headrace.arch.device import load_device
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.measure import Measure, Measurement
from headrace.search.tasks import connect, start_workers
from headrace.sim.workload import Workload

__all__ = ["MAX_WORKERS", "Executor", "measure_point", "open_executor"]

MAX_WORKERS = 1024


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
            The scheduler is gone, or local workers end as soon as they are started.
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
        return connect(scheduler)
    if not 0 <= workers <= MAX_WORKERS:
        raise InputError(f"workers = {workers} is not allowed: 0 to {MAX_WORKERS}")
    if workers and not hasattr(os, "killpg"):
        raise InputError(f"workers = {workers} is not allowed: 0, or a scheduler, on this system")
    return start_workers(workers) if workers else _Serial()


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
