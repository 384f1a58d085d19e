"""Links between switches and units: a packet whenever there is a credit, no ready."""

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.switch import SwitchSizes

__all__ = ["LinkReceiver", "LinkSender", "flow_packet_layout", "link_signature"]


def flow_packet_layout(sizes: SwitchSizes) -> data.StructLayout:
    """Return the layout of a packet: `words`, `sequence`, `flow`."""
    return data.StructLayout(
        {
            "words": unsigned(sizes.vector_bits),
            "sequence": unsigned(sizes.sequence_bits),
            "flow": unsigned(sizes.flow_bits),
        }
    )


def link_signature(sizes: SwitchSizes) -> wiring.Signature:
    """Return a link, seen from its sender: `valid`, `packet`, and `credit` that comes back."""
    return wiring.Signature(
        {"valid": Out(1), "packet": Out(flow_packet_layout(sizes)), "credit": In(1)}
    )


class LinkSender(wiring.Component):
    """Send packets while there are credits; the link is a register.

    Parameters
    ----------
    sizes : SwitchSizes

    Attributes
    ----------
    source : In stream
        `flow_packet_layout`; taken if there is a credit.
    link : Out
        `link_signature`.
    """

    def __init__(self, sizes: SwitchSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "source": In(stream.Signature(flow_packet_layout(sizes))),
                "link": Out(link_signature(sizes)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        credits, sent = Signal(range(self.sizes.credits + 1), init=self.sizes.credits), Signal()
        m.d.comb += [
            self.source.ready.eq(credits != 0),
            sent.eq(self.source.valid & self.source.ready),
        ]
        m.d.sync += [credits.eq(credits + self.link.credit - sent), self.link.valid.eq(sent)]
        with m.If(sent):
            m.d.sync += self.link.packet.eq(self.source.payload)
        return m


class LinkReceiver(wiring.Component):
    """Keep what a link brings; give a credit back for each packet that leaves.

    Parameters
    ----------
    sizes : SwitchSizes

    Attributes
    ----------
    link : In
        `link_signature`.
    sink : Out stream
        `flow_packet_layout`, in order.
    """

    def __init__(self, sizes: SwitchSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "link": In(link_signature(sizes)),
                "sink": Out(stream.Signature(flow_packet_layout(sizes))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        width = flow_packet_layout(self.sizes).size
        m.submodules.buffer = buffer = fifo.SyncFIFO(width=width, depth=self.sizes.credits)
        m.d.comb += [
            buffer.w_en.eq(self.link.valid),
            buffer.w_data.eq(self.link.packet),
            self.sink.valid.eq(buffer.r_rdy),
            self.sink.payload.eq(buffer.r_data),
            buffer.r_en.eq(self.sink.ready),
        ]
        m.d.sync += self.link.credit.eq(self.sink.valid & self.sink.ready)
        return m
