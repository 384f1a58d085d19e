"""Check TeLLMe's ternary matmul engine: bits, cycles, HLS and resources."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.arch.tellme.job import EngineJob
from headrace.arch.tellme.reduce import reduced
from headrace.verification.cases import Case, draw_cases, job
from headrace.verification.check import Check

__all__ = ["VERIFY", "TellmeVerify"]

_KERNEL = "ternary_matmul"
_ENGINE_MODULES = ("ternary_matmul", "weight_buffer")
_TIMED_VECTORS = 12
_SMALL_TILE = 3  # row blocks and output groups: enough for first, middle and last
_FULL_TILE = 64
_WITH_STALLS = 0.01
_STALL = 0.35  # chance per cycle and stream
_SLOWER = 1.2  # stalling streams take so much longer than the engine would
_TOP = "ternary_matmul"
_RESOURCE_TOLERANCE = {"lut": 0.15, "ff": 0.15, "dsp": 0.0, "bram36": 0.0, "uram": 0.0}
"""Largest error of the resource model; the median over many points is asked to be 5 %."""


@dataclass(frozen=True)
class _Run:
    """What every check needs."""

    point: Point
    sizes: EngineSizes
    vectors: int
    seed: int
    largest_tile: int
    say: Callable[[str], None]

    def check(self, witness: str, what: str, simulator: str, **figures: float | str) -> Check:
        return Check(
            kernel=_KERNEL,
            witness=witness,
            what=what,
            simulator=simulator,
            point=self.point,
            **figures,  # type: ignore[arg-type]
        )

    def cases(self, most: int | None = None) -> list[Case]:
        """Draw the same tiles and vectors every time, of the latter no more than `most`."""
        count = self.vectors if most is None else min(self.vectors, most)
        return draw_cases(self.sizes, count, self.largest_tile, self.generator())

    def generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(self.seed))

    def equal(
        self, witness: str, simulator: str, expected: NDArray[np.int64], got: NDArray[np.int64]
    ) -> Check:
        """Compare accumulators: how many there are, and how many are equal."""
        same = int(np.count_nonzero(got == expected)) if got.shape == expected.shape else 0
        return self.check(witness, "accumulators", simulator, expected=expected.size, measured=same)


class TellmeVerify:
    """The ``verify`` face of the design ``tellme``."""

    kernels = (_KERNEL,)

    def __call__(
        self,
        point: Point,
        *,
        kernel: str,
        witnesses: Sequence[str],
        vectors: int,
        seed: int,
        full_size: bool,
        simulators: Sequence[str],
        say: Callable[[str], None],
    ) -> list[Check]:
        """Check the engine of `point`; see `headrace.verification.check.Verify`."""
        instance = point if full_size else reduced(point)
        largest = _FULL_TILE if full_size else _SMALL_TILE
        run = _Run(instance, engine_sizes(instance), vectors, seed, largest, say)
        by_witness: dict[str, Callable[[], list[Check]]] = {
            "bits": partial(_bits, run, simulators),
            "cycles": partial(_cycles, run),
            "hls": partial(_hls, run),
            "resources": partial(_resources, run),
        }
        return [check for witness in witnesses for check in by_witness[witness]()]


VERIFY = TellmeVerify()


def _bits(run: _Run, simulators: Sequence[str]) -> list[Check]:
    """Run the emitted Verilog with the reference's results, free and with stalling streams."""
    from headrace.rtl.tellme import RTL

    verilog = RTL.verilog(run.point)
    return [
        check
        for simulator in simulators
        for check in _regression(run, simulator, verilog, run.cases())
    ]


def _regression(run: _Run, simulator: str, verilog: str, cases: list[Case]) -> list[Check]:
    from headrace.rtl.simulators import run_cocotb
    from headrace.sim.cycle import simulate
    from headrace.sim.tellme.engine import engine_graph

    checks = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        source, bench = folder / f"{_TOP}.v", folder / "cocotb_engine.py"
        source.write_text(verilog, "utf-8")
        bench.write_bytes(files("headrace.rtl.tellme").joinpath(bench.name).read_bytes())
        for stall, streams in ((0.0, "free"), (_STALL, "stalling")):
            run.say(f"emitted Verilog in {simulator}: {streams} streams")
            _write_vectors(run.sizes, cases, stall, folder / "vectors.npz")
            (folder / "report.json").unlink(missing_ok=True)
            result = run_cocotb([source], _TOP, bench, simulator, folder / "build", run.seed)
            expected = _flat(cases).size
            report = _report(folder / "report.json") if result.passed else {}
            checks.append(
                run.check(
                    "bits", f"accumulators, {streams} streams", simulator, expected=expected,
                    measured=report.get("results", 0) * run.sizes.copies,
                    note="" if result.passed else result.log.splitlines()[-1],
                )
            )  # fmt: skip
            if report and not stall:
                graph = engine_graph(run.sizes, job(run.sizes, cases))
                checks.append(
                    run.check(
                        "cycles", "cycles, free streams", simulator,
                        expected=simulate(graph, iterations=1).cycles, measured=report["cycles"],
                    )
                )  # fmt: skip
    return checks


