"""A second opinion: step a stream graph clock by clock, token by token, in plain Python.

It shares nothing with the compiled recurrence: no firing indices, only queues of tokens and places
with the cycle from which each can be used.
"""

from collections import deque

import numpy as np

from headrace.sim.graph import StreamGraph


class Stuck(Exception):
    pass


def _tiled(rates, k):
    return int(rates[k % len(rates)])


def step_through(graph: StreamGraph, firings: dict[str, int], give_up: int = 100_000):
    """Return the start cycles of every firing; raise Stuck if nothing can happen any more."""
    tokens = {e.name: deque([0] * e.initial) for e in graph.edges.values()}
    places = {
        e.name: None if e.depth is None else deque([0] * (e.depth - e.initial))
        for e in graph.edges.values()
    }
    next_start = dict.fromkeys(graph.nodes, 0)
    newest = dict.fromkeys(graph.nodes, 0)
    starts = {name: [] for name in graph.nodes}
    ready_since, server_free = {}, {}
    # A rigid pipeline: for how many cycles each token has moved, those at the end first, and
    # whether the first one has been consumed and not yet been freed.
    lines = {e.name: deque() for e in graph.edges.values() if e.rigid}
    in_use = dict.fromkeys(lines, 0)
    latest = 0

    def at_end(e):
        length = int(graph.nodes[e.src].latency[0])
        return bool(lines[e.name]) and lines[e.name][0] >= length

    def move_lines():
        for e in graph.edges.values():
            if e.rigid and not at_end(e):
                lines[e.name] = deque(age + 1 for age in lines[e.name])

    def line_lets(e, node, k):
        if e.src == node.name and at_end(e):
            return False
        wants = e.dst == node.name and _tiled(e.consume, k)
        return not wants or (at_end(e) and not in_use[e.name])

    def usable(queue, count, now):
        return count == 0 or (len(queue) >= count and queue[count - 1] <= now)

    def can(node, now):
        k = len(starts[node.name])
        if k >= firings[node.name] or next_start[node.name] > now:
            return False
        if node.arrivals is not None and node.arrivals[k] > now:
            return False
        return (
            all(
                usable(tokens[e.name], _tiled(e.consume, k), now)
                for e in graph.edges.values()
                if e.dst == node.name and not e.rigid
            )
            and all(line_lets(e, node, k) for e in graph.edges.values() if e.rigid)
            and all(
                places[e.name] is None or usable(places[e.name], _tiled(e.claim, k), now)
                for e in graph.edges.values()
                if e.src == node.name
            )
        )

    def fire(node, now):
        k = len(starts[node.name])
        row = k if node.service_per_firing else k % node.phases
        newest[node.name] = max(newest[node.name], now + int(node.latency[row]))
        next_start[node.name] = now + int(node.ii[row])
        for e in graph.edges.values():
            if e.rigid:
                if e.dst == node.name:
                    in_use[e.name] += _tiled(e.consume, k)
                    if _tiled(e.free, k):
                        in_use[e.name] = 0
                        lines[e.name].popleft()
                if e.src == node.name and _tiled(e.produce, k):
                    lines[e.name].append(0)
                continue
            if e.dst == node.name:
                for _ in range(_tiled(e.consume, k)):
                    tokens[e.name].popleft()
                if places[e.name] is not None:
                    places[e.name].extend([now + e.release] * _tiled(e.free, k))
            if e.src == node.name:
                tokens[e.name].extend([newest[node.name]] * _tiled(e.produce, k))
                for _ in range(_tiled(e.claim, k) if places[e.name] is not None else 0):
                    places[e.name].popleft()
        starts[node.name].append(now)

    def held(node):
        k = len(starts[node.name])
        if node.server is None or k >= firings[node.name]:
            return 0
        return int(node.server_cycles[k if node.service_per_firing else k % node.phases])

    now = 0
    while any(len(starts[name]) < firings[name] for name in graph.nodes):
        fired = True
        while fired:
            fired = False
            for node in graph.nodes.values():
                while not held(node) and can(node, now):
                    fire(node, now)
                    fired = True
            asking = []
            for order, node in enumerate(graph.nodes.values()):
                if held(node) and can(node, now):
                    since = ready_since.setdefault(node.name, now)
                    if server_free.get(node.server, 0) <= now:
                        asking.append((since, node.priority, order, node))
            if asking:
                node = min(asking, key=lambda request: request[:3])[3]
                server_free[node.server] = now + held(node)
                ready_since.pop(node.name)
                fire(node, now)
                fired = True
        queues = [q for q in (*tokens.values(), *places.values()) if q]
        pending = [t for q in queues for t in q] + list(next_start.values())
        pending += list(server_free.values())
        pending += [
            int(n.arrivals[len(starts[n.name])])
            for n in graph.nodes.values()
            if n.arrivals is not None and len(starts[n.name]) < firings[n.name]
        ]
        if any(lines[e.name] and not at_end(e) for e in graph.edges.values() if e.rigid):
            pending.append(now + 1)
        later = [t for t in pending if t > now]
        latest = max([latest, *later])
        if any(len(starts[name]) < firings[name] for name in graph.nodes) and not later:
            raise Stuck
        after = min(later, default=now)
        for _ in range(after - now):
            move_lines()
        now = after
        if now > give_up:
            raise AssertionError("the witness was given too long a run")
    return {name: np.array(times) for name, times in starts.items()}


