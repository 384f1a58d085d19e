"""Sizes, cycles and flow tables of SN40L's switches (docs/sn40l-memory.md, "switch")."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.errors import InputError

__all__ = ["DIRECTIONS", "HOP_CYCLES", "LOOP_CYCLES", "FlowEntry", "MeshSizes", "SwitchSizes"]

HOP_CYCLES = 2
"""Cycles from one end of a link to the other: the link's register and the buffer behind it."""

LOOP_CYCLES = 4
"""Cycles until the credit of a packet can be used again, if nothing keeps the packet."""

DIRECTIONS = {"east": (1, 0), "west": (-1, 0), "south": (0, 1), "north": (0, -1), "local": (0, 0)}
"""Ports of a switch of a mesh, in order, and where they lead: (x, y)."""


@dataclass(frozen=True, kw_only=True)
class SwitchSizes:
    """Sizes of a switch and of its links; none of them is published.

    Parameters
    ----------
    ports : int
        Links in, and links out, 2 to 8.
    flows : int
        Entries of the flow table; a power of two, 2 to 256.
    credits : int
        Packets that the buffer at the end of a link holds, 1 to 64.
    vector_bits : int
        Bits of a packet's words, 1 to 4096.
    sequence_bits : int
        Bits of its sequence id, 1 to 16.

    Raises
    ------
    InputError
        A size is out of range.
    """

    ports: int = 5
    flows: int = 64
    credits: int = 4
    vector_bits: int = 512
    sequence_bits: int = 16

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "ports": (2, 8),
            "flows": (2, 256),
            "credits": (1, 64),
            "vector_bits": (1, 4096),
            "sequence_bits": (1, 16),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
        if self.flows & (self.flows - 1):
            raise InputError(f"flows = {self.flows} is not allowed: a power of two is needed")

    @property
    def flow_bits(self) -> int:
        """Bits of a flow id."""
        return self.flows.bit_length() - 1

    def stream_cycles(self, packets: int, switches: int) -> int:
        """Return the cycles of packets of one flow, from the first one in to the last one out.

        Both are included; no stream stalls and no other flow is on the way. With fewer than
        `LOOP_CYCLES` credits, links wait for them.

        Parameters
        ----------
        packets : int
            At least 1.
        switches : int
            On the way from unit to unit: one link more.

        Raises
        ------
        InputError
            No packets.
        """
        if packets < 1:
            raise InputError(f"{packets} packets are not allowed: at least 1")
        groups, rest = divmod(packets - 1, self.credits)
        last = groups * max(self.credits, LOOP_CYCLES) + rest
        return last + HOP_CYCLES * (switches + 1) + 1


@dataclass(frozen=True, kw_only=True)
class FlowEntry:
    """An entry of a switch's flow table.

    Parameters
    ----------
    flow : int
        Id with which packets come.
    outputs : tuple of int
        Ports through which they leave; without any they wait.
    following : int
        Id with which they leave.
    """

    flow: int
    outputs: tuple[int, ...]
    following: int

    def word(self, sizes: SwitchSizes) -> int:
        """Return the command that programs the entry.

        Raises
        ------
        InputError
            A flow id or a port is out of range.
        """
        for name in ("flow", "following"):
            if not 0 <= getattr(self, name) < sizes.flows:
                raise InputError(
                    f"{name} = {getattr(self, name)} is not allowed: 0 to {sizes.flows - 1}"
                )
        for port in self.outputs:
            if not 0 <= port < sizes.ports:
                raise InputError(f"output {port} is not allowed: 0 to {sizes.ports - 1}")
        mask = sum(1 << port for port in set(self.outputs))
        return self.flow | (mask | self.following << sizes.ports) << sizes.flow_bits


