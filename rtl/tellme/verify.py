"""Hold the engine's Verilog against a reference, and its cycles against a model."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tellme.engine import EngineSizes
from headrace.arch.tellme.job import EngineJob
from headrace.rtl.simulators import run_cocotb
from headrace.rtl.tellme.bench import simulate_engine
from headrace.rtl.tellme.draw import EngineVectors, Reference, random_vectors
from headrace.rtl.tellme.engine import TernaryMatmul
from headrace.rtl.verilog import to_verilog

__all__ = [
    "BitsResult",
    "CyclesResult",
    "check_bits",
    "check_cycles",
    "run_vectors",
    "write_vectors",
]

_MOST_STALL = 0.6
_TOP = "ternary_matmul"


@dataclass(frozen=True)
class BitsResult:
    """Outcome of `check_bits`.

    Attributes
    ----------
    passed : bool
    vectors : int
        Input vectors whose results all were equal; 0 if failed.
    cycles_measured : int
        Cycles from the first accepted command to the last result, stalls included; 0 if failed.
    message : str
        Empty if passed, otherwise the end of the simulator's output.
    """

    passed: bool
    vectors: int
    cycles_measured: int
    message: str


@dataclass(frozen=True)
class CyclesResult:
    """Outcome of `check_cycles`: equal bits, and cycles by the model and by the RTL."""

    bits_equal: bool
    cycles_predicted: int
    cycles_measured: int

    @property
    def error(self) -> float:
        """Prediction / measurement - 1."""
        return self.cycles_predicted / self.cycles_measured - 1


def write_vectors(path: Path | BinaryIO, vectors: EngineVectors, stall: Sequence[float]) -> None:
    """Write the file that ``cocotb_engine.py`` reads.

    Parameters
    ----------
    path : Path or binary file
        ``vectors.npz`` beside the test.
    vectors : EngineVectors
    stall : sequence of 5 float
        Chance of a stall, per cycle, of load, compute, weights, activations, results.
    """
    job = vectors.job
    np.savez_compressed(
        path,
        loads=np.array([(x.rows, x.groups) for x in job.loads], np.int64),
        computes=np.array([(c.rows, c.groups, c.stride, c.tokens) for c in job.computes], np.int64),
        beats=vectors.beats,
        activations=vectors.activations,
        results=vectors.results,
        stall=np.array(stall, np.float64),
    )


def run_vectors(
    sizes: EngineSizes,
    vectors: EngineVectors,
    stall: Sequence[float],
    seed: int,
    simulator: str,
    folder: Path,
    verilog: str | None = None,
) -> BitsResult:
    """Run vectors through the engine's Verilog in a simulator.

    Parameters
    ----------
    sizes : EngineSizes
    vectors : EngineVectors
    stall : sequence of 5 float
        See `write_vectors`.
    seed : int
        Of the stalls.
    simulator : {"icarus", "verilator"}
    folder : Path
        Where to put sources, vectors and builds.
    verilog : str, optional
        The engine's Verilog, top module ``ternary_matmul``; by default it is emitted.

    Raises
    ------
    InputError
        The simulator is not there.
    RuntimeError
        The Verilog cannot be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{_TOP}.v"
    source.write_text(to_verilog(TernaryMatmul(sizes), _TOP) if verilog is None else verilog)
    module, report = folder / "cocotb_engine.py", folder / "report.json"
    with as_file(files("headrace.rtl.tellme") / module.name) as original:
        shutil.copyfile(original, module)
    write_vectors(folder / "vectors.npz", vectors, stall)
    report.unlink(missing_ok=True)
    outcome = run_cocotb([source], _TOP, module, simulator, folder / simulator, seed)
    if not outcome.passed or not report.is_file():
        return BitsResult(False, 0, 0, outcome.log)
    done = json.loads(report.read_text())
    if done["results"] != len(vectors.results):
        return BitsResult(False, 0, 0, f"{done['results']} of {len(vectors.results)} results")
    return BitsResult(True, vectors.job.vectors, done["cycles"], "")


def check_bits(
    sizes: EngineSizes,
    vectors: int,
    seed: int,
    simulator: str,
    reference: Reference,
    folder: Path | None = None,
) -> BitsResult:
    """Compare the engine's Verilog with a reference while every stream stalls at random.

    Parameters
    ----------
    sizes : EngineSizes
    vectors : int
        Input vectors, at least.
    seed : int
    simulator : {"icarus", "verilator"}
    reference : callable
        Says which bits are right; see `Reference`.
    folder : Path, optional
        Keep everything there; by default nothing is kept.
    """
    generator = np.random.default_rng(seed)
    drawn = random_vectors(sizes, vectors, generator, reference)
    stall = generator.uniform(0, _MOST_STALL, 5)
    if folder is not None:
        return run_vectors(sizes, drawn, stall.tolist(), seed, simulator, folder)
    with TemporaryDirectory(prefix="headrace-") as temporary:
        return run_vectors(sizes, drawn, stall.tolist(), seed, simulator, Path(temporary))


def check_cycles(
    sizes: EngineSizes,
    vectors: int,
    seed: int,
    reference: Reference,
    predict: Callable[[EngineSizes, EngineJob], int],
    weight_arrivals: Callable[[int], NDArray[np.int64]] | None = None,
) -> CyclesResult:
    """Compare the engine's cycles, in Amaranth's simulator, with a model.

    Parameters
    ----------
    sizes : EngineSizes
    vectors : int
        Input vectors, at least.
    seed : int
    reference : callable
        Says which bits are right.
    predict : callable
        Cycles from the first accepted command to the last result.
    weight_arrivals : callable, optional
        Cycles in which so many beats arrive; by default they are all there.
    """
    drawn = random_vectors(sizes, vectors, np.random.default_rng(seed), reference)
    job = drawn.job
    if weight_arrivals is not None:
        job = replace(job, weight_arrivals=weight_arrivals(len(drawn.beats)))
    run = simulate_engine(sizes, job, drawn.beats, drawn.activations)
    return CyclesResult(
        bool(np.array_equal(run.results, drawn.results)), predict(sizes, job), run.cycles
    )
