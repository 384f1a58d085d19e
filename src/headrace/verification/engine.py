"""The ternary matmul engine at its full size: simulated as Verilog, and mapped."""

import json
import time
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from headrace.arch.tellme.engine import EngineSizes
from headrace.rtl.cache import Kept, content_hash
from headrace.rtl.netlist import kept_netlist
from headrace.rtl.tellme.bench import activation_transfers
from headrace.rtl.tellme.draw import EngineVectors
from headrace.rtl.tellme.engine import TernaryMatmul
from headrace.rtl.tellme.verify import run_vectors
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.tellme.engine import engine_graph
from headrace.verification.cases import draw_cases, job
from headrace.verification.measured import (
    ONE_AT_A_TIME,
    SIMULATOR,
    KernelMeasured,
    kept_run,
    measured,
    versions,
)

__all__ = ["draw_vectors", "measure_engine", "run_engine"]

_FORMAT = "1"  # of the cached runs; a new one forgets the old
_VECTORS = 6
_LARGEST_TILE = 4  # row blocks and output groups: enough for first, middle and last
_SEED = 0
_FREE_STREAMS = [0.0] * 5
_TOP = "ternary_matmul"


def measure_engine(sizes: EngineSizes) -> KernelMeasured:
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
    with ONE_AT_A_TIME:
        verilog = _verilog(sizes)
        vectors = draw_vectors(sizes)
        ran = run_engine(sizes, verilog, vectors)
    mapped = kept_netlist(verilog, _TOP)
    predicted = simulate(engine_graph(sizes, vectors.job), iterations=1).cycles
    return measured(
        ran,
        mapped,
        verilog=verilog,
        vectors=_vectors_hash(vectors),
        results=vectors.results.size,
        cycles=predicted,
        start=start,
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
        See `kept_run`.

    Raises
    ------
    InputError
        The simulator is missing.
    RuntimeError
        The simulator fails.
    """
    bench = files("headrace.rtl.tellme").joinpath("cocotb_engine.py").read_bytes()
    tools = json.dumps(versions(), sort_keys=True)
    key = content_hash(_FORMAT, tools, str(_SEED), bench, verilog, _vectors_hash(vectors))

    def run() -> tuple[int, str]:
        with TemporaryDirectory(prefix="headrace-rtl-") as folder:
            done = run_vectors(
                sizes, vectors, _FREE_STREAMS, _SEED, SIMULATOR, Path(folder), verilog
            )
        return done.cycles_measured, "" if done.passed else done.message or "no output"

    return kept_run(key, run)


@lru_cache(maxsize=8)  # the best points of a search often share their engine
def _verilog(sizes: EngineSizes) -> str:
    return to_verilog(TernaryMatmul(sizes), _TOP)


def _vectors_hash(vectors: EngineVectors) -> str:
    """Return the content hash of the work and of the right results."""
    commands = repr((vectors.job.loads, vectors.job.computes))
    arrays = (vectors.beats, vectors.activations, vectors.results)
    return content_hash(commands, *(np.ascontiguousarray(a).tobytes() for a in arrays))
