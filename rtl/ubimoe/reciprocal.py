"""The divider of 2^44, and RECIP of docs/ubimoe-numerics.md."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_FRACTION
from headrace.arch.ubimoe.functions import RECIPROCAL_BITS
from headrace.errors import InputError

__all__ = ["Divider", "Reciprocal"]

NUMERATOR_FRACTION = 2 * WIDE_FRACTION


class Divider(wiring.Component):
    """min(floor(2^44 / s), 2^quotient_bits - 1), by restoring division.

    A rigid pipeline of `latency` = ceil(quotient_bits / bits_per_stage) stages, one divisor per
    enabled cycle.

    Parameters
    ----------
    divisor_bits, quotient_bits : int
        quotient_bits at most 44, divisor_bits more than 44 - quotient_bits.
    bits_per_stage : int
        Subtractions in a row between two registers.

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    argument : In(divisor_bits)
        s >= 2^(44 - quotient_bits); the result of any other is undefined.
    result : Out(quotient_bits)
        Of the argument `latency` enabled cycles before.
    """

    def __init__(self, divisor_bits: int, quotient_bits: int, bits_per_stage: int = 1) -> None:
        if not 1 <= quotient_bits <= NUMERATOR_FRACTION:
            raise InputError(f"quotient_bits = {quotient_bits} is not allowed: 1 to 44")
        if divisor_bits + quotient_bits <= NUMERATOR_FRACTION:
            raise InputError(
                f"divisor_bits = {divisor_bits} is not allowed: "
                f"at least {NUMERATOR_FRACTION - quotient_bits + 1}"
            )
        if not 1 <= bits_per_stage <= quotient_bits:
            raise InputError(
                f"bits_per_stage = {bits_per_stage} is not allowed: 1 to {quotient_bits}"
            )
        self.divisor_bits = divisor_bits
        self.quotient_bits = quotient_bits
        self.bits_per_stage = bits_per_stage
        self.latency = -(-quotient_bits // bits_per_stage)
        super().__init__(
            {
                "enable": In(1),
                "argument": In(unsigned(divisor_bits)),
                "result": Out(unsigned(quotient_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        # The digits before the first one of the quotient are done: they leave the numerator's one
        # as the remainder. It never exceeds the divisor. It can only equal it when they start
        # equal; then every digit is 1, which is the saturated quotient.
        divisor: Value = self.argument
        remainder: Value = Const(1 << (NUMERATOR_FRACTION - self.quotient_bits), self.divisor_bits)
        quotient: Value = Const(0, 0)
        for stage in range(self.latency):
            for _ in range(min(self.bits_per_stage, self.quotient_bits - len(quotient))):
                trial = Signal(self.divisor_bits + 1, name=f"trial_{len(quotient)}")
                doubled = Cat(Const(0, 1), remainder)
                m.d.comb += trial.eq(doubled - divisor)
                fits = ~trial[-1]
                remainder = Mux(fits, trial, doubled)[: self.divisor_bits]
                quotient = Cat(fits, quotient)
            registers = [
                Signal(value.shape(), name=f"{name}_{stage}", reset_less=True)
                for name, value in (("d", divisor), ("r", remainder), ("q", quotient))
            ]
            with m.If(self.enable):
                m.d.sync += [
                    register.eq(value)
                    for register, value in zip(
                        registers, (divisor, remainder, quotient), strict=True
                    )
                ]
            divisor, remainder, quotient = registers
        m.d.comb += self.result.eq(quotient)
        return m


class Reciprocal(Divider):
    """RECIP: floor(2^44 / s) of s >= 2^22.

    A `Divider` with one bit per stage, `latency` = 23: argument 31 bits, result 23 bits, both with
    22 fraction bits.
    """

    def __init__(self) -> None:
        super().__init__(31, RECIPROCAL_BITS)
