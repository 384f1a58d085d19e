"""Timed stream graph of V-Rex's mean-key unit, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.vrex.mean_key`) does what.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.arch.vrex.mean_key import COUNT_BITS, MeanKeySizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_mean_key", "mean_key_graph"]


def mean_key_graph(
    sizes: MeanKeySizes,
    counts: Sequence[int],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of tokens in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `counts`,
    `keys`, `moved`. A beat of means is taken together with that of the key.

    Parameters
    ----------
    sizes : MeanKeySizes
    counts : sequence of int
        For every token the keys of its cluster, itself included; with a count of 1 there is no
        mean.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port: `counts`, `keys`, `means`, `moved`.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no token, or a count is out of range.
    """
    graph = StreamGraph("mean_key")
    add_mean_key(Part(graph, arrivals=arrivals), sizes, counts)
    return graph


def add_mean_key(part: Part, sizes: MeanKeySizes, counts: Sequence[int]) -> None:
    """Add the nodes of `mean_key_graph` to a part of a graph; its port `means` is among `keys`.

    Parameters
    ----------
    part : Part
    sizes : MeanKeySizes
    counts : sequence of int

    Raises
    ------
    InputError
        There is no token, or a count is out of range.
    """
    if not 1 <= min(counts, default=0) <= max(counts) < 1 << COUNT_BITS:
        raise InputError(f"mean_key: counts {list(counts)}; at least one, 1 to 65535 are needed")
    keys = [sizes.beats] * len(counts)
    moves = np.flatnonzero(np.repeat(np.array(counts) > 1, sizes.beats))
    part.add_port("counts", len(counts))
    part.add_port("keys", sum(keys), beside={"means": moves}, latency=sizes.latency)
    part.add_port("moved", sum(keys))
    # The next count is taken with the last beat of the key before.
    part.add_edge("counts", "keys", consume=firsts(keys), free=lasts(keys), depth=1, release=0)
    part.add_edge("keys", "moved", rigid=True)
