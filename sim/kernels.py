"""The firing rule, compiled.

One table row per node and per edge, all rates and timings in one flat array, so that a run is a
handful of arrays. `headrace.sim.cycle` fills the tables and reads the results.
"""

import numba
import numpy as np

from headrace.sim.graph import IntArray

__all__ = ["ADJACENT", "COMPLETE", "DEADLOCK", "EDGE", "NODE", "PERIODIC", "blocked_by", "run"]

# Columns of the node table.
(
    PHASES, II, LATENCY, PER_FIRING, ARRIVALS, SERVER, HELD, PRIORITY, TIMES, LIMIT,
    IN_BEGIN, IN_END, OUT_BEGIN, OUT_END,
    FIRED, PHASE, NEXT, DONE,
) = range(18)  # fmt: skip
NODE = 18
# Columns of the edge table; the last six are the two walks along the other end's firings.
(
    SRC, DST, PRODUCE, CLAIM, CONSUME, FREE, DEPTH, INITIAL, RELEASE, CONSUMED, CLAIMED,
    DATA_FIRING, DATA_PHASE, DATA_TOKENS, SPACE_FIRING, SPACE_PHASE, SPACE_TOKENS,
) = range(17)  # fmt: skip
EDGE = 17
ADJACENT = 2  # each edge is listed once at its reader and once at its writer

COMPLETE, DEADLOCK, PERIODIC = 0, 1, 2
_BLOCKED = -1


@numba.njit(cache=True, forceinline=True)  # type: ignore[untyped-decorator]
def _data_time(e: int, needed: int, node: IntArray, edge: IntArray, data: IntArray,
               done: IntArray) -> int:  # fmt: skip
    """Return when `needed` produced tokens of edge `e` are there, or _BLOCKED."""
    src = edge[e, SRC]
    firing, phase, tokens = edge[e, DATA_FIRING], edge[e, DATA_PHASE], edge[e, DATA_TOKENS]
    while tokens < needed and firing < node[src, FIRED]:
        tokens += data[edge[e, PRODUCE] + phase]
        firing += 1
        phase += 1
        if phase == node[src, PHASES]:
            phase = 0
    edge[e, DATA_FIRING], edge[e, DATA_PHASE], edge[e, DATA_TOKENS] = firing, phase, tokens
    if tokens < needed:
        return _BLOCKED
    return int(done[node[src, TIMES] + firing - 1])


@numba.njit(cache=True, forceinline=True)  # type: ignore[untyped-decorator]
def _space_time(e: int, needed: int, node: IntArray, edge: IntArray, data: IntArray,
                start: IntArray) -> int:  # fmt: skip
    """Return when `needed` places of edge `e` have been given back, or _BLOCKED."""
    dst = edge[e, DST]
    firing, phase, tokens = edge[e, SPACE_FIRING], edge[e, SPACE_PHASE], edge[e, SPACE_TOKENS]
    while tokens < needed and firing < node[dst, FIRED]:
        tokens += data[edge[e, FREE] + phase]
        firing += 1
        phase += 1
        if phase == node[dst, PHASES]:
            phase = 0
    edge[e, SPACE_FIRING], edge[e, SPACE_PHASE], edge[e, SPACE_TOKENS] = firing, phase, tokens
    if tokens < needed:
        return _BLOCKED
    return int(start[node[dst, TIMES] + firing - 1] + edge[e, RELEASE])


@numba.njit(cache=True, forceinline=True)  # type: ignore[untyped-decorator]
def _ready(v: int, node: IntArray, edge: IntArray, adjacent: IntArray, data: IntArray,
           start: IntArray, done: IntArray) -> int:  # fmt: skip
    """Return the earliest start of the next firing of `v`, its server aside, or _BLOCKED."""
    phase = node[v, PHASE]
    time = node[v, NEXT]
    if node[v, ARRIVALS] >= 0:
        time = max(time, data[node[v, ARRIVALS] + node[v, FIRED]])
    for i in range(node[v, IN_BEGIN], node[v, IN_END]):
        e = adjacent[i]
        tokens = data[edge[e, CONSUME] + phase]
        needed = edge[e, CONSUMED] + tokens - edge[e, INITIAL]
        if tokens > 0 and needed > 0:
            there = _data_time(e, needed, node, edge, data, done)
            if there == _BLOCKED:
                return _BLOCKED
            time = max(time, there)
    for i in range(node[v, OUT_BEGIN], node[v, OUT_END]):
        e = adjacent[i]
        tokens = data[edge[e, CLAIM] + phase]
        needed = edge[e, CLAIMED] + tokens + edge[e, INITIAL] - edge[e, DEPTH]
        if tokens > 0 and edge[e, DEPTH] >= 0 and needed > 0:
            there = _space_time(e, needed, node, edge, data, start)
            if there == _BLOCKED:
                return _BLOCKED
            time = max(time, there)
    return int(time)


