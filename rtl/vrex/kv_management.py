"""V-Rex's KV management unit: where keys and values are, and what has to move."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.kv_management import LAYER_BITS, NUMBER_BITS, KvManagementSizes
from headrace.rtl.vrex.kv_management_append import TokenRing, layer_layout, write_layout
from headrace.rtl.vrex.kv_management_fetch import ClusterWalk, read_layout
from headrace.rtl.vrex.kv_management_table import ExtentTable
from headrace.rtl.vrex.threshold_union import cluster_layout

__all__ = ["KvManagement"]


class KvManagement(wiring.Component):
    """Keep the newest tokens of every layer in device memory, and clusters of the others behind.

    A token that is appended takes the slot of the oldest one, which moves to the next place of
    its cluster in offload memory. A cluster has extents of contiguous places; a fetch gives one
    read for each run of adjacent extents of the chosen clusters.

    Parameters
    ----------
    sizes : KvManagementSizes

    Attributes
    ----------
    command : In stream
        `tokens` (16), `layer` (8), `clear` (1), `fetch` (1): read the chosen clusters of the layer
        if `fetch`; otherwise forget the layer if `clear`, then append so many tokens, maybe none.
        The first append of a layer has to clear it.
    clusters : In stream
        Cluster (16) of every token that is appended.
    chosen : In stream
        `cluster` (16), `last` (1): the clusters of a fetch, at least one.
    writes : Out stream
        `write_layout`, for every token that is appended.
    reads : Out stream
        `read_layout`; the last one of a fetch has `last`, and no tokens if the last cluster has
        none behind.
    """

    def __init__(self, sizes: KvManagementSizes) -> None:
        self.sizes = sizes
        number = unsigned(NUMBER_BITS)
        command = data.StructLayout(
            {
                "tokens": number,
                "layer": unsigned(LAYER_BITS),
                "clear": unsigned(1),
                "fetch": unsigned(1),
            }
        )
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "clusters": In(stream.Signature(number)),
                "chosen": In(stream.Signature(cluster_layout())),
                "writes": Out(stream.Signature(write_layout(sizes))),
                "reads": Out(stream.Signature(read_layout(sizes))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.ring = ring = TokenRing(sizes)
        m.submodules.walk = walk = ClusterWalk(sizes)
        m.submodules.table = table = ExtentTable(sizes)
        for port, part in (("clusters", ring), ("chosen", walk), ("writes", ring), ("reads", walk)):
            wiring.connect(m, wiring.flipped(getattr(self, port)), getattr(part, port))
        clearing, cleared = Signal(), Signal(sizes.cluster_bits)
        m.d.comb += [
            table.read.eq(ring.read | walk.read),
            table.row.eq(Mux(walk.active, walk.row, ring.row)),
            ring.entry.eq(table.entry),
            walk.entry.eq(table.entry),
            table.write.eq(clearing | ring.write),
            table.written.eq(Mux(clearing, ring.row_base + cleared, ring.written)),
            table.new.eq(Mux(clearing, 0, ring.new)),
            table.follow.eq(walk.follow),
            table.extent.eq(walk.extent),
            walk.following.eq(table.following),
            table.link.eq(ring.link),
            table.linked.eq(ring.linked),
            table.successor.eq(ring.successor),
            walk.base.eq(ring.row_base),
        ]
        stored = self._sequence(m, ring, walk, clearing, cleared)
        self._layers(m, ring, stored, clearing)
        return m

    def _sequence(
        self, m: Module, ring: TokenRing, walk: ClusterWalk, clearing: Signal, cleared: Signal
    ) -> Signal:
        """Go through one command after another; return when the layer's state is kept."""
        command, tokens, stored = self.command.payload, Signal(NUMBER_BITS), Signal()
        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += tokens.eq(command.tokens)
                with m.If(self.command.valid):
                    with m.If(command.fetch):
                        m.next = "FETCH"
                    with m.Elif(command.clear):
                        m.next = "CLEAR"
                    with m.Else():
                        m.next = "APPEND"
            with m.State("CLEAR"):
                m.d.comb += clearing.eq(1)
                m.d.sync += cleared.eq(cleared + 1)
                with m.If(cleared == self.sizes.clusters - 1):
                    m.d.sync += cleared.eq(0)
                    m.next = "APPEND"
            with m.State("APPEND"):
                m.d.comb += [
                    ring.active.eq(tokens != 0),
                    stored.eq((tokens == 0) & ~ring.busy),
                ]
                with m.If(self.clusters.valid & self.clusters.ready):
                    m.d.sync += tokens.eq(tokens - 1)
                with m.If(stored):
                    m.next = "COMMAND"
            with m.State("FETCH"):
                m.d.comb += walk.active.eq(1)
                with m.If(walk.ended):
                    m.next = "COMMAND"
        return stored

    def _layers(self, m: Module, ring: TokenRing, stored: Value, clearing: Value) -> None:
        """Load the state of the command's layer, and keep it after an append."""
        sizes, layer = self.sizes, Signal(LAYER_BITS)
        m.submodules.layers = layers = Memory(
            shape=layer_layout(sizes), depth=max(2, sizes.layers), init=[]
        )
        write, read = layers.write_port(), layers.read_port(domain="comb")
        taken = self.command.valid & self.command.ready
        asked = self.command.payload.layer
        m.d.comb += [
            read.addr.eq(asked),
            ring.load.eq(taken | clearing),
            ring.loaded.eq(Mux(clearing, 0, read.data)),
            write.en.eq(stored),
            write.addr.eq(layer),
            write.data.eq(ring.state),
        ]
        bases = {
            "ring_base": sizes.resident,
            "row_base": sizes.clusters,
            "extent_base": sizes.extents,
        }
        for name, size in bases.items():
            base = Signal.like(getattr(ring, name), name=name)
            m.d.comb += getattr(ring, name).eq(base)
            with m.If(taken):
                m.d.sync += base.eq(asked * size)
        with m.If(taken):
            m.d.sync += layer.eq(asked)
