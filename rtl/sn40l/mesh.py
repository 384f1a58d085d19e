"""A mesh of switches with a stream in and a stream out for the unit at each."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.switch import DIRECTIONS, MeshSizes
from headrace.rtl.sn40l.link import LinkReceiver, LinkSender, flow_packet_layout
from headrace.rtl.sn40l.switch import Switch, entry_layout

__all__ = ["Mesh"]

_OPPOSITE = {0: 1, 1: 0, 2: 3, 3: 2}


class Mesh(wiring.Component):
    """The vector network of a tile.

    Parameters
    ----------
    sizes : MeshSizes

    Attributes
    ----------
    command_0, ... : In stream
        `entry_layout`, for each switch.
    source_0, ... : In stream
        `flow_packet_layout`: packets of the unit at the switch.
    sink_0, ... : Out stream
        `flow_packet_layout`: packets for it.
    """

    def __init__(self, sizes: MeshSizes) -> None:
        self.sizes = sizes
        packet = stream.Signature(flow_packet_layout(sizes.switch))
        members: dict[str, Any] = {}
        for number in range(sizes.switches):
            members |= {
                f"command_{number}": In(stream.Signature(entry_layout(sizes.switch))),
                f"source_{number}": In(packet),
                f"sink_{number}": Out(packet),
            }
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes, local = self.sizes, list(DIRECTIONS).index("local")
        switches = [Switch(sizes.switch) for _ in range(sizes.switches)]
        for number, switch in enumerate(switches):
            m.submodules[f"switch_{number}"] = switch
            m.submodules[f"entry_{number}"] = entry = LinkSender(sizes.switch)
            m.submodules[f"exit_{number}"] = leave = LinkReceiver(sizes.switch)
            command, source, sink = (
                getattr(self, f"{name}_{number}") for name in ("command", "source", "sink")
            )
            wiring.connect(m, wiring.flipped(command), switch.command)
            wiring.connect(m, wiring.flipped(source), entry.source)
            wiring.connect(m, entry.link, getattr(switch, f"in_{local}"))
            wiring.connect(m, getattr(switch, f"out_{local}"), leave.link)
            wiring.connect(m, leave.sink, wiring.flipped(sink))
            for port, back in _OPPOSITE.items():
                neighbour = sizes.neighbour(number, port)
                if neighbour is not None:
                    behind = getattr(switches[neighbour], f"in_{back}")
                    wiring.connect(m, getattr(switch, f"out_{port}"), behind)
        return m
