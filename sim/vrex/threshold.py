"""Timed stream graph of V-Rex's threshold unit, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.vrex.threshold`) does what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.vrex.threshold import CLUSTER_BITS, ThresholdSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["ThresholdWork", "add_threshold", "threshold_graph"]


@dataclass(frozen=True, kw_only=True)
class ThresholdWork:
    """A command, and what its scores led to.

    Parameters
    ----------
    clusters : int
        Of each row.
    walked : tuple of int
        Buckets walked in each row, to and with the one that ends it, empty ones included.
    chosen : tuple of int
        Numbers of the clusters that any row chose, ascending.
    """

    clusters: int
    walked: tuple[int, ...]
    chosen: tuple[int, ...]


def threshold_graph(
    sizes: ThresholdSizes,
    work: Sequence[ThresholdWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `counts`, `scores`, `results`; or a step inside: `walk` (the beats of a row are there, and its
    bounds and buckets follow), `word` (a word of the union is given out, or found to be empty).

    Parameters
    ----------
    sizes : ThresholdSizes
    work : sequence of ThresholdWork
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
    graph = StreamGraph("threshold")
    add_threshold(Part(graph, arrivals=arrivals), sizes, work)
    return graph


def add_threshold(part: Part, sizes: ThresholdSizes, work: Sequence[ThresholdWork]) -> None:
    """Add the nodes of `threshold_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
    sizes : ThresholdSizes
    work : sequence of ThresholdWork

    Raises
    ------
    InputError
        There is no command, or the unit cannot do the work.
    """
    _check(sizes, work)
    counts = [sizes.beats(item.clusters) for item in work]
    rows = [len(item.walked) for item in work]
    beats = np.repeat(counts, rows).tolist()
    commands = [number * count for number, count in zip(rows, counts, strict=True)]
    part.add_port("command", len(work))
    part.add_port("counts", sum(counts))
    part.add_port("scores", sum(beats))
    walks = [
        sizes.row_cycles(item.clusters, np.array(item.walked)) - count
        for item, count in zip(work, counts, strict=True)
    ]
    part.add_node("walk", latency=np.concatenate(walks), phases=sum(rows))

    part.add_edge("command", "counts", consume=firsts(counts))
    part.add_edge("counts", "scores", produce=lasts(counts), consume=firsts(commands))
    part.add_edge("scores", "walk", produce=lasts(beats))
    part.add_edge("walk", "scores", consume=firsts(beats), initial=1, name="next row")
    _add_results(part, sizes, work)


def _add_results(part: Part, sizes: ThresholdSizes, work: Sequence[ThresholdWork]) -> None:
    """Add what leads from the rows to the chosen clusters, and to the next command."""
    filled = [np.bincount(np.array(item.chosen) // sizes.lanes) for item in work]
    results, words = [len(item.chosen) for item in work], [len(item) for item in filled]
    per_word = np.concatenate(filled)
    holds = (per_word > 0).astype(np.int64)
    given = per_word[per_word > 0].tolist()
    part.add_port("results", sum(results))
    part.add_node("word", phases=sum(words), latency=0)

    decided = firsts(words)
    decided[decided > 0] = [len(item.walked) for item in work]
    part.add_edge("walk", "word", consume=decided)
    part.add_edge("word", "results", produce=holds, consume=firsts(given))
    # A word follows when the one before is empty: given out, or without any cluster.
    part.add_edge(
        "results", "word", produce=lasts(given), consume=np.roll(holds, 1), initial=1, name="given"
    )
    part.add_edge("results", "command", produce=lasts(results), initial=1, name="ended")


def _check(sizes: ThresholdSizes, work: Sequence[ThresholdWork]) -> None:
    if not work:
        raise InputError("threshold: no work; at least one command")
    for number, item in enumerate(work):
        where = f"work {number}:"
        if not 1 <= item.clusters <= sizes.max_clusters:
            raise InputError(
                f"{where} clusters = {item.clusters} is not allowed: 1 to {sizes.max_clusters}"
            )
        if not 1 <= len(item.walked) < 1 << CLUSTER_BITS:
            raise InputError(f"{where} {len(item.walked)} rows are not allowed: 1 to 65535")
        if not 1 <= min(item.walked) <= max(item.walked) <= sizes.buckets:
            raise InputError(
                f"{where} walked = {list(item.walked)} is not allowed: 1 to {sizes.buckets} each"
            )
        bounds = (-1, *item.chosen, item.clusters)
        if not item.chosen or min(np.diff(bounds)) < 1:
            raise InputError(
                f"{where} chosen = {list(item.chosen)} is not allowed: ascending numbers below"
                f" {item.clusters}, at least one"
            )