@dataclass(frozen=True, kw_only=True)
class MeshSizes:
    """A mesh of switches of five ports, each with one unit.

    Parameters
    ----------
    width, height : int
        Switches, 1 to 64 each.
    switch : SwitchSizes

    Raises
    ------
    InputError
        A size is out of range.
    """

    width: int = 2
    height: int = 2
    switch: SwitchSizes = field(default_factory=SwitchSizes)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("width", "height"):
            if not 1 <= getattr(self, name) <= 64:
                raise InputError(f"{name} = {getattr(self, name)} is not allowed: 1 to 64")
        if self.switch.ports != len(DIRECTIONS):
            raise InputError(f"ports = {self.switch.ports} is not allowed: {len(DIRECTIONS)}")

    @property
    def switches(self) -> int:
        """Switches in all; the one at (x, y) has number ``y * width + x``."""
        return self.width * self.height

    def neighbour(self, switch: int, port: int) -> int | None:
        """Return the switch behind a port, or None: the unit, or the edge of the mesh."""
        dx, dy = list(DIRECTIONS.values())[port]
        x, y = switch % self.width + dx, switch // self.width + dy
        inside = 0 <= x < self.width and 0 <= y < self.height
        return y * self.width + x if inside and (dx or dy) else None

    def hops(self, source: int, sink: int) -> int:
        """Return the switches on the way between two units."""
        (y, x), (v, u) = divmod(source, self.width), divmod(sink, self.width)
        return abs(x - u) + abs(y - v) + 1

    def flow_tables(
        self, flows: Sequence[tuple[int, Sequence[int]]]
    ) -> tuple[list[list[FlowEntry]], list[int]]:
        """Return the entries of every switch, and the id with which each flow begins.

        A flow goes along x first, then along y, to all of its sinks; branches of one flow share
        links. No two flows share an id at a switch.

        Parameters
        ----------
        flows : sequence of (int, sequence of int)
            Source and sinks of each flow: numbers of switches.

        Raises
        ------
        InputError
            A switch is out of range, a flow has no sink, or a table is too small.
        """
        tables: list[list[FlowEntry]] = [[] for _ in range(self.switches)]
        used: list[set[int]] = [set() for _ in range(self.switches)]
        begins = []
        for source, sinks in flows:
            for switch in (source, *sinks):
                if not 0 <= switch < self.switches:
                    raise InputError(f"switch {switch} is not allowed: 0 to {self.switches - 1}")
            if not sinks:
                raise InputError(f"a flow from switch {source} has no sink")
            flow = self._fresh(used, [source])
            begins.append(flow)
            todo = [(source, flow, set(sinks))]
            while todo:
                todo += self._branch(tables, used, *todo.pop())
        return tables, begins

    def _branch(
        self,
        tables: list[list[FlowEntry]],
        used: list[set[int]],
        switch: int,
        flow: int,
        sinks: set[int],
    ) -> list[tuple[int, int, set[int]]]:
        """Add the entry of a flow at a switch; return where it goes on."""
        ways: dict[int, set[int]] = {}
        for sink in sorted(sinks):
            ways.setdefault(self._port(switch, sink), set()).add(sink)
        behind = {port: self.neighbour(switch, port) for port in ways}
        switches = {port: number for port, number in behind.items() if number is not None}
        following = self._fresh(used, list(switches.values()))
        tables[switch].append(FlowEntry(flow=flow, outputs=tuple(ways), following=following))
        return [(number, following, ways[port]) for port, number in switches.items()]

    def _port(self, switch: int, sink: int) -> int:
        """Return the port that leads from a switch to a sink."""
        (y, x), (v, u) = divmod(switch, self.width), divmod(sink, self.width)
        if u != x:
            return 0 if u > x else 1
        if v != y:
            return 2 if v > y else 3
        return 4

    def _fresh(self, used: list[set[int]], switches: Sequence[int]) -> int:
        """Take the lowest id that no flow has at these switches."""
        for flow in range(self.switch.flows):
            if all(flow not in used[switch] for switch in switches):
                for switch in switches:
                    used[switch].add(flow)
                return flow
        raise InputError(f"more flows than the {self.switch.flows} entries of a table meet")
