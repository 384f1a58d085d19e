"""One coordinate of a mean key: ((count - 1) * mean + key) / count, rounded once to bfloat16."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.mean_key import COUNT_BITS, QUOTIENT_BITS, MeanKeySizes
from headrace.rtl.vrex.datapath import held, lost, normalised, shifted, unpacked

__all__ = ["MeanLane"]

_GUARD = 3
"""Bits below the addends. What is shifted out below them stays as a one in the lowest bit.

That suffices: where something is, the products of a count and the middle of two bfloat16 values are
even numbers, so a sum that lies between them is as good as any other there.
"""

_ADDEND = 8 + COUNT_BITS + _GUARD


class MeanLane(wiring.Component):
    """A rigid pipeline, `MeanKeySizes.latency` long, one coordinate per enabled cycle.

    Parameters
    ----------
    sizes : MeanKeySizes

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    key, mean : In(16)
        bfloat16.
    fresh : In(1)
        The count is 1: the mean is nothing yet.
    factor : In(16)
        The count less 1, 1 enabled cycle after the key.
    zeros : In(4)
        Leading zeros of the count, 4 enabled cycles after the key.
    divisors : In
        The count without them, for each stage of the division, the first 5 enabled cycles after the
        key.
    moved : Out(16)
        bfloat16.
    """

    def __init__(self, sizes: MeanKeySizes) -> None:
        self.sizes = sizes
        divisors = data.ArrayLayout(unsigned(COUNT_BITS), sizes.division_stages)
        super().__init__(
            {
                "enable": In(1),
                "key": In(16),
                "mean": In(16),
                "fresh": In(1),
                "factor": In(COUNT_BITS),
                "zeros": In(range(COUNT_BITS)),
                "divisors": In(divisors),
                "moved": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        total, sign, scale = self._add(m)
        total, zeros = normalised(m, total, "total")
        # total * 2^(scale - 134) over the count, from 1/2 to 2 as the quotient of both without
        # their leading zeros; with a quotient from 1 this is its exponent.
        exponent = Signal(signed(10))
        m.d.comb += exponent.eq(scale - zeros + self.zeros + _GUARD + 2)
        exponent = Mux(total[-1], exponent, 0)
        numerator, sign, exponent = self._held(m, "normal", total, sign, exponent)
        quotient, left, sign, exponent = self._divide(m, numerator, sign, exponent)
        m.d.comb += self.moved.eq(self._round(m, quotient, left, sign, exponent))
        return m

    def _held(self, m: Module, name: str, *values: Value) -> list[Value]:
        return held(m, self.enable, name, *values)

    def _add(self, m: Module) -> tuple[Value, Value, Value]:
        """Return magnitude and sign of the sum, and the exponent of its unit, plus 134."""
        key_sign, key, key_place = self.key[-1], *unpacked(self.key)
        sign, mean, place = self.mean[-1], *unpacked(self.mean)
        mean, place = Mux(self.fresh, 0, mean), Mux(self.fresh, 1, place)
        sign = Mux(self.fresh, key_sign, sign)
        key, key_place, key_sign, mean, place, sign = self._held(
            m, "unpacked", key, key_place, key_sign, mean, place, sign
        )

        # Both addends as 24 bits: the key's exponent falls by 16.
        distance = key_place - place - COUNT_BITS
        key, product, distance, place, sign, key_sign = self._held(
            m, "product", key, mean * self.factor, distance, place, sign, key_sign
        )

        key_small = distance < 0
        key, product = key << _ADDEND - 8, product << _GUARD
        large, small = Mux(key_small, product, key), Mux(key_small, key, product)
        gap = Mux(key_small, -distance, distance)[:9]
        amount = Signal(5)
        m.d.comb += amount.eq(gap[:5] | gap[5:].any().replicate(5))
        large, small, differ, sign, scale = self._held(
            m,
            "aligned",
            large,
            shifted(small, amount),
            sign ^ key_sign,
            Mux(key_small, sign, key_sign),
            (place + Mux(key_small, 0, distance) - _GUARD)[:10].as_signed(),
        )

        less = large < small
        gap = Mux(less, small - large, large - small)[:_ADDEND]
        total = Mux(differ, gap, large + small)[: _ADDEND + 1]
        sign = Mux(differ, (sign ^ less) & (large != small), sign)
        total, sign, scale = self._held(m, "total", total, sign, scale)
        return total, sign, scale

    def _divide(self, m: Module, numerator: Value, sign: Value, exponent: Value) -> list[Value]:
        """Return the quotient, whether anything is left, and what goes along."""
        remainder, below = numerator[-COUNT_BITS:], numerator[:-COUNT_BITS]
        quotient: Value = Const(0, 0)
        for stage in range(self.sizes.division_stages):
            divisor = self.divisors[stage]
            for _ in range(min(self.sizes.bits_per_stage, QUOTIENT_BITS - len(quotient))):
                if len(quotient):
                    remainder, below = Cat(below[-1], remainder), below[:-1]
                trial = Signal(COUNT_BITS + 2, name=f"trial_{len(quotient)}")
                m.d.comb += trial.eq(remainder - divisor)
                fits = ~trial[-1]
                remainder = Mux(fits, trial, remainder)[:COUNT_BITS]
                quotient = Cat(fits, quotient)
            quotient, remainder, below, sign, exponent = self._held(
                m, f"division_{stage}", quotient, remainder, below, sign, exponent
            )
        return [quotient, remainder.any() | below.any(), sign, exponent]

    def _round(
        self, m: Module, quotient: Value, left: Value, sign: Value, exponent: Value
    ) -> Value:
        """Return the bfloat16 number, two registers later."""
        whole = quotient[-1]
        mantissa = Mux(whole, quotient[1:], quotient[:-1])  # 8 bits, and the one that rounds
        left = left | (whole & quotient[0])
        place = exponent - ~whole
        normal = place >= 1
        lower = Mux(normal, 0, 1 - place)[:6]
        field = Mux(normal, place - 1, 0)[:8]
        mantissa, left, lower, field, sign = self._held(
            m, "placed", mantissa, left, lower, field, sign
        )

        amount = Signal(4)
        m.d.comb += amount.eq(lower[:4] | lower[4:].any().replicate(4))
        kept = mantissa >> amount
        left = left | lost(mantissa, amount)
        up = kept[0] & (left | kept[1])
        # A mantissa with its hidden bit adds 1 to the exponent, as does one that rounds up to it.
        magnitude = ((field << 7) + kept[1:] + up)[:15]
        (moved,) = self._held(m, "moved", Cat(magnitude, sign))
        return moved
