"""The weight slots of the linear kernel."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes
from headrace.arch.ubimoe.memory_blocks import style_by_depth

__all__ = ["WeightSlots"]


class WeightSlots(wiring.Component):
    """Fill slots with biases and weight tiles, and read them.

    A load is accepted while none is under way and a slot is free; its beats follow from the next
    cycle on, one per cycle. Every beat of a tile has its own banks as wide as the beat, so that
    no tile is put together first and one read gives all of it. What is read in cycle t is there in
    t + 1 and stays until the next read. Slots are filled, begun and released in turn.

    Resources: ceil(tile bits / beat_bits) memories of slots x max_tiles words, and
    ceil(16 T_out / beat_bits) of slots x max_out_tiles.

    Parameters
    ----------
    sizes : LinearSizes

    Attributes
    ----------
    load, weights : stream
        See docs/ubimoe-kernels.md.
    full : Out(1)
        There is a full slot that was not begun.
    begin : In(1)
        Begin with the oldest of those: from now on `tile_base` and `bias_base` are its first
        addresses.
    release : In(1)
        The oldest slot that was begun is free from the next cycle on.
    read, tile, weight : In, In, Out
        Read a weight tile: T_out x T_in weights, those of output 0 first.
    read_bias, bias, biases : In, In, Out
        Read the T_out biases of an output tile.
    """

    def __init__(self, sizes: LinearSizes) -> None:
        self.sizes = sizes
        tile = unsigned(ceil_log2(_words(sizes, sizes.max_tiles)))
        bias = unsigned(ceil_log2(_words(sizes, sizes.max_out_tiles)))
        weights = data.ArrayLayout(
            signed(sizes.formats.weight_bits), sizes.tile_out * sizes.tile_in
        )
        super().__init__(
            {
                "load": In(stream.Signature(data.StructLayout({"in_tiles": 16, "out_tiles": 16}))),
                "weights": In(stream.Signature(unsigned(sizes.beat_bits))),
                "full": Out(1),
                "begin": In(1),
                "tile_base": Out(tile),
                "bias_base": Out(bias),
                "release": In(1),
                "read": In(1),
                "tile": In(tile),
                "weight": Out(weights),
                "read_bias": In(1),
                "bias": In(bias),
                "biases": Out(data.ArrayLayout(signed(BIAS_BITS), sizes.tile_out)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        write_bias, write_tile = Signal(), Signal()
        part = Signal(range(max(2, sizes.bias_beats, sizes.tile_beats)))
        bias, tile = Signal(self.bias.shape()), Signal(self.tile.shape())
        _memory(m, sizes, "biases", write_bias, bias, part, self.read_bias, self.bias, self)
        _memory(m, sizes, "weight", write_tile, tile, part, self.read, self.tile, self)

        slot = Signal()
        loading, finished, in_bias = Signal(), Signal(), Signal()
        command = Signal(self.load.payload.shape())
        out_tile, in_tile = Signal(16), Signal(16)
        last_part, last_out = Signal(), Signal()
        taken = Signal(range(sizes.slots + 1))  # slots that are not free
        accepted = Signal()
        m.d.comb += [
            self.load.ready.eq(~loading & (taken != sizes.slots)),
            accepted.eq(self.load.valid & self.load.ready),
            self.weights.ready.eq(loading),
            write_bias.eq(self.weights.valid & loading & in_bias),
            write_tile.eq(self.weights.valid & loading & ~in_bias),
            last_part.eq(part == Mux(in_bias, sizes.bias_beats - 1, sizes.tile_beats - 1)),
            last_out.eq(out_tile == command.out_tiles - 1),
        ]
        m.d.sync += taken.eq(taken + accepted - self.release)
        with m.If(accepted):
            m.d.sync += [
                command.eq(self.load.payload),
                loading.eq(1),
                in_bias.eq(1),
                bias.eq(Mux(slot, sizes.max_out_tiles, 0)),
                tile.eq(Mux(slot, sizes.max_tiles, 0)),
            ]
        with m.If(write_bias | write_tile):
            m.d.sync += part.eq(Mux(last_part, 0, part + 1))
        with m.If(write_bias & last_part):
            m.d.sync += [bias.eq(bias + 1), out_tile.eq(out_tile + 1)]
            with m.If(last_out):
                m.d.sync += [in_bias.eq(0), out_tile.eq(0)]
        with m.If(write_tile & last_part):
            m.d.sync += [tile.eq(tile + 1), in_tile.eq(in_tile + 1)]
            with m.If(in_tile == command.in_tiles - 1):
                m.d.sync += [in_tile.eq(0), out_tile.eq(out_tile + 1)]
                with m.If(last_out):
                    m.d.comb += finished.eq(1)
                    m.d.sync += [out_tile.eq(0), loading.eq(0)]
        if sizes.slots > 1:
            with m.If(finished):
                m.d.sync += slot.eq(~slot)
        self._begin(m, finished)
        return m

    def _begin(self, m: Module, finished: Signal) -> None:
        """Count the full slots and tell where the oldest one lies."""
        sizes = self.sizes
        waiting = Signal(range(sizes.slots + 1))
        oldest = Signal()
        m.d.comb += self.full.eq(waiting != 0)
        m.d.sync += waiting.eq(waiting + finished - self.begin)
        with m.If(self.begin):
            m.d.sync += [
                self.tile_base.eq(Mux(oldest, sizes.max_tiles, 0)),
                self.bias_base.eq(Mux(oldest, sizes.max_out_tiles, 0)),
            ]
            if sizes.slots > 1:
                m.d.sync += oldest.eq(~oldest)


def _words(sizes: LinearSizes, per_slot: int) -> int:
    """Return the words of a memory; at least 2, since Verilog has no address of no bits."""
    return max(2, sizes.slots * per_slot)


def _memory(
    m: Module,
    sizes: LinearSizes,
    name: str,
    write: Signal,
    write_address: Signal,
    part: Signal,
    read: Signal,
    read_address: Signal,
    slots: Any,
) -> None:
    """Add the banks of biases or of weights; the output `name` of `slots` is what was read."""
    target = getattr(slots, name).as_value()
    depth = _words(sizes, sizes.max_out_tiles if name == "biases" else sizes.max_tiles)
    for bank, low in enumerate(range(0, len(target), sizes.beat_bits)):
        width = min(sizes.beat_bits, len(target) - low)
        style = style_by_depth(depth, sizes.ultra)
        memory = Memory(shape=unsigned(width), depth=depth, init=[], attrs={"ram_style": style})
        m.submodules[f"{name}_{bank}"] = memory
        writer, reader = memory.write_port(), memory.read_port()
        m.d.comb += [
            writer.en.eq(write & (part == bank)),
            writer.addr.eq(write_address),
            writer.data.eq(slots.weights.payload[:width]),
            reader.en.eq(read),
            reader.addr.eq(read_address),
            target[low : low + width].eq(reader.data),
        ]
