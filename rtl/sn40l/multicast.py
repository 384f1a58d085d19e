"""One stream to several sinks, a register before each."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.rtl.sn40l.stream_register import StreamRegister

__all__ = ["Multicast"]


class Multicast(wiring.Component):
    """Hand every item to all sinks, when the register of each can take it.

    Parameters
    ----------
    shape : shape-like
        Of an item.
    sinks : int

    Attributes
    ----------
    source : In stream
    sink_0, ... : Out stream
    """

    def __init__(self, shape: Any, sinks: int) -> None:
        self._shape, self._sinks = shape, sinks
        item = stream.Signature(shape)
        super().__init__(
            {"source": In(item), **{f"sink_{number}": Out(item) for number in range(sinks)}}
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        registers = [StreamRegister(self._shape) for _ in range(self._sinks)]
        ready = self.source.ready
        m.d.comb += ready.eq(Cat(register.source.ready for register in registers).all())
        for number, register in enumerate(registers):
            m.submodules[f"register_{number}"] = register
            m.d.comb += [
                register.source.valid.eq(self.source.valid & ready),
                register.source.payload.eq(self.source.payload),
            ]
            wiring.connect(m, register.sink, wiring.flipped(getattr(self, f"sink_{number}")))
        return m
