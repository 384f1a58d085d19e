"""Timed stream graph of UbiMoE's streaming attention, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.streaming_attention`) does what;
docs/timing-theory.md has the rule by which graphs are simulated.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.arch.ubimoe.streaming_attention import (
    StreamingAttentionSizes,
    attention_steps,
)
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_streaming_attention", "streaming_attention_graph"]


def streaming_attention_graph(
    sizes: StreamingAttentionSizes,
    tokens: Sequence[int],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of passes in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `keys`, `values`, `results`; or `score`, the cycle after a beat of keys. A beat of queries is
    taken together with its beat of keys, those of the steps in which its row begins.

    Parameters
    ----------
    sizes : StreamingAttentionSizes
    tokens : sequence of int
        Of each command.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no command, or one that the kernel cannot do.
    """
    graph = StreamGraph("streaming attention")
    add_streaming_attention(Part(graph, arrivals=arrivals), sizes, tokens)
    return graph


def add_streaming_attention(
    part: Part, sizes: StreamingAttentionSizes, tokens: Sequence[int]
) -> None:
    """Add the nodes of `streaming_attention_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
        The port `queries` is made of `keys`.
    sizes : StreamingAttentionSizes
    tokens : sequence of int

    Raises
    ------
    InputError
        There is no command, or one that the kernel cannot do.
    """
    if not tokens:
        raise InputError("streaming attention: at least one command")
    for count in tokens:
        sizes.check_tokens(count)
    passes = [attention_steps(count, sizes.lanes) * sizes.row_beats for count in tokens]
    begins, ends = _row_beats(sizes, tokens, 0), _row_beats(sizes, tokens, 1)
    beats = begins.size
    part.add_port("command", len(tokens))
    part.add_port("keys", beats, {"queries": np.flatnonzero(begins)})
    part.add_port("values", beats, latency=sizes.result_cycles)
    part.add_port("results", sum(tokens) * sizes.row_beats)
    part.add_node("score", phases=beats, latency=sizes.score_cycles - 1)

    part.add_edge("command", "keys", consume=firsts(passes))
    part.add_edge(
        "command", "values", consume=firsts(passes), free=lasts(passes), depth=1, name="pass"
    )
    heads = [sizes.head_beats] * (beats // sizes.head_beats)
    first, last = firsts(heads), lasts(heads)
    every = np.ones_like(begins)
    part.add_edge("keys", "score")
    for name, given, used, depth in (
        ("scores", every, every, sizes.scores_depth),
        ("maxima", ends, begins, sizes.maxima_depth),
    ):
        written, read = last * given, first * used
        part.add_edge("score", "values", produce=written, consume=read, name=name)
        part.add_edge(
            "keys",
            "values",
            claim=first * given,
            produce=written,
            consume=read,
            free=last * used,
            depth=depth,
            name=f"room of {name}",
        )
    part.add_edge("values", "results", produce=ends, rigid=True, name="weighing")


def _row_beats(sizes: StreamingAttentionSizes, tokens: Sequence[int], keys: int) -> IntArray:
    """Return 1 at the beats of the steps in which a row has its first key, or, with 1, its last."""
    marks = []
    for count in tokens:
        row = np.arange(count)
        steps = row // sizes.lanes * count + row % sizes.lanes + keys * (count - 1)
        marks.append(np.zeros(attention_steps(count, sizes.lanes), np.int64))
        marks[-1][steps] = 1
    return np.repeat(np.concatenate(marks), sizes.row_beats)
