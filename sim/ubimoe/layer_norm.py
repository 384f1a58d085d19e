"""Timed stream graph of UbiMoE's layer norm, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.layer_norm`) does what;
docs/timing-theory.md has the rule by which graphs are simulated.
"""

from collections.abc import Mapping, Sequence

from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_layer_norm", "layer_norm_graph"]


def layer_norm_graph(
    sizes: LayerNormSizes,
    tokens: Sequence[int],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `parameters`, `inputs`, `results`; or a step inside: `sum` (a beat's first register),
    `issue` (a beat is read to be normalised).

    Parameters
    ----------
    sizes : LayerNormSizes
    tokens : sequence of int
        Rows of each command.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no command, or one of no rows.
    """
    graph = StreamGraph("layer norm")
    add_layer_norm(Part(graph, arrivals=arrivals), sizes, tokens)
    return graph


def add_layer_norm(part: Part, sizes: LayerNormSizes, tokens: Sequence[int]) -> None:
    """Add the nodes of `layer_norm_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
    sizes : LayerNormSizes
    tokens : sequence of int

    Raises
    ------
    InputError
        There is no command, or one of no rows.
    """
    if not tokens or min(tokens) < 1:
        raise InputError("layer norm: at least one command, each of at least one row")
    rows = [sizes.row_beats] * sum(tokens)
    commands = [count * sizes.row_beats for count in tokens]
    pairs = [sizes.row_beats] * len(tokens)
    part.add_port("command", len(tokens))
    part.add_port("parameters", sum(pairs))
    part.add_port("inputs", sum(rows))
    part.add_port("results", sum(rows))
    part.add_node("sum", phases=sum(rows), latency=sizes.statistics_latency - 1)
    part.add_node("issue", phases=sum(rows), latency=1 + sizes.normaliser_latency)

    part.add_edge(
        "command",
        "issue",
        consume=firsts(commands),
        free=lasts(commands),
        depth=1,
        name="rows left",
    )
    part.add_edge("command", "parameters", consume=firsts(pairs))
    part.add_edge("command", "inputs", consume=firsts(commands))
    part.add_edge(
        "parameters", "issue", produce=lasts(pairs), consume=firsts(commands), name="loaded"
    )
    part.add_edge("inputs", "issue", depth=sizes.buffer_beats, name="rows")
    part.add_edge("inputs", "sum")
    part.add_edge("sum", "issue", produce=lasts(rows), consume=firsts(rows), name="known")
    part.add_edge("issue", "results", rigid=True, name="normaliser")
