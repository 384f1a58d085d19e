"""A FIFO whose words are reserved before they are computed."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["ReservedFifo"]

_DISTRIBUTED_WORDS = 64  # words of one LUT RAM cell


class ReservedFifo(wiring.Component):
    """Queue words between two pipelines, the first of which cannot stall.

    The first one reserves a word when it begins with it, and writes it whenever it is done. A word
    written in cycle t is `available` from t + 1 on; the oldest word, read in cycle t, is in `data`
    from t + 1 on, until the next read.

    Parameters
    ----------
    width, depth : int
        Bits of a word; words, at least 1.

    Attributes
    ----------
    room : Out(1)
        A word can be reserved.
    reserve : In(1)
        Reserve one; only if there is room.
    write, word : In
        Write the oldest word that is reserved and not written.
    available : Out(1)
        There is an oldest word.
    read, pop : In(1)
        Read it; give its place back.
    data : Out(width)
        The word read last.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
        self.depth = depth
        super().__init__(
            {
                "room": Out(1),
                "reserve": In(1),
                "write": In(1),
                "word": In(unsigned(width)),
                "available": Out(1),
                "read": In(1),
                "pop": In(1),
                "data": Out(unsigned(width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        style = "distributed" if self.depth <= _DISTRIBUTED_WORDS else "block"
        words = max(self.depth, 2)  # an address needs a bit
        m.submodules.memory = memory = Memory(
            shape=unsigned(self.width), depth=words, init=[], attrs={"ram_style": style}
        )
        writer, reader = memory.write_port(), memory.read_port()
        reserved, written = Signal(range(self.depth + 1)), Signal(range(self.depth + 1))
        m.d.comb += [
            self.room.eq(reserved != self.depth),
            self.available.eq(written.any()),
            writer.en.eq(self.write),
            writer.data.eq(self.word),
            reader.en.eq(self.read),
            self.data.eq(reader.data),
        ]
        m.d.sync += [
            reserved.eq(reserved + self.reserve - self.pop),
            written.eq(written + self.write - self.pop),
        ]
        for address, moves in ((writer.addr, self.write), (reader.addr, self.pop)):
            pointer = Signal(range(words))
            m.d.comb += address.eq(pointer)
            with m.If(moves):
                m.d.sync += pointer.eq(Mux(pointer == words - 1, 0, pointer + 1))
        return m
