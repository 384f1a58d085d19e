"""SN40L's memory unit: banks, an address generator for each direction, two buffers."""

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.rtl.sn40l.memory_reader import MemoryReader
from headrace.rtl.sn40l.memory_writer import MemoryWriter, packet_layout
from headrace.rtl.sn40l.vector_walk import program_layout

__all__ = ["MemoryUnit"]


class MemoryUnit(wiring.Component):
    """Banks that write a vector and read a vector per cycle, each by a program of its own.

    Lanes that share a bank are served one after the other. A word that is read and written in the
    same cycle is read as it was.

    Parameters
    ----------
    sizes : MemoryUnitSizes

    Attributes
    ----------
    write, read : In stream
        Programs: `program_layout`, with and without a `sequence_stride`.
    packets : In stream
        `packet_layout`: vectors that are written.
    results : Out stream
        `packet_layout`: vectors that were read; `sequence` is their number in the run.
    written, drained : Out stream
        1 bit, `last`: for each run that is in the banks, and for each that was read from them.
    """

    def __init__(self, sizes: MemoryUnitSizes) -> None:
        self.sizes = sizes
        packet = stream.Signature(packet_layout(sizes))
        super().__init__(
            {
                "write": In(stream.Signature(program_layout(sizes, sequenced=True))),
                "read": In(stream.Signature(program_layout(sizes, sequenced=False))),
                "packets": In(packet),
                "results": Out(packet),
                "written": Out(stream.Signature(1)),
                "drained": Out(stream.Signature(1)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.writer = writer = MemoryWriter(self.sizes)
        m.submodules.reader = reader = MemoryReader(self.sizes)
        wiring.connect(m, wiring.flipped(self.write), writer.command)
        wiring.connect(m, wiring.flipped(self.read), reader.command)
        wiring.connect(m, wiring.flipped(self.packets), writer.packets)
        wiring.connect(m, reader.results, wiring.flipped(self.results))
        wiring.connect(m, writer.written, wiring.flipped(self.written))
        wiring.connect(m, reader.drained, wiring.flipped(self.drained))
        for bank in range(self.sizes.banks):
            memory = Memory(shape=unsigned(self.sizes.word_bits), depth=self.sizes.depth, init=[])
            m.submodules[f"bank_{bank}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(writer.enables[bank]),
                write.addr.eq(writer.rows[bank]),
                write.data.eq(writer.words[bank]),
                read.en.eq(reader.enables[bank]),
                read.addr.eq(reader.rows[bank]),
                reader.words[bank].eq(read.data),
            ]
        self._buffers(m, writer, reader)
        return m

    def _buffers(self, m: Module, writer: MemoryWriter, reader: MemoryReader) -> None:
        """Count the buffers that may be written, and those that may be read."""
        free, full = Signal(range(3), init=2), Signal(range(3))
        m.d.comb += [writer.buffer.eq(free != 0), reader.buffer.eq(full != 0)]
        m.d.sync += [
            free.eq(free + reader.ended - writer.begins),
            full.eq(full + writer.ended - reader.begins),
        ]
