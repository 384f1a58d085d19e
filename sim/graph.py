"""Timed stream graphs: what fires when, before anything is simulated.

The firing rule is stated cycle by cycle in ``docs/timing-theory.md``. The same graph object feeds
`headrace.sim.cycle` (the recurrence itself) and `headrace.sim.analytic` (its closed form), and the
hardware is built to it.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from headrace.errors import InputError
from headrace.sim.rates import (
    LARGEST,
    IntArray,
    IntLike,
    as_array,
    length_of,
    per_phase,
    pulse,
    require_order,
)

__all__ = ["Edge", "IntArray", "IntLike", "Node", "StreamGraph", "pulse"]


@dataclass(frozen=True, eq=False)
class Node:
    """A process that fires over and over; firing k is in phase ``k mod phases``.

    Attributes
    ----------
    name : str
    phases : int
        Length of the cyclo-static cycle.
    ii : int64 array, shape (phases,) or (firings,) if `service_per_firing`
        Cycles from the start of a firing to the earliest start of the next one.
    latency : int64 array, shape (phases,) or (firings,) if `service_per_firing`
        Cycles from the start of a firing to the first cycle in which its tokens can be used.
    arrivals : int64 array, shape (firings,), or None
        Earliest start cycle of each firing.
    service_per_firing : bool
        `ii` and `latency` are indexed by the firing and not by its phase.
    server : str or None
        Shared port that a firing holds.
    server_cycles : int64 array, shape as `ii`
        Cycles for which a firing holds the port; 0 does not ask for it.
    priority : int
        Lower wins when two firings become ready for the port in the same cycle.
    """

    name: str
    phases: int
    ii: IntArray
    latency: IntArray
    arrivals: IntArray | None
    service_per_firing: bool
    server: str | None
    server_cycles: IntArray
    priority: int

    @property
    def is_cyclic(self) -> bool:
        """True if every timing repeats with the phases, so that a periodic regime exists."""
        return self.arrivals is None and not self.service_per_firing


@dataclass(frozen=True, eq=False)
class Edge:
    """A FIFO between two nodes.

    Attributes
    ----------
    name, src, dst : str
    produce, claim : int64 array, shape (phases of src,)
        Tokens delivered, and places reserved, by a firing of `src`.
    consume, free : int64 array, shape (phases of dst,)
        Tokens needed, and places given back, by a firing of `dst`.
    depth : int or None
        Places, in tokens; None is unbounded.
    initial : int
        Tokens present before cycle 0.
    release : int
        Cycles from the start of the freeing firing until the place can be claimed.
    rigid : bool
        A pipeline that stands still as a whole while a token waits at its end.
    """

    name: str
    src: str
    dst: str
    produce: IntArray
    claim: IntArray
    consume: IntArray
    free: IntArray
    depth: int | None
    initial: int
    release: int
    rigid: bool


class StreamGraph:
    """A graph of timed nodes joined by FIFOs.

    Parameters
    ----------
    name : str, optional
        Shown in messages and traces.
    """

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.nodes: dict[str, Node] = {}
        self.edges: dict[str, Edge] = {}

    def add_node(
        self,
        name: str,
        *,
        ii: IntLike = 1,
        latency: IntLike = 1,
        phases: int | None = None,
        arrivals: IntLike | None = None,
        service: IntLike | None = None,
        service_latency: IntLike | None = None,
        server: str | None = None,
        server_cycles: IntLike | None = None,
        priority: int = 0,
    ) -> Node:
        """Add a node.

        Parameters
        ----------
        name : str
            New name.
        ii, latency : int or sequence of int, cycles
            One value for all phases, or one per phase; at least 0.
        phases : int, optional
            Number of phases; by default the length of the longest sequence given.
        arrivals : sequence of int, cycles, optional
            Earliest start of each firing (a stalling input).
        service : sequence of int, cycles, optional
            Initiation interval of each firing (work that the data decides); replaces `ii`.
        service_latency : sequence of int, cycles, optional
            Latency of each firing; by default equal to `service`. Replaces `latency`.
        server : str, optional
            Shared port of capacity one held by the firings of this node.
        server_cycles : int or sequence of int, cycles, optional
            Time for which the port is held, one value, or one per phase (per firing with
            `service`); by default the initiation interval.
        priority : int, optional
            Lower wins when requests for the port become ready in the same cycle; then the node
            added first.

        Returns
        -------
        Node

        Raises
        ------
        InputError
            The name is taken, or a value is out of range or of the wrong length.
        """
        where = f"node {name!r} of {self.name!r}"
        if name in self.nodes:
            raise InputError(f"{where}: the name is taken already")
        if phases is None:
            phases = max(length_of(ii), length_of(latency))
            if service is None:
                phases = max(phases, length_of(server_cycles))
        if phases < 1:
            raise InputError(f"{where}: phases must be at least 1, not {phases}")
        if service is None:
            if service_latency is not None:
                raise InputError(f"{where}: service_latency needs service")
            ii_cycles = per_phase(ii, phases, f"{where}: ii")
            latency_cycles = per_phase(latency, phases, f"{where}: latency")
        else:
            ii_cycles = as_array(service, f"{where}: service")
            latency_cycles = ii_cycles
            if service_latency is not None:
                latency_cycles = per_phase(
                    service_latency, len(ii_cycles), f"{where}: service_latency"
                )
        if server is None and server_cycles is not None:
            raise InputError(f"{where}: server_cycles needs server")
        held = ii_cycles
        if server_cycles is not None:
            held = per_phase(server_cycles, len(ii_cycles), f"{where}: server_cycles")
        node = Node(
            name=name,
            phases=phases,
            ii=ii_cycles,
            latency=latency_cycles,
            arrivals=None if arrivals is None else as_array(arrivals, f"{where}: arrivals"),
            service_per_firing=service is not None,
            server=server,
            server_cycles=held,
            priority=priority,
        )
        self.nodes[name] = node
        return node

    def add_edge(
        self,
        src: str,
        dst: str,
        *,
        produce: IntLike = 1,
        consume: IntLike = 1,
        depth: int | None = None,
        initial: int = 0,
        release: int = 1,
        claim: IntLike | None = None,
        free: IntLike | None = None,
        rigid: bool = False,
        name: str | None = None,
    ) -> Edge:
        """Add a FIFO, or a pipeline.

        Parameters
        ----------
        src, dst : str
            Nodes that exist; they may be the same.
        produce, consume : int or sequence of int, tokens
            One value for all phases, or one per phase of `src` / `dst`; 0 is allowed.
        depth : int, tokens, optional
            Places of the FIFO, those of tokens in flight included; None is unbounded.
        initial : int, tokens
            Tokens present at the start.
        release : int, cycles
            From the start of the freeing firing until the place can be claimed.
        claim : int or sequence of int, tokens, optional
            Places reserved per phase of `src`; by default `produce`. A writer that fills a
            buffer over many phases claims it in the first and produces it in the last.
        free : int or sequence of int, tokens, optional
            Places given back per phase of `dst`; by default `consume`.
        rigid : bool
            A pipeline instead of a FIFO: from the cycle in which a token could be used until the
            firing that frees it starts, the tokens behind it stand still and `src` does not start.
            One token at a time goes in, is used and freed; `depth` and `initial` are not given.
        name : str, optional
            By default ``src->dst``.

        Returns
        -------
        Edge

        Raises
        ------
        InputError
            A node is unknown, or a rate, depth or name is not acceptable.
        """
        name = name or self._edge_name(src, dst)
        where = f"edge {name!r} of {self.name!r}"
        for end in (src, dst):
            if end not in self.nodes:
                raise InputError(f"{where}: there is no node {end!r}")
        if name in self.edges:
            raise InputError(f"{where}: the name is taken already")
        if depth is not None and not 1 <= depth <= LARGEST:
            raise InputError(f"{where}: depth must be at least 1 token, not {depth}")
        if not 0 <= initial <= (LARGEST if depth is None else depth):
            raise InputError(f"{where}: initial must be 0 to the depth {depth}, not {initial}")
        if not 0 <= release <= LARGEST:
            raise InputError(f"{where}: release must be at least 0 cycles, not {release}")
        of_src, of_dst = self.nodes[src].phases, self.nodes[dst].phases
        produced = per_phase(produce, of_src, f"{where}: produce")
        consumed = per_phase(consume, of_dst, f"{where}: consume")
        claimed = produced if claim is None else per_phase(claim, of_src, f"{where}: claim")
        freed = consumed if free is None else per_phase(free, of_dst, f"{where}: free")
        if not (produced.any() and consumed.any()):
            raise InputError(f"{where}: produce and consume must not be zero in every phase")
        require_order(claimed, produced, f"{where}: claim must come no later than produce")
        require_order(consumed, freed, f"{where}: free must come no earlier than consume")
        if rigid:
            self._check_rigid(src, (produced, consumed, freed), where)
            if depth is not None or initial:
                raise InputError(f"{where}: a rigid pipeline has no depth and no initial tokens")
        edge = Edge(
            name=name,
            src=src,
            dst=dst,
            produce=produced,
            claim=claimed,
            consume=consumed,
            free=freed,
            depth=depth,
            initial=initial,
            release=release,
            rigid=rigid,
        )
        self.edges[name] = edge
        return edge

    def _check_rigid(
        self, src: str, rates: tuple[IntArray, IntArray, IntArray], where: str
    ) -> None:
        """Raise InputError unless `src` and rates (produce, consume, free) allow a pipeline."""
        produced, consumed, freed = rates
        waiting = consumed.cumsum() - (freed.cumsum() - freed)
        if max(int(rate.max()) for rate in (produced, waiting)) > 1:
            raise InputError(f"{where}: a rigid pipeline moves one token at a time")
        node = self.nodes[src]
        if node.service_per_firing or node.latency.min() < 1 or np.ptp(node.latency):
            raise InputError(f"{where}: a rigid pipeline has one latency, of at least 1 cycle")
        if node.server is not None:
            raise InputError(f"{where}: {src!r} has a server, and feeds no rigid pipeline")
        for edge in self.edges.values():
            if edge.rigid and edge.src == src:
                raise InputError(f"{where}: {src!r} feeds the rigid pipeline {edge.name!r} already")

    def _edge_name(self, src: str, dst: str) -> str:
        name = f"{src}->{dst}"
        parallel = sum(edge.src == src and edge.dst == dst for edge in self.edges.values())
        return name if parallel == 0 else f"{name}#{parallel + 1}"

    def repetitions(self) -> dict[str, int]:
        """Return the firings of each node in one iteration.

        An iteration is the least number of whole phase cycles that leaves every FIFO as it was
        (the repetition vector of a cyclo-static dataflow graph). Parts of the graph that no edge
        joins are each given their own least vector.

        Returns
        -------
        dict of str to int

        Raises
        ------
        InputError
            The graph is empty, or the rates of an edge cannot be balanced; the edge is named.
        """
        if not self.nodes:
            raise InputError(f"graph {self.name!r} has no node")
        cycles: dict[str, Fraction] = {}
        for root in self.nodes:
            if root not in cycles:
                part = self._balance(root)
                scale = lcm(*(share.denominator for share in part.values()))
                shrink = gcd(*(int(share * scale) for share in part.values()))
                cycles |= {name: share * scale / shrink for name, share in part.items()}
        return {name: int(cycles[name]) * node.phases for name, node in self.nodes.items()}

    def _balance(self, root: str) -> dict[str, Fraction]:
        """Return the phase cycles of each node joined to `root`, relative to those of `root`."""
        touching: dict[str, list[Edge]] = {name: [] for name in self.nodes}
        for edge in self.edges.values():
            touching[edge.src].append(edge)
            touching[edge.dst].append(edge)
        cycles = {root: Fraction(1)}
        todo = [root]
        while todo:
            for edge in touching[todo.pop()]:
                ratio = Fraction(int(edge.produce.sum()), int(edge.consume.sum()))
                if edge.dst not in cycles:
                    cycles[edge.dst] = cycles[edge.src] * ratio
                    todo.append(edge.dst)
                elif edge.src not in cycles:
                    cycles[edge.src] = cycles[edge.dst] / ratio
                    todo.append(edge.src)
                elif cycles[edge.src] * ratio != cycles[edge.dst]:
                    raise InputError(
                        f"edge {edge.name!r} of {self.name!r}: {edge.produce.sum()} tokens produced"
                        f" and {edge.consume.sum()} consumed per cycle of phases cannot be balanced"
                        " with the rest of the graph"
                    )
        return cycles
