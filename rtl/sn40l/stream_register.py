"""A register in a stream."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamRegister"]


class StreamRegister(wiring.Component):
    """Hand every item on in the cycle after, or when its sink takes it; one item per cycle.

    Parameters
    ----------
    shape : shape-like
        Of an item.

    Attributes
    ----------
    source : In stream
    sink : Out stream
    """

    def __init__(self, shape: Any) -> None:
        super().__init__(
            {"source": In(stream.Signature(shape)), "sink": Out(stream.Signature(shape))}
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.d.comb += self.source.ready.eq(~self.sink.valid | self.sink.ready)
        with m.If(self.source.ready):
            m.d.sync += [
                self.sink.valid.eq(self.source.valid),
                self.sink.payload.eq(self.source.payload),
            ]
        return m
