"""The firing rule, compiled.

One table row per node, and one per *wait*: an edge is two waits, of its reader for tokens and of
its writer for places. A rigid pipeline is a row of a table of its own. All rates and timings are in
one flat array, all results in another, so that a run is a handful of arrays. `headrace.sim.cycle`
fills the tables and reads the results.
"""

import numba

from headrace.sim.rates import IntArray

__all__ = ["COMPLETE", "DEADLOCK", "LINE", "NODE", "PERIODIC", "WAIT", "run"]

# Columns of the node table. START and DONE are places in the results; the last four are state.
(
    PHASES, II, LATENCY, PER_FIRING, ARRIVALS, SERVER, HELD, PRIORITY, START, DONE, LIMIT,
    WAITS_BEGIN, WAITS_END, LINE_OUT, LINES_BEGIN, LINES_END,
    FIRED, PHASE, NEXT, NEWEST,
) = range(20)  # fmt: skip
NODE = 20
# Columns of the wait table. A firing needs RATE more of what firings of OTHER give by RATE_OTHER,
# DELAY after the times at TIMES. NEEDED counts what all firings so far have asked for; GIVEN what
# the first WALKED firings of OTHER gave.
(
    OTHER, RATE, RATE_OTHER, DELAY, TIMES,
    NEEDED, GIVEN, WALKED, WALKED_PHASE,
) = range(9)  # fmt: skip
WAIT = 9
# Columns of the table of rigid pipelines: rates, how long a token is on its way, and the places of
# the tokens' two times in the results: when it went in, less the time the pipeline had stood still
# until then; and when it was freed. State: how many tokens went in, came to the end before the next
# start of the source, were used, and were freed; for how long those that came before the source's
# next start, and those that were freed, made it stand still; and when the one in use came.
(
    PRODUCE, CONSUME, FREE, LENGTH, WENT_IN, FREED,
    INSIDE, PASSED, USED, GONE, STOOD_SRC, STOOD_DST, CAME,
) = range(13)  # fmt: skip
LINE = 13

