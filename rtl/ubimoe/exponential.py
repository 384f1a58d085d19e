"""EXP of docs/ubimoe-numerics.md."""

from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_FRACTION
from headrace.arch.ubimoe.functions import EXP_LATENCY
from headrace.rtl.ubimoe.pipeline import delayed, read_only_table

__all__ = ["Exponential", "exponential_table"]

ARGUMENT_BITS = 33
RESULT_BITS = WIDE_FRACTION + 1
INDEX_BITS = 8
REST_BITS = 10


def exponential_table(steps: int) -> list[int]:
    """Return round(2^22 exp(-i / steps)) for i = 0..255.

    Exact: 50 digits are computed, and no value but i = 0 is rational.
    """
    with localcontext() as context:
        context.prec = 50
        values = [(Decimal(-i) / steps).exp() * 2**WIDE_FRACTION for i in range(256)]
        return [int((v + Decimal("0.5")).to_integral_value(ROUND_FLOOR)) for v in values]


class Exponential(wiring.Component):
    """The exponential of a number that is not positive.

    exp(-x) = T1[a] T2[b] (1 - r): the upper 8 bits of x below 16, the 8 bits below, the last 10.
    A rigid pipeline of `latency` = 4 stages, one argument per enabled cycle.

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    argument : In(33)
        x >= 0, 22 fraction bits.
    result : Out(23)
        EXP(-x), 22 fraction bits, at most 1; of the argument `latency` enabled cycles before.
    """

    latency = EXP_LATENCY

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "argument": In(unsigned(ARGUMENT_BITS)),
                "result": Out(unsigned(RESULT_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        x, enable = self.argument, self.enable
        middle = REST_BITS + INDEX_BITS
        top = middle + INDEX_BITS
        shape = unsigned(RESULT_BITS)
        coarse = read_only_table(
            m, exponential_table(16), shape, x[middle:top], enable, "coarse_table"
        )
        fine = read_only_table(
            m, exponential_table(4096), shape, x[REST_BITS:middle], enable, "fine_table"
        )
        rest = delayed(m, x[:REST_BITS], 2, enable, "rest")
        vanishes = delayed(m, x[top:].any(), 1, enable, "vanishes")

        power = Signal(RESULT_BITS, reset_less=True)
        upper = delayed(m, power, 1, enable, "upper")
        correction = Signal(REST_BITS, reset_less=True)
        result = Signal(RESULT_BITS, reset_less=True)
        with m.If(enable):
            m.d.sync += [
                power.eq(Mux(vanishes, 0, (coarse * fine) >> WIDE_FRACTION)),
                correction.eq((power * rest) >> WIDE_FRACTION),
                result.eq(upper - correction),
            ]
        m.d.comb += self.result.eq(result)
        return m