def _write_vectors(sizes: EngineSizes, cases: list[Case], stall: float, path: Path) -> None:
    """Write the vectors of the regression, see ``cocotb_engine.py``."""
    from headrace.rtl.tellme.bench import activation_transfers

    np.savez(
        path,
        loads=[(c.rows, c.groups) for c in cases],
        computes=[(c.rows, c.groups, c.groups, len(c.inputs)) for c in cases],
        beats=np.concatenate([c.beats for c in cases]),
        activations=np.concatenate([activation_transfers(c.inputs, sizes) for c in cases]),
        results=_flat(cases).reshape(-1, sizes.copies),
        stall=np.full(5, stall),
    )


def _report(path: Path) -> dict[str, int]:
    report: dict[str, int] = json.loads(path.read_text("utf-8"))
    return report


def _cycles(run: _Run) -> list[Check]:
    """Compare the timed graph with the RTL, free-running and with stalling streams."""
    from headrace.rtl.tellme.bench import activation_transfers, simulate_engine
    from headrace.sim.cycle import simulate
    from headrace.sim.tellme.engine import engine_graph

    cases = run.cases(_TIMED_VECTORS)
    beats = np.concatenate([c.beats for c in cases])
    transfers = np.concatenate([activation_transfers(c.inputs, run.sizes) for c in cases])

    def both(what: str, work: EngineJob, tolerance: float) -> list[Check]:
        run.say(f"RTL in Amaranth's simulator: {what}")
        done = simulate_engine(run.sizes, work, beats, transfers)
        predicted = simulate(engine_graph(run.sizes, work), iterations=1).cycles
        times = run.check(
            "cycles", what, "amaranth",
            expected=predicted, measured=done.cycles, tolerance=tolerance,
        )  # fmt: skip
        return [run.equal("bits", "amaranth", _flat(cases), done.results.ravel()), times]

    free = both("cycles", job(run.sizes, cases), 0.0)
    stalling = job(run.sizes, cases, run.generator(), int(_SLOWER * free[1].measured))
    return free + both("cycles with stalling streams", stalling, _WITH_STALLS)


def _flat(cases: list[Case]) -> NDArray[np.int64]:
    return np.concatenate([c.expected.ravel() for c in cases])


def _hls(run: _Run) -> list[Check]:
    """Compare the C simulation of the HLS C++ with the reference."""
    from headrace.hls.tellme import Tile, csim

    cases = run.cases()
    tiles = [
        Tile(
            load_rows=c.rows,
            load_groups=c.groups,
            rows=c.rows,
            groups=c.groups,
            stride=c.groups,
            beats=c.beats,
            activations=c.inputs,
        )
        for c in cases
    ]
    run.say("HLS C++ with g++")
    got = np.concatenate([part.ravel() for part in csim(run.sizes, tiles)])
    return [run.equal("hls", "g++", _flat(cases), got)]


def _resources(run: _Run) -> list[Check]:
    """Compare the resource model of the engine with the mapped netlist."""
    from headrace.arch.tellme.resources import resources
    from headrace.rtl.netlist import map_netlist
    from headrace.rtl.tellme import RTL

    run.say("mapping the netlist with Yosys")
    mapped = map_netlist(RTL.verilog(run.point), RTL.top)
    modules = resources(run.point)
    model = sum((modules[name] for name in _ENGINE_MODULES), Resources()).as_dict()
    note = f"Yosys {mapped.yosys_version}: an open proxy of Vivado's counts"
    return [
        run.check(
            "resources", name, "yosys", expected=model[name],
            measured=float(getattr(mapped, name)), tolerance=tolerance, note=note,
        )
        for name, tolerance in _RESOURCE_TOLERANCE.items()
    ]  # fmt: skip
