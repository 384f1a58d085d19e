"""What the operators share: parts of a number, registers between steps, rounding, specials."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from headrace.arch.sn40l.floating import QUIET_NAN, registered_steps
from headrace.rtl.vrex.datapath import held

__all__ = ["FRACTION_BITS", "Number", "Steps", "finished"]

FRACTION_BITS = 23
"""Of a float32."""

_INFINITY = 0xFF << FRACTION_BITS


class Number:
    """The parts of a number with a sign, an exponent of 8 bits and a fraction.

    Its magnitude is significand * 2^(place - 127 - bits of the fraction), unless it is special.

    Attributes
    ----------
    sign, nan, infinite, zero : Value
    significand : Value
        The fraction below its hidden bit, which subnormal numbers do not have.
    place : Value
        The exponent; 1 for subnormal numbers, whose field is 0.
    """

    def __init__(self, number: Value) -> None:
        fraction, exponent = number[:-9], number[-9:-1]
        self.sign = number[-1]
        self.nan = exponent.all() & fraction.any()
        self.infinite = exponent.all() & ~fraction.any()
        self.zero = ~number[:-1].any()
        self.significand = Cat(fraction, exponent.any())
        self.place = Cat(exponent[0] | ~exponent.any(), exponent[1:])


class Steps:
    """Registers behind some steps of an operator, the last one among them."""

    def __init__(self, m: Module, enable: Value, steps: int, registers: int) -> None:
        self._m, self._enable = m, enable
        self._registered = registered_steps(steps, registers)
        self._done = 0

    def end(self, *values: Value) -> list[Value]:
        """End a step: return its values, of the enabled cycle before if there is a register."""
        self._done += 1
        name = f"step_{self._done}"
        if self._done in self._registered:
            return held(self._m, self._enable, name, *values)
        signals: list[Value] = []
        for number, value in enumerate(values):
            signal = Signal(value.shape(), name=f"{name}_{number}")
            self._m.d.comb += signal.eq(value)
            signals.append(signal)
        return signals


def finished(
    sign: Value, field: Value, significand: Value, below: Value, nan: Value, infinite: Value
) -> Value:
    """Return a float32, rounded to the nearest, ties to even.

    Parameters
    ----------
    sign, nan, infinite : Value
        The last two win over all else.
    field : Value
        The exponent's field less the hidden bit, which adds 1 to it.
    significand : Value
        24 bits, the hidden bit included if there is one.
    below : Value
        The bits below, the highest last; the lowest one stands for all that is less.
    """
    up = below[-1] & (below[:-1].any() | significand[0])
    magnitude = Cat(Const(0, FRACTION_BITS), field) + significand + up
    large = magnitude[FRACTION_BITS:31].all() | magnitude[31:].any()
    magnitude = Mux(infinite | large, Const(_INFINITY, 31), magnitude[:31])
    return Mux(nan, Const(QUIET_NAN, 32), Cat(magnitude, sign))
