"""Rule 6 of docs/ubimoe-numerics.md: results of experts, weighted, onto the residual stream."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Const, Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import SCORE_BITS
from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.rtl.ubimoe.combine_rows import CombineRows
from headrace.rtl.ubimoe.product import split_product

__all__ = ["Combine"]

_PRODUCT_STAGES = 2


class Combine(wiring.Component):
    """Add the weighted results of the experts to the residual stream.

    The residual rows go into a memory, contributions are added there, then it is read: sums wrap,
    so their order is free. One beat per cycle in each of the three phases.

    Parameters
    ----------
    sizes : CombineSizes

    Attributes
    ----------
    command : In stream
        `tokens` (16 bits), N, 1 to max_tokens; `choices` (8), at least 1: rows for each token,
        top_k with experts, 1 otherwise.
    jobs : In stream
        `rows` (16), at least 1; N choices in all.
    rows : In stream
        `token` (16), `score` (23 bits, 22 fraction bits) of the jobs' rows. With the score 2^22 the
        contribution is `feature(value)`.
    values : In stream
        `dims` wide values, in the order of the linear kernel: job, group of `lanes` rows, beat,
        row.
    residual : In stream
        `dims` features, N rows of row_beats beats. Taken from the command on.
    results : Out stream
        `dims` features, N rows, in order.
    """

    def __init__(self, sizes: CombineSizes) -> None:
        self.sizes = sizes
        features = data.ArrayLayout(signed(sizes.formats.feature_bits), sizes.dims)
        command = data.StructLayout({"tokens": unsigned(16), "choices": unsigned(8)})
        job = data.StructLayout({"rows": unsigned(16)})
        row = data.StructLayout({"token": unsigned(16), "score": unsigned(SCORE_BITS)})
        values = data.ArrayLayout(signed(WIDE_BITS), sizes.dims)
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "jobs": In(stream.Signature(job)),
                "rows": In(stream.Signature(row)),
                "values": In(stream.Signature(values)),
                "residual": In(stream.Signature(features)),
                "results": Out(stream.Signature(features)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.memory = memory = Memory(
            shape=unsigned(sizes.memory_word_bits), depth=max(2, sizes.memory_words), init=[]
        )
        writer, reader = memory.write_port(), memory.read_port()
        m.submodules.queue = queue = CombineRows(sizes)
        wiring.connect(m, wiring.flipped(self.jobs), queue.jobs)
        wiring.connect(m, wiring.flipped(self.rows), queue.rows)
        adding, step = Signal(), Signal()
        full = Signal()  # a result is at the port, held by the memory
        busy = self._add(m, writer, reader, queue, adding)
        tokens = Signal(16)
        address, last = self._walk(m, tokens, step)
        m.d.comb += [
            queue.start.eq(self.command.valid & self.command.ready),
            queue.tokens.eq(self.command.payload.tokens),
            queue.choices.eq(self.command.payload.choices),
            self.results.valid.eq(full),
            self.results.payload.as_value().eq(reader.data),
        ]
        with m.If(self.results.ready):
            m.d.sync += full.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(~full | self.results.ready)
                with m.If(queue.start):
                    m.d.sync += tokens.eq(queue.tokens)
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += [
                    self.residual.ready.eq(1),
                    step.eq(self.residual.valid),
                    writer.en.eq(step),
                    writer.addr.eq(address),
                    writer.data.eq(self.residual.payload.as_value()),
                ]
                with m.If(step & last):
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.comb += adding.eq(1)
                with m.If(~queue.pending & ~busy):
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += [
                    step.eq(~full | self.results.ready),
                    reader.en.eq(step),
                    reader.addr.eq(address),
                ]
                with m.If(step):
                    m.d.sync += full.eq(1)
                    with m.If(last):
                        m.next = "IDLE"
        return m

    def _walk(self, m: Module, tokens: Signal, step: Signal) -> tuple[Signal, Any]:
        """Return the address of each beat in turn, token by token, and when it is the last."""
        sizes = self.sizes
        token = Signal(sizes.token_bits)
        beat = Signal(16)
        address = Signal(sizes.address_bits, name="address")
        end_of_row = beat == sizes.row_beats - 1
        last = end_of_row & (token + 1 == tokens)
        with m.If(step):
            m.d.sync += [beat.eq(beat + 1), address.eq(address + sizes.max_tokens)]
            with m.If(end_of_row):
                m.d.sync += [beat.eq(0), token.eq(token + 1), address.eq(token + 1)]
            with m.If(last):
                m.d.sync += [token.eq(0), address.eq(0)]
        return address, last

    def _add(self, m: Module, writer: Any, reader: Any, queue: CombineRows, adding: Signal) -> Any:
        """Multiply, read, add, write; return whether anything is before the write.

        Two beats in a row may belong to one word: the second one takes the first one's sum in
        place of what the memory still holds.
        """
        sizes, formats = self.sizes, self.sizes.formats
        take = self.values.valid & self.values.ready
        valid = Signal(4)
        addresses = [Signal(sizes.address_bits, name=f"address_{i}") for i in range(4)]
        score = Signal(SCORE_BITS, reset_less=True)
        repeated = Signal()
        m.d.comb += [self.values.ready.eq(adding & queue.there), queue.take.eq(take)]
        m.d.sync += [
            valid.eq(valid << 1 | take),
            score.eq(queue.score),
            addresses[0].eq(queue.address),
            *(after.eq(before) for before, after in pairwise(addresses)),
            repeated.eq(valid[3] & (addresses[3] == addresses[2])),
        ]
        # Unless told otherwise a read port reads; it must hold a result that waits at the port.
        m.d.comb += [reader.en.eq(valid[2]), reader.addr.eq(addresses[2])]
        bits = formats.feature_bits
        sums = []
        for i in range(sizes.dims):
            value = Signal(signed(WIDE_BITS), name=f"value_{i}", reset_less=True)
            product = split_product(m, value, score, _PRODUCT_STAGES, Const(1), f"product_{i}")
            contribution = Signal(signed(bits), name=f"contribution_{i}", reset_less=True)
            total = Signal(bits, name=f"sum_{i}")
            before = Signal(bits, name=f"sum_before_{i}", reset_less=True)
            stored = reader.data.word_select(i, bits)
            m.d.sync += [
                value.eq(self.values.payload[i]),
                contribution.eq(product >> (2 * WIDE_FRACTION - formats.feature_fraction)),
                before.eq(total),
            ]
            with m.If(repeated):
                m.d.comb += total.eq(before + contribution)
            with m.Else():
                m.d.comb += total.eq(stored + contribution)
            sums.append(total)
        with m.If(valid[3]):
            m.d.comb += [writer.en.eq(1), writer.addr.eq(addresses[3])]
            m.d.comb += [writer.data.word_select(i, bits).eq(v) for i, v in enumerate(sums)]
        return valid[:3].any()
