"""Passes and requests of a network on the sockets of a node."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from headrace.arch.sn40l.chip import ChipSizes
from headrace.models.network import Network
from headrace.sim.sn40l.buffers import Tiling
from headrace.sim.sn40l.node import KernelTime, Node
from headrace.sim.sn40l.sections import Kernel, Program, compile_pass
from headrace.sim.sn40l.workload import Pass

__all__ = ["TILE_ROWS", "PassTime", "clear_compiled", "generation_s", "pass_time"]

TILE_ROWS = 64
"""Rows that a stage takes at once; ours."""


@dataclass(frozen=True)
class PassTime:
    """One pass on all sockets.

    Attributes
    ----------
    program : Program
    kernels : tuple of (Kernel, KernelTime, int)
        Each kernel with its times and the calls of it.
    launches : int
    launch_s : float
        Of one launch.
    """

    program: Program
    kernels: tuple[tuple[Kernel, KernelTime, int], ...]
    launches: int
    launch_s: float

    @property
    def seconds(self) -> float:
        """All calls and launches, one after another."""
        busy = sum(calls * times.seconds for _, times, calls in self.kernels)
        return busy + self.launches * self.launch_s

    @property
    def intensity(self) -> float:
        """Operations per byte over HBM."""
        return self.program.intensity


def pass_time(work: Pass, node: Node, level: str, fidelity: str = "analytic") -> PassTime:
    """Return the times of a pass at a fusion level.

    Parameters
    ----------
    work : Pass
    node : Node
    level : str
        One of `headrace.sim.sn40l.sections.LEVELS`.
    fidelity : str
        ``cycle`` runs each kernel's pipeline tile by tile.
    """
    chip = node.chip
    units = ChipSizes(pcus=chip.pcus, pmus=chip.pmus, pmu_bytes=chip.pmu_bytes)
    program = _compiled(work, units, level)
    tiling = Tiling(work.tokens, work.batch, TILE_ROWS)
    kernel_time: Callable[[Node, Kernel, Tiling], KernelTime] = Node.kernel_time
    if fidelity == "cycle":
        from headrace.sim.sn40l.pipeline import kernel_time  # compiles with numba
    calls: dict[Kernel, int] = {}
    for kernel in program.calls:
        calls[kernel] = calls.get(kernel, 0) + 1
    found = tuple((k, kernel_time(node, k, tiling), n) for k, n in calls.items())
    return PassTime(program, found, node.launches(program), node.launch_s)


@lru_cache(maxsize=512)
def _compiled(work: Pass, units: ChipSizes, level: str) -> Program:
    """Return the program, which no clock and no lanes change."""
    return compile_pass(work, units, level, tile_rows=TILE_ROWS)


def clear_compiled() -> None:
    """Forget the programs compiled so far, for those who measure how long that takes."""
    _compiled.cache_clear()


def generation_s(
    network: Network, node: Node, level: str, *, prompt: int, output: int, batch: int = 1
) -> float:
    """Return the seconds of a request: prefill, then a pass for each token after the first.

    The passes of the answer are taken in the middle of it.
    """
    work = Pass(network=network, tokens=prompt, batch=batch, tensor_parallel=node.sockets)
    first = pass_time(work, node, level).seconds
    if output == 1:
        return first
    context = prompt + output // 2
    step = Pass(
        network=network, tokens=1, context=context, batch=batch, tensor_parallel=node.sockets
    )
    return first + (output - 1) * pass_time(step, node, level).seconds
