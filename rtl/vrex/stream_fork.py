"""One stream to two sinks."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamFork"]


class StreamFork(wiring.Component):
    """Give every item to two sinks; neither waits for the other within an item.

    Parameters
    ----------
    shape : shape-like
        Of an item.

    Attributes
    ----------
    source : In stream
        Taken when the later one of the sinks takes the item.
    one, other : Out stream
    """

    def __init__(self, shape: Any) -> None:
        super().__init__(
            {
                "source": In(stream.Signature(shape)),
                "one": Out(stream.Signature(shape)),
                "other": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        got = [Signal(name="one_got"), Signal(name="other_got")]
        sinks = [self.one, self.other]
        has = [done | sink.ready for done, sink in zip(got, sinks, strict=True)]
        m.d.comb += self.source.ready.eq(has[0] & has[1])
        for sink, done, now in zip(sinks, got, has, strict=True):
            m.d.comb += [
                sink.valid.eq(self.source.valid & ~done),
                sink.payload.eq(self.source.payload),
            ]
            m.d.sync += done.eq(self.source.valid & now & ~self.source.ready)
        return m
