"""Timed stream graph of UbiMoE's gate, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.gate`) does what.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.arch.ubimoe.gate import TURN, GateSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.held import held_arrivals, mark_transfers
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_gate", "gate_graph"]


def gate_graph(
    sizes: GateSizes,
    tokens: Sequence[int],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `weights`, `inputs`, `choices`; or a step inside: `issue` (a beat meets an expert's weights),
    `score` (a token's last beat met the first expert's), `softmax` (it begins with a token).

    Parameters
    ----------
    sizes : GateSizes
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
        There is no command, or one of too many tokens.
    """
    graph = StreamGraph("gate")
    given = dict(arrivals or {})
    steps = [sizes.experts] * (sum(tokens) * sizes.row_beats)
    if "inputs" in given:
        given["issue"] = held_arrivals(given["inputs"], steps)
    part = Part(graph, arrivals=given)
    add_gate(part, sizes, tokens)
    mark_transfers(part, "inputs", "issue", steps)
    return graph


def add_gate(part: Part, sizes: GateSizes, tokens: Sequence[int]) -> None:
    """Add the nodes of `gate_graph` to a part of a graph.

    Its ports are `command`, `weights`, `choices` and, instead of `inputs`, `issue`: a beat of
    inputs stays for `experts` firings of it.

    Parameters
    ----------
    part : Part
    sizes : GateSizes
    tokens : sequence of int

    Raises
    ------
    InputError
        There is no command, or one of too many tokens.
    """
    if not tokens:
        raise InputError("gate: no work; at least one command")
    for number in tokens:
        sizes.check_tokens(number)
    images = [sizes.weight_words] * len(tokens)
    issues = [number * sizes.weight_words for number in tokens]
    # The last beat of a row with the first expert completes the first score.
    completes = np.zeros(sizes.weight_words, np.int64)
    completes[-sizes.experts] = 1
    completes = np.tile(completes, sum(tokens))
    part.add_port("command", len(tokens))
    part.add_port("weights", sum(images))
    part.add_port("issue", sum(issues))
    part.add_port("choices", sum(tokens))
    part.add_node("score", phases=sum(tokens), latency=sizes.product_cycles)
    part.add_node("softmax", phases=sum(tokens), latency=sizes.softmax_cycles - 1)

    part.add_edge("command", "weights", consume=firsts(images))
    part.add_edge("weights", "issue", produce=lasts(images), consume=firsts(issues))
    part.add_edge("command", "issue", consume=lasts(issues), depth=1, name="busy")
    part.add_edge("issue", "score", produce=completes)
    part.add_edge("score", "softmax")
    scores_read = TURN * (sizes.experts - 1) + 2
    part.add_edge("issue", "softmax", produce=completes, depth=1, release=scores_read, name="room")
    part.add_edge("softmax", "choices", depth=1, name="token")
