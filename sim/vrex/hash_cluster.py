"""Timed stream graph of V-Rex's hash-cluster unit, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.vrex.hash_cluster`) does what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.vrex.hash_cluster import COUNT_BITS, HashClusterSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part

__all__ = ["HashClusterWork", "add_hash_cluster", "hash_cluster_graph"]


@dataclass(frozen=True, kw_only=True)
class HashClusterWork:
    """A command, and what the codes of its tokens led to.

    Parameters
    ----------
    opens : tuple of bool
        Whether each token, in order, opened a cluster.
    rows : int
        Rows of the table that are loaded before.
    clear : bool
        The clusters that the unit holds are forgotten before.
    """

    opens: tuple[bool, ...]
    rows: int = 0
    clear: bool = False


def hash_cluster_graph(
    sizes: HashClusterSizes,
    work: Sequence[HashClusterWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn, the first after reset; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `table` (if any rows are loaded), `codes`, `assignments`; or a step inside: `start` (the rows
    are there), `take` (a token leaves the buffer), `decide` (its cluster is known).

    Parameters
    ----------
    sizes : HashClusterSizes
    work : sequence of HashClusterWork
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no token, or the unit cannot do the work.
    """
    graph = StreamGraph("hash_cluster")
    add_hash_cluster(Part(graph, arrivals=arrivals), sizes, work)
    return graph


def add_hash_cluster(part: Part, sizes: HashClusterSizes, work: Sequence[HashClusterWork]) -> None:
    """Add the nodes of `hash_cluster_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
    sizes : HashClusterSizes
    work : sequence of HashClusterWork

    Raises
    ------
    InputError
        There is no token, or the unit cannot do the work.
    """
    scanned = _clusters_before(sizes, work)
    rows = np.array([item.rows for item in work], np.int64)
    tokens = np.array([len(item.opens) for item in work], np.int64)
    part.add_port("command", len(work))
    part.add_port("codes", scanned.size)
    part.add_port("assignments", scanned.size)
    part.add_node("start", phases=len(work), latency=0)
    part.add_node("take", phases=scanned.size, latency=sizes.token_cycles(scanned) - 1)
    part.add_node("decide", phases=scanned.size)

    part.add_edge("command", "start")
    if rows.any():
        part.add_port("table", int(rows.sum()))
        part.add_edge("command", "table", produce=rows)
        part.add_edge("table", "start", consume=rows)
    part.add_edge("start", "take", produce=tokens)
    part.add_edge("codes", "take", depth=sizes.frame_tokens)
    part.add_edge("take", "decide")
    part.add_edge("decide", "take", initial=1, name="next token")
    part.add_edge("decide", "assignments", depth=1, release=0, name="assignment")
    # A command waits for the rows and the tokens of the one before.
    part.add_edge("start", "command", initial=1, name="loaded")
    before = np.roll(tokens, 1)
    part.add_edge("decide", "command", consume=before, initial=int(before[0]), name="sorted")


def _clusters_before(sizes: HashClusterSizes, work: Sequence[HashClusterWork]) -> IntArray:
    """Return the clusters that each token is compared with, if all is well."""
    held, before = 0, [np.zeros(0, np.int64)]
    for number, item in enumerate(work):
        opened = np.asarray(item.opens, np.int64)
        held = item.rows + (0 if item.clear else held)
        before.append(held + np.cumsum(opened) - opened)
        held += int(opened.sum())
        if max(item.rows, opened.size) >> COUNT_BITS or item.rows < 0 or held > sizes.clusters:
            raise InputError(
                f"work {number}: {item.rows} rows, {opened.size} tokens, then {held} clusters are"
                f" not allowed: 0 to 65535 of both, at most {sizes.clusters} clusters"
            )
    if not sum(len(part) for part in before):
        raise InputError("hash_cluster: no work; at least one token")
    return np.concatenate(before)
