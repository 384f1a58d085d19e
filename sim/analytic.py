"""The analytic fidelity: the closed form of a timed stream graph.

The graph is expanded into single firings of one iteration. Every constraint becomes an arc with a
length in cycles and a distance in iterations; the maximum of length / distance over all cycles is
the period, and longest paths to and from the cycle that attains it are the fill and the drain. All
figures are exact fractions.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numba
import numpy as np

from headrace.errors import InputError
from headrace.sim.graph import Edge, Node, StreamGraph
from headrace.sim.rates import IntArray

__all__ = ["Analysis", "analyse"]

_Arc = tuple[int, int, int, int]  # from, to, cycles, iterations


@dataclass(frozen=True)
class Analysis:
    """The closed form of a graph.

    Attributes
    ----------
    period : Fraction, cycles per iteration
        In the steady state.
    fill : Fraction, cycles
        Until the bottleneck starts its first iteration.
    drain : Fraction, cycles
        From the bottleneck's start of the last iteration to the end of the run; what exceeds one
        period comes after the bottleneck.
    first : int, cycles
        One iteration alone; exact.
    bound : str
        What sets the period: ``"server NAME"``, or the nodes of the critical cycle joined by
        ``" > "``.
    """

    period: Fraction
    fill: Fraction
    drain: Fraction
    first: int
    bound: str

    def cycles(self, iterations: int) -> int:
        """Return the length of a run: fill + (iterations - 1) period + drain, rounded up.

        Parameters
        ----------
        iterations : int
            At least 1.

        Raises
        ------
        InputError
            `iterations` is less than 1.
        """
        if iterations < 1:
            raise InputError(f"iterations must be at least 1, not {iterations}")
        if iterations == 1:
            return self.first
        return max(self.first, ceil(self.fill + (iterations - 1) * self.period + self.drain))


def analyse(graph: StreamGraph) -> Analysis:
    """Return the closed form of `graph`.

    A shared port enters as a lower bound of the period: the cycles for which it is held per
    iteration. Waiting for it otherwise is left out; `headrace.sim.cycle` has it.

    Parameters
    ----------
    graph : StreamGraph

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        Rates cannot be balanced, the graph deadlocks, or it has arrivals, service times per
        firing or rigid pipelines (which only the cycle fidelity knows).
    """
    for node in graph.nodes.values():
        if not node.is_cyclic:
            raise InputError(
                f"node {node.name!r} of {graph.name!r}: the closed form needs timings per phase,"
                " not per firing"
            )
    for edge in graph.edges.values():
        if edge.rigid:
            raise InputError(
                f"edge {edge.name!r} of {graph.name!r}: the closed form has no rigid pipelines"
            )
    expansion = _Expansion(graph)
    period, critical = expansion.maximum_cycle_ratio()
    fill, drain = expansion.around(period, critical)
    bound = " > ".join(dict.fromkeys(expansion.owner[i] for i in critical))
    for server, load in _server_loads(graph, expansion.q).items():
        if load > period:
            period, bound = Fraction(load), f"server {server}"
    return Analysis(period, fill, drain, expansion.one_iteration(), bound)


def _server_loads(graph: StreamGraph, q: dict[str, int]) -> dict[str, int]:
    loads: dict[str, int] = {}
    for node in graph.nodes.values():
        if node.server is not None:
            held = int(node.server_cycles.sum()) * (q[node.name] // node.phases)
            loads[node.server] = loads.get(node.server, 0) + held
    return loads


class _Expansion:
    """One vertex per firing of an iteration: starts first, then completions kept in order."""

    def __init__(self, graph: StreamGraph) -> None:
        self.graph = graph
        self.q = graph.repetitions()
        self.base: dict[str, int] = {}
        self.owner: list[str] = []
        for name, count in self.q.items():
            self.base[name] = len(self.owner)
            self.owner += [name] * count
        self.starts = len(self.owner)
        self.done: dict[str, int] = {}
        arcs = [arc for node in graph.nodes.values() for arc in self._node_arcs(node)]
        for edge in graph.edges.values():
            arcs += self._edge_arcs(edge)
        self._order(np.array(arcs, np.int64).reshape(-1, 4))

    def _node_arcs(self, node: Node) -> Iterator[_Arc]:
        """Yield the initiation intervals, and completions if tokens could overtake."""
        count, start = self.q[node.name], self.base[node.name]
        overtaking = np.any(node.latency > np.roll(node.latency, -1) + node.ii)
        if overtaking:
            self.done[node.name] = len(self.owner)
            self.owner += [node.name] * count
        for k in range(count):
            after, wraps = (k + 1) % count, k + 1 == count
            yield start + k, start + after, int(node.ii[k % node.phases]), int(wraps)
            if overtaking:
                done = self.done[node.name]
                yield start + k, done + k, int(node.latency[k % node.phases]), 0
                yield done + k, done + after, 0, int(wraps)

    def _edge_arcs(self, edge: Edge) -> Iterator[_Arc]:
        src, dst = self.graph.nodes[edge.src], self.graph.nodes[edge.dst]
        produced = _Counter(edge.produce, self.q[edge.src])
        for k, needed in _needs(edge.consume, self.q[edge.dst]):
            firing, distance = produced.find(needed - edge.initial)
            cycles, source = int(src.latency[firing % src.phases]), self.base[edge.src]
            if edge.src in self.done:
                cycles, source = 0, self.done[edge.src]
            yield source + firing, self.base[edge.dst] + k, cycles, distance
        if edge.depth is None:
            return
        freed = _Counter(edge.free, self.q[dst.name])
        for k, needed in _needs(edge.claim, self.q[edge.src]):
            firing, distance = freed.find(needed + edge.initial - edge.depth)
            yield self.base[edge.dst] + firing, self.base[edge.src] + k, edge.release, distance

    def _order(self, arcs: IntArray) -> None:
        """Sort arcs so that those within an iteration are relaxed in dependency order."""
        rank = np.zeros(len(self.owner), np.int64)
        if not _levels(arcs, rank):
            raise InputError(f"graph {self.graph.name!r} deadlocks: a cycle holds too few tokens")
        arcs = arcs[np.lexsort((rank[arcs[:, 0]], arcs[:, 3] > 0))]
        self.arcs = np.ascontiguousarray(arcs)

    def maximum_cycle_ratio(self) -> tuple[Fraction, list[int]]:
        """Return the largest length / distance of a cycle, and the vertices of such a cycle.

        Starting from any cycle's ratio, look for a cycle that is longer than the ratio allows,
        and take its ratio; there are finitely many cycles, so this ends, and it ends at the
        maximum.
        """
        ratio, critical = Fraction(-1), list[int]()
        while True:
            cycle, _ = self._relax(ratio, np.zeros(len(self.owner), np.int64))
            if cycle is None:
                return ratio, critical
            cycles, iterations = self.arcs[cycle, 2].sum(), self.arcs[cycle, 3].sum()
            ratio = Fraction(int(cycles), int(iterations))
            critical = [int(self.arcs[a, 0]) for a in cycle]

    def _relax(self, ratio: Fraction, begin: IntArray) -> tuple[list[int] | None, IntArray]:
        """Return longest paths with arcs shortened by `ratio` per iteration, or a longer cycle.

        Lengths are multiplied by the denominator of `ratio`, so they stay integers.
        """
        lengths = self.arcs[:, 2] * ratio.denominator - self.arcs[:, 3] * ratio.numerator
        times = begin.copy()
        cycle = _longest_paths(self.arcs, lengths, times)
        return (None if cycle.size == 0 else cycle.tolist()), times

    def around(self, period: Fraction, critical: list[int]) -> tuple[Fraction, Fraction]:
        """Return the longest paths from the start to the critical cycle, and from it to the end."""
        _, times = self._relax(period, np.zeros(len(self.owner), np.int64))
        pivot = min(critical, key=lambda vertex: int(times[vertex]))
        fill = Fraction(int(times[pivot]), period.denominator)
        begin = np.full(len(self.owner), _UNREACHED, np.int64)
        begin[pivot] = 0
        _, times = self._relax(period, begin)
        tails = self._tails() * period.denominator
        reached = times[: self.starts] > _UNREACHED // 2
        drain = int((times[: self.starts] + tails)[reached].max())
        return fill, Fraction(drain, period.denominator)

    def _tails(self) -> IntArray:
        """Return the cycles from the start of each firing to the end of its effects."""
        nodes = self.graph.nodes.values()
        tails = [
            np.tile(np.maximum(node.ii, node.latency), self.q[node.name] // node.phases)
            for node in nodes
        ]
        return np.concatenate(tails)

    def one_iteration(self) -> int:
        """Return the length of a single iteration: the longest path of distance 0."""
        inside = np.ascontiguousarray(self.arcs[self.arcs[:, 3] == 0])
        times = np.zeros(len(self.owner), np.int64)
        _longest_paths(inside, np.ascontiguousarray(inside[:, 2]), times)
        return int((times[: self.starts] + self._tails()).max())


_UNREACHED = -(2**62)


class _Counter:
    """Tokens counted over the firings of an iteration, repeated for ever in both directions."""

    def __init__(self, rates: IntArray, firings: int) -> None:
        self.sums = np.tile(rates, firings // rates.size).cumsum().tolist()

    def find(self, needed: int) -> tuple[int, int]:
        """Return the firing that brings the count to `needed`, and how many iterations ago."""
        before, rest = divmod(needed - 1, self.sums[-1])
        return bisect_left(self.sums, rest + 1), -before


def _needs(rates: IntArray, firings: int) -> Iterator[tuple[int, int]]:
    """Yield each firing with a rate, and the tokens counted up to and with it."""
    tiled = np.tile(rates, firings // rates.size)
    sums = tiled.cumsum()
    for k in np.flatnonzero(tiled):
        yield int(k), int(sums[k])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _levels(arcs: IntArray, rank: IntArray) -> bool:
    """Rank vertices along the arcs of distance 0 or less; return False if they form a cycle."""
    vertices = rank.size
    inside = np.flatnonzero(arcs[:, 3] <= 0)
    order = inside[np.argsort(arcs[inside, 0])]
    first = np.searchsorted(arcs[order, 0], np.arange(vertices + 1))
    waiting = np.zeros(vertices, np.int64)
    for a in inside:
        waiting[arcs[a, 1]] += 1
    ready = np.empty(vertices, np.int64)
    count = 0
    for v in range(vertices):
        if waiting[v] == 0:
            ready[count] = v
            count += 1
    placed = 0
    while placed < count:
        v = ready[placed]
        rank[v] = placed
        placed += 1
        for i in range(first[v], first[v + 1]):
            w = arcs[order[i], 1]
            waiting[w] -= 1
            if waiting[w] == 0:
                ready[count] = w
                count += 1
    return placed == vertices


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _longest_paths(arcs: IntArray, lengths: IntArray, times: IntArray) -> IntArray:
    """Relax `times` in place; return the arcs of a cycle of positive length, or none."""
    vertices = times.size
    via = np.full(vertices, -1, np.int64)
    mark = np.empty(vertices, np.int64)
    while True:
        changed = False
        for a in range(arcs.shape[0]):
            time = times[arcs[a, 0]] + lengths[a]
            if time > times[arcs[a, 1]]:
                times[arcs[a, 1]] = time
                via[arcs[a, 1]] = a
                changed = True
        if not changed:
            return np.empty(0, np.int64)
        # The last arcs to have improved each vertex form a cycle only if its length is positive.
        mark[:] = -1
        for root in range(vertices):
            v = root
            while mark[v] == -1 and via[v] >= 0:
                mark[v] = root
                v = arcs[via[v], 0]
            if mark[v] == root and via[v] >= 0:
                cycle = [via[v]]
                u = arcs[via[v], 0]
                while u != v:
                    cycle.append(via[u])
                    u = arcs[via[u], 0]
                return np.array(cycle[::-1])
