"""One kernel at its full size, simulated as Verilog and mapped: what the ``rtl`` rung says."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from threading import Lock

from headrace.arch.resources import Resources
from headrace.errors import InputError
from headrace.rtl.cache import Facts, Kept, content_hash, keep
from headrace.rtl.simulators import icarus_version

__all__ = ["ONE_AT_A_TIME", "SIMULATOR", "KernelMeasured", "kept_run", "measured", "versions"]

SIMULATOR = "icarus"
"""It builds any kernel in seconds; Verilator compiles for longer than a few vectors run."""

ONE_AT_A_TIME = Lock()
"""Emission and simulation use what belongs to the process, such as its import path."""

_WRONG = "AssertionError"  # how a regression says that a result is wrong or does not come
_RUN = {"cycles": int, "equal": int, "message": str}


@dataclass(frozen=True, kw_only=True)
class KernelMeasured:
    """One kernel: what it should do and take, and what it does and takes.

    Parameters
    ----------
    equal : bool
        Whether all results are those of the reference, bit for bit.
    message : str
        The first thing that is wrong, if something is.
    results : int
        Results that were compared.
    cycles_predicted, cycles_measured : int
        By the timed graph, and in the simulator; the latter is 0 unless `equal`.
    mapped : Resources
        Cells of the netlist.
    versions, artefacts : mapping of str to str
        Of the tools; SHA-256 of Verilog, vectors and netlist counts.
    seconds : float
        Time it took, or had taken for what comes from the cache.
    cached : bool
        Whether simulation and netlist come from the cache.
    """

    equal: bool
    message: str
    results: int
    cycles_predicted: int
    cycles_measured: int
    mapped: Resources
    versions: Mapping[str, str]
    artefacts: Mapping[str, str]
    seconds: float
    cached: bool

    @property
    def agrees(self) -> bool:
        """Whether bits and cycles are as they should be."""
        return self.equal and self.cycles_measured == self.cycles_predicted

    def detail(self, name: str, covers: str, model: Resources) -> dict[str, float | str]:
        """Return what was compared, for people.

        Parameters
        ----------
        name : str
            Of the kernel, before the names of resources.
        covers : str
            What was measured.
        model : Resources
            What the resource model says of it.
        """
        return {
            "covers": covers,
            "results": self.results,
            "message": self.message,
            "cycles_predicted": self.cycles_predicted,
            "cycles_measured": self.cycles_measured,
            **{f"{name}_{kind}_model": count for kind, count in model.as_dict().items()},
            **{f"{name}_{kind}_mapped": count for kind, count in self.mapped.as_dict().items()},
            **self.versions,
        }


def measured(
    ran: Kept, mapped: Kept, *, verilog: str, vectors: str, results: int, cycles: int, start: float
) -> KernelMeasured:
    """Put together what was measured.

    Parameters
    ----------
    ran, mapped : Kept
        By `kept_run` and `headrace.rtl.netlist.kept_netlist`.
    verilog, vectors : str
        Source, and the hash of the vectors.
    results, cycles : int
        Results that were compared, and cycles by the timed graph.
    start : float
        `time.perf_counter` when the work began.
    """
    before = sum(kept.seconds for kept in (ran, mapped) if kept.cached)
    return KernelMeasured(
        equal=ran.facts["equal"] == 1,
        message=str(ran.facts["message"]),
        results=results,
        cycles_predicted=cycles,
        cycles_measured=int(ran.facts["cycles"]),
        mapped=Resources(**{name: float(mapped.facts[name]) for name in Resources().as_dict()}),
        versions={**versions(), "yosys": str(mapped.facts["yosys_version"])},
        artefacts={
            "verilog": sha256(verilog.encode()).hexdigest(),
            "vectors": vectors,
            "netlist": content_hash(json.dumps(dict(mapped.facts), sort_keys=True)),
        },
        seconds=time.perf_counter() - start + before,
        cached=ran.cached and mapped.cached,
    )


def versions() -> dict[str, str]:
    """Return the versions of what decides a simulation.

    Raises
    ------
    InputError
        A tool is missing.
    """
    try:
        cocotb = version("cocotb")
    except ImportError as error:
        raise InputError("cocotb is missing: pip install 'headrace[verify]' is needed") from error
    return {"amaranth": version("amaranth"), "cocotb": cocotb, SIMULATOR: icarus_version()}


def kept_run(key: str, run: Callable[[], tuple[int, str]]) -> Kept:
    """Return the outcome of a regression, from the cache or run now.

    Parameters
    ----------
    key : str
        `content_hash` of everything that decides it.
    run : callable
        Returns the cycles it took and, if it did not pass, the end of the simulator's output.

    Returns
    -------
    Kept
        ``cycles``; whether all results are ``equal``, 1 or 0; if not, a ``message``. What is
        wrong is not kept.

    Raises
    ------
    RuntimeError
        The simulator fails.
    """

    def facts() -> Facts:
        cycles, log = run()
        if log:
            raise _Failed(log)
        return {"cycles": cycles, "equal": 1, "message": ""}

    start = time.perf_counter()
    try:
        return keep("simulations", key, _RUN, facts)
    except _Failed as failed:
        lines = str(failed).splitlines()
        wrong = [line.strip() for line in lines if _WRONG in line]
        if not wrong:
            raise RuntimeError(f"{SIMULATOR} failed: {lines[-1].strip()}") from failed
        found: Facts = {"cycles": 0, "equal": 0, "message": wrong[0]}
        return Kept(found, time.perf_counter() - start, cached=False)


class _Failed(Exception):
    """The regression did not pass; the message is the end of its output."""
