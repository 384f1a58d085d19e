"""UbiMoE's prefetch of expert weights through AXI."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.rtl.axi import ADDRESS_BITS, connect_ports, prefixed, read_master_ports
from headrace.rtl.striped_reader import StripedReader, port_prefix

__all__ = ["STRIDE_BITS", "Prefetch", "job_layout"]

STRIDE_BITS = 32


def job_layout(ports: int) -> data.StructLayout:
    """Return the layout of a job of a `Prefetch` with so many ports."""
    return data.StructLayout(
        {
            "expert": unsigned(8),
            "stride": unsigned(STRIDE_BITS),
            "beats": unsigned(32),
            "bases": data.ArrayLayout(unsigned(ADDRESS_BITS), ports),
        }
    )


class Prefetch(wiring.Component):
    """Read the image of each job's expert: at base + expert x stride, on every port.

    A job is held until the last address of the one before is out, so that bursts follow each
    other without a gap; what holds the prefetch back is nothing but `weights`. The product of
    expert and stride takes a cycle.

    Parameters
    ----------
    sizes : PrefetchSizes

    Attributes
    ----------
    jobs : stream
        `expert` (8 bits); `stride` (32), bytes from one expert's image to the next; `beats` (32)
        of the image, at least 1; `bases` (40 each), the address of expert 0 on every port. Bits
        of strides and bases below a burst are taken as 0.
    weights : stream
        Beats of `beat_bits`.
    busy : Out(1)
        Words are still to be requested or to arrive.
    error : Out(1)
        Pulse: a word arrived with SLVERR or DECERR.
    port0_araddr, ... : In, Out
        See `read_master_ports`.
    """

    def __init__(self, sizes: PrefetchSizes) -> None:
        self.sizes = sizes
        members: dict[str, Any] = {
            "jobs": In(stream.Signature(job_layout(sizes.ports))),
            "weights": Out(stream.Signature(unsigned(sizes.beat_bits))),
            "busy": Out(1),
            "error": Out(1),
        }
        for port in range(sizes.ports):
            members |= prefixed(port_prefix(port), read_master_ports(sizes.port_bits))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.reader = reader = StripedReader(
            sizes.ports,
            sizes.port_bits,
            burst_beats=sizes.burst_beats,
            outstanding=sizes.outstanding,
            buffer_beats=sizes.buffer_beats,
        )
        ports = read_master_ports(sizes.port_bits)
        for port in range(sizes.ports):
            prefix = port_prefix(port)
            connect_ports(m, self, prefix, reader, ports, f"{prefix}_")
        burst_bits = sizes.burst_bytes.bit_length() - 1
        job = Signal(self.jobs.payload.shape(), reset_less=True)
        held, placed = Signal(), Signal()  # there is a job; its place is known
        place = Signal(8 + STRIDE_BITS - burst_bits, reset_less=True)  # in bursts
        m.d.comb += [
            self.jobs.ready.eq(~held),
            reader.reads.valid.eq(placed),
            reader.reads.payload.count.eq(job.beats),
            self.weights.valid.eq(reader.words.valid),
            self.weights.payload.eq(reader.words.payload),
            reader.words.ready.eq(self.weights.ready),
            self.busy.eq(held | reader.busy),
            self.error.eq(reader.error),
        ]
        for base, given in zip(reader.reads.payload.bases, job.bases, strict=True):
            m.d.comb += base.eq(Cat(Const(0, burst_bits), given[burst_bits:] + place))
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [job.eq(self.jobs.payload), held.eq(1)]
        with m.If(held):
            m.d.sync += [place.eq(job.expert * job.stride[burst_bits:]), placed.eq(1)]
        with m.If(placed & reader.reads.ready):
            m.d.sync += [held.eq(0), placed.eq(0)]
        return m
