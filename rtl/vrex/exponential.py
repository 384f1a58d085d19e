"""exp(score - largest) of bfloat16 scores, in units of 2^-14: every bit that bfloat16 gives."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.exponential import (
    FRACTION_BITS,
    LEAST_EXPONENT,
    LOG2_E,
    MANTISSA_SHIFT,
    MOST_EXPONENT,
    POWER_FRACTION,
    SEGMENT_BITS,
    lines,
)
from headrace.rtl.vrex.datapath import held, normalised, shifted, unpacked

__all__ = ["ExponentialLane"]

_GUARD = 3
_BIAS = 127
_MOST_SHIFT = MOST_EXPONENT - LEAST_EXPONENT


class ExponentialLane(wiring.Component):
    """A rigid pipeline with `EXP_CYCLES` - 1 registers, one score per enabled cycle.

    The difference is rounded to bfloat16, its exponential again, then cut.

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    score : In(16)
        bfloat16.
    largest : In(16)
        bfloat16, at least the score.
    result : Out(15)
        From 0 to 2^14.
    """

    def __init__(self) -> None:
        super().__init__({"enable": In(1), "score": In(16), "largest": In(16), "result": Out(15)})

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        mantissa, shift = self._difference(m)
        product, shift = self._held(m, "product", mantissa * LOG2_E, shift)
        power = (product << shift)[: POWER_FRACTION + 5]
        fraction, whole = power[:POWER_FRACTION][-FRACTION_BITS:], power[POWER_FRACTION:]
        fraction, whole = self._held(m, "power", fraction, whole)
        start, slope = self._line(m, fraction[-SEGMENT_BITS:])
        rest, whole = self._held(m, "rest", fraction[:-SEGMENT_BITS], whole)
        value = (start - slope * rest)[MANTISSA_SHIFT : MANTISSA_SHIFT + 9]
        value, whole = self._held(m, "value", value, whole)
        m.d.comb += self.result.eq(Cat(Const(0, 6), value) >> whole)
        return m

    def _held(self, m: Module, name: str, *values: Value) -> list[Value]:
        return held(m, self.enable, name, *values)

    def _difference(self, m: Module) -> list[Value]:
        """Return the mantissa of largest - score, and its exponent above the least; 3 registers.

        Both are 0 below the least exponent, and as large as they can be above the largest.
        """
        magnitudes = self.score[:15], self.largest[:15]
        swap = magnitudes[0] < magnitudes[1]
        (small, low), (large, high) = (
            unpacked(Mux(which, magnitudes[1], magnitudes[0])) for which in (~swap, swap)
        )
        gap = high - low
        large, small, amount, high, add = self._held(
            m,
            "ordered",
            large,
            small,
            Cat(gap[:4] | gap[4:8].any().replicate(4)),
            high,
            self.score[15] ^ self.largest[15],
        )

        large, small = Cat(Const(0, _GUARD), large), Cat(Const(0, _GUARD), small)
        small = shifted(small, amount)
        total = Mux(add, large + small, large - small)[: 9 + _GUARD]
        total, high = self._held(m, "total", total, high)

        total, zeros = normalised(m, total, "total")
        # The mantissa is the highest 8 bits of total * 2^(high - bias - 7 - _GUARD).
        up = total[_GUARD] & (total[:_GUARD].any() | total[_GUARD + 1])
        mantissa = total[_GUARD + 1 :] + up
        shift = high - zeros - (_BIAS - 1 + LEAST_EXPONENT)
        tiny, huge = ~total[-1] | (shift < 0), shift > _MOST_SHIFT
        mantissa = Mux(tiny, 0, Mux(huge, 256, mantissa))[:9]
        return self._held(m, "difference", mantissa, Mux(huge, _MOST_SHIFT, shift)[:4])

    def _line(self, m: Module, segment: Value) -> list[Value]:
        """Return start and slope of a segment's line, a register later."""
        numbers: list[Value] = []
        for name, column in zip(("start", "slope"), zip(*lines(), strict=True), strict=True):
            number = Signal(range(max(column) + 1), name=name, reset_less=True)
            with m.If(self.enable), m.Switch(segment):
                for row, value in enumerate(column):
                    with m.Case(row):
                        m.d.sync += number.eq(value)
            numbers.append(number)
        return numbers
