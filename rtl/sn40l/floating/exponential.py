"""Exponential of a bfloat16 number that is not positive: the nearest bfloat16, from a table."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.exponential import FIRST_FIELD, LAST_FIELD, exponentials
from headrace.arch.sn40l.floating import QUIET_NAN
from headrace.rtl.sn40l.floating.parts import Number
from headrace.rtl.vrex.datapath import held

__all__ = ["Exponential"]

_ONE = 127 << 7


class Exponential(wiring.Component):
    """exp(-|x|) of a bfloat16 x, one per enabled cycle, one enabled cycle later.

    Correctly rounded, ties to even: 2,048 rows, one for every x where it is neither 1 nor 0. The
    sign of x does not count; infinities give +0, NaN the one quiet NaN.

    Attributes
    ----------
    enable : In(1)
    number : In(16)
    result : Out(16)
    """

    def __init__(self) -> None:
        super().__init__({"enable": In(1), "number": In(16), "result": Out(16)})

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        rows = exponentials()
        m.submodules.table = table = memory.Memory(shape=unsigned(15), depth=len(rows), init=rows)
        port = table.read_port()
        field = self.number[7:15]
        m.d.comb += [
            port.addr.eq(Cat(self.number[:7], (field - FIRST_FIELD)[:4])),
            port.en.eq(self.enable),
        ]
        beside: Value = Mux(field < FIRST_FIELD, Const(_ONE, 16), 0)
        beside = Mux(Number(self.number).nan, Const(QUIET_NAN >> 16, 16), beside)
        inside = (field >= FIRST_FIELD) & (field <= LAST_FIELD)
        inside, beside = held(m, self.enable, "found", inside, beside)
        m.d.comb += self.result.eq(Mux(inside, port.data, beside))
        return m
