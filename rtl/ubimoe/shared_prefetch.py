"""One prefetch for several readers of weights, in turn."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.rtl.axi import (
    ADDRESS_BITS,
    StreamFifo,
    connect_ports,
    prefixed,
    read_master_ports,
)
from headrace.rtl.striped_reader import port_prefix
from headrace.rtl.ubimoe.prefetch import STRIDE_BITS, Prefetch

__all__ = ["SharedPrefetch"]

_JOBS_UNDER_WAY = 4


class SharedPrefetch(wiring.Component):
    """Give each client the images of its jobs through the same ports, job after job.

    Of clients that wait the one with the lowest number is served first. Words of one client that
    are not taken hold up those behind them: no client may need a later image of another one to go
    on.

    Parameters
    ----------
    sizes : PrefetchSizes
    beats : sequence of int
        Of every image of each client.

    Attributes
    ----------
    jobs0, jobs1, ... : stream
        `expert`, `stride` and `bases`, as those of `Prefetch`.
    weights0, weights1, ... : stream
        Beats.
    busy, error : Out(1)
        See `Prefetch`.
    port0_araddr, ... : In, Out
        See `read_master_ports`.
    """

    def __init__(self, sizes: PrefetchSizes, beats: Sequence[int]) -> None:
        self.sizes, self.beats = sizes, tuple(beats)
        bases = data.ArrayLayout(unsigned(ADDRESS_BITS), sizes.ports)
        fields = {"expert": unsigned(8), "stride": unsigned(STRIDE_BITS), "bases": bases}
        members: dict[str, Any] = {"busy": Out(1), "error": Out(1)}
        for client in range(len(beats)):
            members[f"jobs{client}"] = In(stream.Signature(data.StructLayout(fields)))
            members[f"weights{client}"] = Out(stream.Signature(unsigned(sizes.beat_bits)))
        for port in range(sizes.ports):
            members |= prefixed(port_prefix(port), read_master_ports(sizes.port_bits))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.prefetch = prefetch = Prefetch(self.sizes)
        ports = read_master_ports(self.sizes.port_bits)
        for port in range(self.sizes.ports):
            prefix = port_prefix(port)
            connect_ports(m, self, prefix, prefetch, ports, f"{prefix}_")
        clients = range(len(self.beats))
        m.submodules.owners = owners = StreamFifo(max(1, clients[-1].bit_length()), _JOBS_UNDER_WAY)
        m.d.comb += [self.busy.eq(prefetch.busy), self.error.eq(prefetch.error)]
        self._jobs(m, prefetch, owners, clients)
        self._weights(m, prefetch, owners, clients)
        return m

    def _jobs(self, m: Module, prefetch: Prefetch, owners: StreamFifo, clients: range) -> None:
        """Take the first job there is, and note whose it is."""
        jobs = [getattr(self, f"jobs{client}") for client in clients]
        m.d.comb += [
            prefetch.jobs.valid.eq(owners.source.ready & Cat(job.valid for job in jobs).any()),
            owners.source.valid.eq(prefetch.jobs.valid & prefetch.jobs.ready),
        ]
        for client in reversed(clients):
            with m.If(jobs[client].valid):
                m.d.comb += [
                    owners.source.payload.eq(client),
                    prefetch.jobs.payload.expert.eq(jobs[client].payload.expert),
                    prefetch.jobs.payload.stride.eq(jobs[client].payload.stride),
                    prefetch.jobs.payload.bases.eq(jobs[client].payload.bases),
                    prefetch.jobs.payload.beats.eq(self.beats[client]),
                ]
            before = Cat(job.valid for job in jobs[:client]).any() if client else 0
            m.d.comb += jobs[client].ready.eq(owners.source.valid & ~before)

    def _weights(self, m: Module, prefetch: Prefetch, owners: StreamFifo, clients: range) -> None:
        """Give the beats of each image to its owner."""
        owner, words = owners.target.payload, prefetch.weights
        beat = Signal(range(max(2, *self.beats)))
        last, goes, ready = Signal(), Signal(), Signal()
        m.d.comb += [
            last.eq(beat == Array(beats - 1 for beats in self.beats)[owner]),
            words.ready.eq(owners.target.valid & ready),
            goes.eq(words.valid & words.ready),
            owners.target.ready.eq(goes & last),
        ]
        with m.If(goes):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))
        for client in clients:
            weights, mine = getattr(self, f"weights{client}"), owner == client
            m.d.comb += [
                weights.payload.eq(words.payload),
                weights.valid.eq(words.valid & owners.target.valid & mine),
            ]
            with m.If(mine):
                m.d.comb += ready.eq(weights.ready)
