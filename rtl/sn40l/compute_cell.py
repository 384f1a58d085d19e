"""A cell of the compute unit: a lane's stage of the SIMD pipeline, and a cell of the array."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.sn40l.compute_program import Operation
from headrace.arch.sn40l.compute_unit import BANKS, ComputeUnitSizes
from headrace.rtl.sn40l.floating.add import FloatAdd
from headrace.rtl.sn40l.floating.multiply import FloatMultiply
from headrace.rtl.sn40l.floating.parts import Number
from headrace.rtl.ubimoe.pipeline import delayed

__all__ = ["ComputeCell", "maximum", "sum_address_bits"]


def sum_address_bits(sizes: ComputeUnitSizes) -> int:
    """Return the bits of a sum's place in a cell: its index, and the tile's bank above it."""
    return int(ceil_log2(sizes.interleave) + ceil_log2(BANKS))


def maximum(left: Value, right: Value) -> Value:
    """Return the larger of two float32 numbers; no register.

    Any NaN gives NaN, the left one if it is one; +0 is larger than -0.
    """
    differ = left[-1] ^ right[-1]
    less = Mux(differ, left[-1], (left[:31] < right[:31]) ^ (left[-1] & (left != right)))
    return Mux(Number(left).nan | (~Number(right).nan & ~less), left, right)


class ComputeCell(wiring.Component):
    """One multiplier and one adder, a rigid pipeline.

    As a stage: `result` is there `stage_registers` enabled cycles after the operands. In the array:
    the product of the operands is added to a sum of the cell's memory, or to +0.

    Parameters
    ----------
    sizes : ComputeUnitSizes

    Attributes
    ----------
    enable : In(1)
        Every register advances.
    systolic : In(1)
    operation : In(2)
        An `Operation`.
    left, right : In(32)
    first : In(1)
        The product is a sum's first one; as `read` with the product, `multiply_registers` enabled
        cycles after the operands.
    read, write, drain : In
        Places of sums. `write` comes with the sum, `add_registers` enabled cycles after `read`.
    store : In(1)
        Keep the sum at `write`; it is there in the cycle after.
    drained : Out(32)
        The sum at `drain`, in the same cycle.
    result : Out(32)
    """

    def __init__(self, sizes: ComputeUnitSizes) -> None:
        self.sizes = sizes
        place = unsigned(sum_address_bits(sizes))
        super().__init__(
            {
                "enable": In(1),
                "systolic": In(1),
                "operation": In(2),
                "left": In(32),
                "right": In(32),
                "first": In(1),
                "read": In(place),
                "write": In(place),
                "drain": In(place),
                "store": In(1),
                "drained": Out(32),
                "result": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.multiply = multiply = FloatMultiply(24, sizes.multiply_registers)
        m.submodules.add = add = FloatAdd(sizes.add_registers)
        before = self._sums(m, add.total)
        m.d.comb += [
            multiply.enable.eq(self.enable),
            multiply.left.eq(self.left),
            multiply.right.eq(self.right),
            add.enable.eq(self.enable),
            add.left.eq(Mux(self.systolic, multiply.product, self.left)),
            add.right.eq(Mux(self.systolic, Mux(self.first, 0, before), self.right)),
        ]

        def rest(value: Value, registers: int, name: str) -> Value:
            return delayed(m, value, sizes.stage_registers - registers, self.enable, name)

        larger = Signal(32)
        m.d.comb += larger.eq(
            Mux(self.operation == Operation.MAXIMUM, maximum(self.left, self.right), self.left)
        )
        passed = rest(larger, 0, "passed")
        total = rest(add.total, sizes.add_registers, "total")
        product = rest(multiply.product, sizes.multiply_registers, "product")
        with m.Switch(self.operation):
            with m.Case(Operation.ADD):
                m.d.comb += self.result.eq(total)
            with m.Case(Operation.MULTIPLY):
                m.d.comb += self.result.eq(product)
            with m.Default():
                m.d.comb += self.result.eq(passed)
        return m

    def _sums(self, m: Module, total: Value) -> Value:
        """Build the memory of the sums; return the one at `read`."""
        depth = 1 << sum_address_bits(self.sizes)
        m.submodules.sums = sums = memory.Memory(shape=unsigned(32), depth=depth, init=[])
        store, grow, leave = (
            sums.write_port(),
            sums.read_port(domain="comb"),
            sums.read_port(domain="comb"),
        )
        m.d.comb += [
            store.addr.eq(self.write),
            store.data.eq(total),
            store.en.eq(self.store),
            grow.addr.eq(self.read),
            leave.addr.eq(self.drain),
            self.drained.eq(leave.data),
        ]
        return grow.data
