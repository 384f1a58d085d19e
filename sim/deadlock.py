"""Deadlocks: which FIFOs hold each other up."""

from headrace.errors import InputError
from headrace.sim.graph import StreamGraph
from headrace.sim.rates import IntArray

__all__ = ["Deadlock", "diagnose"]

_Wait = tuple[str, str, str]  # the node waited for, the edge, "full" or "empty"


class Deadlock(InputError):
    """The graph stops for good before its firings are done.

    Attributes
    ----------
    fifos : tuple of (str, str)
        Edges that hold each other up, in the order in which each waits for the next, and
        whether the edge is ``"full"`` or ``"empty"``.
    fired : dict of str to int
        Firings of each node until then.
    """

    def __init__(self, graph: str, fifos: tuple[tuple[str, str], ...], fired: dict[str, int]):
        listed = ", ".join(f"{edge!r} is {state}" for edge, state in fifos)
        super().__init__(f"graph {graph!r} deadlocks: FIFO {listed}")
        self.fifos = fifos
        self.fired = fired


def diagnose(graph: StreamGraph, fired: dict[str, int], wanted: dict[str, int]) -> Deadlock:
    """Return the error for a run in which nothing can fire any more.

    Parameters
    ----------
    graph : StreamGraph
    fired, wanted : dict of str to int
        Firings of each node that were and that should have been.

    Returns
    -------
    Deadlock
        With the FIFOs of a cycle of waiting nodes if there is one, or else of the longest chain.
    """
    waits: dict[str, list[_Wait]] = {}
    for edge in graph.edges.values():
        src, dst = fired[edge.src], fired[edge.dst]
        there = _count(edge.produce, src) + edge.initial
        if dst < wanted[edge.dst] and _count(edge.consume, dst + 1) > there:
            waits.setdefault(edge.dst, []).append((edge.src, edge.name, "empty"))
        if edge.depth is None or src >= wanted[edge.src]:
            continue
        taken = _count(edge.claim, src + 1) + edge.initial - _count(edge.free, dst)
        if taken > edge.depth:
            waits.setdefault(edge.src, []).append((edge.dst, edge.name, "full"))
    for edge in (edge for edge in graph.edges.values() if edge.rigid):
        if edge.src not in waits and fired[edge.src] < wanted[edge.src]:
            waits[edge.src] = [(edge.dst, edge.name, "full")]
    fifos = tuple((edge, state) for _, edge, state in _cycle(waits))
    return Deadlock(graph.name, fifos, fired)


def _count(rates: IntArray, firings: int) -> int:
    """Return the sum of the rates of the first `firings` firings."""
    cycles, rest = divmod(firings, rates.size)
    return cycles * int(rates.sum()) + int(rates[:rest].sum())


def _cycle(waits: dict[str, list[_Wait]]) -> list[_Wait]:
    """Return a cycle of waiting nodes, or else a chain that ends at a node that is done."""
    chain: list[_Wait] = []
    finished: set[str] = set()
    for root in waits:
        on_path, path = [root], [iter(waits[root])]
        steps: list[_Wait] = []
        while path:
            step = next(path[-1], None)
            if step is None:
                finished.add(on_path.pop())
                path.pop()
                chain = max(chain, steps, key=len)
                steps = steps[:-1]
            elif step[0] in on_path:
                return [*steps, step][on_path.index(step[0]) :]
            elif step[0] in waits and step[0] not in finished:
                on_path.append(step[0])
                path.append(iter(waits[step[0]]))
                steps = [*steps, step]
            elif step[0] not in waits:
                chain = max(chain, [*steps, step], key=len)
    return chain
