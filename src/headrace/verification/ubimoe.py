"""Check UbiMoE's kernels and its encoder block: bits, cycles, HLS and resources."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from headrace.arch.point import Point
from headrace.arch.ubimoe.reduce import reduced
from headrace.errors import InputError
from headrace.verification.check import Check
from headrace.verification.stream_checks import Run, compare_bits, compare_cycles

if TYPE_CHECKING:
    from headrace.verification.ubimoe_cases import Case

__all__ = ["VERIFY", "UbimoeVerify"]

KERNELS = (
    "linear",
    "streaming_attention",
    "layer_norm",
    "gate",
    "dispatch",
    "combine",
    "prefetch",
    "encoder_block",
)

_NEEDED = {
    "attention": "fused",
    "softmax": "online",
    "gelu": "table",
    "linear": "unified",
    "expert_order": "expert",
}
"""Axes whose other choices are machines of the timing model alone."""

_FULL_ROWS = {"linear": 32, "encoder_block": 12}
"""Most vectors at full size, where simulation takes long; of the other kernels one sequence."""

_SMALL_ROWS = {"encoder_block": 40}
"""Most vectors otherwise."""

_RESOURCE_TOLERANCE = {"lut": 0.15, "ff": 0.15, "dsp": 0.0, "bram36": 0.0, "uram": 0.0}
_FEW_CELLS = 50
"""LUTs or flip-flops by which the model may be wrong even where that is a larger share."""


class UbimoeVerify:
    """The ``verify`` face of the design ``ubimoe``."""

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
        """Check a kernel of `point`; see `headrace.verification.check.Verify`.

        A vector is a row, or, for the prefetch, a beat. Kernels of both halves of the encoder
        block are checked at the sizes of both. The prefetch has no resource model of its own,
        the encoder block no HLS.
        """
        for axis, needed in _NEEDED.items():
            if point.text(axis) != needed:
                raise InputError(
                    f"{axis} = {point.text(axis)} has no RTL: {axis} = {needed} needed"
                )
        instance = point if full_size else reduced(point)
        if full_size:
            most = _FULL_ROWS.get(kernel, point.integer("max_tokens"))
        else:
            most = _SMALL_ROWS.get(kernel, vectors)
        from headrace.verification.ubimoe_draw import draw_cases

        cases = draw_cases(instance, kernel, min(vectors, most), seed)
        note = _differences(instance) if kernel == "encoder_block" else ""
        run = Run(instance, simulators, seed, say, note)
        by_witness: dict[str, Callable[[Case], list[Check]]] = {
            "bits": partial(compare_bits, run),
            "cycles": partial(compare_cycles, run),
            "hls": partial(_hls, run),
            "resources": partial(_resources, run),
        }
        return [check for name in witnesses for case in cases for check in by_witness[name](case)]


VERIFY = UbimoeVerify()


def _differences(point: Point) -> str:
    """Return what the RTL's encoder block has, if the machine of the point has not."""
    has = {
        "Q, K and V on chip": point.text("keys") == "chip",
        "one attention module": point.integer("attention_modules") == 1,
        "two weight slots": point.integer("weight_slots") == 2,
    }
    missing = [name for name, there in has.items() if not there]
    return f"unlike the point, the RTL's block has {', '.join(missing)}" if missing else ""


def _hls(run: Run, case: "Case") -> list[Check]:
    """Compare the C simulation of the HLS C++ with the reference."""
    from headrace.hls.ubimoe import csim

    if case.hls is None:
        run.say(f"{case.kernel} has no HLS of its own; its kernels have")
        return []
    run.say(f"{case.half} {case.kernel}: HLS C++ with g++".strip())
    got = csim(case.hls.kernel(), case.hls.commands, case.hls.inputs)
    wanted = case.hls.results
    equal = sum(
        a == b for name, words in wanted.items() for a, b in zip(words, got[name], strict=False)
    )
    lengths = {len(words) - len(got[name]) for name, words in wanted.items()} == {0}
    count = sum(len(words) for words in wanted.values())
    return [
        run.check(case, "hls", "results", "g++", expected=count, measured=equal if lengths else 0)
    ]


def _resources(run: Run, case: "Case") -> list[Check]:
    """Compare the resource model with the mapped netlist."""
    from headrace.rtl.netlist import map_netlist

    if case.resources is None:
        run.say(f"{case.kernel} has no model of its resources alone: it is one of ports")
        return []
    run.say(f"{case.half} {case.kernel}: mapping the netlist with Yosys".strip())
    mapped = map_netlist(run.verilog(case), case.kernel)
    model = case.resources().as_dict()
    note = f"Yosys {mapped.yosys_version}: an open proxy of Vivado's counts"
    checks = []
    for name, share in _RESOURCE_TOLERANCE.items():
        measured = float(getattr(mapped, name))
        tolerance = max(share, _FEW_CELLS / measured) if share and measured else share
        figures = {"expected": model[name], "measured": measured, "tolerance": tolerance}
        checks.append(run.check(case, "resources", name, "yosys", **figures, note=note))
    return checks
