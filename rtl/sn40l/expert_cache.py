"""SN40L's expert cache: which experts are in HBM, what is copied, and what runs."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.expert_cache import ExpertCacheSizes
from headrace.rtl.sn40l.recency_list import RecencyList
from headrace.rtl.sn40l.run_queue import RunQueue, run_layout

__all__ = ["ExpertCache", "copy_layout", "request_layout"]


def request_layout(sizes: ExpertCacheSizes) -> data.StructLayout:
    """Return the layout of a request: `expert`, `last` of its batch; or `clear`."""
    return data.StructLayout(
        {"expert": unsigned(sizes.expert_bits), "last": unsigned(1), "clear": unsigned(1)}
    )


def copy_layout(sizes: ExpertCacheSizes) -> data.StructLayout:
    """Return the layout of a copy: into `slot`, of `expert`."""
    return data.StructLayout(
        {"slot": unsigned(sizes.slot_bits), "expert": unsigned(sizes.expert_bits)}
    )


class ExpertCache(wiring.Component):
    """Run experts in order of arrival; copy those that are absent over the least recently used.

    A request is looked up after the one before it has its slot. So the slots of the requests that
    have not finished are those used last, and the oldest slot of all is the one to give up: once
    its runs have ended.

    The directory has a slot for each expert, and the slots have an owner each. An expert is present
    if its slot is in use and owned by it, so nothing is written to forget one, or all.

    Parameters
    ----------
    sizes : ExpertCacheSizes

    Attributes
    ----------
    request : In stream
        `request_layout`. The expert is less than `experts`. A `clear` forgets all experts once all
        requests before it have finished.
    command : Out stream
        `copy_layout`, for each expert that is absent; one copy at a time.
    copied : In stream
        A copy is done.
    run : Out stream
        `run_layout`, for each request.
    finished : In stream
        A run has ended.
    """

    def __init__(self, sizes: ExpertCacheSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "request": In(stream.Signature(request_layout(sizes))),
                "command": Out(stream.Signature(copy_layout(sizes))),
                "copied": In(stream.Signature(1)),
                "run": Out(stream.Signature(run_layout(sizes))),
                "finished": In(stream.Signature(1)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.queue = queue = RunQueue(sizes)
        m.submodules.recency = recency = RecencyList(sizes)
        for name in ("run", "finished"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(queue, name))
        item, slot, hit = Signal(request_layout(sizes)), Signal(sizes.slot_bits), Signal()
        used = Signal(range(sizes.slots + 1))
        fresh, copying, place, go = (Signal(name=n) for n in ("fresh", "copying", "place", "go"))
        found, present = self._directory(m, item.expert, slot, used, queue.put)
        m.d.comb += [
            fresh.eq(~hit & (used != sizes.slots)),
            self.command.valid.eq(place & ~item.clear & ~hit & ~copying & (fresh | ~queue.busy)),
            self.command.payload.slot.eq(slot),
            self.command.payload.expert.eq(item.expert),
            go.eq(hit | (self.command.valid & self.command.ready)),
            self.copied.ready.eq(copying),
            queue.put.eq(place & ~item.clear & go),
            queue.item.slot.eq(slot),
            queue.item.expert.eq(item.expert),
            queue.item.hit.eq(hit),
            queue.item.last.eq(item.last),
            queue.copied.eq(self.copied.valid & copying),
            queue.asked.eq(slot),
            recency.use.eq(queue.put),
            recency.slot.eq(slot),
            recency.fresh.eq(fresh),
            recency.first.eq(used == 0),
        ]
        with m.If(self.copied.valid):
            m.d.sync += copying.eq(0)
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += copying.eq(1)
        with m.If(queue.put & fresh):
            m.d.sync += used.eq(used + 1)
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.request.ready.eq(~queue.full)
                m.d.sync += item.eq(self.request.payload)
                with m.If(self.request.valid & self.request.ready):
                    m.next = "LOOK"
            with m.State("LOOK"):
                absent = Mux(used == sizes.slots, recency.oldest, used)
                m.d.sync += [hit.eq(present), slot.eq(Mux(present, found, absent))]
                m.next = "PLACE"
            with m.State("PLACE"):
                m.d.comb += place.eq(1)
                with m.If(item.clear), m.If(queue.empty):
                    m.d.sync += used.eq(0)
                    m.next = "TAKE"
                with m.Elif(go):
                    m.next = "TAKE"
        return m

    def _directory(
        self, m: Module, expert: Any, slot: Signal, used: Signal, write: Signal
    ) -> tuple[Any, Signal]:
        """Return the slot of the request before this cycle, and whether its expert is there."""
        sizes, present = self.sizes, Signal()
        m.submodules.slots = slots = Memory(
            shape=unsigned(sizes.slot_bits), depth=max(2, sizes.experts), init=[]
        )
        m.submodules.owners = owners = Memory(
            shape=unsigned(sizes.expert_bits), depth=max(2, sizes.slots), init=[]
        )
        found, owner = slots.read_port(), owners.read_port(domain="comb")
        m.d.comb += [
            found.en.eq(self.request.valid & self.request.ready),
            found.addr.eq(self.request.payload.expert),
            owner.addr.eq(found.data),
            present.eq((found.data < used) & (owner.data == expert)),
        ]
        for memory, address, word in ((slots, expert, slot), (owners, slot, expert)):
            port = memory.write_port()
            m.d.comb += [port.en.eq(write), port.addr.eq(address), port.data.eq(word)]
        return found.data, present
