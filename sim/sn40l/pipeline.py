"""A kernel's pipeline tile by tile, as a timed stream graph."""

from dataclasses import replace
from functools import lru_cache
from math import ceil

from headrace.arch.sn40l.chip import ChipSizes
from headrace.sim.cycle import simulate
from headrace.sim.graph import StreamGraph, pulse
from headrace.sim.sn40l.buffers import Tiling
from headrace.sim.sn40l.node import KernelTime, Node
from headrace.sim.sn40l.placement import Placement, place
from headrace.sim.sn40l.sections import Kernel

__all__ = ["kernel_graph", "kernel_time"]


def kernel_graph(
    kernel: Kernel, placed: Placement, chip: ChipSizes, tiling: Tiling, *, hbm: int, link: int
) -> StreamGraph:
    """Build the graph of a kernel; a firing of a node is one tile.

    Stages are joined by double buffers, two tiles for every stage between writer and reader.
    Attention that is not causal waits for all tiles of a sequence.

    Parameters
    ----------
    kernel : Kernel
    placed : Placement
    chip : ChipSizes
    tiling : Tiling
    hbm, link : int, cycles
        Per tile: bytes over HBM, which come ahead of the first stage, two tiles early at most;
        bytes over the links, after the last stage.
    """
    graph = StreamGraph(kernel.segment)
    order = {task.name: number for number, task in enumerate(kernel.tasks)}
    graph.add_node("hbm", ii=hbm, latency=hbm)
    for task, units in zip(kernel.tasks, placed.pcus, strict=True):
        work = chip.pcu_cycles(task.macs, task.values, task.steps)
        cycles = ceil(work / units / tiling.tiles)
        waits = task.whole in order and not task.causal
        phases = tiling.sequence_tiles if waits else 1
        graph.add_node(task.name, ii=cycles, latency=cycles, phases=phases)
        sources = [s for s in dict.fromkeys((*task.inputs, task.whole)) if s in order]
        for source in sources:
            distance = order[task.name] - order[source]
            if waits and source == task.whole:
                consume = pulse(phases, 0) * phases
                graph.add_edge(source, task.name, consume=consume, depth=2 * phases * distance)
            else:
                skipped = max((order[s] for s in sources), default=0) - order[source]
                slack = 2 * tiling.sequence_tiles if any_waits(kernel, order) and skipped else 0
                graph.add_edge(source, task.name, depth=2 * distance + slack)
        if not sources:
            graph.add_edge("hbm", task.name, depth=2 * (order[task.name] + 1))
    graph.add_node("link", ii=link, latency=link)
    graph.add_edge(kernel.tasks[-1].name, "link", depth=2)
    return graph


def any_waits(kernel: Kernel, order: dict[str, int]) -> bool:
    """Return whether a stage waits for whole sequences of another one."""
    return any(task.whole in order and not task.causal for task in kernel.tasks)


def kernel_time(node: Node, kernel: Kernel, tiling: Tiling) -> KernelTime:
    """Return the times of a call with its pipeline run tile by tile; see `Node.kernel_time`.

    The units' ports bound the pipeline as in the closed form.
    """
    closed = node.kernel_time(kernel, tiling)
    seconds = _pipeline_cycles(node, kernel, tiling, closed) / node.chip.clock_hz
    steady = max(closed.compute_s, closed.hbm_s, closed.link_s)
    return replace(closed, fill_s=max(0.0, seconds - steady))


@lru_cache(maxsize=4096)
def _pipeline_cycles(node: Node, kernel: Kernel, tiling: Tiling, closed: KernelTime) -> int:
    hertz = node.chip.clock_hz
    graph = kernel_graph(
        kernel,
        place(kernel, node.chip),
        node.chip,
        tiling,
        hbm=ceil(closed.hbm_s * hertz / tiling.tiles),
        link=ceil(closed.link_s * hertz / tiling.tiles),
    )
    return simulate(graph, firings={"link": tiling.tiles}).cycles
