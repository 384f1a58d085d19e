"""Requests whose slot is known, until their runs have ended."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.expert_cache import ExpertCacheSizes

__all__ = ["RunQueue", "run_layout"]


def run_layout(sizes: ExpertCacheSizes) -> data.StructLayout:
    """Return the layout of a run: `slot`, `expert`, `hit` (it was not copied), `last` of batch."""
    return data.StructLayout(
        {
            "slot": unsigned(sizes.slot_bits),
            "expert": unsigned(sizes.expert_bits),
            "hit": unsigned(1),
            "last": unsigned(1),
        }
    )


class RunQueue(wiring.Component):
    """A ring of `in_flight` entries; each waits for its expert, runs, and is forgotten, in order.

    Parameters
    ----------
    sizes : ExpertCacheSizes

    Attributes
    ----------
    put, item : In
        Add an entry; not if `full`.
    copied : In
        The copy for the first entry that has not been copied is done.
    run : Out stream
        `run_layout`: the next entry, once its expert is there.
    finished : In stream
        A run has ended.
    asked : In
        A slot.
    busy : Out
        It is that of an entry.
    full, empty : Out
    """

    def __init__(self, sizes: ExpertCacheSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "put": In(1),
                "item": In(run_layout(sizes)),
                "copied": In(1),
                "run": Out(stream.Signature(run_layout(sizes))),
                "finished": In(stream.Signature(1)),
                "asked": In(sizes.slot_bits),
                "busy": Out(1),
                "full": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        places = self.sizes.in_flight
        entries = [Signal(run_layout(self.sizes), name=f"entry_{i}") for i in range(places)]
        # Of each entry: it has not finished; it has not begun to run.
        pending, waiting = Signal(places), Signal(places)
        ran, ended = Signal(), Signal()
        free, head, tail = (
            self._turn(m, name, step)
            for name, step in (("free", self.put), ("head", ran), ("tail", ended))
        )
        ready = Signal(range(places + 1))  # copies that are done and whose runs have not begun
        m.d.comb += [
            self.run.payload.eq(Array(entries)[head]),
            self.run.valid.eq(waiting.bit_select(head, 1) & (self.run.payload.hit | (ready != 0))),
            self.finished.ready.eq((pending & ~waiting).bit_select(tail, 1)),
            ran.eq(self.run.valid & self.run.ready),
            ended.eq(self.finished.valid & self.finished.ready),
            self.full.eq(pending.all()),
            self.empty.eq(~pending.any()),
            self.busy.eq((Cat(e.slot == self.asked for e in entries) & pending).any()),
        ]
        m.d.sync += ready.eq(ready + self.copied - (ran & ~self.run.payload.hit))
        with m.If(ran):
            m.d.sync += waiting.bit_select(head, 1).eq(0)
        with m.If(ended):
            m.d.sync += pending.bit_select(tail, 1).eq(0)
        with m.If(self.put):
            m.d.sync += [
                Array(entries)[free].eq(self.item),
                waiting.bit_select(free, 1).eq(1),
                pending.bit_select(free, 1).eq(1),
            ]
        return m

    def _turn(self, m: Module, name: str, step: Signal) -> Signal:
        """Return the number of an entry, the next one after each step."""
        last = self.sizes.lookahead
        number = Signal(range(max(2, last + 1)), name=name)
        with m.If(step):
            m.d.sync += number.eq(Mux(number == last, 0, number + 1))
        return number
