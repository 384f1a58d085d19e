"""What the compute unit does when: commands, the beats it takes, the sums that leave the array."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.compute_program import COUNT_BITS
from headrace.arch.sn40l.compute_unit import BANKS, ComputeUnitSizes
from headrace.rtl.sn40l.compute_cell import sum_address_bits
from headrace.rtl.sn40l.compute_layout import command_layout
from headrace.rtl.ubimoe.pipeline import delayed

__all__ = ["ComputeSequencer"]


class ComputeSequencer(wiring.Component):
    """Take commands one at a time, and say what every cycle of the unit is for.

    Parameters
    ----------
    sizes : ComputeUnitSizes

    Attributes
    ----------
    commands : stream
        `command_layout`.
    go : In(1)
        The tail advances, and with it the SIMD pipeline and the sums that leave the array.
    finish : In(1)
        The last result of the command leaves.
    left_valid, right_valid : In(1)
        Beats are there.
    taken : Out(1)
        A beat of the left stream is taken.
    right_taken : Out(1)
        One of the right stream is taken.
    load : Out(1)
        A command is taken.
    program : Out
        That of the command, from the next cycle on.
    first : Out(1)
        The beat has the first products of sums.
    place : Out
        Of these sums in their cells.
    last : Out(1)
        The beat is the last one of a SIMD command.
    draining, drain_last : Out(1)
        Sums leave; the last ones of the command.
    drain : Out
        Their place in their cells.
    column : Out
        Their stage.
    """

    def __init__(self, sizes: ComputeUnitSizes) -> None:
        self.sizes = sizes
        layout, place = command_layout(sizes.stages), unsigned(sum_address_bits(sizes))
        outputs = ("taken", "right_taken", "load", "first", "last", "draining", "drain_last")
        super().__init__(
            {
                "commands": In(stream.Signature(layout)),
                "go": In(1),
                "finish": In(1),
                "left_valid": In(1),
                "right_valid": In(1),
                **{name: Out(1) for name in outputs},
                "program": Out(layout),
                "place": Out(place),
                "drain": Out(place),
                "column": Out(range(sizes.stages)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        busy, left = Signal(), Signal(COUNT_BITS)
        m.d.comb += [
            self.commands.ready.eq(~busy | self.finish),
            self.load.eq(self.commands.valid & self.commands.ready),
            self.last.eq(left == 1),
        ]
        step_last, tile_last, can = self._steps(m)
        gone = Mux(self.program.systolic, tile_last, 1)
        there = self.left_valid & (self.right_valid | ~self.program.right)
        m.d.comb += [
            self.taken.eq((left != 0) & can & (self.go | self.program.systolic) & there),
            self.right_taken.eq(
                self.taken & self.program.right & (~self.program.systolic | step_last)
            ),
        ]
        with m.If(self.taken & gone):
            m.d.sync += left.eq(left - 1)
        with m.If(self.finish):
            m.d.sync += busy.eq(0)
        with m.If(self.load):
            m.d.sync += [
                busy.eq(1),
                self.program.eq(self.commands.payload),
                left.eq(self.commands.payload.count),
            ]
        return m

    def _steps(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """Count the beats of a tile; return the ends of a round and of the tile, and the leave."""
        sizes = self.sizes
        index, level = Signal(range(sizes.interleave)), Signal(COUNT_BITS)
        bank, used = Signal(range(BANKS)), Signal(range(BANKS + 1))
        step_last, tile_last, begin, can = Signal(), Signal(), Signal(), Signal()
        counted, drained = Signal(), self._drain(m, tile_last)
        m.d.comb += [
            counted.eq(self.taken & self.program.systolic),
            self.first.eq(level == 0),
            begin.eq((index == 0) & self.first),
            step_last.eq(index == sizes.interleave - 1),
            tile_last.eq(step_last & (level == self.program.depth - 1)),
            can.eq(~self.program.systolic | ~begin | (used != BANKS)),
            self.place.eq(Cat(index, bank)),
        ]
        with m.If(counted):
            m.d.sync += index.eq(Mux(step_last, 0, index + 1))
            with m.If(step_last):
                m.d.sync += level.eq(Mux(tile_last, 0, level + 1))
            with m.If(tile_last):
                m.d.sync += bank.eq(bank + 1)
        m.d.sync += used.eq(used + (counted & begin) - drained)
        return step_last, tile_last, can

    def _drain(self, m: Module, tile_last: Signal) -> Signal:
        """Let the sums of finished tiles leave; return whether a tile's last ones do."""
        sizes = self.sizes
        index, bank = Signal(range(sizes.interleave)), Signal(range(BANKS))
        full, left = Signal(range(BANKS + 1)), Signal(COUNT_BITS)
        done, round_last, drained = Signal(), Signal(), Signal()
        m.d.comb += done.eq(self.taken & self.program.systolic & tile_last)
        ready = delayed(m, done, sizes.first_drain - 1, Const(1, 1), "tile_done", reset=True)
        m.d.comb += [
            self.draining.eq(full != 0),
            round_last.eq(index == sizes.interleave - 1),
            drained.eq(self.go & self.draining & round_last & (self.column == sizes.stages - 1)),
            self.drain_last.eq(drained & (left == 1)),
            self.drain.eq(Cat(index, bank)),
        ]
        with m.If(self.go & self.draining):
            m.d.sync += index.eq(Mux(round_last, 0, index + 1))
            with m.If(round_last):
                m.d.sync += self.column.eq(Mux(drained, 0, self.column + 1))
        m.d.sync += full.eq(full + ready - drained)
        with m.If(drained):
            m.d.sync += [bank.eq(bank + 1), left.eq(left - 1)]
        with m.If(self.load):
            m.d.sync += left.eq(self.commands.payload.count)
        return drained