@numba.njit(cache=True, forceinline=True)  # type: ignore[untyped-decorator]
def _fire(v: int, time: int, node: IntArray, edge: IntArray, adjacent: IntArray, data: IntArray,
          start: IntArray, done: IntArray) -> None:  # fmt: skip
    """Start the next firing of `v` at `time`."""
    k, phase = node[v, FIRED], node[v, PHASE]
    row = k if node[v, PER_FIRING] else phase
    # FIFOs keep order: tokens are never seen before those of an earlier firing.
    node[v, DONE] = max(node[v, DONE], time + data[node[v, LATENCY] + row])
    node[v, NEXT] = time + data[node[v, II] + row]
    start[node[v, TIMES] + k] = time
    done[node[v, TIMES] + k] = node[v, DONE]
    for i in range(node[v, IN_BEGIN], node[v, IN_END]):
        edge[adjacent[i], CONSUMED] += data[edge[adjacent[i], CONSUME] + phase]
    for i in range(node[v, OUT_BEGIN], node[v, OUT_END]):
        edge[adjacent[i], CLAIMED] += data[edge[adjacent[i], CLAIM] + phase]
    node[v, FIRED] = k + 1
    node[v, PHASE] = 0 if phase + 1 == node[v, PHASES] else phase + 1


@numba.njit(cache=True, forceinline=True)  # type: ignore[untyped-decorator]
def _held(v: int, node: IntArray, data: IntArray) -> int:
    """Return for how long the next firing of `v` holds its server; 0 without one."""
    if node[v, SERVER] < 0:
        return 0
    row = node[v, FIRED] if node[v, PER_FIRING] else node[v, PHASE]
    return int(data[node[v, HELD] + row])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _sweep(node: IntArray, edge: IntArray, adjacent: IntArray, data: IntArray, start: IntArray,
           done: IntArray) -> bool:  # fmt: skip
    """Fire everything that asks for no server, until nothing can; return if all is done.

    Start times do not depend on the order in which firings are worked out, so each node runs as
    far as it can at a time.
    """
    while True:
        progress, complete = False, True
        for v in range(node.shape[0]):
            while node[v, FIRED] < node[v, LIMIT] and _held(v, node, data) == 0:
                time = _ready(v, node, edge, adjacent, data, start, done)
                if time == _BLOCKED:
                    break
                _fire(v, time, node, edge, adjacent, data, start, done)
                progress = True
            complete &= node[v, FIRED] == node[v, LIMIT]
        if complete or not progress:
            return complete


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _grant(node: IntArray, edge: IntArray, adjacent: IntArray, data: IntArray, start: IntArray,
           done: IntArray, free_at: IntArray) -> int:  # fmt: skip
    """Grant the request that became ready first; return its node, or -1 if there is none.

    Latencies and releases are not negative, so no request can still appear that is ready before
    the earliest of those known.
    """
    chosen, chosen_time = -1, 0
    for v in range(node.shape[0]):
        if node[v, FIRED] < node[v, LIMIT] and _held(v, node, data) > 0:
            time = _ready(v, node, edge, adjacent, data, start, done)
            if time == _BLOCKED:
                continue
            sooner = chosen < 0 or time < chosen_time
            if sooner or (time == chosen_time and node[v, PRIORITY] < node[chosen, PRIORITY]):
                chosen, chosen_time = v, time
    if chosen >= 0:
        server = node[chosen, SERVER]
        time = max(chosen_time, free_at[server])
        free_at[server] = time + _held(chosen, node, data)
        _fire(chosen, time, node, edge, adjacent, data, start, done)
    return chosen


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _same_state(node: IntArray, start: IntArray, done: IntArray, free_at: IntArray, q: IntArray,
                lookback: int, saved_fired: IntArray, saved_free_at: IntArray,
                iterations: int) -> bool:  # fmt: skip
    """Tell whether all that the future depends on is the saved state, shifted in time.

    That is: how far the nodes are apart in firings, the times of the last `lookback` iterations,
    and the times at which the servers become free.
    """
    nodes = node.shape[0]
    shift = 0
    oldest = saved_fired[0] // q[0]
    for v in range(nodes):
        if node[v, FIRED] - saved_fired[v] != iterations * q[v] or saved_fired[v] == 0:
            return False
        last = node[v, TIMES] + node[v, FIRED] - 1
        moved = start[last] - start[last - iterations * q[v]]
        if v > 0 and moved != shift:
            return False
        shift = moved
        oldest = min(oldest, saved_fired[v] // q[v])
    for s in range(free_at.size):
        if free_at[s] - saved_free_at[s] != shift:
            return False
    oldest -= lookback
    if oldest < 0:
        return False
    for v in range(nodes):
        back = iterations * q[v]
        base = node[v, TIMES]
        for i in range(base + saved_fired[v] - 1, base + oldest * q[v] - 1, -1):
            if start[i + back] - start[i] != shift or done[i + back] - done[i] != shift:
                return False
    return True


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def run(node: IntArray, edge: IntArray, adjacent: IntArray, data: IntArray, start: IntArray,
        done: IntArray, free_at: IntArray, q: IntArray, lookback: int, leader: int,
        search: bool, saved: IntArray, saved_fired: IntArray,
        saved_free_at: IntArray) -> int:  # fmt: skip
    """Fire up to the limits in `node`; with `search`, stop where the state repeats.

    `saved` holds [iteration of the saved state, iterations until it is replaced, iteration
    now]; the saved state is replaced at distances that double (Brent), so a period is found
    however long it is. `leader` is the node whose firings count the iterations.
    """
    limits = node[:, LIMIT].copy()
    serverless = free_at.size == 0
    while search:
        # Without servers all nodes are brought to the same iteration, which is possible in any
        # live graph; with servers grants must follow time, and the leader sets the pace.
        goal = (saved[2] + 1) * q[leader]
        if goal > limits[leader]:
            break
        if serverless:
            for v in range(node.shape[0]):
                node[v, LIMIT] = min(limits[v], (saved[2] + 1) * q[v])
        while True:
            if _sweep(node, edge, adjacent, data, start, done):
                break
            if node[leader, FIRED] >= goal and not serverless:
                break
            if _grant(node, edge, adjacent, data, start, done, free_at) < 0:
                break
        node[:, LIMIT] = limits
        if node[leader, FIRED] < goal:
            break
        saved[2] += 1
        distance = saved[2] - saved[0]
        if _same_state(node, start, done, free_at, q, lookback, saved_fired, saved_free_at,
                       distance):  # fmt: skip
            return PERIODIC
        if distance >= saved[1]:
            saved[0], saved[1] = saved[2], 2 * saved[1]
            saved_fired[:] = node[:, FIRED]
            saved_free_at[:] = free_at
    while not _sweep(node, edge, adjacent, data, start, done):
        if _grant(node, edge, adjacent, data, start, done, free_at) < 0:
            return DEADLOCK
    return COMPLETE


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def blocked_by(node: IntArray, edge: IntArray, adjacent: IntArray, data: IntArray,
               start: IntArray, done: IntArray) -> IntArray:  # fmt: skip
    """Return rows [node, edge, 1 if full or 0 if empty] of everything that holds a node up."""
    rows = np.empty((adjacent.size, 3), np.int64)
    count = 0
    for v in range(node.shape[0]):
        if node[v, FIRED] >= node[v, LIMIT]:
            continue
        phase = node[v, PHASE]
        for i in range(node[v, IN_BEGIN], node[v, IN_END]):
            e = adjacent[i]
            tokens = data[edge[e, CONSUME] + phase]
            needed = edge[e, CONSUMED] + tokens - edge[e, INITIAL]
            if tokens > 0 and needed > 0 and _data_time(e, needed, node, edge, data, done) < 0:
                rows[count] = np.array([v, e, 0])
                count += 1
        for i in range(node[v, OUT_BEGIN], node[v, OUT_END]):
            e = adjacent[i]
            tokens = data[edge[e, CLAIM] + phase]
            needed = edge[e, CLAIMED] + tokens + edge[e, INITIAL] - edge[e, DEPTH]
            bounded = tokens > 0 and edge[e, DEPTH] >= 0 and needed > 0
            if bounded and _space_time(e, needed, node, edge, data, start) < 0:
                rows[count] = np.array([v, e, 1])
                count += 1
    return rows[:count]
