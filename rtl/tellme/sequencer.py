"""Control: commands, slots, and the order of gap, read, build, look up and drain."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.tellme.engine import EngineSizes

__all__ = ["COMPUTE", "Sequencer", "Slots"]

COMPUTE = data.StructLayout(
    {"rows": unsigned(16), "groups": unsigned(16), "stride": unsigned(16), "tokens": unsigned(16)}
)


class Slots(wiring.Component):
    """Count the weight buffer's slots from free to loaded and back, first in, first out.

    Events of cycle t count from cycle t + 1 on.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    accepted, loaded, begun, released : In(1)
        A load was accepted or is complete; a computation was accepted or is over.
    free, ready : Out(1)
        There is a slot to fill; to compute on.
    fill_base, use_base : Out
        First word of the slot that is (next) filled; used.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        address_bits = ceil_log2(sizes.words)
        super().__init__(
            {
                "accepted": In(1),
                "loaded": In(1),
                "begun": In(1),
                "released": In(1),
                "free": Out(1),
                "ready": Out(1),
                "fill_base": Out(address_bits),
                "use_base": Out(address_bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        slots, words = self.sizes.slots, self.sizes.slot_words
        occupied, loaded = Signal(range(slots + 1)), Signal(range(slots + 1))
        m.d.sync += [
            occupied.eq(occupied + self.accepted - self.released),
            loaded.eq(loaded + self.loaded - self.begun),
        ]
        m.d.comb += [self.free.eq(occupied != slots), self.ready.eq(loaded != 0)]
        for base, step in ((self.fill_base, self.loaded), (self.use_base, self.released)):
            with m.If(step):
                m.d.sync += base.eq(Mux(base == (slots - 1) * words, 0, base + words))
        return m


class Sequencer(wiring.Component):
    """Run the row blocks of a computation through front end and lookup.

    The front end takes a set of tables, waits `block_gap` cycles, reads the row and builds its
    entries. In the cycle after the last entry was asked for (naive: after the last transfer) the
    lookup can issue the row's first group, then one group every `lookup_cycles`. In the cycle
    after the last one the set is free for the front end, except that with one set the last row
    of a token keeps it until its results are drained. An issue that needs port A waits for a
    write.

    With F = block_gap + read_cycles + build_cycles a row block takes F + groups x lookup_cycles
    with one set of tables and the larger of the two with two sets. `compute` is accepted in the
    cycle after the last result of the computation before.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    compute : stream
        See docs/engine.md; zero rows, groups or tokens are an error of the host, as are
        words beyond the slot.
    slot_ready, base : In
        A slot is loaded; its first word.
    begun, released : Out(1)
        Pulses: computation accepted; its last result transferred.
    read, taken : Out(1), In(1)
        Accept activations; a transfer happens.
    build, index, build_half : Out
        Ask for a table entry.
    complete : Out(1)
        Pulse with the last cycle of a row's front end.
    wait, write : Out(1), In(1)
        Port A must not be written in this cycle; it is being written.
    issue, address_a, address_b, part : Out
        Read both ports; `part` counts the reads of a group.
    group_issued, group, first, last, half, groups : Out
        A group's last read is issued; its number, whether its row is the token's first or it
        is the token's very last, its table set; groups of the computation.
    drained : In(1)
        The token's last result is transferred.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        address_bits = ceil_log2(sizes.words)
        super().__init__(
            {
                "compute": In(stream.Signature(COMPUTE)),
                "slot_ready": In(1),
                "base": In(address_bits),
                "begun": Out(1),
                "released": Out(1),
                "read": Out(1),
                "taken": In(1),
                "build": Out(1),
                "index": Out(max(1, sizes.build_cycles.bit_length())),
                "build_half": Out(1),
                "complete": Out(1),
                "wait": Out(1),
                "write": In(1),
                "issue": Out(1),
                "address_a": Out(address_bits),
                "address_b": Out(address_bits),
                "part": Out(range(max(2, sizes.lookup_cycles))),
                "group_issued": Out(1),
                "group": Out(16),
                "first": Out(1),
                "last": Out(1),
                "half": Out(1),
                "groups": Out(16),
                "drained": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        busy = Signal()
        job = Signal(COMPUTE)
        m.d.comb += [
            self.compute.ready.eq(~busy & self.slot_ready),
            self.begun.eq(self.compute.valid & self.compute.ready),
            self.groups.eq(job.groups),
        ]
        with m.If(self.begun):
            m.d.sync += [busy.eq(1), job.eq(self.compute.payload)]
        with m.If(self.released):
            m.d.sync += busy.eq(0)
        freed = Signal()  # a set of tables becomes free in the next cycle
        self._front_end(m, job, freed)
        self._lookup(m, job, busy, freed)
        return m

    def _front_end(self, m: Module, job: Any, freed: Signal) -> None:
        """Take rows one after the other: gap, read, build."""
        sizes = self.sizes
        active, started = Signal(), Signal()  # rows are left; this one has its set of tables
        rows, tokens = Signal(16), Signal(16)  # left, with this one
        taken_sets = Signal(range(sizes.table_buffers + 1))
        gap = Signal(range(sizes.block_gap + 1))
        reads = Signal(range(sizes.read_cycles + 1))
        go, claim = Signal(), Signal()
        m.d.comb += [
            go.eq(active & (started | (taken_sets != sizes.table_buffers))),
            claim.eq(go & ~started),
            self.read.eq(go & (gap == sizes.block_gap) & (reads != sizes.read_cycles)),
            self.build.eq(go & (reads == sizes.read_cycles)),
        ]
        m.d.sync += taken_sets.eq(taken_sets + claim - freed)
        with m.If(go):
            m.d.sync += started.eq(1)
            with m.If(gap != sizes.block_gap):
                m.d.sync += gap.eq(gap + 1)
        with m.If(self.taken):
            m.d.sync += reads.eq(reads + 1)
        if sizes.build_cycles:
            m.d.comb += self.complete.eq(self.build & (self.index == sizes.build_cycles))
            with m.If(self.build):
                m.d.sync += self.index.eq(self.index + 1)
        else:
            m.d.comb += self.complete.eq(self.taken & (reads == sizes.read_cycles - 1))
        with m.If(self.complete):
            m.d.sync += [
                started.eq(0),
                gap.eq(0),
                reads.eq(0),
                self.index.eq(1),
                rows.eq(Mux(rows == 1, job.rows, rows - 1)),
            ]
            if sizes.table_buffers == 2:
                m.d.sync += self.build_half.eq(~self.build_half)
            with m.If(rows == 1):
                m.d.sync += tokens.eq(tokens - 1)
                with m.If(tokens == 1):
                    m.d.sync += active.eq(0)
        with m.If(self.begun):
            m.d.sync += [
                active.eq(1),
                self.index.eq(1),
                rows.eq(self.compute.payload.rows),
                tokens.eq(self.compute.payload.tokens),
            ]

    def _lookup(self, m: Module, job: Any, busy: Signal, freed: Signal) -> None:
        """Issue the groups of complete rows; wait for the drain after a token's last row."""
        sizes = self.sizes
        complete_sets = Signal(range(sizes.table_buffers + 1))
        rows, tokens = Signal(16), Signal(16)  # left, with this one
        draining = Signal()
        row_end, token_end = Signal(), Signal()
        address, row_address = Signal.like(self.address_a), Signal.like(self.address_a)
        next_row = Signal.like(row_address)
        wanted, stolen = Signal(), Signal()
        words_per_issue = min(2, sizes.words_per_group)
        m.d.comb += [
            wanted.eq((complete_sets != 0) & ~draining),
            stolen.eq(wanted & self.write if sizes.words_per_group > 1 else 0),
            self.issue.eq(wanted & ~stolen),
            self.group_issued.eq(self.issue & (self.part == sizes.lookup_cycles - 1)),
            row_end.eq(self.group_issued & (self.group == job.groups - 1)),
            token_end.eq(row_end & (rows == 1)),
            self.last.eq(token_end),
            self.first.eq(rows == job.rows),
            self.address_a.eq(address),
            self.address_b.eq(address + words_per_issue - 1),
            next_row.eq(row_address + job.stride * sizes.words_per_group),
            self.released.eq(self.drained & (tokens == 1)),
            freed.eq(self.drained | (row_end & ~token_end))
            if sizes.table_buffers == 1
            else freed.eq(row_end),
        ]
        m.d.sync += self.wait.eq(stolen)
        m.d.sync += complete_sets.eq(complete_sets + self.complete - row_end)
        with m.If(self.issue):
            m.d.sync += [
                self.part.eq(Mux(self.group_issued, 0, self.part + 1)),
                address.eq(address + words_per_issue),
            ]
        with m.If(self.group_issued):
            m.d.sync += self.group.eq(self.group + 1)
        with m.If(row_end):
            m.d.sync += [
                self.group.eq(0),
                rows.eq(rows - 1),
                address.eq(next_row),
                row_address.eq(next_row),
            ]
            if sizes.table_buffers == 2:
                m.d.sync += self.half.eq(~self.half)
        with m.If(token_end):
            m.d.sync += [
                draining.eq(1),
                rows.eq(job.rows),
                address.eq(self.base),
                row_address.eq(self.base),
            ]
        with m.If(self.drained):
            m.d.sync += [draining.eq(0), tokens.eq(tokens - 1)]
        with m.If(self.begun):
            m.d.sync += [
                rows.eq(self.compute.payload.rows),
                tokens.eq(self.compute.payload.tokens),
                address.eq(self.base),
                row_address.eq(self.base),
            ]