COMPLETE, DEADLOCK, PERIODIC = 0, 1, 2
_BLOCKED = -1
# What to do with a node: fire it as often as it can, or only tell when it could.
_RUN, _ASK = -1, -2


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _advance(v: int, at: int, node: IntArray, wait: IntArray, line: IntArray, data: IntArray,
             times: IntArray) -> int:  # fmt: skip
    """Fire `v`; return when its next firing could start, its server aside, or _BLOCKED.

    `at` is _RUN to fire until it blocks, is done, or asks for a server; _ASK to fire nothing; or
    the cycle in which to fire once. All in one function, since compiled calls count references
    of every array passed, which takes longer than the work.
    """
    phases, start, done = node[v, PHASES], node[v, START], node[v, DONE]
    begin, end = node[v, WAITS_BEGIN], node[v, WAITS_END]
    into, into_end, out = node[v, LINES_BEGIN], node[v, LINES_END], node[v, LINE_OUT]
    while node[v, FIRED] < node[v, LIMIT]:
        k, phase = node[v, FIRED], node[v, PHASE]
        row = k if node[v, PER_FIRING] else phase
        if at == _RUN and node[v, SERVER] >= 0 and data[node[v, HELD] + row] > 0:
            return _BLOCKED
        time = node[v, NEXT]
        if node[v, ARRIVALS] >= 0:
            time = max(time, data[node[v, ARRIVALS] + k])
        for w in range(begin, end):
            rate = data[wait[w, RATE] + phase]
            needed = wait[w, NEEDED] + rate
            if rate == 0 or needed <= 0:
                continue
            if wait[w, GIVEN] < needed:
                other, given = wait[w, OTHER], wait[w, GIVEN]
                walked, walked_phase = wait[w, WALKED], wait[w, WALKED_PHASE]
                while given < needed and walked < node[other, FIRED]:
                    given += data[wait[w, RATE_OTHER] + walked_phase]
                    walked += 1
                    walked_phase += 1
                    if walked_phase == node[other, PHASES]:
                        walked_phase = 0
                wait[w, GIVEN], wait[w, WALKED], wait[w, WALKED_PHASE] = given, walked, walked_phase
                if given < needed:
                    return _BLOCKED
            time = max(time, times[wait[w, TIMES] + wait[w, WALKED] - 1] + wait[w, DELAY])
        for i in range(into, into_end):
            if data[line[i, CONSUME] + phase] > 0:
                if line[i, USED] == line[i, INSIDE]:
                    return _BLOCKED
                went_in = times[line[i, WENT_IN] + line[i, USED]]
                line[i, CAME] = went_in + line[i, LENGTH] + line[i, STOOD_DST]
                time = max(time, line[i, CAME])
        while out >= 0 and line[out, PASSED] < line[out, INSIDE]:
            went_in = times[line[out, WENT_IN] + line[out, PASSED]]
            came = went_in + line[out, LENGTH] + line[out, STOOD_SRC]
            if came > time:
                break
            if line[out, PASSED] == line[out, GONE]:
                return _BLOCKED
            freed = times[line[out, FREED] + line[out, PASSED]]
            line[out, STOOD_SRC] += freed - came
            line[out, PASSED] += 1
            time = max(time, freed)
        if at == _ASK:
            return int(time)
        time = max(time, at)
        # FIFOs keep order: tokens are never seen before those of an earlier firing.
        node[v, NEWEST] = max(node[v, NEWEST], time + data[node[v, LATENCY] + row])
        node[v, NEXT] = time + data[node[v, II] + row]
        times[start + k] = time
        times[done + k] = node[v, NEWEST]
        for w in range(begin, end):
            wait[w, NEEDED] += data[wait[w, RATE] + phase]
        for i in range(into, into_end):
            line[i, USED] += data[line[i, CONSUME] + phase]
            if data[line[i, FREE] + phase] > 0:
                times[line[i, FREED] + line[i, GONE]] = time
                line[i, STOOD_DST] += time - line[i, CAME]
                line[i, GONE] += 1
        if out >= 0 and data[line[out, PRODUCE] + phase] > 0:
            times[line[out, WENT_IN] + line[out, INSIDE]] = time - line[out, STOOD_SRC]
            line[out, INSIDE] += 1
        node[v, FIRED] = k + 1
        node[v, PHASE] = 0 if phase + 1 == phases else phase + 1
        if at >= 0:
            break
    return _BLOCKED


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _sweep(node: IntArray, wait: IntArray, line: IntArray, data: IntArray,
           times: IntArray) -> bool:  # fmt: skip
    """Fire everything that asks for no server, until nothing can; return if all is done.

    Start times do not depend on the order in which firings are worked out, so each node runs as
    far as it can at a time.
    """
    while True:
        progress, complete = False, True
        for v in range(node.shape[0]):
            before = node[v, FIRED]
            _advance(v, _RUN, node, wait, line, data, times)
            progress |= node[v, FIRED] > before
            complete &= node[v, FIRED] == node[v, LIMIT]
        if complete or not progress:
            return complete


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _grant(node: IntArray, wait: IntArray, line: IntArray, data: IntArray, times: IntArray,
           free_at: IntArray) -> int:  # fmt: skip
    """Grant the request that became ready first; return its node, or -1 if there is none.

    Latencies and releases are not negative, so no request can still appear that is ready before
    the earliest of those known.
    """
    chosen, chosen_time = -1, 0
    for v in range(node.shape[0]):
        if node[v, SERVER] < 0:
            continue
        time = _advance(v, _ASK, node, wait, line, data, times)
        if time == _BLOCKED:
            continue
        sooner = chosen < 0 or time < chosen_time
        if sooner or (time == chosen_time and node[v, PRIORITY] < node[chosen, PRIORITY]):
            chosen, chosen_time = v, time
    if chosen >= 0:
        row = node[chosen, FIRED] if node[chosen, PER_FIRING] else node[chosen, PHASE]
        server = node[chosen, SERVER]
        time = max(chosen_time, free_at[server])
        free_at[server] = time + data[node[chosen, HELD] + row]
        _advance(chosen, time, node, wait, line, data, times)
    return chosen


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _same_state(node: IntArray, times: IntArray, free_at: IntArray, q: IntArray,
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
        last = node[v, START] + node[v, FIRED] - 1
        moved = times[last] - times[last - iterations * q[v]]
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
        for base in (node[v, START], node[v, DONE]):
            for i in range(base + saved_fired[v] - 1, base + oldest * q[v] - 1, -1):
                if times[i + back] - times[i] != shift:
                    return False
    return True


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def run(node: IntArray, wait: IntArray, line: IntArray, data: IntArray, times: IntArray,
        free_at: IntArray, q: IntArray, lookback: int, leader: int, search: bool,
        saved: IntArray, saved_fired: IntArray, saved_free_at: IntArray) -> int:  # fmt: skip
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
            if _sweep(node, wait, line, data, times):
                break
            if node[leader, FIRED] >= goal and not serverless:
                break
            if _grant(node, wait, line, data, times, free_at) < 0:
                break
        node[:, LIMIT] = limits
        if node[leader, FIRED] < goal:
            break
        saved[2] += 1
        distance = saved[2] - saved[0]
        if _same_state(node, times, free_at, q, lookback, saved_fired, saved_free_at,
                       distance):  # fmt: skip
            return PERIODIC
        if distance >= saved[1]:
            saved[0], saved[1] = saved[2], 2 * saved[1]
            saved_fired[:] = node[:, FIRED]
            saved_free_at[:] = free_at
    while not _sweep(node, wait, line, data, times):
        if _grant(node, wait, line, data, times, free_at) < 0:
            return DEADLOCK
    return COMPLETE
