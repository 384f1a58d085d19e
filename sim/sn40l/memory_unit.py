"""Timed stream graph of SN40L's memory unit, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.sn40l.memory_unit`) does what.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["MemoryWork", "add_memory_unit", "memory_unit_graph"]

_BUFFERS = 2


@dataclass(frozen=True, kw_only=True)
class MemoryWork:
    """A command: for each of its runs the rounds of each vector, as many in every run.

    Parameters
    ----------
    rounds : tuple of tuple of int
        Cycles, at least 1.
    buffered : bool
        Whether runs wait for buffers.
    """

    rounds: tuple[tuple[int, ...], ...]
    buffered: bool = False

    @classmethod
    def of(
        cls,
        program: MemoryProgram,
        sizes: MemoryUnitSizes,
        sequences: Sequence[int] | None = None,
    ) -> "MemoryWork":
        """Return the work of a program; parameters and errors of `MemoryProgram.rounds`."""
        rounds = program.rounds(sizes, sequences).tolist()
        return cls(rounds=tuple(tuple(run) for run in rounds), buffered=program.buffered)

    @property
    def vectors(self) -> list[int]:
        """Vectors of each run."""
        return [len(run) for run in self.rounds]

    @property
    def cycles(self) -> list[int]:
        """Rounds of each run."""
        return [sum(run) for run in self.rounds]


def memory_unit_graph(
    writes: Sequence[MemoryWork],
    reads: Sequence[MemoryWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of commands of both directions; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `write`,
    `packets`, `written`, `read`, `results`, `drained`; or a step inside: a vector enters a register
    (`write_sum`, `write_lanes`, `write_places`, `read_lanes`, `read_places`), the banks serve a
    round (`write_rounds`, `read_rounds`), its words are collected (`read_words`).

    Parameters
    ----------
    writes, reads : sequence of MemoryWork
        In order; either may be empty. As many buffered runs in both.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no command, or one without a vector, or the buffered runs are not as many.
    """
    graph = StreamGraph("memory_unit")
    add_memory_unit(Part(graph, arrivals=arrivals), writes, reads)
    return graph


def add_memory_unit(part: Part, writes: Sequence[MemoryWork], reads: Sequence[MemoryWork]) -> None:
    """Add the nodes of `memory_unit_graph` to a part of a graph; parameters and errors are its."""
    buffers = [sum(len(w.rounds) for w in work if w.buffered) for work in (writes, reads)]
    if not (writes or reads) or buffers[0] != buffers[1]:
        raise InputError(
            f"memory_unit: {len(writes)} writes and {len(reads)} reads with {buffers[0]} and"
            f" {buffers[1]} buffered runs; at least one command, and as many runs are needed"
        )
    for work in (*writes, *reads):
        if min((min(run, default=0) for run in work.rounds), default=0) < 1:
            raise InputError("memory_unit: a run without a vector, or a vector without a round")
    if writes:
        _add_writes(part, writes)
    if reads:
        _add_reads(part, reads)
    if buffers[0]:
        full, free = (_buffered(work, lasts, lambda w: w.cycles) for work in (writes, reads))
        fills, empties = (_buffered(work, firsts, lambda w: w.vectors) for work in (writes, reads))
        part.add_edge("write_rounds", "read_lanes", produce=full, consume=empties, name="full")
        part.add_edge(
            "read_rounds", "packets", produce=free, consume=fills, initial=_BUFFERS, name="free"
        )


def _add_writes(part: Part, work: Sequence[MemoryWork]) -> None:
    """Add what leads from packets to tokens: four registers, then the banks."""
    vectors = [sum(item.vectors) for item in work]
    part.add_port("write", len(work))
    part.add_port("packets", sum(vectors))
    part.add_edge("write", "packets", produce=vectors)
    stages = ["packets", "write_sum", "write_lanes", "write_places"]
    for one, other in pairwise(stages):
        part.add_node(other)
        part.add_edge(one, other, depth=1, release=0)
    _add_rounds(part, work, "write", "written")


def _add_reads(part: Part, work: Sequence[MemoryWork]) -> None:
    """Add what leads from a command to results: two registers, the banks, the result."""
    vectors, rounds = [sum(item.vectors) for item in work], _rounds(work)
    part.add_port("read", len(work))
    part.add_node("read_lanes", phases=sum(vectors))
    part.add_node("read_places")
    part.add_edge("read", "read_lanes", produce=vectors)
    part.add_edge("read_lanes", "read_places", depth=1, release=0)
    _add_rounds(part, work, "read", "drained")
    part.add_node("read_words", phases=sum(rounds))
    part.add_port("results", len(rounds))
    part.add_edge("read_rounds", "read_words", depth=1, release=0)
    # The first words of a vector take the register, the last ones complete it.
    part.add_edge(
        "read_words", "results", claim=firsts(rounds), produce=lasts(rounds), depth=1, release=0
    )


def _add_rounds(part: Part, work: Sequence[MemoryWork], command: str, token: str) -> None:
    """Add the rounds of the banks; the last one of a run needs the token's register."""
    rounds, name = _rounds(work), f"{command}_rounds"
    runs = [cycles for item in work for cycles in item.cycles]
    part.add_node(name, phases=sum(rounds))
    part.add_port(token, len(runs))
    part.add_edge(
        f"{command}_places",
        name,
        consume=firsts(rounds),
        free=lasts(rounds),
        depth=1,
        release=0,
    )
    part.add_edge(name, token, produce=lasts(runs), depth=1, release=0)
    part.add_edge(name, command, produce=lasts([sum(item.cycles) for item in work]), initial=1)


def _rounds(work: Iterable[MemoryWork]) -> list[int]:
    return [rounds for item in work for run in item.rounds for rounds in run]


def _buffered(
    work: Iterable[MemoryWork],
    marks: Callable[[Sequence[int]], IntArray],
    lengths: Callable[[MemoryWork], Sequence[int]],
) -> IntArray:
    """Return marks at runs of such lengths, of those that are buffered; 0 elsewhere."""
    return np.concatenate([marks(lengths(item)) * item.buffered for item in work])