def _split(rng, total, phases):
    """Return `phases` rates, zeros among them, that add up to `total`."""
    cuts = np.sort(rng.integers(0, total + 1, phases - 1))
    return np.diff(np.concatenate([[0], cuts, [total]]))


def random_graph(rng, *, servers=False, bounded=True) -> StreamGraph:
    """Return a random balanced graph; it may deadlock."""
    graph = StreamGraph("random")
    count = int(rng.integers(2, 6))
    cycles = rng.integers(1, 4, count)
    for v in range(count):
        phases = int(rng.integers(1, 4))
        options = {}
        if servers and rng.random() < 0.7:
            options = {
                "server": f"port{rng.integers(2)}",
                "server_cycles": rng.integers(0, 4, phases),
                "priority": int(rng.integers(3)),
            }
        graph.add_node(
            f"n{v}",
            ii=rng.integers(1, 5, phases),
            latency=rng.integers(1 if servers else 0, 9, phases),
            phases=phases,
            **options,
        )
    for v in range(1, count):
        joined = [(int(rng.integers(v)), v)]
        if rng.random() < 0.4:
            joined.append((v, int(rng.integers(v + 1))))
        for src, dst in joined:
            base = int(np.lcm(cycles[src], cycles[dst])) * int(rng.integers(1, 3))
            out, into = base // cycles[src], base // cycles[dst]
            produce = _split(rng, out, graph.nodes[f"n{src}"].phases)
            consume = _split(rng, into, graph.nodes[f"n{dst}"].phases)
            claim, free = produce, consume
            if rng.random() < 0.4:
                claim = np.zeros_like(produce)
                claim[0] = out
                free = np.zeros_like(consume)
                free[-1] = into
            initial = int(rng.integers(0, 3)) if src < dst else 2 * base + int(rng.integers(3))
            depth = initial + out + into + int(rng.integers(-2, 6))
            graph.add_edge(
                f"n{src}",
                f"n{dst}",
                produce=produce,
                consume=consume,
                claim=claim,
                free=free,
                initial=initial,
                depth=max(depth, initial, 1) if bounded or rng.random() < 0.5 else None,
                release=int(rng.integers(1 if servers else 0, 3)),
            )
    return graph


def rigid_graph(rng) -> StreamGraph:
    """Return two rigid pipelines in a row that stand still at random, one iteration long."""
    graph = StreamGraph("rigid")
    tokens = int(rng.integers(1, 25))
    waits = np.cumsum(rng.integers(0, int(rng.choice([2, 6])), tokens))
    graph.add_node("source", arrivals=waits, phases=tokens)
    previous, given = "source", np.ones(tokens, np.int64)
    for number in range(2):
        # each token takes several firings; not each leads to a token of the second pipeline
        parts = rng.integers(1, 4, int(given.sum()))
        first, last = np.zeros((2, parts.sum()), np.int64)
        first[np.cumsum(parts) - parts] = last[np.cumsum(parts) - 1] = 1
        name = f"stage{number}"
        graph.add_node(
            name,
            phases=len(first),
            latency=int(rng.integers(1, 9)),
            arrivals=np.cumsum(rng.integers(0, int(rng.choice([1, 2, 5])), len(first))),
        )
        if number or rng.random() < 0.5:
            rigid = {"rigid": True}
        else:
            rigid = {"depth": int(rng.integers(1, 5)), "release": int(rng.integers(2))}
        graph.add_edge(previous, name, produce=given, consume=first, free=last, **rigid)
        if rng.random() < 0.7:
            credits = int(rng.integers(1, 9))
            graph.add_edge(name, previous, produce=last, consume=given, initial=credits)
        previous, given = name, np.maximum(last & rng.integers(0, 2, len(last)), 0)
        given[-1] = 1
    # the sink takes all of one pipeline and then all of another one
    beside = int(rng.integers(1, 9))
    graph.add_node("beside", phases=beside, latency=int(rng.integers(1, 9)))
    total = int(given.sum()) + beside
    graph.add_node("sink", phases=total, ii=int(rng.integers(1, 5)))
    of_first = np.zeros(total, np.int64)
    of_first[: int(given.sum())] = 1
    if rng.random() < 0.5:
        graph.add_edge(previous, "sink", produce=given, consume=of_first, rigid=True)
    else:
        graph.add_edge(previous, "sink", produce=given, consume=of_first, depth=2)
    graph.add_edge("beside", "sink", consume=1 - of_first, rigid=True)
    return graph
