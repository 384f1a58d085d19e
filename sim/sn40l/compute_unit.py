"""Timed stream graph of SN40L's compute unit, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.sn40l.compute_unit`) does what.
"""

from collections.abc import Mapping

import numpy as np

from headrace.arch.sn40l.compute_program import ComputeProgram
from headrace.arch.sn40l.compute_unit import BANKS, ComputeUnitSizes
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_compute_unit", "compute_unit_graph"]


def compute_unit_graph(
    sizes: ComputeUnitSizes,
    program: ComputeProgram,
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of one command; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `commands`,
    `left`, `results`; or `drain`, a sum of every lane leaves the array. A right beat is taken
    together with a left one, with the last of those that it serves. The next command is taken in
    the cycle of the last result, and begins anew.

    Parameters
    ----------
    sizes : ComputeUnitSizes
    program : ComputeProgram
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port: `commands`, `left`, `right`, `results`.

    Returns
    -------
    StreamGraph
    """
    graph = StreamGraph("compute_unit")
    given = dict(arrivals or {})
    right = given.pop("right", None)
    if right is not None and len(right):
        right = np.repeat(right, sizes.interleave if program.systolic else 1)
        given["left"] = np.maximum(given.get("left", np.zeros_like(right)), right)
    add_compute_unit(Part(graph, arrivals=given), sizes, program)
    return graph


def add_compute_unit(part: Part, sizes: ComputeUnitSizes, program: ComputeProgram) -> None:
    """Add the nodes of `compute_unit_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
        `left` is no port of it yet; who adds an edge into it adds one for the right beats, too.
    sizes : ComputeUnitSizes
    program : ComputeProgram
    """
    tile = program.depth * sizes.interleave if program.systolic else 1
    beats = program.count * tile
    tail = sizes.tail_cycles(program.reduction)
    pipeline = sizes.stages * sizes.stage_registers + tail
    part.add_port("commands", 1)
    part.add_port("left", beats, latency=sizes.first_drain if program.systolic else pipeline)
    part.add_port("results", sizes.results(program))
    part.add_edge("commands", "left", produce=beats)
    if not program.systolic:
        part.add_edge("left", "results", rigid=True)
        return
    steps, drained = [tile] * program.count, [sizes.drain_beats] * program.count
    part.add_node("drain", phases=sum(drained), latency=1 + tail)
    part.add_edge(
        "left",
        "drain",
        claim=firsts(steps),
        produce=lasts(steps),
        consume=firsts(drained),
        free=lasts(drained),
        depth=BANKS,
    )
    part.add_edge("drain", "results", rigid=True)
