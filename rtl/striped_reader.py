"""One stream of wide words out of several AXI ports that are read side by side."""

from typing import Any

from amaranth.hdl import Cat, Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.rtl.axi import (
    ADDRESS_BITS,
    AxiReader,
    connect_ports,
    prefixed,
    read_master_ports,
)

__all__ = ["StripedReader", "port_prefix"]


def port_prefix(port: int) -> str:
    """Return the prefix of an AXI port of a `StripedReader`."""
    return f"port{port}"


class StripedReader(wiring.Component):
    """Read an image that is striped over AXI ports: word p of every beat through port p.

    Each port has an `AxiReader` of its own, so that one may run ahead of another as far as its
    FIFO reaches. A read is taken by all ports at once, a beat leaves when all its words are
    there; neither costs a cycle.

    Parameters
    ----------
    ports, port_bits : int
        Number of ports, and width of each; a beat is ``ports * port_bits`` wide.
    **options : int
        `burst_beats`, `outstanding` and `buffer_beats` of `AxiReader`.

    Attributes
    ----------
    reads : stream
        `bases` (40 bits each), a byte address per port; `count` (32), beats.
    words : stream
    busy, error : Out(1)
        Of any port; see `AxiReader`.
    port0_araddr, ... : In, Out
        See `read_master_ports`.
    """

    def __init__(self, ports: int, port_bits: int, **options: int) -> None:
        self.ports, self.port_bits, self.options = ports, port_bits, options
        bases = data.ArrayLayout(unsigned(ADDRESS_BITS), ports)
        read = data.StructLayout({"bases": bases, "count": unsigned(32)})
        members: dict[str, Any] = {
            "reads": In(stream.Signature(read)),
            "words": Out(stream.Signature(unsigned(ports * port_bits))),
            "busy": Out(1),
            "error": Out(1),
        }
        for port in range(ports):
            members |= prefixed(port_prefix(port), read_master_ports(port_bits))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        readers = [AxiReader(self.port_bits, **self.options) for _ in range(self.ports)]
        m.d.comb += [
            self.reads.ready.eq(Cat(reader.reads.ready for reader in readers).all()),
            self.words.valid.eq(Cat(reader.words.valid for reader in readers).all()),
            self.words.payload.eq(Cat(reader.words.payload for reader in readers)),
            self.busy.eq(Cat(reader.busy for reader in readers).any()),
            self.error.eq(Cat(reader.error for reader in readers).any()),
        ]
        for port, reader in enumerate(readers):
            m.submodules[f"reader_{port}"] = reader
            ports = read_master_ports(self.port_bits)
            connect_ports(m, self, port_prefix(port), reader, ports)
            m.d.comb += [
                reader.reads.payload.base.eq(self.reads.payload.bases[port]),
                reader.reads.payload.count.eq(self.reads.payload.count),
                reader.reads.valid.eq(self.reads.valid & self.reads.ready),
                reader.words.ready.eq(self.words.valid & self.words.ready),
            ]
        return m
