"""The integer square root, and RSQRT of docs/ubimoe-numerics.md."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.arch.ubimoe.functions import ROOT_BITS, ROOT_RECIPROCAL_BITS, RSQRT_LATENCY
from headrace.errors import InputError
from headrace.rtl.ubimoe.reciprocal import NUMERATOR_FRACTION, Divider

__all__ = ["RootReciprocal", "SquareRoot"]


class SquareRoot(wiring.Component):
    """floor(sqrt(v 2^zeros)), digit by digit.

    A rigid pipeline of `latency` = ceil(root_bits / bits_per_stage) stages, one argument per
    enabled cycle; root_bits = ceil((argument_bits + zeros) / 2).

    Parameters
    ----------
    argument_bits, zeros : int
        Bits of v, at least 1, and the even number of zeros behind it.
    bits_per_stage : int
        Subtractions in a row between two registers.

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    argument : In(argument_bits)
    result : Out(root_bits)
        Of the argument `latency` enabled cycles before.
    """

    def __init__(self, argument_bits: int, zeros: int = 0, bits_per_stage: int = 1) -> None:
        if argument_bits < 1:
            raise InputError(f"argument_bits = {argument_bits} is not allowed: at least 1")
        if zeros < 0 or zeros % 2:
            raise InputError(f"zeros = {zeros} is not allowed: even, at least 0")
        self.root_bits = (argument_bits + zeros + 1) // 2
        if not 1 <= bits_per_stage <= self.root_bits:
            raise InputError(
                f"bits_per_stage = {bits_per_stage} is not allowed: 1 to {self.root_bits}"
            )
        self.zeros = zeros
        self.bits_per_stage = bits_per_stage
        self.latency = -(-self.root_bits // bits_per_stage)
        super().__init__(
            {
                "enable": In(1),
                "argument": In(unsigned(argument_bits)),
                "result": Out(unsigned(self.root_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        digits = 2 * (self.root_bits - self.zeros // 2)
        left: Value = Cat(self.argument, Const(0, digits - len(self.argument)))
        root: Value = Const(0, 0)
        rest: Value = Const(0, 0)  # of the digits taken, less the root squared: at most 2 root
        for stage in range(self.latency):
            for _ in range(min(self.bits_per_stage, self.root_bits - len(root))):
                pair = left[-2:] if len(left) else Const(0, 2)
                left = left[:-2] if len(left) else left
                taken = Cat(pair, rest)
                trial = Signal(len(root) + 3, name=f"trial_{len(root)}")
                m.d.comb += trial.eq(taken - Cat(Const(1, 2), root))
                fits = ~trial[-1]
                root = Cat(fits, root)
                rest = Mux(fits, trial, taken)[: len(root) + 1]
            registers = [
                Signal(value.shape(), name=f"{name}_{stage}", reset_less=True)
                for name, value in (("v", left), ("root", root), ("rest", rest))
            ]
            with m.If(self.enable):
                m.d.sync += [
                    register.eq(value)
                    for register, value in zip(registers, (left, root, rest), strict=True)
                ]
            left, root, rest = registers
        m.d.comb += self.result.eq(root)
        return m


class RootReciprocal(wiring.Component):
    """RSQRT: min(floor(2^44 / isqrt(max(v, 1) 2^22)), 2^31 - 1).

    A rigid pipeline of `latency` = 60 stages, one argument per enabled cycle: the limit of the
    argument, 27 of the root, the limit of the root, 31 of the quotient.

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    argument : In(signed 32)
        22 fraction bits.
    result : Out(31)
        22 fraction bits, of the argument `latency` enabled cycles before.
    """

    latency = RSQRT_LATENCY

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "argument": In(signed(WIDE_BITS)),
                "result": Out(unsigned(ROOT_RECIPROCAL_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.root = root = SquareRoot(WIDE_BITS - 1, WIDE_FRACTION)
        m.submodules.divider = divider = Divider(ROOT_BITS, ROOT_RECIPROCAL_BITS)
        # At this root and below the result saturates, as the divider does at it.
        smallest = 1 << (NUMERATOR_FRACTION - ROOT_RECIPROCAL_BITS)
        positive = Signal(WIDE_BITS - 1, reset_less=True)
        divisor = Signal(ROOT_BITS, reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                positive.eq(Mux(self.argument > 0, self.argument, 1)),
                divisor.eq(Mux(root.result > smallest, root.result, smallest)),
            ]
        m.d.comb += [
            root.enable.eq(self.enable),
            root.argument.eq(positive),
            divider.enable.eq(self.enable),
            divider.argument.eq(divisor),
            self.result.eq(divider.result),
        ]
        return m
