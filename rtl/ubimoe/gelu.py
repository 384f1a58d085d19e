"""GELU of docs/ubimoe-numerics.md."""

from decimal import ROUND_FLOOR, Decimal, localcontext
from itertools import pairwise
from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.arch.ubimoe.functions import GELU_LATENCY
from headrace.rtl.ubimoe.pipeline import delayed, read_only_table

__all__ = ["Gelu", "gelu_table"]

STEP_BITS = WIDE_FRACTION - 5
SEGMENTS = 176
VALUE_BITS = 20
SLOPE_BITS = 17
PI = Decimal("3.1415926535897932384626433832795028841971693993751")


def _difference(x: Decimal) -> Decimal:
    """Return relu - gelu at x >= 0: x times the normal distribution's tail beyond x."""
    term = total = x
    odd = 1
    while term > total * Decimal("1e-48"):
        odd += 2
        term = term * x * x / odd
        total += term
    density = (-x * x / 2).exp() / (2 * PI).sqrt()
    return x * (Decimal("0.5") - density * total)


def gelu_table() -> list[int]:
    """Return round(2^22 (relu - gelu)(i / 32)) for i = 0..176, from 50 digits."""
    with localcontext() as context:
        context.prec = 50
        values = [_difference(Decimal(i) / 32) * 2**WIDE_FRACTION for i in range(SEGMENTS + 1)]
        return [int((v + Decimal("0.5")).to_integral_value(ROUND_FLOOR)) for v in values]


class Gelu(wiring.Component):
    """GELU: the positive part less a correction, linear between 177 values up to |x| = 5.5.

    A rigid pipeline of `latency` = 5 stages, one argument per enabled cycle.

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    argument, result : In(signed 32), Out(signed 32)
        22 fraction bits; the result of the argument `latency` enabled cycles before.
    """

    latency = GELU_LATENCY

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "argument": In(signed(WIDE_BITS)),
                "result": Out(signed(WIDE_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        x, enable = self.argument, self.enable
        magnitude = Signal(WIDE_BITS, reset_less=True)
        with m.If(enable):
            m.d.sync += magnitude.eq(Mux(x < 0, -x, x))

        values = gelu_table()
        slopes = [after - value for value, after in pairwise(values)]
        segment = magnitude[STEP_BITS:]
        address = Mux(segment < SEGMENTS, segment, SEGMENTS)
        # Beyond the last segment both are zero.
        slope = read_only_table(m, [*slopes, 0], signed(SLOPE_BITS), address, enable, "slope")
        start = read_only_table(
            m, [*values[:-1], 0], unsigned(VALUE_BITS), address, enable, "start"
        )

        fraction = delayed(m, magnitude[:STEP_BITS], 1, enable, "fraction")
        value = delayed(m, start, 1, enable, "value")
        positive = delayed(m, Mux(x < 0, 0, x)[: WIDE_BITS - 1], 4, enable, "positive")
        # At most one step of the table, as is the part of it: no bit is lost.
        step = Signal(signed(SLOPE_BITS), reset_less=True)
        correction = Signal(VALUE_BITS, reset_less=True)
        result = Signal(signed(WIDE_BITS), reset_less=True)
        with m.If(enable):
            m.d.sync += [
                step.eq((slope * fraction) >> STEP_BITS),
                correction.eq(value + step),
                result.eq(positive - correction),
            ]
        m.d.comb += self.result.eq(result)
        return m
