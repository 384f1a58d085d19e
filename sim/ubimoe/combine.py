"""Timed stream graph of UbiMoE's combine, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.combine`) does what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.ubimoe.combine import ADD_CYCLES, CombineSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["CombineWork", "add_combine", "combine_graph"]


@dataclass(frozen=True, kw_only=True)
class CombineWork:
    """A command and the jobs that follow.

    Parameters
    ----------
    tokens : int
        As in the command.
    jobs : tuple of int
        Rows of each job; together a multiple of `tokens`.
    """

    tokens: int
    jobs: tuple[int, ...]


def combine_graph(
    sizes: CombineSizes,
    work: Sequence[CombineWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `jobs`, `rows`, `values`, `residual`, `results`; or a step inside: `finish` (the last sum of
    a command is written), `read` (a result is read).

    Parameters
    ----------
    sizes : CombineSizes
    work : sequence of CombineWork
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no work, or the kernel cannot do it.
    """
    graph = StreamGraph("combine")
    add_combine(Part(graph, arrivals=arrivals), sizes, work)
    return graph


def add_combine(part: Part, sizes: CombineSizes, work: Sequence[CombineWork]) -> None:
    """Add the nodes of `combine_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
    sizes : CombineSizes
    work : sequence of CombineWork

    Raises
    ------
    InputError
        There is no work, or the kernel cannot do it.
    """
    _check(sizes, work)
    sequences = [item.tokens * sizes.row_beats for item in work]
    commands = len(work)
    part.add_port("command", commands)
    part.add_port("residual", sum(sequences))
    part.add_port("results", sum(sequences))
    part.add_node("finish", phases=commands, latency=ADD_CYCLES - 1)
    part.add_node("read", phases=sum(sequences))
    _add_rows(part, sizes, work)

    part.add_edge("command", "residual", consume=firsts(sequences))
    part.add_edge("finish", "read", consume=firsts(sequences))
    part.add_edge("read", "results", depth=1, release=0, name="result")
    part.add_edge(
        "command", "results", consume=lasts(sequences), depth=1, release=0, name="sequence"
    )
    values = [sum(item.jobs) * sizes.row_beats for item in work]
    part.add_edge("residual", "values", produce=lasts(sequences), consume=firsts(values))
    part.add_edge("values", "finish", produce=lasts(values))


def _add_rows(part: Part, sizes: CombineSizes, work: Sequence[CombineWork]) -> None:
    """Add what leads from jobs to values."""
    jobs = [rows for item in work for rows in item.jobs]
    groups = [min(sizes.lanes, job - row) for job in jobs for row in range(0, job, sizes.lanes)]
    group_values = [rows * sizes.row_beats for rows in groups]
    part.add_port("jobs", len(jobs))
    part.add_port("rows", sum(jobs))
    part.add_port("values", sum(group_values))
    part.add_edge("command", "jobs", consume=firsts([len(item.jobs) for item in work]))
    # The next job is taken with the last row of the one before.
    part.add_edge(
        "jobs", "rows", consume=firsts(jobs), free=lasts(jobs), depth=1, release=0, name="job"
    )
    # A group's first beats wait for their rows; the bank is free when the last beat is taken.
    first_beats = [[1] * rows + [0] * (rows * (sizes.row_beats - 1)) for rows in groups]
    part.add_edge("rows", "values", consume=np.concatenate(first_beats), name="entries")
    part.add_edge(
        "rows", "values", produce=firsts(groups), consume=lasts(group_values), depth=2, name="banks"
    )


def _check(sizes: CombineSizes, work: Sequence[CombineWork]) -> None:
    if not work:
        raise InputError("combine: no work; at least one command")
    for number, item in enumerate(work):
        choices, rest = divmod(sum(item.jobs), item.tokens or 1)
        if rest or any(rows < 1 for rows in item.jobs):
            raise InputError(
                f"work {number}: jobs of {list(item.jobs)} rows are not allowed: at least one row"
                f" each, as many for every one of {item.tokens} tokens"
            )
        sizes.check_command(item.tokens, choices)
