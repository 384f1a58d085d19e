"""Slots in the order of their last use: a doubly linked list in memory."""

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.expert_cache import ExpertCacheSizes

__all__ = ["RecencyList"]


class RecencyList(wiring.Component):
    """Exact order of use; a use takes two cycles, the second one beside whatever comes next.

    Parameters
    ----------
    sizes : ExpertCacheSizes

    Attributes
    ----------
    use : In
        `slot` is used; not in two adjacent cycles.
    slot : In
    fresh, first : In
        The slot is not in the list yet; it is the only one.
    oldest : Out
        Slot whose use was the longest ago; from two cycles after a use on.
    """

    def __init__(self, sizes: ExpertCacheSizes) -> None:
        self.sizes = sizes
        slot = unsigned(sizes.slot_bits)
        super().__init__(
            {"use": In(1), "slot": In(slot), "fresh": In(1), "first": In(1), "oldest": Out(slot)}
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module: unlink a slot and close the gap, then link it behind the newest."""
        m = Module()
        unlink, link = Signal(), Signal()
        slot, newest, linked = (
            Signal(self.sizes.slot_bits, name=name) for name in ("used", "newest", "linked")
        )
        m.d.comb += slot.eq(self.slot)
        older, newer = self._memory(m, "older", slot), self._memory(m, "newer", slot)
        m.d.comb += unlink.eq(self.use & ~self.fresh & (slot != newest))
        m.d.sync += [link.eq(unlink | (self.use & self.fresh)), linked.eq(slot)]
        with m.If(unlink):
            self._write(m, older, newer[1].data, older[1].data)
            with m.If(slot == self.oldest):
                m.d.sync += self.oldest.eq(newer[1].data)
            with m.Else():
                self._write(m, newer, older[1].data, newer[1].data)
        with m.If(link):
            self._write(m, older, linked, newest)
            self._write(m, newer, newest, linked)
            m.d.sync += newest.eq(linked)
        with m.If(self.use & self.first):
            m.d.sync += self.oldest.eq(slot)
        return m

    def _memory(self, m: Module, name: str, address: Signal) -> tuple[Any, Any]:
        """Add a memory of a slot for each slot; return its ports, the second one reads."""
        depth = max(2, self.sizes.slots)
        memory = Memory(shape=unsigned(self.sizes.slot_bits), depth=depth, init=[])
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += read.addr.eq(address)
        return write, read

    def _write(self, m: Module, ports: tuple[Any, Any], address: Signal, value: Signal) -> None:
        """Write a word in this cycle."""
        write, _ = ports
        m.d.comb += [write.en.eq(1), write.addr.eq(address), write.data.eq(value)]
