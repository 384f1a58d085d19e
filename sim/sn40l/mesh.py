"""A mesh of SN40L's switches in time, packet by packet.

Who is next at an output depends on who waits, so this is no graph of fixed rates: it is played
cycle by cycle, with every transfer in the cycle of the RTL (`headrace.rtl.sn40l.mesh`).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.arch.sn40l.switch import DIRECTIONS, FlowEntry, MeshSizes
from headrace.errors import InputError

__all__ = ["MeshRun", "Packet", "simulate_mesh"]


class Packet(NamedTuple):
    """A packet: the flow id that it has at present, and what it carries."""

    flow: int
    load: int


@dataclass(frozen=True, eq=False)
class MeshRun:
    """What went through a mesh.

    Attributes
    ----------
    taken : list of list of int
        For each unit the cycles in which its packets were taken.
    given : list of list of (int, Packet)
        For each unit the cycles in which packets were given to it, and those packets.
    """

    taken: list[list[int]]
    given: list[list[tuple[int, Packet]]]


@dataclass
class _Link:
    """Credits and register of a sender, buffer of a receiver; all changes wait for `tick`."""

    credits: int
    wire: Packet | None = None
    buffer: deque[Packet] = field(default_factory=deque)
    returned: bool = False
    sent: Packet | None = None
    popped: bool = False

    @property
    def head(self) -> Packet | None:
        return self.buffer[0] if self.buffer else None

    @property
    def moves(self) -> bool:
        return bool(self.buffer) or self.wire is not None

    def tick(self) -> None:
        if self.popped:
            self.buffer.popleft()
        if self.wire is not None:
            self.buffer.append(self.wire)
        self.credits += self.returned - (self.sent is not None)
        self.wire, self.returned = self.sent, self.popped
        self.sent, self.popped = None, False


class _Switch:
    def __init__(self, table: Sequence[FlowEntry], ins: list[_Link], outs: list[_Link]) -> None:
        self.table = {entry.flow: entry for entry in table}
        self.ins, self.outs = ins, outs
        self.served: list[set[int]] = [set() for _ in ins]
        self.turns = [0] * len(outs)

    def _outputs(self, head: Packet | None) -> set[int]:
        """Return the outputs of a packet; without an entry it waits."""
        entry = self.table.get(head.flow) if head is not None else None
        return set(entry.outputs) if entry is not None else set()

    def step(self) -> None:
        """Give every output that has a credit a packet of the input whose turn it is."""
        wanted = [
            self._outputs(link.head) - served
            for link, served in zip(self.ins, self.served, strict=True)
        ]
        for port, out in enumerate(self.outs):
            asking = [number for number, outputs in enumerate(wanted) if port in outputs]
            if asking and out.credits:
                number = next((n for n in asking if n >= self.turns[port]), asking[0])
                head = self.ins[number].buffer[0]
                out.sent = Packet(self.table[head.flow].following, head.load)
                self.served[number].add(port)
                self.turns[port] = number + 1
        for link, outputs, served in zip(self.ins, wanted, self.served, strict=True):
            if outputs and outputs <= served:
                link.popped = True
                served.clear()


def simulate_mesh(
    sizes: MeshSizes,
    tables: Sequence[Sequence[FlowEntry]],
    packets: Sequence[Sequence[Packet]],
    offered: Mapping[int, Sequence[int]] | None = None,
    accepted: Mapping[int, Sequence[int]] | None = None,
    limit_cycles: int = 1_000_000,
) -> MeshRun:
    """Play packets through a mesh until none is left.

    Parameters
    ----------
    sizes : MeshSizes
    tables : sequence of sequence of FlowEntry
        Of each switch; they hold from the beginning.
    packets : sequence of sequence of Packet
        Of each unit, in order.
    offered, accepted : mapping of int to sequence of int, cycles, optional
        By unit the earliest cycle of each of its packets, and of each packet that it is given;
        by default, and for packets beyond, 0.
    limit_cycles : int

    Raises
    ------
    InputError
        Packets are left after so many cycles: one waits for a table entry, or each for another.
    """
    local, back = list(DIRECTIONS).index("local"), (1, 0, 3, 2)
    units = range(sizes.switches)
    links = {(n, p): _Link(sizes.switch.credits) for n in units for p in range(len(DIRECTIONS))}
    entries = [_Link(sizes.switch.credits) for _ in units]
    idle = _Link(0)
    switches = []
    for number in units:
        behind = [sizes.neighbour(number, port) for port in range(local)]
        ins = [idle if n is None else links[n, back[port]] for port, n in enumerate(behind)]
        outs = [links[number, port] for port in range(len(DIRECTIONS))]
        switches.append(_Switch(tables[number], [*ins, entries[number]], outs))
    every = [*links.values(), *entries]
    run = MeshRun([[] for _ in units], [[] for _ in units])
    for cycle in range(limit_cycles):
        for number in units:
            _offer(entries[number], packets[number], run.taken[number], cycle, offered, number)
            _accept(links[number, local], run.given[number], cycle, accepted, number)
        for switch in switches:
            switch.step()
        for link in every:
            link.tick()
        done = all(len(run.taken[n]) == len(packets[n]) for n in units)
        if done and not any(link.moves for link in every):
            return run
    raise InputError(f"packets are left in the mesh after {limit_cycles} cycles")


def _earliest(times: Mapping[int, Sequence[int]] | None, unit: int, number: int) -> int:
    given = (times or {}).get(unit, ())
    return given[number] if number < len(given) else 0


def _offer(
    link: _Link,
    packets: Sequence[Packet],
    taken: list[int],
    cycle: int,
    offered: Mapping[int, Sequence[int]] | None,
    unit: int,
) -> None:
    """Send the next packet of a unit if it is there and the link has a credit."""
    number = len(taken)
    if number < len(packets) and link.credits and _earliest(offered, unit, number) <= cycle:
        link.sent = packets[number]
        taken.append(cycle)


def _accept(
    link: _Link,
    given: list[tuple[int, Packet]],
    cycle: int,
    accepted: Mapping[int, Sequence[int]] | None,
    unit: int,
) -> None:
    """Give a unit the first packet that waits for it, if it takes one."""
    head = link.head
    if head is not None and _earliest(accepted, unit, len(given)) <= cycle:
        given.append((cycle, head))
        link.popped = True
