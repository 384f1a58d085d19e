"""The writing half of a memory unit: packets, their addresses, rounds of the banks."""

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.rtl.sn40l.bank_rounds import BankRounds, chosen
from headrace.rtl.sn40l.stream_register import StreamRegister
from headrace.rtl.sn40l.vector_places import VectorPlaces
from headrace.rtl.sn40l.vector_walk import VectorWalk, program_layout, walk_layout

__all__ = ["MemoryWriter", "end_token", "follow_program", "packet_layout"]


def packet_layout(sizes: MemoryUnitSizes) -> data.StructLayout:
    """Return the layout of a vector packet: `words`, the first lane's lowest, and `sequence`."""
    words = data.ArrayLayout(unsigned(sizes.word_bits), sizes.banks)
    return data.StructLayout({"words": words, "sequence": unsigned(sizes.sequence_bits)})


def end_token(m: Module, token: Any, rounds: BankRounds, go: Any) -> tuple[Any, Any]:
    """Give a token, `last`, for each run whose end leaves the rounds.

    Parameters
    ----------
    m : Module
    token : Out stream
        1 bit: whether the run was the last one of its program.
    rounds : BankRounds
    go : Value
        Nothing but the token keeps the banks from serving.

    Returns
    -------
    ended, finished : Value
        A run, or a program, ends in this cycle.
    """
    item, ended = rounds.places.payload, Signal()
    ends = rounds.final & item.end
    m.d.comb += [
        rounds.go.eq(go & (~ends | ~token.valid | token.ready)),
        ended.eq(rounds.round & rounds.go & ends),
    ]
    with m.If(token.ready):
        m.d.sync += token.valid.eq(0)
    with m.If(ended):
        m.d.sync += [token.valid.eq(1), token.payload.eq(item.last)]
    return ended, ended & item.last


def follow_program(
    m: Module, half: Any, walk: VectorWalk, places: VectorPlaces, rounds: BankRounds, ends: Any
) -> None:
    """Join a half's buffers and rows to the walk through its program.

    Parameters
    ----------
    m : Module
    half : MemoryReader or MemoryWriter
    walk, places, rounds : VectorWalk, VectorPlaces, BankRounds
        Its stages.
    ends : tuple of Value
        What `end_token` returned.
    """
    ended, finished = ends
    m.d.comb += [
        places.program.eq(walk.program),
        walk.buffer.eq(half.buffer),
        half.begins.eq(walk.begins),
        half.ended.eq(ended & walk.program.buffered),
        walk.finished.eq(finished),
        half.rows.eq(rounds.rows),
    ]


class MemoryWriter(wiring.Component):
    """Write packets where a program says: product, sum, lanes, places, then the banks.

    Parameters
    ----------
    sizes : MemoryUnitSizes

    Attributes
    ----------
    command : In stream
        `program_layout`.
    packets : In stream
        `packet_layout`.
    written : Out stream
        A token (`last`) for each run that is in the banks.
    buffer, begins, ended : In(1), Out(1), Out(1)
        A buffer is there for a run that waits for one; such a run begins, ends.
    enables, rows, words : Out
        What each bank writes.
    """

    def __init__(self, sizes: MemoryUnitSizes) -> None:
        self.sizes = sizes
        banks = sizes.banks
        super().__init__(
            {
                "command": In(stream.Signature(program_layout(sizes, sequenced=True))),
                "packets": In(stream.Signature(packet_layout(sizes))),
                "written": Out(stream.Signature(1)),
                "buffer": In(1),
                "begins": Out(1),
                "ended": Out(1),
                "enables": Out(banks),
                "rows": Out(data.ArrayLayout(unsigned(sizes.row_bits), banks)),
                "words": Out(data.ArrayLayout(unsigned(sizes.word_bits), banks)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        bits = sizes.banks * sizes.word_bits
        m.submodules.walk = walk = VectorWalk(sizes, sequenced=True)
        m.submodules.places = places = VectorPlaces(sizes, walk.program.shape(), bits)
        m.submodules.rounds = rounds = BankRounds(sizes, bits)
        wiring.connect(m, wiring.flipped(self.command), walk.command)
        wiring.connect(m, places.places, rounds.places)
        self._address(m, walk, places)
        ends = end_token(m, self.written, rounds, 1)
        follow_program(m, self, walk, places, rounds, ends)
        words = data.View(self.words.shape(), rounds.places.payload.carried)
        for bank, pick in enumerate(rounds.picks):
            m.d.comb += [
                self.enables[bank].eq(rounds.go & pick.any()),
                self.words[bank].eq(chosen(pick, words)),
            ]
        return m

    def _address(self, m: Module, walk: VectorWalk, places: VectorPlaces) -> None:
        """Add the product of sequence id and stride to the address of the step."""
        sizes, step = self.sizes, walk.vectors.payload
        vector = places.vectors.payload.shape()
        product = data.StructLayout({"vector": vector, "product": unsigned(sizes.address_bits)})
        m.submodules.product = one = StreamRegister(product)
        m.submodules.sum = two = StreamRegister(vector)
        source, middle = one.source.payload, one.sink.payload
        m.d.comb += [
            one.source.valid.eq(walk.vectors.valid & self.packets.valid),
            walk.vectors.ready.eq(self.packets.valid & one.source.ready),
            self.packets.ready.eq(walk.vectors.valid & one.source.ready),
            source.vector.carried.eq(self.packets.payload.words),
            source.product.eq(self.packets.payload.sequence * walk.program.sequence_stride),
            two.source.valid.eq(one.sink.valid),
            one.sink.ready.eq(two.source.ready),
            two.source.payload.eq(middle.vector),
            two.source.payload.address.eq(middle.vector.address + middle.product),
        ]
        m.d.comb += [
            getattr(source.vector, name).eq(getattr(step, name)) for name, _ in walk_layout(sizes)
        ]
        wiring.connect(m, two.sink, places.vectors)
