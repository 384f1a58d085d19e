"""The reading half of a memory unit: addresses, rounds of the banks, results."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.rtl.sn40l.bank_rounds import BankRounds
from headrace.rtl.sn40l.memory_writer import end_token, follow_program, packet_layout
from headrace.rtl.sn40l.vector_places import VectorPlaces
from headrace.rtl.sn40l.vector_walk import VectorWalk, program_layout, walk_layout

__all__ = ["MemoryReader"]


class MemoryReader(wiring.Component):
    """Read vectors from where a program says: lanes, places, then the banks, then the result.

    Parameters
    ----------
    sizes : MemoryUnitSizes

    Attributes
    ----------
    command : In stream
        `program_layout`.
    results : Out stream
        `packet_layout`; `sequence` is the number of the vector in its run.
    drained : Out stream
        A token (`last`) for each run that is read from the banks.
    buffer, begins, ended : In(1), Out(1), Out(1)
        A buffer is there for a run that waits for one; such a run begins, ends.
    enables, rows : Out
        What each bank reads.
    words : In
        What each bank read last.
    """

    def __init__(self, sizes: MemoryUnitSizes) -> None:
        self.sizes = sizes
        banks = sizes.banks
        super().__init__(
            {
                "command": In(stream.Signature(program_layout(sizes, sequenced=False))),
                "results": Out(stream.Signature(packet_layout(sizes))),
                "drained": Out(stream.Signature(1)),
                "buffer": In(1),
                "begins": Out(1),
                "ended": Out(1),
                "enables": Out(banks),
                "rows": Out(data.ArrayLayout(unsigned(sizes.row_bits), banks)),
                "words": In(data.ArrayLayout(unsigned(sizes.word_bits), banks)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.walk = walk = VectorWalk(sizes, sequenced=False)
        m.submodules.places = places = VectorPlaces(
            sizes, walk.program.shape(), sizes.sequence_bits
        )
        m.submodules.rounds = rounds = BankRounds(sizes, sizes.sequence_bits)
        wiring.connect(m, wiring.flipped(self.command), walk.command)
        wiring.connect(m, places.places, rounds.places)
        free = self._collect(m, rounds)
        ends = end_token(m, self.drained, rounds, free)
        follow_program(m, self, walk, places, rounds, ends)
        number, step = Signal(sizes.sequence_bits), walk.vectors.payload
        m.d.comb += [
            places.vectors.valid.eq(walk.vectors.valid),
            walk.vectors.ready.eq(places.vectors.ready),
            places.vectors.payload.carried.eq(number),
        ]
        m.d.comb += [
            getattr(places.vectors.payload, name).eq(getattr(step, name))
            for name, _ in walk_layout(sizes)
        ]
        with m.If(walk.vectors.valid & walk.vectors.ready):
            m.d.sync += number.eq(Mux(step.end, 0, number + 1))
        for bank, pick in enumerate(rounds.picks):
            m.d.comb += self.enables[bank].eq(rounds.go & pick.any())
        return m

    def _collect(self, m: Module, rounds: BankRounds) -> Signal:
        """Put the words of a vector's rounds together; return whether a round may be read."""
        item, results = rounds.places.payload, self.results
        read = Signal(
            data.StructLayout(
                {
                    "banks": item.banks.shape(),
                    "lanes": unsigned(self.sizes.banks),
                    "inside": unsigned(self.sizes.banks),
                    "final": unsigned(1),
                    "sequence": unsigned(self.sizes.sequence_bits),
                }
            )
        )
        there, free, collect = Signal(), Signal(), Signal()
        m.d.comb += [
            collect.eq(there & (~results.valid | results.ready)),
            free.eq(~there | collect),
        ]
        with m.If(results.ready):
            m.d.sync += results.valid.eq(0)
        with m.If(collect):
            m.d.sync += [
                there.eq(0),
                results.valid.eq(read.final),
                results.payload.sequence.eq(read.sequence),
            ]
            words = Array(self.words)
            for lane, bank in enumerate(read.banks):
                kept = Mux(read.inside[lane], results.payload.words[lane], 0)
                word = Mux(read.lanes[lane], words[bank], kept)
                m.d.sync += results.payload.words[lane].eq(word)
        with m.If(rounds.round & rounds.go):
            m.d.sync += [
                there.eq(1),
                read.banks.eq(item.banks),
                read.lanes.eq(rounds.lanes),
                read.inside.eq(item.inside),
                read.final.eq(rounds.final),
                read.sequence.eq(item.carried),
            ]
        return free
