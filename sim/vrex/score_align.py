"""Timed stream graph of V-Rex's score-alignment unit, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.vrex.score_align`) does what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.vrex.score_align import ROWS_INSIDE, ScoreAlignSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["ScoreAlignWork", "add_score_align", "score_align_graph"]


@dataclass(frozen=True, kw_only=True)
class ScoreAlignWork:
    """A command.

    Parameters
    ----------
    clusters : int
        Of each row.
    rows : int
    """

    clusters: int
    rows: int


def score_align_graph(
    sizes: ScoreAlignSizes,
    work: Sequence[ScoreAlignWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `scores`, `aligned`; or a step inside: `top` (a row is there, and its exponent follows), `read`
    (a beat is read from the ring).

    Parameters
    ----------
    sizes : ScoreAlignSizes
    work : sequence of ScoreAlignWork
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no command, or the unit cannot do the work.
    """
    graph = StreamGraph("score_align")
    add_score_align(Part(graph, arrivals=arrivals), sizes, work)
    return graph


def add_score_align(part: Part, sizes: ScoreAlignSizes, work: Sequence[ScoreAlignWork]) -> None:
    """Add the nodes of `score_align_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
    sizes : ScoreAlignSizes
    work : sequence of ScoreAlignWork

    Raises
    ------
    InputError
        There is no command, or the unit cannot do the work.
    """
    _check(sizes, work)
    rows = [item.rows for item in work]
    beats = [sizes.beats(item.clusters) for item in work]
    row_beats = np.repeat(beats, rows).tolist()
    commands = [count * number for count, number in zip(beats, rows, strict=True)]
    part.add_port("command", len(work))
    part.add_port("scores", sum(row_beats))
    part.add_port("aligned", sum(row_beats))
    part.add_node("top", phases=sum(rows), latency=sizes.latency - sizes.read_cycles - 1)
    part.add_node("read", phases=sum(row_beats), latency=sizes.read_cycles)

    part.add_edge("command", "scores", consume=firsts(commands))
    part.add_edge("scores", "command", produce=lasts(commands), initial=1, name="taken")
    part.add_edge("scores", "top", produce=lasts(row_beats))
    part.add_edge("top", "read", consume=firsts(row_beats))
    part.add_edge("scores", "read", depth=sizes.memory_words, name="ring")
    part.add_edge("read", "aligned", rigid=True, name="shift")
    # Every beat of a row waits until the row of ROWS_INSIDE rows before has left.
    ends = lasts(row_beats)
    part.add_edge(
        "scores",
        "aligned",
        claim=firsts(row_beats),
        produce=ends,
        consume=ends,
        depth=ROWS_INSIDE,
        name="rows",
    )


def _check(sizes: ScoreAlignSizes, work: Sequence[ScoreAlignWork]) -> None:
    if not work:
        raise InputError("score_align: no work; at least one command")
    for number, item in enumerate(work):
        for name, most in (("clusters", sizes.max_clusters), ("rows", 65535)):
            value = getattr(item, name)
            if not 1 <= value <= most:
                raise InputError(f"work {number}: {name} = {value} is not allowed: 1 to {most}")
