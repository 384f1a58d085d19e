"""The router of the linear kernel: rows to lanes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.memory_blocks import style_by_depth

__all__ = ["Router"]


class Router(wiring.Component):
    """Deal the rows of a group to the lanes, in turn, into one of two buffers per lane.

    Takes one beat per cycle from the cycle after `begin` on, as long as a buffer is free. A beat
    of cycle t can be read in t + 1, and is there in t + 2 until the next read. Lanes without a row
    in a short group keep what they had.

    Resources: per lane one memory of 2 x max_in_tiles words of T_in operands.

    Parameters
    ----------
    sizes : LinearSizes

    Attributes
    ----------
    inputs : stream
        T_in operands of a row.
    idle : Out(1)
        All rows that were asked for are taken.
    begin, rows, in_tiles : In
        Take so many rows of so many beats; only while `idle`.
    full : Out(1)
        There is a whole group.
    release : In(1)
        The buffer of the oldest group is free from the next cycle on.
    read, beat, operands : In, In, Out
        Read a beat of every lane's row of the oldest group.
    """

    def __init__(self, sizes: LinearSizes) -> None:
        self.sizes = sizes
        beat = data.ArrayLayout(signed(sizes.formats.operand_bits), sizes.tile_in)
        super().__init__(
            {
                "inputs": In(stream.Signature(beat)),
                "idle": Out(1),
                "begin": In(1),
                "rows": In(16),
                "in_tiles": In(16),
                "full": Out(1),
                "release": In(1),
                "read": In(1),
                "beat": In(ceil_log2(max(2, sizes.max_in_tiles))),
                "operands": Out(data.ArrayLayout(beat, sizes.lanes)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        rows_left, in_tiles, beat = Signal(16), Signal(16), Signal(16)
        lane = Signal(range(max(2, sizes.lanes)))
        groups = Signal(range(3))  # whole groups in the buffers
        filling, using = Signal(), Signal()
        taken, row_done, group_done = Signal(), Signal(), Signal()
        m.d.comb += [
            self.idle.eq(rows_left == 0),
            self.full.eq(groups != 0),
            self.inputs.ready.eq(~self.idle & (groups != 2)),
            taken.eq(self.inputs.valid & self.inputs.ready),
            row_done.eq(taken & (beat == in_tiles - 1)),
            group_done.eq(row_done & ((lane == sizes.lanes - 1) | (rows_left == 1))),
        ]
        m.d.sync += groups.eq(groups + group_done - self.release)
        with m.If(self.begin):
            m.d.sync += [rows_left.eq(self.rows), in_tiles.eq(self.in_tiles)]
        with m.If(taken):
            m.d.sync += beat.eq(Mux(row_done, 0, beat + 1))
        with m.If(row_done):
            m.d.sync += [rows_left.eq(rows_left - 1), lane.eq(Mux(group_done, 0, lane + 1))]
        with m.If(group_done):
            m.d.sync += filling.eq(~filling)
        with m.If(self.release):
            m.d.sync += using.eq(~using)

        bits = sizes.tile_in * sizes.formats.operand_bits
        address = ceil_log2(max(2, sizes.max_in_tiles))
        depth = 2 ** (1 + address)
        for number in range(sizes.lanes):
            memory = Memory(
                shape=unsigned(bits),
                depth=depth,
                init=[],
                attrs={"ram_style": style_by_depth(depth, sizes.ultra)},
            )
            m.submodules[f"rows_{number}"] = memory
            writer, reader = memory.write_port(), memory.read_port()
            m.d.comb += [
                writer.en.eq(taken & (lane == number)),
                writer.addr.eq(Cat(beat[:address], filling)),
                writer.data.eq(self.inputs.payload),
                reader.en.eq(self.read),
                reader.addr.eq(Cat(self.beat, using)),
                self.operands[number].as_value().eq(reader.data),
            ]
        return m
