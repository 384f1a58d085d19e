"""Graphs of kernels as parts of one graph.

A kernel's builder adds nodes and edges to a `Part`: a graph, a prefix for the names, and `Port`s,
the streams that lead out of it. Two kernels whose streams are connected share the node of that
stream: each transfer is one firing, which waits for what either side waits for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.errors import InputError
from headrace.sim.graph import IntArray, IntLike, StreamGraph

__all__ = ["Part", "Port"]


@dataclass(frozen=True, eq=False)
class Port:
    """The transfers of a stream among the firings of a node.

    Transfer k takes and claims what it needs with firing `first[k]`, and gives what it gives with
    firing `last[k]`: another one if the node's firings are parts of a wide beat.

    Attributes
    ----------
    node : str
    first, last : int64 array, shape (transfers,)
    """

    node: str
    first: IntArray
    last: IntArray

    @classmethod
    def of(cls, node: str, transfers: int) -> "Port":
        """Return a port each of whose transfers is a firing of the node."""
        every = np.arange(transfers, dtype=np.int64)
        return cls(node, every, every)

    def at(self, transfers: IntArray) -> "Port":
        """Return a port of some of the transfers, by number."""
        return Port(self.node, self.first[transfers], self.last[transfers])

    def wide_source(self, parts: int) -> "Port":
        """Return the port of beats that are handed out in so many parts each (`Repack`)."""
        return Port(self.node, self.first[::parts], self.last[parts - 1 :: parts])

    def wide_sink(self, parts: int) -> "Port":
        """Return the port of beats that are taken with the last of so many parts (`Repack`)."""
        return Port(self.node, self.first[parts - 1 :: parts], self.last[parts - 1 :: parts])


class Part:
    """A kernel in a graph.

    Parameters
    ----------
    graph : StreamGraph
    prefix : str, optional
        Before the names of the kernel's nodes and edges.
    ports : mapping of str to Port, optional
        Streams whose nodes are there already; the others get a node each.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer of the others.
    """

    def __init__(
        self,
        graph: StreamGraph,
        prefix: str = "",
        ports: Mapping[str, Port] | None = None,
        arrivals: Mapping[str, IntArray] | None = None,
    ) -> None:
        self.graph = graph
        self.ports = dict(ports or {})
        self._prefix = prefix
        self._arrivals = dict(arrivals or {})

    def inner(self, name: str, **ports: Port) -> "Part":
        """Return a part within this one, of which some streams are there already."""
        return Part(self.graph, f"{self._prefix}{name}.", ports)

    def add_port(
        self,
        name: str,
        transfers: int,
        beside: Mapping[str, IntArray] | None = None,
        *,
        ii: IntLike = 1,
        latency: int = 1,
    ) -> None:
        """Add the node of a stream with so many transfers, unless it is there already.

        Parameters
        ----------
        name : str
        transfers : int
        beside : mapping of str to int array, optional
            Other streams, each of whose transfers is together with one of this stream: which.
        ii : int or sequence of int, cycles
        latency : int, cycles
            Of the node; see `StreamGraph.add_node`.

        Raises
        ------
        InputError
            The port that is there has another number of transfers.
        """
        together = dict(beside or {})
        if name not in self.ports:
            arrivals = self._earliest(name, transfers, together)
            self.add_node(name, ii=ii, latency=latency, phases=transfers, arrivals=arrivals)
            self.ports[name] = Port.of(self._prefix + name, transfers)
        found = self.ports[name].first.size
        if found != transfers:
            raise InputError(f"port {self._prefix}{name}: {found} transfers, not {transfers}")
        for other, which in together.items():
            self.ports[other] = self.ports[name].at(which)

    def _earliest(
        self, name: str, transfers: int, together: Mapping[str, IntArray]
    ) -> IntArray | None:
        """Return the arrivals of a stream and of those beside it."""
        given = self._arrivals.get(name)
        for other, which in together.items():
            if other in self._arrivals:
                given = np.zeros(transfers, np.int64) if given is None else given.copy()
                given[which] = np.maximum(given[which], self._arrivals[other])
        return given

    def add_node(self, name: str, **timing: Any) -> None:
        """Add a node; see `StreamGraph.add_node`."""
        self.graph.add_node(self._prefix + name, **timing)

    def add_edge(
        self,
        src: str,
        dst: str,
        *,
        produce: IntLike = 1,
        consume: IntLike = 1,
        claim: IntLike | None = None,
        free: IntLike | None = None,
        name: str | None = None,
        **more: Any,
    ) -> None:
        """Add an edge between nodes or ports of this part; see `StreamGraph.add_edge`.

        The rates of a port are per transfer.
        """
        claim = produce if claim is None else claim
        free = consume if free is None else free
        self.graph.add_edge(
            self._node(src),
            self._node(dst),
            produce=self._rates(src, produce, last=True),
            consume=self._rates(dst, consume, last=False),
            claim=self._rates(src, claim, last=False),
            free=self._rates(dst, free, last=True),
            name=self._prefix + (name or f"{src}->{dst}"),
            **more,
        )

    def _node(self, name: str) -> str:
        return self.ports[name].node if name in self.ports else self._prefix + name

    def _rates(self, name: str, rates: IntLike, *, last: bool) -> IntLike:
        """Return the rates of the node's firings."""
        if name not in self.ports:
            return rates
        port = self.ports[name]
        spread = np.zeros(self.graph.nodes[port.node].phases, np.int64)
        spread[port.last if last else port.first] = rates
        return spread
