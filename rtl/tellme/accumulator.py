"""Accumulators of all output groups, and their way out."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.tellme.engine import EngineSizes
from headrace.rtl.tellme.buffer import ram_style

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Add the sums of an output group to its accumulators; drain them after the last row.

    A group announced in cycle t brings its `sums` in cycle t + 1, at whose end they are added;
    one group per cycle, the same one in consecutive cycles included (the sum just written is
    forwarded). If that was the `last` one, group 0 is on `results` from cycle t + 3 on, then one
    group per cycle that `results` is ready; `done` is high with the last transfer.

    The memory is LUT RAM up to 64 groups and block RAM beyond, ceil(Q accumulator_bits / 36)
    halves of 512 groups. Sums wrap at `accumulator_bits`.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    enable, group, first, last : In
        Announce a group; `first` starts its sums from 0, `last` ends the token.
    sums : In
        Q signed sums, one cycle later.
    groups : In
        Output groups to drain.
    results : stream
        Q accumulators of one output group.
    done : Out(1)
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        self.sum_bits = sizes.entry_bits + ceil_log2(sizes.tables)
        totals = data.ArrayLayout(signed(sizes.accumulator_bits), sizes.copies)
        super().__init__(
            {
                "enable": In(1),
                "group": In(16),
                "first": In(1),
                "last": In(1),
                "sums": In(data.ArrayLayout(signed(self.sum_bits), sizes.copies)),
                "groups": In(16),
                "results": Out(stream.Signature(totals)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        depth = sizes.max_groups
        style = ram_style(depth).replace("ultra", "block")  # a URAM would be mostly empty
        totals = data.ArrayLayout(signed(sizes.accumulator_bits), sizes.copies)
        m.submodules.memory = memory = Memory(
            shape=totals, depth=depth, init=[], attrs={"ram_style": style}
        )
        writer, reader = memory.write_port(), memory.read_port()
        busy, first, last, again = Signal(), Signal(), Signal(), Signal()
        latest = Signal(totals)
        draining, leave = Signal(), Signal()
        position = Signal(16)
        out_last = Signal()

        # Accumulate: the group's totals are read one cycle ahead of its sums.
        m.d.sync += [
            busy.eq(self.enable),
            first.eq(self.first),
            last.eq(self.enable & self.last),
            again.eq(busy & (writer.addr == self.group)),
            writer.addr.eq(self.group),
        ]
        m.d.comb += writer.en.eq(busy)
        for q in range(sizes.copies):
            before = Mux(first, 0, Mux(again, latest[q], reader.data[q]))
            m.d.comb += writer.data[q].eq(before + self.sums[q])
        m.d.sync += latest.eq(writer.data)

        # Drain: the read port's output register is the stream's payload and waits with it.
        m.d.comb += [
            self.results.payload.eq(reader.data),
            leave.eq(self.results.valid & self.results.ready),
            self.done.eq(leave & out_last),
            reader.addr.eq(Mux(draining, position, self.group)),
        ]
        with m.If(~draining):
            m.d.comb += reader.en.eq(self.enable)
            m.d.sync += position.eq(0)
            with m.If(last):
                m.d.sync += draining.eq(1)
        with m.Else():
            m.d.comb += reader.en.eq((position != self.groups) & (~self.results.valid | leave))
            with m.If(reader.en):
                m.d.sync += [
                    position.eq(position + 1),
                    out_last.eq(position + 1 == self.groups),
                    self.results.valid.eq(1),
                ]
            with m.Elif(leave):
                m.d.sync += self.results.valid.eq(0)
            with m.If(self.done):
                m.d.sync += draining.eq(0)
        return m
