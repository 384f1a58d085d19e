"""Writes of new tokens: the ring of the newest ones, and places for those that leave it."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.kv_management import NUMBER_BITS, KvManagementSizes
from headrace.rtl.vrex.kv_management_table import entry_layout

__all__ = ["TokenRing", "layer_layout", "write_layout"]

_LUT_RAM_WORDS = 64


def layer_layout(sizes: KvManagementSizes) -> data.StructLayout:
    """Return the layout of a layer's state.

    `slot` of the next token in the ring, whether the ring is `full`, extents `used`.
    """
    return data.StructLayout(
        {
            "slot": unsigned(max(1, (sizes.resident - 1).bit_length())),
            "full": unsigned(1),
            "used": unsigned(sizes.used_bits),
        }
    )


def write_layout(sizes: KvManagementSizes) -> data.StructLayout:
    """Return the layout of a write.

    `slot` (slot_bits), `moves` (1), `lost` (1), `place` (place_bits, 0 if nothing moves).
    """
    return data.StructLayout(
        {
            "slot": unsigned(sizes.slot_bits),
            "moves": unsigned(1),
            "lost": unsigned(1),
            "place": unsigned(sizes.place_bits),
        }
    )


class TokenRing(wiring.Component):
    """Take tokens into the ring of a layer, one per cycle, and give each one's write.

    Three steps: the cluster of the token that was in the slot, that cluster's entry, its place.

    Parameters
    ----------
    sizes : KvManagementSizes

    Attributes
    ----------
    load, loaded : In
        Set the layer's state; not while a token is under way.
    state : Out
        The state.
    ring_base, row_base, extent_base : In
        First slot, cluster and extent of the layer.
    active : In
        Tokens may be taken.
    clusters : In stream
        Cluster (16) of every token.
    read, row, entry
        Port of the table of clusters: read in one cycle, there in the next.
    write, written, new : Out
        Set the entry of a cluster.
    link, linked, successor : Out
        Set the successor of an extent.
    writes : Out stream
        `write_layout`.
    busy : Out
        A token is under way to its write.
    """

    def __init__(self, sizes: KvManagementSizes) -> None:
        self.sizes = sizes
        entry = entry_layout(sizes)
        super().__init__(
            {
                "load": In(1),
                "loaded": In(layer_layout(sizes)),
                "state": Out(layer_layout(sizes)),
                "ring_base": In(sizes.slot_bits),
                "row_base": In(sizes.row_bits),
                "extent_base": In(sizes.extent_bits),
                "active": In(1),
                "clusters": In(stream.Signature(unsigned(NUMBER_BITS))),
                "read": Out(1),
                "row": Out(sizes.row_bits),
                "entry": In(entry),
                "write": Out(1),
                "written": Out(sizes.row_bits),
                "new": Out(entry),
                "link": Out(1),
                "linked": Out(sizes.extent_bits),
                "successor": Out(sizes.extent_bits),
                "writes": Out(stream.Signature(write_layout(sizes))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        go, taken = Signal(), Signal()
        m.d.comb += [
            go.eq(~self.writes.valid | self.writes.ready),
            self.clusters.ready.eq(self.active & go),
            taken.eq(self.clusters.valid & self.clusters.ready),
        ]
        slot = Signal(sizes.slot_bits)
        m.d.comb += slot.eq(self.ring_base + self.state.slot)
        oldest = self._ring(m, go, taken, slot)

        looks, looks_full, looks_slot = Signal(), Signal(), Signal(sizes.slot_bits)
        places, moves, places_slot = Signal(), Signal(), Signal(sizes.slot_bits)
        m.d.comb += [
            self.busy.eq(looks | places),
            self.read.eq(go & looks),
            self.row.eq(self.row_base + oldest),
        ]
        with m.If(go):
            m.d.sync += [
                looks.eq(taken),
                looks_full.eq(self.state.full),
                looks_slot.eq(slot),
                places.eq(looks),
                moves.eq(looks & looks_full),
                places_slot.eq(looks_slot),
                self.written.eq(self.row),
                self.writes.valid.eq(places),
                self.writes.payload.slot.eq(places_slot),
            ]
        self._place(m, go, moves)
        return m

    def _ring(self, m: Module, go: Value, taken: Value, slot: Value) -> Value:
        """Put the token's cluster into its slot; return what was there, in the next cycle."""
        sizes = self.sizes
        depth = max(2, sizes.layers * sizes.resident)
        style = "block" if depth > _LUT_RAM_WORDS else "distributed"
        m.submodules.slots = ring = Memory(
            shape=unsigned(sizes.cluster_bits), depth=depth, init=[], attrs={"ram_style": style}
        )
        write, read = ring.write_port(), ring.read_port()
        m.d.comb += [
            write.en.eq(taken),
            write.addr.eq(slot),
            write.data.eq(self.clusters.payload),
            read.en.eq(go),
            read.addr.eq(slot),
        ]
        with m.If(taken):
            m.d.sync += self.state.slot.eq(self.state.slot + 1)
            with m.If(self.state.slot == sizes.resident - 1):
                m.d.sync += [self.state.slot.eq(0), self.state.full.eq(1)]
        with m.If(self.load):
            m.d.sync += self.state.eq(self.loaded)
        return read.data

    def _place(self, m: Module, go: Value, moves: Value) -> None:
        """Give the token that leaves the ring its place, in a new extent where it needs one."""
        sizes, entry = self.sizes, self.entry
        offset = entry.tokens[: sizes.offset_bits]
        needs, full, stays = Signal(), Signal(), Signal()
        extent = Signal(sizes.extent_bits)
        opens = moves & needs & ~full
        m.d.comb += [
            needs.eq(~offset.any()),
            full.eq(self.state.used == sizes.extents),
            stays.eq(moves & ~(needs & full)),
            extent.eq(Mux(needs, self.extent_base + self.state.used, entry.last)),
            self.write.eq(go & stays),
            self.new.tokens.eq(entry.tokens + 1),
            self.new.first.eq(Mux(entry.tokens == 0, extent, entry.first)),
            self.new.last.eq(extent),
            self.link.eq(go & opens & (entry.tokens != 0)),
            self.linked.eq(entry.last),
            self.successor.eq(extent),
        ]
        with m.If(go):
            m.d.sync += [
                self.writes.payload.moves.eq(stays),
                self.writes.payload.lost.eq(moves & needs & full),
                self.writes.payload.place.eq(Mux(stays, Cat(offset, extent), 0)),
            ]
            with m.If(opens):
                m.d.sync += self.state.used.eq(self.state.used + 1)
