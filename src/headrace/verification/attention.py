"""A point's streaming attention at its full size: simulated as Verilog, and mapped."""

import json
import time

from headrace.arch.point import Point
from headrace.rtl.cache import Kept, content_hash
from headrace.rtl.netlist import kept_netlist
from headrace.rtl.streams import StreamRun, run_regression
from headrace.rtl.verilog import to_verilog
from headrace.verification.measured import (
    ONE_AT_A_TIME,
    SIMULATOR,
    KernelMeasured,
    kept_run,
    measured,
    versions,
)
from headrace.verification.ubimoe_cases import Case
from headrace.verification.ubimoe_draw import draw_cases

__all__ = ["measure_attention", "run_case"]

_FORMAT = "1"  # of the cached runs; a new one forgets the old
_KERNEL = "streaming_attention"
_ROWS = 2  # more than there are lanes, so that lanes get a second row
_SEED = 0


def measure_attention(point: Point) -> KernelMeasured:
    """Emit a point's attention module, run two short sequences through its Verilog, and map it.

    Simulation and netlist are kept by the hash of the Verilog, the vectors and the versions of
    the tools, so that points with the same attention share them.

    Parameters
    ----------
    point : Point

    Raises
    ------
    InputError
        A tool is missing, or a size is out of range.
    RuntimeError
        A tool fails.
    """
    start = time.perf_counter()
    tokens = point.integer("attention_lanes") + _ROWS
    with ONE_AT_A_TIME:
        (case,) = draw_cases(point, _KERNEL, tokens, _SEED)
        verilog = to_verilog(case.component(), _KERNEL)
        ran = run_case(case, verilog)
    return measured(
        ran,
        kept_netlist(verilog, _KERNEL),
        verilog=verilog,
        vectors=_vectors_hash(case),
        results=sum(len(words) for words in case.vectors.results.values()),
        cycles=StreamRun({}, case.predicted(case.vectors)).cycles,
        start=start,
    )


def run_case(case: Case, verilog: str) -> Kept:
    """Run a case through the Verilog of its kernel, with streams that never stall.

    Parameters
    ----------
    case : Case
    verilog : str

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
    tools = json.dumps(versions(), sort_keys=True)

    def run() -> tuple[int, str]:
        done = run_regression(verilog, case.kernel, case.vectors, SIMULATOR)
        return (done.cycles, "") if done.passed else (0, done.message or "no output")

    return kept_run(content_hash(_FORMAT, tools, verilog, _vectors_hash(case)), run)


def _vectors_hash(case: Case) -> str:
    """Return the content hash of the work and of the right results."""
    both = {"inputs": dict(case.vectors.inputs), "results": dict(case.vectors.results)}
    return content_hash(json.dumps(both, sort_keys=True))
