"""Timed stream graph of UbiMoE's MSA block, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.msa_block`) does what.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part, Port
from headrace.sim.rates import firsts, lasts
from headrace.sim.ubimoe.combine import CombineWork, add_combine
from headrace.sim.ubimoe.layer_norm import add_layer_norm
from headrace.sim.ubimoe.linear import LinearWork, add_linear
from headrace.sim.ubimoe.row_memory import add_qkv_rows
from headrace.sim.ubimoe.streaming_attention import add_streaming_attention

__all__ = ["add_msa_block", "msa_block_graph"]


def msa_block_graph(
    sizes: MsaBlockSizes,
    tokens: Sequence[int],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of sequences in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `norm`, `weights`, `inputs`, `results`; or one inside, under its kernel's name.

    Parameters
    ----------
    sizes : MsaBlockSizes
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
        There is no command, or one that the attention cannot do.
    """
    graph = StreamGraph("msa block")
    add_msa_block(Part(graph, arrivals=arrivals), sizes, tokens)
    return graph


def add_msa_block(part: Part, sizes: MsaBlockSizes, tokens: Sequence[int]) -> None:
    """Add the nodes of `msa_block_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
    sizes : MsaBlockSizes
    tokens : sequence of int

    Raises
    ------
    InputError
        There is no command, or one that the attention cannot do.
    """
    if not tokens:
        raise InputError("msa block: at least one command")
    commands, beats = len(tokens), sum(tokens) * sizes.row_beats
    part.add_port("command", commands)
    part.add_port("norm", commands * sizes.row_beats)
    part.add_port("weights", commands * sizes.weight_beats)
    part.add_port("inputs", beats)
    part.add_port("results", beats)
    port = part.ports
    normalised, attended, rows_in = _rows_in(part, sizes, tokens)
    add_layer_norm(
        part.inner("norm", parameters=port["norm"], inputs=port["inputs"], results=normalised),
        sizes.norm,
        tokens,
    )
    linear = part.inner("linear", weights=port["weights"], inputs=rows_in)
    work = [
        LinearWork(rows=count, in_tiles=sizes.in_tiles, out_tiles=rows * sizes.row_tiles)
        for count in tokens
        for rows in (3, 1)
    ]
    add_linear(linear, sizes.linear, work)
    sums = linear.ports["results"]
    of_qkv = np.repeat(np.tile([True, False], commands), [w.rows * w.out_tiles for w in work])
    attention = part.inner("attention", results=attended)
    add_streaming_attention(attention, sizes.attention, tokens)
    words = sizes.tile_out // sizes.dims
    operands = {
        name: attention.ports[name].wide_source(words) for name in ("queries", "keys", "values")
    }
    rows = part.inner("rows", inputs=sums.at(np.flatnonzero(of_qkv)), **operands)
    add_qkv_rows(rows, sizes, tokens)
    combine = part.inner(
        "combine",
        residual=port["inputs"].wide_sink(words),
        values=sums.at(np.flatnonzero(~of_qkv)),
        results=port["results"].wide_source(words),
    )
    add_combine(
        combine, sizes.combine, [CombineWork(tokens=count, jobs=(count,)) for count in tokens]
    )
    _add_commands(part, tokens)


def _rows_in(part: Part, sizes: MsaBlockSizes, tokens: Sequence[int]) -> tuple[Port, Port, Port]:
    """Add the stream into the linear; return it as the norm, the attention and the linear see it.

    Its firings are beats of the narrower side.
    """
    row = max(sizes.row_beats, sizes.in_tiles)
    beats = [n * row for n in tokens for _ in range(2)]
    part.add_port("rows_in", sum(beats))
    found = part.ports["rows_in"]
    of_norm = np.repeat(np.tile([True, False], len(tokens)), beats)
    normalised, attended = (
        found.at(np.flatnonzero(which)).wide_source(row // sizes.row_beats)
        for which in (of_norm, ~of_norm)
    )
    return normalised, attended, found.wide_sink(row // sizes.in_tiles)


def _add_commands(part: Part, tokens: Sequence[int]) -> None:
    """Add the way of a command to all kernels; the next one is taken when all have this one."""
    once, twice = [1] * len(tokens), [2] * len(tokens)
    sinks = {
        "norm.command": once,
        "attention.command": once,
        "combine.command": once,
        "combine.jobs": once,
        "entries": once,
        "linear.load": twice,
        "linear.compute": twice,
        "rows.command": once,
    }
    part.add_node("entries", phases=len(tokens))
    part.add_edge("entries", "combine.rows", consume=firsts(tokens), free=lasts(tokens), depth=1)
    for sink, transfers in sinks.items():
        part.add_edge("command", sink, consume=firsts(transfers), free=lasts(transfers), depth=1)
    # Combine takes a command when the sequence before is done.
    part.add_edge("combine.command", "rows.command")
