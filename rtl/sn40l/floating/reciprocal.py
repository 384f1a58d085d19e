"""Reciprocal of a bfloat16 number, rounded once to the nearest bfloat16, ties to even."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from headrace.arch.sn40l.floating import QUIET_NAN
from headrace.rtl.sn40l.floating.parts import Number
from headrace.rtl.vrex.datapath import normalised, shifted

__all__ = ["reciprocal"]

_BELOW = 3
"""Bits of a table's row below the significand; the lowest one stands for all that is less.

Subnormal reciprocals lose two more bits at most, which the row has.
"""


def _rows() -> list[int]:
    """Return 2^15 / s for the significands s of 129 to 255, cut; 128 of a number twice as large."""
    rows = [128 << _BELOW]
    for significand in range(129, 256):
        quotient, left = divmod(1 << 15 + _BELOW - 1, significand)
        rows.append(quotient << 1 | (left > 0))
    return rows


def reciprocal(m: Module, number: Value, name: str) -> Value:
    """Return the reciprocal; no register.

    Of zero it is the infinity of its sign, of an infinity the zero, of NaN the one quiet NaN.

    Parameters
    ----------
    m : Module
    number : Value
        16 bits.
    name : str
        Of the signals.
    """
    parts = Number(number)
    significand, zeros = normalised(m, parts.significand, name)
    row = Signal(8 + _BELOW, name=f"{name}_row")
    with m.Switch(significand[:7]):
        for address, value in enumerate(_rows()):
            with m.Case(address):
                m.d.comb += row.eq(value)
    # 1 / (s 2^(e - 134)) = (2^15 / s) 2^(119 - e): the field of a quotient from 128 is 253 - e
    field = Signal(signed(10), name=f"{name}_field")
    power = ~significand[:7].any()
    m.d.comb += field.eq(252 + power - (parts.place - zeros))  # less the hidden bit
    small = field < 0
    row = shifted(row, Mux(small, -field, 0)[:2])
    up = row[_BELOW - 1] & (row[: _BELOW - 1].any() | row[_BELOW])
    magnitude = (Cat(Const(0, 7), Mux(small, 0, field)[:8]) + row[_BELOW:] + up)[:15]
    large = parts.zero | (field >= 254)
    magnitude = Mux(large, Const(0xFF << 7, 15), Mux(parts.infinite, 0, magnitude))
    return Mux(parts.nan, Const(QUIET_NAN >> 16, 16), Cat(magnitude, parts.sign))
