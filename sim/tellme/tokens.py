"""The matmul engine on a resident tile, as a timed stream graph."""

from headrace.arch.tellme.engine import EngineSizes
from headrace.sim.graph import StreamGraph, pulse

__all__ = ["token_graph"]


def token_graph(sizes: EngineSizes, rows: int, groups: int) -> StreamGraph:
    """Build the graph of the engine's compute side; one iteration is a token.

    Parameters
    ----------
    sizes : EngineSizes
    rows, groups : int
        Row blocks and output groups of the tile.

    Returns
    -------
    StreamGraph
        ``front`` fires per row block (gap, read, build), ``lookup`` per row block, ``drain`` per
        token. The FIFO ``tables`` holds the sets of tables; with one set the drain keeps it.
    """
    lookup = groups * sizes.lookup_cycles
    drain = sizes.drain_cycles(groups)
    graph = StreamGraph("ternary_matmul")
    graph.add_node("front", phases=rows, ii=sizes.front_cycles, latency=sizes.front_cycles)
    graph.add_node("lookup", phases=rows, ii=lookup, latency=lookup)
    graph.add_node("drain", ii=drain, latency=drain)
    graph.add_edge("front", "lookup", depth=sizes.table_buffers, release=lookup, name="tables")
    graph.add_edge("lookup", "drain", produce=pulse(rows, -1), name="last row")
    graph.add_edge("drain", "lookup", consume=pulse(rows, 0), initial=1, name="accumulators")
    if sizes.table_buffers == 1:
        graph.add_edge("drain", "front", consume=pulse(rows, 0), initial=1, name="turn")
    return graph
