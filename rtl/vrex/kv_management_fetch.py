"""Reads of chosen clusters: walk a cluster's extents and join adjacent ones."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.kv_management import NUMBER_BITS, KvManagementSizes
from headrace.rtl.vrex.kv_management_table import entry_layout
from headrace.rtl.vrex.threshold_union import cluster_layout

__all__ = ["ClusterWalk", "read_layout"]


def read_layout(sizes: KvManagementSizes) -> data.StructLayout:
    """Return the layout of a read.

    `place` (place_bits), `tokens` (16), `staging` (16), `last` (1).
    """
    number = unsigned(NUMBER_BITS)
    return data.StructLayout(
        {
            "place": unsigned(sizes.place_bits),
            "tokens": number,
            "staging": number,
            "last": unsigned(1),
        }
    )


class ClusterWalk(wiring.Component):
    """Walk the extents of clusters, one per cycle, and give a read for every run.

    A cluster waits for its entry while the one before is walked. A cluster that has no extent
    takes a cycle, too, and gives no read unless it is the last one.

    Parameters
    ----------
    sizes : KvManagementSizes

    Attributes
    ----------
    active : In
        A fetch is under way; the staging slots begin anew when it is not.
    base : In
        Row of the layer's cluster 0.
    chosen : In stream
        `cluster_layout`: the clusters.
    read, row, entry
        Port of the table of clusters: read in one cycle, there in the next.
    follow, extent, following
        That of the successors of extents.
    reads : Out stream
        `read_layout`; the last one of a fetch may have no tokens.
    ended : Out
        The last extent is walked in this cycle.
    """

    def __init__(self, sizes: KvManagementSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "active": In(1),
                "base": In(sizes.row_bits),
                "chosen": In(stream.Signature(cluster_layout())),
                "read": Out(1),
                "row": Out(sizes.row_bits),
                "entry": In(entry_layout(sizes)),
                "follow": Out(1),
                "extent": Out(sizes.extent_bits),
                "following": In(sizes.extent_bits),
                "reads": Out(stream.Signature(read_layout(sizes))),
                "ended": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        go, load, ends, breaks = Signal(), Signal(), Signal(), Signal()
        waiting, waiting_last = self._take(m, load)
        walking, last = Signal(), Signal()
        extent, start = Signal(sizes.extent_bits), Signal(sizes.extent_bits)
        left, run, amount = (Signal(NUMBER_BITS, name=name) for name in ("left", "run", "amount"))
        m.d.comb += [
            go.eq(~self.reads.valid | self.reads.ready),
            ends.eq(left <= sizes.extent_tokens),
            breaks.eq(ends | (self.following != extent + 1)),
            amount.eq(run + Mux(ends, left, sizes.extent_tokens)),
            load.eq(go & (~walking | ends)),
            self.ended.eq(go & walking & ends & last),
            self.follow.eq(go),
            self.extent.eq(Mux(load, self.entry.first, self.following)),
        ]
        with m.If(go):
            m.d.sync += extent.eq(self.extent)
        with m.If(load):
            m.d.sync += [
                walking.eq(waiting),
                last.eq(waiting_last),
                left.eq(self.entry.tokens),
            ]
        with m.Elif(go):
            m.d.sync += left.eq(left - sizes.extent_tokens)
        with m.If(load | (go & breaks)):
            m.d.sync += [start.eq(self.extent), run.eq(0)]
        with m.Elif(go):
            m.d.sync += run.eq(amount)
        emits = walking & breaks & ((left != 0) | last)
        self._give(m, go, emits, start, amount, last & ends)
        return m

    def _take(self, m: Module, load: Value) -> tuple[Value, Value]:
        """Take clusters and read their entries; return whether one waits, and is the last."""
        waiting, last, taken, closed = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.chosen.ready.eq(self.active & ~closed & (~waiting | load)),
            taken.eq(self.chosen.valid & self.chosen.ready),
            self.read.eq(taken),
            self.row.eq(self.base + self.chosen.payload.cluster),
        ]
        with m.If(taken):
            m.d.sync += [waiting.eq(1), last.eq(self.chosen.payload.last)]
        with m.Elif(load):
            m.d.sync += waiting.eq(0)
        with m.If(~self.active | self.ended):
            m.d.sync += closed.eq(0)
        with m.Elif(taken):
            m.d.sync += closed.eq(self.chosen.payload.last)
        return waiting, last

    def _give(
        self, m: Module, go: Value, emits: Value, start: Value, amount: Value, last: Value
    ) -> None:
        """Give a read in the cycle after its run has ended."""
        staging = Signal(NUMBER_BITS)
        payload = self.reads.payload
        with m.If(go):
            m.d.sync += [
                self.reads.valid.eq(emits),
                payload.place.eq(Cat(Const(0, self.sizes.offset_bits), start)),
                payload.tokens.eq(amount),
                payload.staging.eq(staging),
                payload.last.eq(last),
            ]
        with m.If(~self.active):
            m.d.sync += staging.eq(0)
        with m.Elif(go & emits):
            m.d.sync += staging.eq(staging + amount)
