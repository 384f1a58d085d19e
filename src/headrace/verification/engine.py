"""The ternary matmul engine at its full size: simulated as Verilog, and mapped."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import numpy as np

from headrace.arch.resources import Resources
from headrace.arch.tellme.engine import EngineSizes
from headrace.errors import InputError
from headrace.rtl.cache import Facts, Kept, content_hash, keep
from headrace.rtl.netlist import kept_netlist
from headrace.rtl.simulators import icarus_version
from headrace.rtl.tellme.bench import activation_transfers
from headrace.rtl.tellme.draw import EngineVectors
from headrace.rtl.tellme.engine import TernaryMatmul
from headrace.rtl.tellme.verify import run_vectors
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.tellme.engine import engine_graph
from headrace.verification.cases import draw_cases, job

__all__ = ["EngineMeasured", "draw_vectors", "measure_engine", "run_engine"]

_FORMAT = "1"  # of the cached runs; a new one forgets the old
_VECTORS = 6
_LARGEST_TILE = 4  # row blocks and output groups: enough for first, middle and last
_SEED = 0
# Icarus builds any engine in seconds; Verilator compiles for longer than these vectors run.
_SIMULATOR = "icarus"
_FREE_STREAMS = [0.0] * 5
_TOP = "ternary_matmul"
_WRONG = "AssertionError"  # how the regression says that a result is wrong or does not come
_RUN = {"cycles": int, "equal": int, "message": str}
# Emission and simulation use what belongs to the process, such as its import path.
_one_at_a_time = Lock()


@dataclass(frozen=True, kw_only=True)
class EngineMeasured:
    """One engine: what it should do and take, and what it does and takes.

    Parameters
    ----------
    equal : bool
        Whether all results are those of the reference, bit for bit.
    message : str
        The first thing that is wrong, if something is.
    results : int
        Accumulators that were compared.
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


def measure_engine(sizes: EngineSizes) -> EngineMeasured:
    """Emit an engine, run a few vectors through its Verilog, and map it.

    Simulation and netlist are kept by the hash of the Verilog, the vectors and the versions of
    the tools, so that points with the same engine share them.

    Parameters
    ----------
    sizes : EngineSizes

    Raises
    ------
    InputError
        A tool is missing.
    RuntimeError
        A tool fails.
    """
    start = time.perf_counter()
    versions = _versions()
    with _one_at_a_time:
        verilog = _verilog(sizes)
        vectors = draw_vectors(sizes)
        ran = run_engine(sizes, verilog, vectors)
    mapped = kept_netlist(verilog, _TOP)
    predicted = simulate(engine_graph(sizes, vectors.job), iterations=1).cycles
    before = sum(kept.seconds for kept in (ran, mapped) if kept.cached)
    return EngineMeasured(
        equal=ran.facts["equal"] == 1,
        message=str(ran.facts["message"]),
        results=vectors.results.size,
        cycles_predicted=predicted,
        cycles_measured=int(ran.facts["cycles"]),
        mapped=Resources(**{name: float(mapped.facts[name]) for name in Resources().as_dict()}),
        versions={**versions, "yosys": str(mapped.facts["yosys_version"])},
        artefacts={
            "verilog": sha256(verilog.encode()).hexdigest(),
            "vectors": _vectors_hash(vectors),
            "netlist": content_hash(json.dumps(dict(mapped.facts), sort_keys=True)),
        },
        seconds=time.perf_counter() - start + before,
        cached=ran.cached and mapped.cached,
    )


def draw_vectors(sizes: EngineSizes) -> EngineVectors:
    """Draw work for an engine, the same every time, with the reference's results.

    Three tiles of at most four row blocks and output groups, two vectors each.
    """
    cases = draw_cases(sizes, _VECTORS, _LARGEST_TILE, np.random.Generator(np.random.PCG64(_SEED)))
    return EngineVectors(
        job=job(sizes, cases),
        beats=np.concatenate([c.beats for c in cases]),
        activations=np.concatenate([activation_transfers(c.inputs, sizes) for c in cases]),
        results=np.concatenate([c.expected.ravel() for c in cases]).reshape(-1, sizes.copies),
    )


def run_engine(sizes: EngineSizes, verilog: str, vectors: EngineVectors) -> Kept:
    """Run vectors through the Verilog of an engine, with streams that never stall.

    Parameters
    ----------
    sizes : EngineSizes
    verilog : str
        Top module ``ternary_matmul``.
    vectors : EngineVectors

    Returns
    -------
    Kept
        ``cycles``; whether all results are ``equal``, 1 or 0; if not, a ``message``. What is
        wrong is not kept.

    Raises
    ------
    InputError
        The simulator is missing.
    RuntimeError
        The simulator fails.
    """
    bench = files("headrace.rtl.tellme").joinpath("cocotb_engine.py").read_bytes()
    tools = json.dumps(_versions(), sort_keys=True)
    key = content_hash(_FORMAT, tools, str(_SEED), bench, verilog, _vectors_hash(vectors))

    def run() -> Facts:
        with TemporaryDirectory(prefix="headrace-rtl-") as folder:
            done = run_vectors(
                sizes, vectors, _FREE_STREAMS, _SEED, _SIMULATOR, Path(folder), verilog
            )
        if not done.passed:
            raise _Failed(done.message)
        return {"cycles": done.cycles_measured, "equal": 1, "message": ""}

    start = time.perf_counter()
    try:
        return keep("simulations", key, _RUN, run)
    except _Failed as failed:
        lines = str(failed).splitlines() or ["no output"]
        wrong = [line.strip() for line in lines if _WRONG in line]
        if not wrong:
            raise RuntimeError(f"{_SIMULATOR} failed: {lines[-1].strip()}") from failed
        facts: Facts = {"cycles": 0, "equal": 0, "message": wrong[0]}
        return Kept(facts, time.perf_counter() - start, cached=False)


class _Failed(Exception):
    """The regression did not pass; the message is the end of its output."""


@lru_cache(maxsize=8)  # the best points of a search often share their engine
def _verilog(sizes: EngineSizes) -> str:
    return to_verilog(TernaryMatmul(sizes), _TOP)


def _vectors_hash(vectors: EngineVectors) -> str:
    """Return the content hash of the work and of the right results."""
    commands = repr((vectors.job.loads, vectors.job.computes))
    arrays = (vectors.beats, vectors.activations, vectors.results)
    return content_hash(commands, *(np.ascontiguousarray(a).tobytes() for a in arrays))


def _versions() -> dict[str, str]:
    """Return the versions of what decides a simulation."""
    try:
        cocotb = version("cocotb")
    except ImportError as error:
        raise InputError("cocotb is missing: pip install 'headrace[verify]' is needed") from error
    return {"amaranth": version("amaranth"), "cocotb": cocotb, _SIMULATOR: icarus_version()}
