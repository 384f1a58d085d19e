"""The table of a layer's clusters: a memory of codes and one of counts."""

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.hash_cluster import COUNT_BITS, HashClusterSizes

__all__ = ["ClusterMemory"]


class ClusterMemory(wiring.Component):
    """Codes and counts of clusters, which are appended one per cycle.

    Parameters
    ----------
    sizes : HashClusterSizes

    Attributes
    ----------
    clear : In
        Forget all clusters; not while one is appended.
    append, code : In
        Append a cluster with this code; it is read from the next cycle on.
    clusters, full : Out
        Clusters that there are, and whether no other fits.
    read, group : In
        Read the codes of a group, one for each accumulator.
    codes : Out
        Those of the read before this cycle.
    read_count, cluster : In
        Read the count of a cluster.
    count : Out
        That of the read before this cycle.
    write_count, written, new_count : In
        Set the count of cluster `written`.
    """

    def __init__(self, sizes: HashClusterSizes) -> None:
        self.sizes = sizes
        self._words = data.ArrayLayout(unsigned(sizes.code_bits), sizes.accumulators)
        super().__init__(
            {
                "clear": In(1),
                "append": In(1),
                "code": In(sizes.code_bits),
                "clusters": Out(sizes.cluster_bits),
                "full": Out(1),
                "read": In(1),
                "group": In(sizes.cluster_bits),
                "codes": Out(self._words),
                "read_count": In(1),
                "cluster": In(sizes.cluster_bits),
                "count": Out(COUNT_BITS),
                "write_count": In(1),
                "written": In(sizes.cluster_bits),
                "new_count": In(COUNT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.codes = codes = Memory(shape=self._words, depth=sizes.groups, init=[])
        writer, reader = codes.write_port(granularity=1), codes.read_port()
        lane = Signal(sizes.lane_bits)
        m.d.comb += [
            lane.eq(self.clusters),
            writer.addr.eq(self.clusters >> sizes.lane_bits),
            writer.en.eq(self.append << lane),
            reader.en.eq(self.read),
            reader.addr.eq(self.group),
            self.codes.eq(reader.data),
            self.full.eq(self.clusters == sizes.clusters),
        ]
        m.d.comb += [writer.data[i].eq(self.code) for i in range(sizes.accumulators)]
        with m.If(self.append):
            m.d.sync += self.clusters.eq(self.clusters + 1)
        with m.If(self.clear):
            m.d.sync += self.clusters.eq(0)
        self._counts(m)
        return m

    def _counts(self, m: Module) -> None:
        counts = Memory(shape=unsigned(COUNT_BITS), depth=self.sizes.clusters, init=[])
        m.submodules.counts = counts
        writer, reader = counts.write_port(), counts.read_port()
        m.d.comb += [
            writer.en.eq(self.write_count),
            writer.addr.eq(self.written),
            writer.data.eq(self.new_count),
            reader.en.eq(self.read_count),
            reader.addr.eq(self.cluster),
            self.count.eq(reader.data),
        ]
