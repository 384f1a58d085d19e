"""From float32 to bfloat16: to the nearest, or by chance, and the random numbers for it."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.floating import QUIET_NAN, RANDOM_BITS, RANDOM_TAPS

__all__ = ["RandomSource", "bfloat16"]


def bfloat16(number: Value, stochastic: Value, random: Value) -> Value:
    """Return a float32 as a bfloat16; no register.

    To the nearest, ties to even: 0x7FFF and the lowest bit that stays are added to the pattern,
    whose lower half is then cut. `stochastic`: a random number is added instead, so the magnitude
    grows with the chance that the lower half says. Both may reach infinity, which stays; NaN
    becomes the one quiet NaN.

    Parameters
    ----------
    number : Value
        32 bits.
    stochastic : Value
        1 bit.
    random : Value
        16 bits.
    """
    nan = number[23:31].all() & number[:23].any()
    addend = Mux(stochastic, random, Const(0x7FFF, 16) + number[16])[:16]
    total = (number[:31] + addend)[16:31]
    return Mux(nan, Const(QUIET_NAN >> 16, 16), Cat(total, number[31]))


class RandomSource(wiring.Component):
    """A linear feedback shift register of 16 bits, 16 steps per number.

    A step moves the state up and puts the sum, modulo 2, of bits 16, 15, 13 and 4 (the highest one
    is 16) in the lowest place. After 16 steps no bit of the former number is left. The period is
    65,535 numbers; 0 is not among them.

    Attributes
    ----------
    load : In(1)
        Begin from the seed; it wins over `draw`.
    seed : In(16)
        The first number; 0 counts as 1.
    draw : In(1)
        The number is used: go on to the next one.
    number : Out(16)
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "load": In(1),
                "seed": In(RANDOM_BITS),
                "draw": In(1),
                "number": Out(RANDOM_BITS, init=1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        state: Value = self.number
        for step in range(RANDOM_BITS):
            fresh = Signal(name=f"fresh_{step}")
            taps = Cat(state[tap - 1] for tap in RANDOM_TAPS)
            m.d.comb += fresh.eq(taps.xor())
            state = Cat(fresh, state[:-1])
        with m.If(self.load):
            m.d.sync += self.number.eq(Mux(self.seed.any(), self.seed, 1))
        with m.Elif(self.draw):
            m.d.sync += self.number.eq(state)
        return m
