"""The tail of the compute unit: lanes to one, rectifier, bfloat16, functions."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.compute_program import Reduction, TailFunction
from headrace.arch.sn40l.compute_unit import ComputeUnitSizes
from headrace.rtl.sn40l.compute_cell import maximum
from headrace.rtl.sn40l.compute_layout import command_layout
from headrace.rtl.sn40l.floating.add import FloatAdd
from headrace.rtl.sn40l.floating.exponential import Exponential
from headrace.rtl.sn40l.floating.parts import Number
from headrace.rtl.sn40l.floating.reciprocal import reciprocal
from headrace.rtl.sn40l.floating.rounding import RandomSource, bfloat16
from headrace.rtl.ubimoe.pipeline import delayed
from headrace.rtl.vrex.datapath import held

__all__ = ["ComputeTail"]

_SEED_STEP = 0x9E37  # seeds of neighbouring lanes differ by it


class ComputeTail(wiring.Component):
    """A rigid pipeline, `tail_cycles` long, a beat per enabled cycle.

    Parameters
    ----------
    sizes : ComputeUnitSizes

    Attributes
    ----------
    enable : In(1)
        Every register advances.
    program : In
        `command_layout`; stands while there are beats.
    load, seed : In
        Begin random numbers from this seed.
    valid, last : In(1)
        There is a beat; it is the last one.
    values : In
        A float32 per lane.
    done, done_last : Out(1)
        There is a result; it is the last one.
    results : Out
        A bfloat16 per lane.
    """

    def __init__(self, sizes: ComputeUnitSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "enable": In(1),
                "program": In(command_layout(sizes.stages)),
                "load": In(1),
                "seed": In(16),
                "valid": In(1),
                "last": In(1),
                "values": In(data.ArrayLayout(unsigned(32), sizes.lanes)),
                "done": Out(1),
                "done_last": Out(1),
                "results": Out(data.ArrayLayout(unsigned(16), sizes.lanes)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes, program = self.sizes, self.program
        reduced = Signal()
        m.d.comb += reduced.eq(program.reduction != Reduction.NONE)
        root = self._reduce(m)
        flags = Cat(self.valid, self.valid & self.last)
        waiting = sizes.tree_levels * sizes.add_registers
        into_tree = flags & reduced.replicate(2)  # none of a command stay for the next one
        late = delayed(m, into_tree, waiting, self.enable, "flags", reset=True)
        flags = Mux(reduced, late, flags)
        ends = delayed(m, flags, 2, self.enable, "ends", reset=True)
        m.d.comb += [self.done.eq(ends[0]), self.done_last.eq(ends[1])]
        for lane in range(sizes.lanes):
            alone = root if lane == 0 else 0
            value = Mux(reduced, alone, self.values[lane])
            value = Mux(program.relu & value[31] & ~Number(value).nan, 0, value)
            random = self._random(m, lane, flags[0])
            (short,) = held(
                m, self.enable, f"short_{lane}", bfloat16(value, program.stochastic, random)
            )
            m.d.comb += self.results[lane].eq(self._function(m, lane, short))
        return m

    def _function(self, m: Module, lane: int, number: Value) -> Value:
        """Return the function of a number of the enabled cycle before."""
        function = self.program.function
        m.submodules[f"exponential_{lane}"] = exponential = Exponential()
        m.d.comb += [exponential.enable.eq(self.enable), exponential.number.eq(number)]
        inverse = reciprocal(m, number, f"reciprocal_{lane}")
        other = Mux(function == TailFunction.RECIPROCAL, inverse, number)
        (other,) = held(m, self.enable, f"other_{lane}", other)
        return Mux(function == TailFunction.EXPONENTIAL, exponential.result, other)

    def _random(self, m: Module, lane: int, valid: Value) -> Value:
        """Return a lane's random number, a new one for every beat of a command."""
        source = RandomSource()
        m.submodules[f"random_{lane}"] = source
        m.d.comb += [
            source.load.eq(self.load),
            source.seed.eq(self.seed ^ (lane * _SEED_STEP & 0xFFFF)),
            source.draw.eq(self.enable & valid),
        ]
        return source.number

    def _reduce(self, m: Module) -> Value:
        """Return the sum or the maximum of the lanes: of neighbours, then of neighbouring pairs."""
        values = [self.values[lane] for lane in range(self.sizes.lanes)]
        registers = self.sizes.add_registers
        for level in range(self.sizes.tree_levels):
            pairs = zip(values[::2], values[1::2], strict=True)
            values = []
            for number, (left, right) in enumerate(pairs):
                name = f"{level}_{number}"
                adder = FloatAdd(registers)
                m.submodules[f"add_{name}"] = adder
                m.d.comb += [
                    adder.enable.eq(self.enable),
                    adder.left.eq(left),
                    adder.right.eq(right),
                ]
                larger = delayed(m, maximum(left, right), registers, self.enable, f"max_{name}")
                node = Signal(32, name=f"node_{name}")
                m.d.comb += node.eq(
                    Mux(self.program.reduction == Reduction.SUM, adder.total, larger)
                )
                values.append(node)
        return values[0]
