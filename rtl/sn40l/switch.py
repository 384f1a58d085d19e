"""A switch of SN40L's vector network: static flows, multicast, credits, turns in a circle."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.switch import SwitchSizes
from headrace.rtl.sn40l.bank_rounds import chosen
from headrace.rtl.sn40l.link import LinkReceiver, LinkSender, link_signature

__all__ = ["Switch", "entry_layout"]


def entry_layout(sizes: SwitchSizes) -> data.StructLayout:
    """Return the layout of a command (`FlowEntry.word`): `flow`, `outputs`, `following`."""
    flow = unsigned(sizes.flow_bits)
    return data.StructLayout({"flow": flow, "outputs": unsigned(sizes.ports), "following": flow})


class Switch(wiring.Component):
    """Send each packet to all outputs of its flow, with the flow id of the next hop.

    An output takes a packet per cycle from one of the inputs that have one for it, in turn; the
    outputs of one packet do not wait for each other. Packets of an input leave in order.

    Parameters
    ----------
    sizes : SwitchSizes

    Attributes
    ----------
    command : In stream
        `entry_layout`: program an entry, which holds from the next cycle on; always taken.
    in_0, out_0, ... : In, Out
        Links, `link_signature`.
    """

    def __init__(self, sizes: SwitchSizes) -> None:
        self.sizes = sizes
        link = link_signature(sizes)
        members: dict[str, Any] = {"command": In(stream.Signature(entry_layout(sizes)))}
        for port in range(sizes.ports):
            members |= {f"in_{port}": In(link), f"out_{port}": Out(link)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        ports = range(self.sizes.ports)
        heads, tails = [], []
        for port in ports:
            m.submodules[f"receiver_{port}"] = receiver = LinkReceiver(self.sizes)
            m.submodules[f"sender_{port}"] = sender = LinkSender(self.sizes)
            wiring.connect(m, wiring.flipped(getattr(self, f"in_{port}")), receiver.link)
            wiring.connect(m, sender.link, wiring.flipped(getattr(self, f"out_{port}")))
            heads.append(receiver.sink)
            tails.append(sender.source)
        entries = self._look_up(m, heads)
        served = [Signal(self.sizes.ports, name=f"served_{port}") for port in ports]
        wanted = [Signal(self.sizes.ports, name=f"wanted_{port}") for port in ports]
        m.d.comb += [
            want.eq(Mux(head.valid, entry.outputs & ~done, 0))
            for want, head, entry, done in zip(wanted, heads, entries, served, strict=True)
        ]
        picks = [self._pick(m, port, wanted, tails[port]) for port in ports]
        for port, tail in enumerate(tails):
            m.d.comb += [
                tail.valid.eq(picks[port].any()),
                tail.payload.words.eq(chosen(picks[port], [h.payload.words for h in heads])),
                tail.payload.sequence.eq(chosen(picks[port], [h.payload.sequence for h in heads])),
                tail.payload.flow.eq(chosen(picks[port], [e.following for e in entries])),
            ]
        for port, head in enumerate(heads):
            now = Cat(picks[o][port] & tails[o].ready for o in ports)
            m.d.comb += head.ready.eq(head.valid & (wanted[port] == now) & now.any())
            m.d.sync += served[port].eq(Mux(head.ready, 0, served[port] | now))
        return m

    def _look_up(self, m: Module, heads: list[Any]) -> list[Any]:
        """Return the entry of the flow of each input's first packet."""
        entry = data.StructLayout(
            {"outputs": unsigned(self.sizes.ports), "following": unsigned(self.sizes.flow_bits)}
        )
        m.submodules.flows = flows = Memory(shape=entry, depth=self.sizes.flows, init=[])
        write, command = flows.write_port(), self.command.payload
        m.d.comb += [
            self.command.ready.eq(1),
            write.en.eq(self.command.valid),
            write.addr.eq(command.flow),
            write.data.outputs.eq(command.outputs),
            write.data.following.eq(command.following),
        ]
        entries = []
        for head in heads:
            read = flows.read_port(domain="comb")
            m.d.comb += read.addr.eq(head.payload.flow)
            entries.append(read.data)
        return entries

    def _pick(self, m: Module, port: int, wanted: list[Value], tail: Any) -> Signal:
        """Return the input whose turn it is at an output, one-hot; the one after it is next."""
        ports = self.sizes.ports
        asking, later, first, pick = (
            Signal(ports, name=f"{name}_{port}") for name in ("asking", "later", "first", "pick")
        )
        turn = Signal(ports, name=f"turn_{port}")
        m.d.comb += [
            asking.eq(Cat(outputs[port] for outputs in wanted)),
            later.eq(asking & turn),
            first.eq(Mux(later.any(), later, asking)),
            pick.eq(first & -first),
        ]
        with m.If(tail.valid & tail.ready):
            m.d.sync += turn.eq(~(pick | (pick - 1)))
        return pick
