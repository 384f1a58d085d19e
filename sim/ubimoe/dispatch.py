"""Timed stream graph of UbiMoE's dispatch, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.dispatch`) does what. Rows are given
without a gap between experts, so the routing only decides how many jobs there are.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.held import held_arrivals, mark_transfers
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_dispatch", "dispatch_graph"]


def dispatch_graph(
    sizes: DispatchSizes,
    loads: Sequence[Sequence[int]],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `choices`, `jobs`, `rows`; or a step inside: `choice` (one of a beat of choices is appended to
    its queue), `read` (a row is read).

    Parameters
    ----------
    sizes : DispatchSizes
    loads : sequence of sequences of int
        For each command the rows of every expert, in order; 0 for those that nobody chose.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no command, or no routing has these loads.
    """
    graph = StreamGraph("dispatch")
    given = dict(arrivals or {})
    tokens = [sizes.tokens_of(load) for load in loads]
    steps = [sizes.top_k] * sum(tokens)
    if "choices" in given:
        given["choice"] = held_arrivals(given["choices"], steps)
    part = Part(graph, arrivals=given)
    add_dispatch(part, sizes, loads)
    mark_transfers(part, "choices", "choice", steps)
    return graph


def add_dispatch(part: Part, sizes: DispatchSizes, loads: Sequence[Sequence[int]]) -> None:
    """Add the nodes of `dispatch_graph` to a part of a graph.

    Its ports are `command`, `jobs`, `rows` and, instead of `choices`, `choice`: a beat of choices
    stays for `top_k` firings of it.

    Parameters
    ----------
    part : Part
    sizes : DispatchSizes
    loads : sequence of sequences of int

    Raises
    ------
    InputError
        There is no command, or no routing has these loads.
    """
    if not loads:
        raise InputError("dispatch: no work; at least one command")
    rows = [sizes.tokens_of(load) * sizes.top_k for load in loads]
    jobs = [int(np.count_nonzero(load)) for load in loads]
    part.add_port("command", len(loads))
    part.add_port("choice", sum(rows))
    part.add_port("jobs", sum(jobs))
    part.add_port("rows", sum(rows))
    part.add_node("read", phases=sum(rows))

    part.add_edge("command", "choice", consume=firsts(rows))
    part.add_edge("choice", "jobs", produce=lasts(rows), consume=firsts(jobs))
    part.add_edge("choice", "read", produce=lasts(rows), consume=firsts(rows))
    part.add_edge("read", "rows", depth=1, release=0, name="row")
    part.add_edge("command", "jobs", consume=lasts(jobs), depth=1, name="waiting")
    part.add_edge("command", "read", consume=lasts(rows), depth=1, name="unread")
