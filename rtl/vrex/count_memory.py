"""Tokens of every cluster of the layer at hand, in the order of the threshold unit's lanes."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.hash_cluster import COUNT_BITS
from headrace.arch.vrex.retrieval_engine import RetrievalEngineSizes
from headrace.rtl.vrex.threshold_lanes import count_layout

__all__ = ["CountMemory"]


class CountMemory(wiring.Component):
    """Counts, set one by one and given out in beats.

    Parameters
    ----------
    sizes : RetrievalEngineSizes

    Attributes
    ----------
    clear : In
        There are no clusters; not while one is opened.
    write, cluster, count : In
        Set the count of a cluster.
    opens : In
        The cluster that is written is a new one.
    clusters : Out
        Clusters that there are.
    give : In
        Give out all counts once. To begin anew, this has to be 0 for a cycle.
    counts : Out stream
        `lanes` counts; lanes without a cluster hold anything.
    given : Out
        All have been taken.
    """

    def __init__(self, sizes: RetrievalEngineSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "clear": In(1),
                "write": In(1),
                "cluster": In(COUNT_BITS),
                "count": In(COUNT_BITS),
                "opens": In(1),
                "clusters": Out(COUNT_BITS),
                "give": In(1),
                "counts": Out(stream.Signature(count_layout(sizes.threshold))),
                "given": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        lanes, lane_bits = self.sizes.threshold.lanes, self.sizes.threshold.lane_bits
        m.submodules.memory = memory = Memory(
            shape=data.ArrayLayout(unsigned(COUNT_BITS), lanes), depth=self.sizes.words, init=[]
        )
        write, read = memory.write_port(granularity=1), memory.read_port()
        m.d.comb += [
            write.addr.eq(self.cluster >> lane_bits),
            write.en.eq(self.write << self.cluster[:lane_bits]),
        ]
        m.d.comb += [write.data[lane].eq(self.count) for lane in range(lanes)]
        with m.If(self.clear):
            m.d.sync += self.clusters.eq(0)
        with m.Elif(self.write & self.opens):
            m.d.sync += self.clusters.eq(self.clusters + 1)

        word, following, there = Signal(COUNT_BITS), Signal(COUNT_BITS), Signal()
        m.d.comb += [
            self.given.eq((word << lane_bits) >= self.clusters),
            self.counts.valid.eq(there & ~self.given),
            self.counts.payload.eq(read.data),
            following.eq(Mux(self.counts.valid & self.counts.ready, word + 1, word)),
            read.addr.eq(following),
        ]
        with m.If(self.give):
            m.d.sync += [there.eq(1), word.eq(following)]
        with m.Else():
            m.d.sync += [there.eq(0), word.eq(0)]
        return m
