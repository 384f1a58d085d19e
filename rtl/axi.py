"""AXI pieces: a register slave, a burst reader, a stream FIFO (AMBA AXI4, ARM IHI 0022).

Ports are flat and named as Vivado's interface inference expects them, ``prefix_awaddr`` and so on.
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.rtl.registers import RegisterMap

__all__ = [
    "ADDRESS_BITS",
    "BURST_BEATS",
    "AxiLiteRegisters",
    "AxiReader",
    "StreamFifo",
    "connect_ports",
    "prefixed",
    "read_master_ports",
    "register_slave_ports",
    "stream_bits",
]

ADDRESS_BITS = 40  # of the Zynq UltraScale+ memory map
BURST_BEATS = 16
_OUTSTANDING = 16  # bursts under way, as in the published design
_FIFO_BEATS = 32  # two bursts, one cell deep in LUT RAM
_BOUNDARY = 4096  # bytes; no burst crosses a multiple
_DATA_BITS = 32


def stream_bits(bits: int) -> int:
    """Return the width of an AXI4-Stream that carries `bits`: a power of two, at least 8."""
    return max(8, 1 << (bits - 1).bit_length())


def register_slave_ports(address_bits: int) -> dict[str, Any]:
    """Return the ports of an AXI4-Lite slave with 32-bit data."""
    return {
        "awaddr": In(address_bits),
        "awprot": In(3),
        "awvalid": In(1),
        "awready": Out(1),
        "wdata": In(_DATA_BITS),
        "wstrb": In(_DATA_BITS // 8),
        "wvalid": In(1),
        "wready": Out(1),
        "bresp": Out(2),
        "bvalid": Out(1),
        "bready": In(1),
        "araddr": In(address_bits),
        "arprot": In(3),
        "arvalid": In(1),
        "arready": Out(1),
        "rdata": Out(_DATA_BITS),
        "rresp": Out(2),
        "rvalid": Out(1),
        "rready": In(1),
    }


def read_master_ports(data_bits: int) -> dict[str, Any]:
    """Return the ports of the read channels of an AXI4 master."""
    return {
        "araddr": Out(ADDRESS_BITS),
        "arlen": Out(8),
        "arsize": Out(3),
        "arburst": Out(2),
        "arcache": Out(4),
        "arprot": Out(3),
        "arvalid": Out(1),
        "arready": In(1),
        "rdata": In(data_bits),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }


def prefixed(prefix: str, ports: Mapping[str, Any]) -> dict[str, Any]:
    """Return `ports` with ``prefix_`` before every name."""
    return {f"{prefix}_{name}": port for name, port in ports.items()}


def connect_ports(
    m: Module,
    outer: Any,
    prefix: str,
    inner: Any,
    ports: Mapping[str, Any],
    inner_prefix: str = "",
) -> None:
    """Connect the prefixed ports of `outer` with those of its submodule `inner`."""
    for name, port in ports.items():
        outside, inside = getattr(outer, f"{prefix}_{name}"), getattr(inner, inner_prefix + name)
        m.d.comb += outside.eq(inside) if port.flow is Out else inside.eq(outside)


class AxiLiteRegisters(wiring.Component):
    """A register map behind an AXI4-Lite slave.

    One write and one read may be under way. A write is taken when address and data are there,
    is in its register in the next cycle and answered then; data of a read come one cycle after
    its address. Byte strobes are honoured for ``read/write`` registers; unmapped offsets ignore
    writes and read as 0. Every answer is OKAY.

    Parameters
    ----------
    registers : RegisterMap

    Attributes
    ----------
    awaddr, ... : In, Out
        See `register_slave_ports`.
    read_NAME : In
        Value of a ``read`` register.
    NAME : Out
        Value of a ``read/write`` register.
    start_NAME : Out(1)
        Pulse of a ``command`` register; `data` holds what was written.
    data : Out(32)
    """

    def __init__(self, registers: RegisterMap) -> None:
        self.registers = registers
        own: dict[str, Any] = {"data": Out(_DATA_BITS)}
        for register in registers:
            if register.access == "read":
                own[f"read_{register.name}"] = In(register.width)
            elif register.access == "read/write":
                own[register.name] = Out(register.width)
            else:
                own[f"start_{register.name}"] = Out(1)
        super().__init__(register_slave_ports(registers.address_bits) | own)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        write = Signal()
        m.d.comb += [
            write.eq(self.awvalid & self.wvalid & (~self.bvalid | self.bready)),
            self.awready.eq(write),
            self.wready.eq(write),
            self.arready.eq(~self.rvalid | self.rready),
        ]
        with m.If(write):
            m.d.sync += self.bvalid.eq(1)
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(self.arready):
            m.d.sync += [self.rvalid.eq(self.arvalid), self.rdata.eq(0)]
        strobes = Cat(bit.replicate(8) for bit in self.wstrb)
        with m.If(write):
            m.d.sync += self.data.eq(self.wdata)
        for register in self.registers:
            word = register.offset >> 2
            written = Signal(name=f"write_{register.name}")
            m.d.comb += written.eq(write & (self.awaddr[2:] == word))
            if register.access == "command":
                m.d.sync += getattr(self, f"start_{register.name}").eq(written)
                continue
            if register.access == "read":
                value = getattr(self, f"read_{register.name}")
            else:
                value = getattr(self, register.name)
                merged = (self.wdata & strobes) | (value & ~strobes)
                with m.If(written):
                    m.d.sync += value.eq(merged & register.mask)
            with m.If(self.arready & (self.araddr[2:] == word)):
                m.d.sync += self.rdata.eq(value)
        return m


class StreamFifo(wiring.Component):
    """Buffer a stream in LUT RAM.

    An item accepted in cycle t can leave in cycle t + 1; one item per cycle, also when full and
    leaving. Resources: ``width`` / 14 RAM32M16 for up to 32 items.

    Parameters
    ----------
    width : int
        Bits of an item.
    depth : int
        Items, a power of two.

    Attributes
    ----------
    source, target : stream
        In and out.
    """

    def __init__(self, width: int, depth: int = _FIFO_BEATS) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, not {depth}")
        self.width = width
        self.depth = depth
        items = stream.Signature(unsigned(width))
        super().__init__({"source": In(items), "target": Out(items)})

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        memory = Memory(
            shape=unsigned(self.width),
            depth=self.depth,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        m.submodules.memory = memory
        writer, reader = memory.write_port(), memory.read_port(domain="comb")
        head, tail = Signal(range(self.depth)), Signal(range(self.depth))
        level = Signal(range(self.depth + 1))
        enters, leaves = Signal(), Signal()
        m.d.comb += [
            self.source.ready.eq(level != self.depth),
            self.target.valid.eq(level != 0),
            enters.eq(self.source.valid & self.source.ready),
            leaves.eq(self.target.valid & self.target.ready),
            writer.addr.eq(tail),
            writer.data.eq(self.source.payload),
            writer.en.eq(enters),
            reader.addr.eq(head),
            self.target.payload.eq(reader.data),
        ]
        m.d.sync += [
            tail.eq(tail + enters),
            head.eq(head + leaves),
            level.eq(level + enters - leaves),
        ]
        return m


class AxiReader(wiring.Component):
    """Read runs of consecutive words through an AXI4 master.

    The first address is offered in the cycle after a read was taken, then one burst per cycle
    while there are fewer than `outstanding`; a word is on `words` in the cycle after it arrived.
    The next read is taken when the last address of the one before is out. Bursts start at
    multiples of their size, so that none crosses a 4 KB boundary. Answers come in order since all
    transfers have one identifier.

    Parameters
    ----------
    data_bits : int
        Width of the port, a power of two of at least 8.
    burst_beats : int
        Words of a burst, a power of two up to 256; a burst is at most 4096 bytes.
    outstanding : int
        Bursts that may be under way.
    buffer_beats : int
        Words of the FIFO behind the port, a power of two.

    Attributes
    ----------
    reads : stream
        `base` (40 bits), byte address of the first word, its bits below a burst taken as 0;
        `count` (32), words, 0 is nothing to do.
    busy : Out(1)
        Words are still to be requested or to arrive.
    error : Out(1)
        Pulse: a word arrived with SLVERR or DECERR.
    words : stream
    araddr, ... : In, Out
        See `read_master_ports`.

    Raises
    ------
    ValueError
        A burst is larger than 256 words or 4096 bytes, or not a power of two.
    """

    def __init__(
        self,
        data_bits: int,
        *,
        burst_beats: int = BURST_BEATS,
        outstanding: int = _OUTSTANDING,
        buffer_beats: int = _FIFO_BEATS,
    ) -> None:
        burst_bytes = burst_beats * data_bits // 8
        if burst_beats > 256 or burst_bytes > _BOUNDARY or burst_bytes & (burst_bytes - 1):
            raise ValueError(f"bursts of {burst_beats} x {data_bits} bits are not allowed")
        self.data_bits = data_bits
        self.burst_beats = burst_beats
        self.outstanding = outstanding
        self.buffer_beats = buffer_beats
        read = data.StructLayout({"base": unsigned(ADDRESS_BITS), "count": unsigned(32)})
        own = {
            "reads": In(stream.Signature(read)),
            "busy": Out(1),
            "error": Out(1),
            "words": Out(stream.Signature(unsigned(data_bits))),
        }
        super().__init__(own | read_master_ports(data_bits))

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.fifo = fifo = StreamFifo(self.data_bits, self.buffer_beats)
        wiring.connect(m, fifo.target, wiring.flipped(self.words))
        word_bytes, beats = self.data_bits // 8, self.burst_beats
        burst_bits = (beats * word_bytes).bit_length() - 1
        burst = Signal(ADDRESS_BITS - burst_bits)  # address in bursts
        left = Signal(32)
        under_way = Signal(range(self.outstanding + 1))
        requested, complete = Signal(), Signal()
        m.d.comb += [
            self.reads.ready.eq(left == 0),
            self.arvalid.eq((left != 0) & (under_way != self.outstanding)),
            self.araddr.eq(Cat(Const(0, burst_bits), burst)),
            self.arlen.eq(Mux(left < beats, left - 1, beats - 1)),
            self.arsize.eq(word_bytes.bit_length() - 1),
            self.arburst.eq(1),  # incrementing
            self.arcache.eq(3),  # modifiable and bufferable, what the controller merges best
            requested.eq(self.arvalid & self.arready),
            fifo.source.payload.eq(self.rdata),
            fifo.source.valid.eq(self.rvalid),
            self.rready.eq(fifo.source.ready),
            complete.eq(self.rvalid & self.rready & self.rlast),
            self.error.eq(self.rvalid & self.rready & self.rresp[1]),
            self.busy.eq((left != 0) | (under_way != 0)),
        ]
        m.d.sync += under_way.eq(under_way + requested - complete)
        with m.If(requested):
            m.d.sync += [burst.eq(burst + 1), left.eq(Mux(left < beats, 0, left - beats))]
        with m.If(self.reads.valid & self.reads.ready):
            read = self.reads.payload
            m.d.sync += [burst.eq(read.base[burst_bits:]), left.eq(read.count)]
        return m
