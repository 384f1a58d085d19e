"""Product of two floating-point numbers as a float32, rounded once to the nearest, ties to even."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.floating import MULTIPLY_STEPS, check_registers, check_significand
from headrace.rtl.sn40l.floating.parts import Number, Steps, finished
from headrace.rtl.vrex.datapath import normalised, shifted

__all__ = ["FloatMultiply"]

_KEPT = 26  # a significand, the bit that rounds it, one for all below


class FloatMultiply(wiring.Component):
    """Multiply: IEEE 754 with subnormals, ties to even, one quiet NaN.

    A rigid pipeline, a product per enabled cycle, `registers` enabled cycles after the factors. A
    product of two bfloat16 numbers is exact unless it is less than 2^-126 in magnitude, where it
    may have bits below 2^-149, or too large for a float32.

    Parameters
    ----------
    significand : int
        Bits of the factors' significands, hidden bit included: 8 for bfloat16, 24 for float32;
        from 2 on.
    registers : int
        1 to `MULTIPLY_STEPS`.

    Attributes
    ----------
    enable : In(1)
        Every register advances.
    left, right : In
        A sign, 8 bits of exponent, `significand` - 1 of fraction.
    product : Out(32)
        A float32.

    Raises
    ------
    InputError
        A parameter is out of range.
    """

    def __init__(self, significand: int = 24, registers: int = MULTIPLY_STEPS) -> None:
        check_significand(significand)
        check_registers("multiplier", registers, MULTIPLY_STEPS)
        self.significand = significand
        self.registers = registers
        factor = 8 + significand
        super().__init__(
            {"enable": In(1), "left": In(factor), "right": In(factor), "product": Out(32)}
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        steps = Steps(m, self.enable, MULTIPLY_STEPS, self.registers)
        left, right = Number(self.left), Number(self.right)
        undefined = (left.infinite & right.zero) | (left.zero & right.infinite)
        nan = left.nan | right.nan | undefined
        rest: list[Value] = [left.sign ^ right.sign, nan, left.infinite | right.infinite]
        product = left.significand * right.significand
        product, place, *rest = steps.end(product, left.place + right.place, *rest)

        product, zeros = normalised(m, product, "product")
        if len(product) < _KEPT:
            kept = Cat(Const(0, _KEPT - len(product)), product)
        else:
            lower = len(product) - _KEPT + 1
            kept = Cat(product[:lower].any(), product[lower:])
        exponent = Signal(signed(11))
        m.d.comb += exponent.eq(place - zeros - 127)  # the field, less the hidden bit
        kept, exponent, *rest = steps.end(kept, exponent, *rest)

        small = exponent < 0
        distance = Mux(small, -exponent, 0)[:10]
        amount = distance[:5] | distance[5:].any().replicate(5)
        field = Mux(small | ~kept[-1], 0, exponent[:9])
        kept, field, *rest = steps.end(shifted(kept, amount), field, *rest)

        sign, nan, infinite = rest
        number = finished(sign, field, kept[2:], kept[:2], nan, infinite)
        (product,) = steps.end(number)
        m.d.comb += self.product.eq(product)
        return m
