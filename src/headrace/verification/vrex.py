"""Check V-Rex's units and its retrieval engine: bits and cycles; cells are stated."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from headrace.arch.point import Point
from headrace.verification.check import Check
from headrace.verification.stream_checks import Run, compare_bits, compare_cycles

if TYPE_CHECKING:
    from headrace.verification.stream_case import StreamCase

__all__ = ["KERNELS", "VERIFY", "VrexVerify"]

KERNELS = (
    "hash_cluster",
    "mean_key",
    "score_align",
    "threshold",
    "kv_management",
    "retrieval_engine",
)

_MOST = {"mean_key": 32, "threshold": 96}
"""Most vectors of units whose simulation takes long."""

_MOST_WHOLE = {"mean_key": 32, "hash_cluster": 64, "score_align": 64, "threshold": 6}
"""Most vectors where rows are long and tables full."""

_CELLS = ("lut", "lutram", "ff", "dsp", "bram36", "uram")


class VrexVerify:
    """The ``verify`` face of the design ``vrex``."""

    kernels = KERNELS

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
        """Check a unit of `point`; see `headrace.verification.check.Verify`.

        A unit always has the sizes of the point. A vector is a token or a row of scores;
        `full_size` lets rows be as long and tables as full as the unit allows. V-Rex has no HLS,
        the engine no graph, and cells no model: they are facts.
        """
        from headrace.verification.vrex_cases import draw_cases

        most = (_MOST_WHOLE if full_size else _MOST).get(kernel, vectors)
        cases = draw_cases(point, kernel, min(vectors, most), seed, whole=full_size)
        run = Run(point, simulators, seed, say)
        by_witness: dict[str, Callable[[StreamCase], list[Check]]] = {
            "bits": partial(compare_bits, run),
            "cycles": partial(compare_cycles, run),
        }
        checks: list[Check] = []
        for name in witnesses:
            if name == "hls":
                say(f"{kernel} has no HLS: V-Rex is RTL alone")
            elif name == "resources":
                checks += _resources(run, cases[0])
            else:
                checks += [check for case in cases for check in by_witness[name](case)]
        return checks


VERIFY = VrexVerify()


def _resources(run: Run, case: "StreamCase") -> list[Check]:
    """State the cells of the mapped netlist."""
    from headrace.rtl.netlist import map_netlist
    from headrace.rtl.vrex.emission import MAPPED

    run.say(f"{case.kernel}: mapping the netlist with Yosys")
    mapped = map_netlist(run.verilog(case), case.kernel)
    note = f"netlists {MAPPED}; Yosys {mapped.yosys_version}"
    return [
        Check(
            kernel=case.kernel,
            witness="resources",
            what=name,
            simulator="yosys",
            point=run.point,
            expected=None,
            measured=float(getattr(mapped, name)),
            note=note,
        )
        for name in _CELLS
    ]
