"""Timed stream graph of the memories of Q, K and V, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.row_memory`) does what.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.streaming_attention import attention_steps
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_qkv_rows", "qkv_rows_graph"]


def qkv_rows_graph(
    sizes: MsaBlockSizes,
    tokens: Sequence[int],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of sequences in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `inputs`, `queries`, `keys`, `values`; or a step inside: `read queries` and so on.

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
    graph = StreamGraph("rows of Q, K and V")
    add_qkv_rows(Part(graph, arrivals=arrivals), sizes, tokens)
    return graph


def add_qkv_rows(part: Part, sizes: MsaBlockSizes, tokens: Sequence[int]) -> None:
    """Add the nodes of `qkv_rows_graph` to a part of a graph.

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
        raise InputError("rows of Q, K and V: at least one command")
    for count in tokens:
        sizes.attention.check_tokens(count)
    groups = [rows for count in tokens for rows in sizes.linear.group_rows(count)]
    group_words = [3 * sizes.row_tiles * rows for rows in groups]
    written = [3 * sizes.row_tiles * count for count in tokens]
    part.add_port("command", len(tokens))
    part.add_port("inputs", sum(written))
    part.add_edge(
        "command", "inputs", consume=firsts(written), free=lasts(written), depth=1, name="writing"
    )
    whole = lasts(group_words)
    whole[whole > 0] = groups
    steps = [int(attention_steps(count, sizes.attention_lanes)) for count in tokens]
    for name, rows in (("queries", list(tokens)), ("keys", steps), ("values", steps)):
        reads = [count * sizes.row_tiles for count in rows]
        # A row is waited for only when it is read for the first time.
        fresh = [np.arange(count) < n for count, n in zip(rows, tokens, strict=True)]
        part.add_port(name, sum(reads))
        part.add_node(f"read {name}", phases=sum(reads))
        part.add_edge(
            "command",
            f"read {name}",
            consume=firsts(reads),
            free=lasts(reads),
            depth=1,
            name=f"reading {name}",
        )
        row_starts = firsts([sizes.row_tiles] * sum(rows))
        row_starts[row_starts > 0] = np.concatenate(fresh)
        part.add_edge("inputs", f"read {name}", produce=whole, consume=row_starts)
        part.add_edge(f"read {name}", name, depth=1, release=0)
