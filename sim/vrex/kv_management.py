"""Timed stream graph of V-Rex's KV management unit, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.vrex.kv_management`) does what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.vrex.kv_management import NUMBER_BITS, KvManagementSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.held import mark_transfers, taken_arrivals
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["KvManagementWork", "add_kv_management", "kv_management_graph"]

_WAY = 3  # cycles from a token to its write
_GIVE = 2  # firings of `give` per write: it is there, and it is taken


@dataclass(frozen=True, kw_only=True)
class KvManagementWork:
    """A command, and what its clusters led to: a fetch if any are chosen, otherwise an append.

    Parameters
    ----------
    tokens : int
        Appended tokens.
    clear : bool
        The layer is forgotten before they are appended.
    chosen : tuple of tuple of int
        For each chosen cluster the extents of its runs of adjacent extents; () without any.
    """

    tokens: int = 0
    clear: bool = False
    chosen: tuple[tuple[int, ...], ...] = ()


def kv_management_graph(
    sizes: KvManagementSizes,
    work: Sequence[KvManagementWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `clusters` and `writes` (if tokens are appended), `chosen` and `reads` (if clusters are
    fetched); or a step inside: `start` (the layer is cleared, if it has to be), `give` (a write is
    there; it is taken), `walk` (a cluster's entry is taken; an extent is walked), `end` (the next
    command may come).

    Parameters
    ----------
    sizes : KvManagementSizes
    work : sequence of KvManagementWork
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
    graph = StreamGraph("kv_management")
    given = dict(arrivals or {})
    writes = [_GIVE] * sum(item.tokens for item in work)
    if "writes" in given:
        given["give"] = taken_arrivals(given["writes"], writes)
    part = Part(graph, arrivals=given)
    add_kv_management(part, sizes, work)
    if writes:
        mark_transfers(part, "writes", "give", writes)
    return graph


def add_kv_management(
    part: Part, sizes: KvManagementSizes, work: Sequence[KvManagementWork]
) -> None:
    """Add the nodes of `kv_management_graph` to a part of a graph.

    Its ports are `command`, `clusters`, `chosen`, `reads` and, instead of `writes`, `give`: a
    write is taken with the second firing of it.

    Parameters
    ----------
    part : Part
    sizes : KvManagementSizes
    work : sequence of KvManagementWork

    Raises
    ------
    InputError
        There is no command, or the unit cannot do the work.
    """
    _check(sizes, work)
    clears = [sizes.clusters * item.clear for item in work]
    part.add_port("command", len(work))
    part.add_node("start", phases=len(work), latency=clears)
    # An append ends in the cycle before the next command, a fetch in that cycle.
    part.add_node("end", phases=len(work), latency=[0 if item.chosen else 1 for item in work])
    part.add_edge("command", "start")
    part.add_edge("start", "end")
    part.add_edge("end", "command", initial=1)
    if any(item.tokens for item in work):
        _add_append(part, [item.tokens for item in work])
    if any(item.chosen for item in work):
        _add_fetch(part, [item.chosen for item in work])


def _add_append(part: Part, tokens: Sequence[int]) -> None:
    """Add what leads from tokens to writes."""
    writes = sum(tokens)
    there, taken = np.tile([1, 0], writes), np.tile([0, 1], writes)
    part.add_port("clusters", writes, latency=_WAY)
    part.add_port("give", _GIVE * writes, ii=taken, latency=0)
    part.add_edge("start", "clusters", produce=tokens)
    part.add_edge("clusters", "give", consume=there, free=taken, rigid=True, name="token")
    # The last write has to be there, not to be taken.
    part.add_edge("give", "end", produce=there, consume=tokens)


def _add_fetch(part: Part, fetches: Sequence[tuple[tuple[int, ...], ...]]) -> None:
    """Add what leads from chosen clusters to reads."""
    chosen = [len(fetch) for fetch in fetches]
    entries = [[1, *max(1, sum(runs)) * [0]] for fetch in fetches for runs in fetch]
    lengths = [len(entry) for entry in entries]
    emits = np.concatenate([_emits(fetch) for fetch in fetches if fetch])
    part.add_port("chosen", sum(chosen))
    part.add_port("reads", int(emits.sum()))
    # The next entry is taken with the last extent.
    part.add_node("walk", ii=1 - lasts(lengths), phases=sum(lengths))
    part.add_edge("start", "chosen", produce=chosen)
    part.add_edge("chosen", "walk", consume=firsts(lengths), depth=1, release=0)
    part.add_edge("walk", "reads", produce=emits, rigid=True, name="read")
    part.add_edge("walk", "end", produce=lasts(lengths), consume=chosen)


def _emits(fetch: tuple[tuple[int, ...], ...]) -> IntArray:
    """Return 1 for each firing of `walk` that leads to a read: a run or the fetch ends."""
    emits = np.concatenate([[0, *(lasts(runs) if runs else [0])] for runs in fetch])
    emits[-1] = 1
    return emits


def _check(sizes: KvManagementSizes, work: Sequence[KvManagementWork]) -> None:
    if not work:
        raise InputError("kv_management: no work; at least one command")
    for number, item in enumerate(work):
        where = f"work {number}:"
        if not 0 <= item.tokens < 1 << NUMBER_BITS:
            raise InputError(f"{where} tokens = {item.tokens} is not allowed: 0 to 65535")
        if item.chosen and (item.tokens or item.clear):
            raise InputError(f"{where} either tokens or chosen clusters are allowed, not both")
        if len(item.chosen) > sizes.clusters:
            raise InputError(
                f"{where} {len(item.chosen)} chosen clusters are not allowed: at most"
                f" {sizes.clusters}"
            )
        for runs in item.chosen:
            if min(runs, default=1) < 1 or sum(runs) > sizes.extents:
                raise InputError(
                    f"{where} runs of {list(runs)} extents are not allowed: at least 1 each, at"
                    f" most {sizes.extents} in all"
                )
