"""Timed stream graph of UbiMoE's weight prefetch, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.prefetch`) does what;
docs/timing-theory.md has the rule by which graphs are simulated.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph

__all__ = ["prefetch_graph"]


def prefetch_graph(
    sizes: PrefetchSizes,
    beats: Sequence[int],
    latency: Sequence[Sequence[int]],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of jobs one behind the other; simulate one iteration of it.

    A firing is a transfer, in the very cycle in which the RTL does it: `jobs`, `weights`, and
    `portP_ar` and `portP_r`, an address and a word of port P; or a step inside: `read` (a job
    goes to the ports), `memory_P` (the memory begins with a burst).

    Parameters
    ----------
    sizes : PrefetchSizes
    beats : sequence of int
        Of every job's image.
    latency : sequence of sequence of int
        For every port and each of its bursts the cycles from the address to the first word, at
        least 1. The memory answers in order, a word per cycle.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by name.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no job, a count is not positive, or latencies are missing.
    """
    bursts = _bursts(sizes, beats, latency)
    given = dict(arrivals or {})
    last_address = np.isin(np.arange(sum(bursts)), np.cumsum(bursts) - 1).astype(np.int64)
    first_address = np.roll(last_address, 1)
    first_word, last_word = _bounds(sizes, beats)
    graph = StreamGraph("prefetch")
    graph.add_node("jobs", phases=len(beats), latency=2, arrivals=given.get("jobs"))
    graph.add_node("read", phases=len(beats))
    graph.add_node("weights", phases=sum(beats), arrivals=given.get("weights"))
    graph.add_edge("jobs", "read")
    graph.add_edge("read", "jobs", initial=1, name="job held")
    for port in range(sizes.ports):
        address, memory, word = f"port{port}_ar", f"memory_{port}", f"port{port}_r"
        after = np.asarray(latency[port], np.int64) - 1
        graph.add_node(address, phases=sum(bursts), arrivals=given.get(address))
        graph.add_node(memory, phases=sum(bursts), latency=after)
        graph.add_node(word, phases=sum(beats), arrivals=given.get(word))
        graph.add_edge("read", address, consume=first_address)
        graph.add_edge(address, "read", produce=last_address, initial=1, name=f"addresses {port}")
        graph.add_edge(address, memory)
        graph.add_edge(memory, word, consume=first_word)
        graph.add_edge(
            word, address, produce=last_word, initial=sizes.outstanding, name=f"under way {port}"
        )
        graph.add_edge(word, "weights", depth=sizes.buffer_beats)
    return graph


def _bursts(
    sizes: PrefetchSizes, beats: Sequence[int], latency: Sequence[Sequence[int]]
) -> list[int]:
    """Return the bursts of each job, if all is well."""
    if not beats or min(beats) < 1:
        raise InputError(f"beats = {list(beats)} is not allowed: at least one job, and 1 of each")
    bursts = [sizes.bursts(count) for count in beats]
    if [len(port) for port in latency] != [sum(bursts)] * sizes.ports:
        raise InputError(f"latency is not allowed: {sum(bursts)} of each of {sizes.ports} ports")
    if min(min(port) for port in latency) < 1:
        raise InputError("latency is not allowed: at least 1 cycle")
    return bursts


def _bounds(sizes: PrefetchSizes, beats: Sequence[int]) -> tuple[IntArray, IntArray]:
    """Return 1 at the first word of each burst, and at the last one."""
    first = np.concatenate([np.arange(count) % sizes.burst_beats == 0 for count in beats])
    return first.astype(np.int64), np.roll(first, -1).astype(np.int64)
