"""Work for a component whose ports are streams, with what the models say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.rtl.streams import StreamVectors
from headrace.sim.cycle import simulate
from headrace.sim.graph import IntArray, StreamGraph

__all__ = ["Closed", "StreamCase"]


@dataclass(frozen=True)
class Closed:
    """A closed form: `cycles` from a transfer of `start` to number `transfers` of `end`.

    The transfer of `start` is number `first`, from 0.
    """

    start: str
    end: str
    transfers: int
    cycles: int
    first: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamCase:
    """Work for one kernel.

    Parameters
    ----------
    kernel : str
        Its name, and that of its top module.
    half : str
        Which one, where a kernel has several cases, or nothing.
    component : callable
        Returns the RTL, not elaborated.
    vectors : StreamVectors
        Nothing stalls in them; the results are the reference's.
    graph : callable, optional
        Takes the earliest cycles of transfers by port, returns the timed graph of this work.
    closed : tuple of Closed
        Of commands for which there is an exact one.
    beside : mapping of str to (str, int array)
        Ports without a node of their own: the one beside which each is served, and with which
        of its transfers.
    """

    kernel: str
    half: str = ""
    component: Callable[[], Any]
    vectors: StreamVectors
    graph: Callable[[Mapping[str, IntArray]], StreamGraph] | None
    closed: tuple[Closed, ...] = ()
    beside: Mapping[str, tuple[str, IntArray]] = field(default_factory=dict)

    def predicted(self, vectors: StreamVectors) -> dict[str, IntArray]:
        """Return the cycle of every transfer, by port, as the graph has them; {} without graph.

        Parameters
        ----------
        vectors : StreamVectors
            Those of the case, with other arrivals.
        """
        if self.graph is None:
            return {}
        arrivals = dict(vectors.arrivals)
        ports = [*vectors.inputs, *vectors.results]
        for prefix, plan in vectors.memories.items():
            given = {f"{prefix}ar": plan.addresses, f"{prefix}r": plan.words}
            arrivals |= {name: np.array(times) for name, times in given.items() if len(times)}
            ports += given
        starts = simulate(self.graph(arrivals), iterations=1, starts=True).starts
        assert starts is not None
        found = {name: starts[name] for name in ports if name in starts}
        return found | {name: starts[port][which] for name, (port, which) in self.beside.items()}
