"""The clusters that any row of a command chose."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.threshold import CLUSTER_BITS, ThresholdSizes

__all__ = ["ClusterUnion", "cluster_layout"]


def cluster_layout() -> data.StructLayout:
    """Return the layout of a chosen cluster."""
    return data.StructLayout({"cluster": unsigned(CLUSTER_BITS), "last": unsigned(1)})


class ClusterUnion(wiring.Component):
    """One bit per cluster, set row by row and given out as numbers.

    Parameters
    ----------
    sizes : ThresholdSizes

    Attributes
    ----------
    clear : In(1)
        The clusters of word `place` are not chosen.
    chosen : In
        A bit per lane: these clusters of word `place` are chosen.
    place : In
        Number of a word.
    give : In(1)
        Give out the chosen clusters, from the cycle after this was 0; at least one is chosen.
    results : stream
        `cluster` (16 bits), ascending; `last` (1).
    ended : Out(1)
        The last one leaves in this cycle.
    """

    def __init__(self, sizes: ThresholdSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "clear": In(1),
                "chosen": In(sizes.lanes),
                "place": In(sizes.word_bits),
                "give": In(1),
                "results": Out(stream.Signature(cluster_layout())),
                "ended": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.bits = bits = memory.Memory(
            shape=unsigned(sizes.lanes), depth=sizes.words, init=[]
        )
        write, read = bits.write_port(granularity=1), bits.read_port()
        m.d.comb += [
            write.addr.eq(self.place),
            write.en.eq(self.chosen | self.clear.replicate(sizes.lanes)),
            write.data.eq((~self.clear).replicate(sizes.lanes)),
        ]
        top = Signal(sizes.word_bits)
        with m.If(self.clear):
            m.d.sync += top.eq(0)
        with m.Elif(self.chosen.any() & (self.place > top)):
            m.d.sync += top.eq(self.place)

        given = Signal(sizes.lanes)
        word, lane = Signal(sizes.word_bits), Signal(sizes.lane_bits)
        left, rest, moved, onward = Signal(sizes.lanes), Signal(sizes.lanes), Signal(), Signal()
        for number in reversed(range(sizes.lanes)):
            with m.If(left[number]):
                m.d.comb += lane.eq(number)
        m.d.comb += [
            left.eq(read.data & ~given),
            rest.eq(left & (left - 1)),
            self.results.valid.eq(self.give & left.any()),
            self.results.payload.cluster.eq(Cat(lane, word)),
            self.results.payload.last.eq((word == top) & ~rest.any()),
            moved.eq(self.results.valid & self.results.ready),
            onward.eq(self.give & (~left.any() | (moved & ~rest.any()))),
            self.ended.eq(moved & self.results.payload.last),
            read.en.eq(1),
            read.addr.eq(Mux(onward, word + 1, word)),
        ]
        m.d.sync += word.eq(Mux(self.ended, 0, read.addr))
        with m.If(onward):
            m.d.sync += given.eq(0)
        with m.Elif(moved):
            m.d.sync += given.eq(given | (left ^ rest))
        return m
