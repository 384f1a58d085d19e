"""SN40L's compute unit: lanes by stages, a SIMD pipeline or an output-stationary array."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.compute_program import Operand
from headrace.arch.sn40l.compute_unit import ComputeUnitSizes
from headrace.rtl.sn40l.compute_cell import ComputeCell
from headrace.rtl.sn40l.compute_layout import command_layout
from headrace.rtl.sn40l.compute_sequencer import ComputeSequencer
from headrace.rtl.sn40l.compute_tail import ComputeTail
from headrace.rtl.ubimoe.pipeline import delayed
from headrace.rtl.vrex.datapath import held

__all__ = ["ComputeUnit"]


class ComputeUnit(wiring.Component):
    """A grid of multiply-add cells: every lane has a cell for every stage; the tail follows.

    SIMD: a beat per cycle; the cells of a lane are the stages of a pipeline. Systolic: every cell
    has `interleave` sums of products, k ascending, from +0, each addition rounded once.
    `ComputeUnitSizes.cycles` from a command to its last result.

    Parameters
    ----------
    sizes : ComputeUnitSizes

    Attributes
    ----------
    commands : stream
        `ComputeProgram.word`.
    left : stream
        A bfloat16 per lane.
    right : stream
        `right_values` bfloat16 numbers: per lane, or per stage of a systolic command.
    results : stream
        A bfloat16 per lane.
    """

    def __init__(self, sizes: ComputeUnitSizes) -> None:
        self.sizes = sizes

        def beat(values: int) -> stream.Signature:
            return stream.Signature(data.ArrayLayout(unsigned(16), values))

        super().__init__(
            {
                "commands": In(stream.Signature(command_layout(sizes.stages))),
                "left": In(beat(sizes.lanes)),
                "right": In(beat(sizes.right_values)),
                "results": Out(beat(sizes.lanes)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        go = Signal()
        m.submodules.sequencer = sequencer = ComputeSequencer(self.sizes)
        m.submodules.tail = tail = ComputeTail(self.sizes)
        wiring.connect(m, wiring.flipped(self.commands), sequencer.commands)
        m.d.comb += [
            go.eq(~self.results.valid | self.results.ready),
            sequencer.go.eq(go),
            sequencer.finish.eq(tail.done & tail.done_last & self.results.ready),
            sequencer.left_valid.eq(self.left.valid),
            sequencer.right_valid.eq(self.right.valid),
            self.left.ready.eq(sequencer.taken),
            self.right.ready.eq(sequencer.right_taken),
            tail.enable.eq(go),
            tail.program.eq(sequencer.program),
            tail.load.eq(sequencer.load),
            tail.seed.eq(self.commands.payload.seed),
            self.results.valid.eq(tail.done),
            self.results.payload.eq(tail.results),
        ]
        systolic = sequencer.program.systolic
        ends, columns = self._cells(m, sequencer, go | systolic)
        drained = held(m, go, "drained", *columns)
        beat = Cat(sequencer.taken & ~systolic, sequencer.last)
        latency = self.sizes.stages * self.sizes.stage_registers
        beat = delayed(m, beat, latency, go, "beat", reset=True)
        drain = Cat(sequencer.draining, sequencer.drain_last)
        drain = delayed(m, drain, 1, go, "drain", reset=True)
        m.d.comb += Cat(tail.valid, tail.last).eq(Mux(systolic, drain, beat))
        for lane, (end, total) in enumerate(zip(ends, drained, strict=True)):
            m.d.comb += tail.values[lane].eq(Mux(systolic, total, end))
        return m

    def _cells(
        self, m: Module, sequencer: ComputeSequencer, advance: Value
    ) -> tuple[list[Value], list[Value]]:
        """Build the grid; return each lane's end of the pipeline, and the sum that may leave it.

        An array advances in every cycle: its sums leave from memory.
        """
        sizes, program = self.sizes, sequencer.program
        lefts = [self._wide(self.left.payload[lane]) for lane in range(sizes.lanes)]
        rights = [self._wide(self.right.payload[i]) for i in range(sizes.right_values)]
        ends = list(lefts)
        sums: list[list[Value]] = [[] for _ in lefts]
        place = Cat(sequencer.place, sequencer.first)
        flags: list[Value] = [sequencer.taken & program.systolic, place]
        for stage in range(sizes.stages):
            if stage:
                cut = sizes.stage_registers
                lefts = self._delayed(m, lefts, cut, advance, f"left_{stage}")
                rights = self._delayed(m, rights, cut, advance, f"right_{stage}")
                flags = self._flags(m, flags, cut, advance, f"stage_{stage}")
            with_product = self._flags(
                m, flags, sizes.multiply_registers, advance, f"product_{stage}"
            )
            with_sum = self._flags(m, with_product, sizes.add_registers, advance, f"sum_{stage}")
            of = program.stages[stage]
            for lane in range(sizes.lanes):
                cell = ComputeCell(sizes)
                m.submodules[f"cell_{lane}_{stage}"] = cell
                sources = Array([ends[lane], lefts[lane], rights[lane], of.constant])
                m.d.comb += [
                    cell.enable.eq(advance),
                    cell.systolic.eq(program.systolic),
                    cell.operation.eq(of.operation),
                    cell.left.eq(sources[Mux(program.systolic, Operand.LEFT, of.left)]),
                    cell.right.eq(Mux(program.systolic, rights[stage], sources[of.right])),
                    Cat(cell.read, cell.first).eq(with_product[1]),
                    cell.write.eq(with_sum[1]),
                    cell.store.eq(with_sum[0]),
                    cell.drain.eq(sequencer.drain),
                ]
                ends[lane] = cell.result
                sums[lane].append(cell.drained)
        return ends, [Array(column)[sequencer.column] for column in sums]

    @staticmethod
    def _wide(number: Value) -> Value:
        """Return a bfloat16 as a float32."""
        return Cat(Const(0, 16), number)

    def _delayed(
        self, m: Module, values: list[Value], stages: int, go: Value, name: str
    ) -> list[Value]:
        """Return bfloat16 numbers, as float32, of enabled cycles before."""
        return [
            self._wide(delayed(m, value[16:], stages, go, f"{name}_{number}"))
            for number, value in enumerate(values)
        ]

    @staticmethod
    def _flags(m: Module, flags: list[Value], stages: int, go: Value, name: str) -> list[Value]:
        """Return whether there is a beat, and its place, of enabled cycles before."""
        there, place = flags
        return [
            delayed(m, there, stages, go, f"{name}_there", reset=True),
            delayed(m, place, stages, go, f"{name}_place"),
        ]
