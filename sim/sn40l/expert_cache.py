"""Timed stream graph of SN40L's expert cache controller, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.sn40l.expert_cache`) does what.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.sn40l.expert_cache import ExpertCacheSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part

__all__ = ["add_expert_cache", "expert_cache_graph"]

_LOOK = 2  # cycles from a request to its slot


def expert_cache_graph(
    sizes: ExpertCacheSizes,
    requests: Sequence[int | None],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of requests in turn, to an empty cache; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `request`,
    `command` and `copied` (of each miss), `run` and `finished` (of each request); or `place`: a
    request has its slot, or a clear is done.

    Parameters
    ----------
    sizes : ExpertCacheSizes
    requests : sequence of int or None
        Experts; None clears the cache.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no request, or an expert is out of range.
    """
    graph = StreamGraph("expert_cache")
    add_expert_cache(Part(graph, arrivals=arrivals), sizes, requests)
    return graph


def add_expert_cache(part: Part, sizes: ExpertCacheSizes, requests: Sequence[int | None]) -> None:
    """Add the nodes of `expert_cache_graph` to a part of a graph; its ports are the streams.

    Parameters
    ----------
    part : Part
    sizes : ExpertCacheSizes
    requests : sequence of int or None

    Raises
    ------
    InputError
        There is no request, or an expert is out of range.
    """
    _check(sizes, requests)
    plan = _plan(sizes, requests)
    count, clear = len(requests), np.array([expert is None for expert in requests])
    runs, copies = int((~clear).sum()), int(plan.miss.sum())
    before = np.cumsum(~clear) - ~clear  # runs before each request
    copies_to = np.cumsum(plan.miss)  # copies up to each request
    part.add_port("request", count, latency=_LOOK)
    part.add_node("place", phases=count)
    _after(part, "request", "place", np.arange(1, count + 1), count)
    _after(part, "place", "request", np.arange(count), count)
    if runs:
        part.add_port("run", runs)
        part.add_port("finished", runs)
        _after(part, "place", "run", np.flatnonzero(~clear) + 1, count)
        _after(part, "run", "finished", np.arange(1, runs + 1), runs)
        _after(part, "finished", "request", np.maximum(before - sizes.lookahead, 0), runs)
        _after(part, "finished", "place", np.where(clear, before, 0), runs)
    if copies:
        part.add_port("command", copies, latency=0)
        part.add_port("copied", copies)
        placed = np.flatnonzero(plan.miss) + 1
        _after(part, "request", "command", placed, count)
        _after(part, "command", "place", copies_to, copies)
        _after(part, "place", "copied", placed, count)
        _after(part, "copied", "command", np.arange(copies), copies)
        _after(part, "copied", "run", copies_to[~clear], copies)
        _after(part, "finished", "command", plan.ended[plan.miss], runs)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What becomes of requests: is it a miss, and how many runs have to have ended before."""

    miss: IntArray
    ended: IntArray


def _plan(sizes: ExpertCacheSizes, requests: Sequence[int | None]) -> _Plan:
    """Go through the requests; neither waiting nor stalls change what becomes of them."""
    last_run: OrderedDict[int, int] = OrderedDict()  # of present experts, the oldest one first
    miss, ended = np.zeros(len(requests), bool), np.zeros(len(requests), np.int64)
    runs = 0
    for number, expert in enumerate(requests):
        if expert is None:
            last_run.clear()
            continue
        runs += 1
        miss[number] = expert not in last_run
        if miss[number] and len(last_run) == sizes.slots:
            ended[number] = last_run.popitem(last=False)[1]
        last_run[expert] = runs
        last_run.move_to_end(expert)
    return _Plan(miss, ended)


def _after(part: Part, src: str, dst: str, needs: IntArray, firings: int) -> None:
    """Let firing i of `dst` wait for the first `needs[i]` of all firings of `src`."""
    needed = np.maximum.accumulate(needs)
    consume = np.diff(needed, prepend=0)
    spare = firings - int(needed[-1])  # nobody waits for these
    consume[0] += spare
    part.add_edge(src, dst, consume=consume, initial=spare)


def _check(sizes: ExpertCacheSizes, requests: Sequence[int | None]) -> None:
    if not requests:
        raise InputError("expert_cache: no request; at least one is needed")
    for number, expert in enumerate(requests):
        if expert is not None and not 0 <= expert < sizes.experts:
            raise InputError(
                f"request {number}: expert = {expert} is not allowed: 0 to {sizes.experts - 1}"
            )
