"""Sum of two float32 numbers, rounded once to the nearest, ties to even."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.floating import ADD_STEPS, check_registers
from headrace.rtl.sn40l.floating.parts import Number, Steps, finished
from headrace.rtl.vrex.datapath import normalised, shifted

__all__ = ["FloatAdd"]

_GUARD = 3
"""Bits below the addends: guard, round, and one for all that is shifted out."""

_WIDTH = 24 + _GUARD + 1


class FloatAdd(wiring.Component):
    """Add two float32 numbers: IEEE 754 with subnormals, ties to even, one quiet NaN.

    A rigid pipeline, a sum per enabled cycle, `registers` enabled cycles after the addends. Exact
    cancellation gives +0.

    Parameters
    ----------
    registers : int
        1 to `ADD_STEPS`.

    Attributes
    ----------
    enable : In(1)
        Every register advances.
    left, right : In(32)
    total : Out(32)

    Raises
    ------
    InputError
        The number of registers is out of range.
    """

    def __init__(self, registers: int = ADD_STEPS) -> None:
        check_registers("adder", registers, ADD_STEPS)
        self.registers = registers
        super().__init__({"enable": In(1), "left": In(32), "right": In(32), "total": Out(32)})

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        steps = Steps(m, self.enable, ADD_STEPS, self.registers)
        swap = self.left[:31] < self.right[:31]
        large = Number(Mux(swap, self.right, self.left))
        small = Number(Mux(swap, self.left, self.right))
        differ = large.sign ^ small.sign
        nan = large.nan | small.nan | (large.infinite & small.infinite & differ)
        rest: list[Value] = [large.sign, large.place, nan, large.infinite]
        distance = (large.place - small.place)[:8]
        upper, lower, distance, differ, *rest = steps.end(
            large.significand, small.significand, distance, differ, *rest
        )

        amount = distance[:5] | distance[5:].any().replicate(5)
        lower = shifted(Cat(Const(0, _GUARD), lower), amount)
        upper, lower, differ, *rest = steps.end(upper, lower, differ, *rest)

        upper = Cat(Const(0, _GUARD), upper)
        total = Mux(differ, upper - lower, upper + lower)[:_WIDTH]
        total, differ, sign, place, *rest = steps.end(total, differ, *rest)

        # Zeros to lose are at most `place`: the exponent's field ends at 0.
        limit = (Const(1 << _WIDTH - 1, _WIDTH) >> place)[:_WIDTH]
        _, zeros = normalised(m, total | limit, "limited")
        moved = (total << zeros)[:_WIDTH]
        field = Mux(moved[-1], (place - zeros)[:8], 0)
        sign = sign & (~differ | total.any())
        moved, field, sign, *rest = steps.end(moved, field, sign, *rest)

        below = _GUARD + 1
        number = finished(sign, field, moved[below:], moved[:below], *rest)
        (total,) = steps.end(number)
        m.d.comb += self.total.eq(total)
        return m
