"""The cycle fidelity: simulate a timed stream graph exactly.

Importing this module imports numba; the compiled kernels are kept on disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from headrace.errors import InputError
from headrace.sim import kernels
from headrace.sim.deadlock import Deadlock, diagnose
from headrace.sim.graph import StreamGraph
from headrace.sim.rates import IntArray

__all__ = ["CycleResult", "Deadlock", "Regime", "simulate"]

# Start and completion times are kept for every firing that is simulated: 16 bytes each.
_MOST_FIRINGS = 2**25


@dataclass(frozen=True)
class Regime:
    """The periodic regime: from `transient` on, each `iterations` take `cycles`.

    Attributes
    ----------
    transient : int, iterations
    iterations : int
    cycles : int
    """

    transient: int
    iterations: int
    cycles: int

    @property
    def period(self) -> Fraction:
        """Cycles per iteration."""
        return Fraction(self.cycles, self.iterations)


@dataclass(frozen=True)
class CycleResult:
    """What a simulation found.

    Attributes
    ----------
    cycles : int
        Until every firing has completed and every node could fire again: the largest of start +
        initiation interval and start + latency over all firings.
    firings : dict of str to int
    first_start, last_start, finish : dict of str to int, cycles
        Start of the first and last firing, and the node's own share of `cycles`. Nodes that
        never fire have 0.
    regime : Regime or None
        Found and, unless the run was short, used to skip repetitions; None if there is none in
        the run or it was not looked for.
    starts : dict of str to int64 array, shape (firings,), or None
        Start of every firing, if asked for.
    """

    cycles: int
    firings: dict[str, int]
    first_start: dict[str, int]
    last_start: dict[str, int]
    finish: dict[str, int]
    regime: Regime | None
    starts: dict[str, IntArray] | None


def simulate(
    graph: StreamGraph,
    *,
    iterations: int | None = None,
    firings: Mapping[str, int] | None = None,
    starts: bool = False,
    periodic: bool = True,
) -> CycleResult:
    """Simulate `graph` and return its exact times.

    Parameters
    ----------
    graph : StreamGraph
    iterations : int, optional
        Whole iterations to run (`StreamGraph.repetitions`); at least 1.
    firings : mapping of node name to int, optional
        Firings of the named nodes instead; the others fire in proportion, rounded up.
    starts : bool
        Also return the start of every firing.
    periodic : bool
        Look for the periodic regime, and skip its repetitions. The result is the same, only
        sooner. Not looked for with arrivals, service times per firing or rigid pipelines.

    Returns
    -------
    CycleResult

    Raises
    ------
    Deadlock
        The graph stops; the FIFOs at fault are named.
    InputError
        Neither or both of `iterations` and `firings` are given, they are out of range, arrays
        per firing are too short, or the run is too long and has no periodic regime.
    """
    q = graph.repetitions()
    wanted = _wanted(graph, q, iterations, firings)
    cyclic = all(node.is_cyclic for node in graph.nodes.values())
    search = periodic and cyclic and not any(edge.rigid for edge in graph.edges.values())
    return _Run(graph, q, wanted).result(search, starts)


def _wanted(
    graph: StreamGraph,
    q: dict[str, int],
    iterations: int | None,
    firings: Mapping[str, int] | None,
) -> dict[str, int]:
    """Return the firings of every node."""
    if (iterations is None) == (firings is None):
        raise InputError(f"simulate {graph.name!r}: give either iterations or firings")
    if iterations is not None:
        if not 1 <= iterations <= 2**40:
            raise InputError(f"simulate {graph.name!r}: iterations must be at least 1")
        return {name: iterations * per for name, per in q.items()}
    assert firings is not None
    for name, count in firings.items():
        if name not in q:
            raise InputError(f"simulate {graph.name!r}: there is no node {name!r}")
        if not 1 <= count <= 2**40:
            raise InputError(f"simulate {graph.name!r}: firings of {name!r} must be at least 1")
    if not firings:
        raise InputError(f"simulate {graph.name!r}: firings names no node")
    most = max(Fraction(count, q[name]) for name, count in firings.items())
    return {name: firings.get(name, -int(-most * per // 1)) for name, per in q.items()}


class _Run:
    """The tables of one simulation."""

    def __init__(self, graph: StreamGraph, q: dict[str, int], wanted: dict[str, int]) -> None:
        self.graph = graph
        self.names = list(graph.nodes)
        self.edges = list(graph.edges.values())
        self.q = np.array([q[name] for name in self.names], np.int64)
        self.wanted = np.array([wanted[name] for name in self.names], np.int64)
        self._pieces: list[IntArray] = []
        self._size = 0
        self._offsets: dict[int, int] = {}
        self.node = np.zeros((len(self.names), kernels.NODE), np.int64)
        self._fill_nodes()
        waits = [row for name in self.names for row in self._waits(name)]
        self.wait = np.array(waits, np.int64).reshape(-1, kernels.WAIT)
        self.line, places = self._lines()
        self.data = np.concatenate(self._pieces)
        self.times = np.empty(places, np.int64)
        self.regime: Regime | None = None
        self.skipped = 0
        self.saved_fired = np.zeros(len(self.names), np.int64)
        self.found_fired = np.zeros(len(self.names), np.int64)

    def _put(self, array: IntArray) -> int:
        """Return the place of `array` among the flat data, adding it if it is new."""
        if id(array) not in self._offsets:
            self._offsets[id(array)] = self._size
            self._pieces.append(array)
            self._size += array.size
        return self._offsets[id(array)]

    def _waits(self, name: str) -> list[list[int]]:
        """Return what a node waits for: tokens of its inputs, places of its outputs."""
        rows = []
        at = {other: v for v, other in enumerate(self.names)}
        for edge in self.edges:
            if edge.dst == name and not edge.rigid:
                src = at[edge.src]
                rates = [self._put(edge.consume), self._put(edge.produce)]
                done = int(self.node[src, kernels.DONE])
                rows.append([src, *rates, 0, done, -edge.initial, 0, 0, 0])
            if edge.src == name and edge.depth is not None:
                dst = at[edge.dst]
                rates = [self._put(edge.claim), self._put(edge.free)]
                start = int(self.node[dst, kernels.START])
                asked = edge.initial - edge.depth
                rows.append([dst, *rates, edge.release, start, asked, 0, 0, 0])
        begin = int(self.node[at[name] - 1, kernels.WAITS_END]) if at[name] else 0
        self.node[at[name], kernels.WAITS_BEGIN] = begin
        self.node[at[name], kernels.WAITS_END] = begin + len(rows)
        return rows

    def _lines(self) -> tuple[IntArray, int]:
        """Return the table of rigid pipelines, and the places of all results."""
        rows: list[list[int]] = []
        at = {other: v for v, other in enumerate(self.names)}
        self.node[:, kernels.LINE_OUT] = -1
        places = 2 * int(self.node[:, kernels.LIMIT].sum())
        lines = [edge for edge in self.edges if edge.rigid]
        for edge in sorted(lines, key=lambda edge: at[edge.dst]):
            src, dst = at[edge.src], at[edge.dst]
            self.node[src, kernels.LINE_OUT] = len(rows)
            if self.node[dst, kernels.LINES_END] == 0:
                self.node[dst, kernels.LINES_BEGIN] = len(rows)
            self.node[dst, kernels.LINES_END] = len(rows) + 1
            rates = [self._put(array) for array in (edge.produce, edge.consume, edge.free)]
            length = int(self.graph.nodes[edge.src].latency[0])
            row = [*rates, length, places, 0, *[0] * 7]
            cycles = -(-int(self.node[src, kernels.LIMIT]) // edge.produce.size)
            row[kernels.FREED] = places + cycles * int(edge.produce.sum())
            places = 2 * row[kernels.FREED] - places
            rows.append(row)
        return np.array(rows, np.int64).reshape(-1, kernels.LINE), places

    def _fill_nodes(self) -> None:
        servers: dict[str, int] = {}
        limits = self._limits()
        room = int(limits.sum())
        times = 0
        for v, node in enumerate(self.graph.nodes.values()):
            row = self.node[v]
            row[kernels.PHASES] = node.phases
            row[kernels.II], row[kernels.LATENCY] = self._put(node.ii), self._put(node.latency)
            row[kernels.PER_FIRING] = node.service_per_firing
            row[kernels.ARRIVALS] = -1 if node.arrivals is None else self._put(node.arrivals)
            row[kernels.SERVER] = -1
            if node.server is not None:
                row[kernels.SERVER] = servers.setdefault(node.server, len(servers))
            row[kernels.HELD] = self._put(node.server_cycles)
            row[kernels.PRIORITY] = node.priority
            row[kernels.START], row[kernels.DONE] = times, room + times
            row[kernels.LIMIT] = limits[v]
            times += int(limits[v])
            self._require_length(v)
        self.free_at = np.zeros(len(servers), np.int64)

    def _limits(self) -> IntArray:
        """Return the firings for which there is room: all, or those of the search."""
        if self.wanted.sum() <= _MOST_FIRINGS:
            return self.wanted
        iterations = max(1, _MOST_FIRINGS // int(self.q.sum()))
        return np.minimum(self.wanted, iterations * self.q)

    def _require_length(self, v: int) -> None:
        node, wanted = self.graph.nodes[self.names[v]], int(self.wanted[v])
        given = {"arrivals": node.arrivals, "service": node.ii if node.service_per_firing else None}
        for what, array in given.items():
            if array is not None and array.size < wanted:
                raise InputError(
                    f"node {node.name!r} of {self.graph.name!r}: {what} has {array.size} values,"
                    f" the run needs {wanted}"
                )

    def _lookback(self) -> int:
        """Return how many iterations back a firing's constraints can lie."""
        per_iteration = [
            int(edge.produce.sum() * q // self.graph.nodes[edge.src].phases)
            for edge in self.edges
            for q in [int(self.q[self.names.index(edge.src)])]
        ]
        waiting = [max(edge.initial, edge.depth or 0) for edge in self.edges]
        spans = zip(waiting, per_iteration, strict=True)
        return 1 + max((-(-tokens // per) for tokens, per in spans), default=0)

    def result(self, search: bool, starts: bool) -> CycleResult:
        """Run to the end."""
        leader = self._leader()
        if not search:
            self._require_room()
        saved = np.array([0, 1, 0], np.int64)
        saved_free_at = np.zeros_like(self.free_at)
        tables = (self.node, self.wait, self.line, self.data, self.times)
        tail = (self.free_at, self.q, self._lookback(), leader)
        keep = (saved, self.saved_fired, saved_free_at)
        status = kernels.run(*tables, *tail, search, *keep)
        if status == kernels.PERIODIC:
            self._skip(saved, leader)
            self._require_room()
            status = kernels.run(*tables, *tail, False, *keep)
        if status == kernels.DEADLOCK:
            fired = dict(zip(self.names, self.node[:, kernels.FIRED].tolist(), strict=True))
            wanted = dict(zip(self.names, self.wanted.tolist(), strict=True))
            raise diagnose(self.graph, fired, wanted)
        self._require_room()
        return self._collect(starts)

    def _leader(self) -> int:
        """Return the node that counts iterations: of those with a server, the least busy."""
        asking = [v for v in range(len(self.names)) if self.node[v, kernels.SERVER] >= 0]
        return min(asking or range(len(self.names)), key=lambda v: int(self.q[v]))

    def _skip(self, saved: IntArray, leader: int) -> None:
        """Take whole periods off the limits; all that follows is as after skipping them."""
        count = int(saved[2] - saved[0])
        self.found_fired = self.node[:, kernels.FIRED].copy()
        last = int(self.node[leader, kernels.START] + self.found_fired[leader]) - 1
        cycles = int(self.times[last] - self.times[last - count * self.q[leader]])
        self.regime = Regime(transient=int(saved[0]), iterations=count, cycles=cycles)
        self.skipped = int(((self.wanted - self.found_fired) // (count * self.q)).min())
        self.node[:, kernels.LIMIT] = self.wanted - self.skipped * count * self.q

    def _require_room(self) -> None:
        ends = np.append(self.node[1:, kernels.START], self.node[0, kernels.DONE])
        room = ends - self.node[:, kernels.START]
        remaining = self.node[:, kernels.LIMIT] if self.skipped else self.wanted
        if np.any(remaining > room):
            raise InputError(
                f"simulate {self.graph.name!r}: {self.wanted.sum()} firings are more than"
                f" {_MOST_FIRINGS} and no periodic regime was found; run fewer, and bound the FIFOs"
            )

    def _collect(self, starts: bool) -> CycleResult:
        shift = 0
        if self.regime is not None:
            shift = self.skipped * self.regime.cycles
        first, last, finish = {}, {}, {}
        for v, name in enumerate(self.names):
            base, limit = (int(self.node[v, c]) for c in (kernels.START, kernels.LIMIT))
            first[name] = int(self.times[base]) if limit else 0
            last[name] = int(self.times[base + limit - 1]) + shift if limit else 0
            end = int(max(self.node[v, kernels.NEXT], self.node[v, kernels.NEWEST]))
            finish[name] = end + shift if limit else 0
        return CycleResult(
            cycles=max(finish.values()),
            firings=dict(zip(self.names, self.wanted.tolist(), strict=True)),
            first_start=first,
            last_start=last,
            finish=finish,
            regime=self.regime,
            starts=self._starts() if starts else None,
        )

    def _starts(self) -> dict[str, IntArray]:
        """Return all starts, the skipped periods put back."""
        found = {}
        for v, name in enumerate(self.names):
            base = int(self.node[v, kernels.START])
            kept = self.times[base : base + int(self.node[v, kernels.LIMIT])].copy()
            if self.regime is None or self.skipped == 0:
                found[name] = kept
                continue
            begin, end = int(self.saved_fired[v]), int(self.found_fired[v])
            shifts = self.regime.cycles * np.arange(1, self.skipped + 1)
            repeated = (kept[begin:end] + shifts[:, None]).ravel()
            after = kept[end:] + self.skipped * self.regime.cycles
            found[name] = np.concatenate([kept[:end], repeated, after])
        return found
