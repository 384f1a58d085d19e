"""Takes weight beats apart and writes their vectors into the banks."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.tellme.engine import EngineSizes, write_cycles

__all__ = ["LOAD", "Unpacker"]

LOAD = data.StructLayout({"rows": unsigned(16), "groups": unsigned(16)})


class Unpacker(wiring.Component):
    """Fill slots of the weight buffer from beats.

    A load is accepted when `slot_free` is high and no other is under way. A beat that is accepted
    in cycle t is written in cycles t + 1 .. t + c, where c is `write_cycles` of the beat (0 for a
    beat that completes no word of the ``group`` packing), or later by the cycles with `wait`. The
    next beat is accepted in the last of these cycles: one beat per max(1, c) cycles. `loaded` is
    high in the last write cycle and the next load can be accepted in the cycle after it.

    A load of zero rows or zero groups, or of more than a slot's words, is an error of the host
    and not checked here.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    load, weights : stream
        See docs/engine.md.
    slot_free : In(1)
        There is a slot to fill; `base` is its first word.
    accepted, loaded : Out(1)
        Pulses: a load has begun, a load's last word is being written.
    wait : In(1)
        Do not write in this cycle.
    write : Out(1)
        The banks are being written in this cycle.
    enable, address, data : Out
        Write enable, word and vector of each bank.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        self.address_bits = ceil_log2(sizes.words)
        super().__init__(
            {
                "load": In(stream.Signature(LOAD)),
                "weights": In(stream.Signature(unsigned(sizes.beat_bits))),
                "slot_free": In(1),
                "base": In(self.address_bits),
                "accepted": Out(1),
                "loaded": Out(1),
                "wait": In(1),
                "write": Out(1),
                "enable": Out(sizes.banks),
                "address": Out(data.ArrayLayout(unsigned(self.address_bits), sizes.banks)),
                "data": Out(data.ArrayLayout(unsigned(sizes.vector_bits), sizes.banks)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        busy, writing = Signal(), Signal()
        last_write, final = Signal(), Signal()  # of this beat; of this load
        m.d.comb += [
            self.load.ready.eq(~busy & self.slot_free),
            self.accepted.eq(self.load.valid & self.load.ready),
            self.write.eq(writing & ~self.wait),
            self.weights.ready.eq(busy & (~writing | (self.write & last_write & ~final))),
            self.loaded.eq(self.write & last_write & final),
        ]
        with m.If(self.write & last_write):
            m.d.sync += writing.eq(0)
        with m.If(self.accepted):
            m.d.sync += busy.eq(1)
        with m.If(self.loaded):
            m.d.sync += busy.eq(0)
        taken = Signal()
        m.d.comb += taken.eq(self.weights.valid & self.weights.ready)
        if self.sizes.packing == "beat":
            self._beat(m, taken, writing, last_write, final)
        else:
            self._group(m, taken, writing, last_write, final)
        return m

    def _beat(
        self, m: Module, taken: Signal, writing: Signal, last_write: Signal, final: Signal
    ) -> None:
        """Write vector n of a row to bank n mod B, word n div B, in ceil(V/B) cycles per beat."""
        sizes, banks, in_beat = self.sizes, self.sizes.banks, self.sizes.vectors_per_beat
        steps = write_cycles(sizes)[0]
        held = Signal(in_beat * sizes.vector_bits)
        step = Signal(range(steps))
        rows = Signal(16)
        groups = Signal(16)
        left = Signal(16 + sizes.copies.bit_length())  # vectors of this row, from this beat on
        word, row_word = Signal(self.address_bits), Signal(self.address_bits)
        offset = Signal(range(max(2, banks)))  # bank of the beat's first vector
        row_words = Signal(self.address_bits)
        row_last = Signal()
        m.d.comb += [
            row_words.eq(groups * sizes.words_per_group),
            row_last.eq(left <= in_beat),
            last_write.eq(step == steps - 1),
            final.eq(row_last & (rows == 1)),
        ]
        with m.If(self.accepted):
            m.d.sync += [
                rows.eq(self.load.payload.rows),
                groups.eq(self.load.payload.groups),
                left.eq(self.load.payload.groups * sizes.copies),
                word.eq(self.base),
                row_word.eq(self.base),
                offset.eq(0),
            ]
        with m.If(taken):
            m.d.sync += [held.eq(self.weights.payload), writing.eq(1), step.eq(0)]
        with m.If(self.write):
            with m.If(~last_write):
                m.d.sync += step.eq(step + 1)
            with m.Elif(row_last):
                m.d.sync += [
                    rows.eq(rows - 1),
                    left.eq(groups * sizes.copies),
                    word.eq(row_word + row_words),
                    row_word.eq(row_word + row_words),
                    offset.eq(0),
                ]
            with m.Else():
                carry = Signal()
                m.d.comb += carry.eq(offset + in_beat % banks >= banks)
                m.d.sync += [
                    left.eq(left - in_beat),
                    word.eq(word + in_beat // banks + carry),
                    offset.eq(offset + in_beat % banks - Mux(carry, banks, 0)),
                ]
        vectors = [held.word_select(i, sizes.vector_bits) for i in range(in_beat)]
        for bank in range(banks):
            turned = Signal(range(max(2, banks)), name=f"turned_{bank}")
            number = Signal(range(steps * banks + 1), name=f"number_{bank}")
            m.d.comb += [
                turned.eq(Mux(offset > bank, bank + banks - offset, bank - offset)),
                number.eq(turned + step * banks),
                self.enable[bank].eq(self.write & (number < in_beat) & (number < left)),
                self.address[bank].eq(word + step + (offset > bank)),
                self.data[bank].eq(Array(vectors)[number]),
            ]

    def _group(
        self, m: Module, taken: Signal, writing: Signal, last_write: Signal, final: Signal
    ) -> None:
        """Collect the beats of a group; write a word as soon as all its bits are there."""
        sizes = self.sizes
        beats, words = sizes.beats_per_group, sizes.words_per_group
        completes = write_cycles(sizes)
        ends = [sum(completes[: b + 1]) for b in range(beats)]
        word_bits = sizes.banks * sizes.vector_bits
        held = [Signal(sizes.beat_bits, name=f"beat_{b}") for b in range(beats)]
        beat = Signal(range(max(2, beats)))
        part = Signal(range(max(2, words)))
        rows, groups, left = Signal(16), Signal(16), Signal(16)
        word = Signal(self.address_bits)
        m.d.comb += [
            last_write.eq(Array([Const(part + 1 in ends, 1) for part in range(words)])[part]),
            final.eq((part == words - 1) & (left == 1) & (rows == 1)),
        ]
        with m.If(self.accepted):
            m.d.sync += [
                rows.eq(self.load.payload.rows),
                groups.eq(self.load.payload.groups),
                left.eq(self.load.payload.groups),
                word.eq(self.base),
            ]
        with m.If(taken):
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
            m.d.sync += writing.eq(Array([Const(c > 0, 1) for c in completes])[beat])
            with m.Switch(beat):
                for number, register in enumerate(held):
                    with m.Case(number):
                        m.d.sync += register.eq(self.weights.payload)
        with m.If(self.write):
            m.d.sync += [word.eq(word + 1), part.eq(Mux(part == words - 1, 0, part + 1))]
            with m.If(part == words - 1):
                m.d.sync += left.eq(Mux(left == 1, groups, left - 1))
                with m.If(left == 1):
                    m.d.sync += rows.eq(rows - 1)
        bits = Cat(held)
        m.d.comb += [
            self.enable.eq(self.write.replicate(sizes.banks)),
            self.data.as_value().eq(
                Array([bits[i * word_bits : (i + 1) * word_bits] for i in range(words)])[part]
            ),
        ]
        m.d.comb += [self.address[bank].eq(word) for bank in range(sizes.banks)]
