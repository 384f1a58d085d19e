"""Which row a beat of the linear kernel's results belongs to."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import SCORE_BITS

__all__ = ["CombineRows"]


class CombineRows(wiring.Component):
    """Hold the rows of a group while its values come, and read those of the next one.

    Two banks of `lanes` entries {token, score, last of the group}, written one per cycle from
    `rows` without a pause between jobs. A bank is left when its last row had its last beat.

    Parameters
    ----------
    sizes : CombineSizes

    Attributes
    ----------
    jobs, rows : In streams
        As in `Combine`.
    start, tokens, choices : In(1), In(16), In(8)
        Begin; tokens x choices rows follow.
    take : In(1)
        The present beat is used. Only while `there`.
    there : Out(1)
        The row of the present beat is known.
    address, score : Out
        The present beat's word of the memory, and its row's score.
    pending : Out(1)
        Rows or beats are to come.
    """

    def __init__(self, sizes: CombineSizes) -> None:
        self.sizes = sizes
        job = data.StructLayout({"rows": unsigned(16)})
        row = data.StructLayout({"token": unsigned(16), "score": unsigned(SCORE_BITS)})
        super().__init__(
            {
                "jobs": In(stream.Signature(job)),
                "rows": In(stream.Signature(row)),
                "start": In(1),
                "tokens": In(16),
                "choices": In(8),
                "take": In(1),
                "there": Out(1),
                "address": Out(sizes.address_bits),
                "score": Out(SCORE_BITS),
                "pending": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        bits = self.sizes.lane_bits
        entry = data.StructLayout(
            {
                "token": unsigned(self.sizes.token_bits),
                "score": unsigned(SCORE_BITS),
                "last": unsigned(1),
            }
        )
        m.submodules.entries = entries = Memory(
            shape=entry, depth=2 << bits, init=[], attrs={"ram_style": "distributed"}
        )
        loaded = Signal(2 << bits)  # entries that were written
        full = Signal(2)  # banks with a whole group
        wanted = self._load(m, entries.write_port(), loaded, full)
        self._use(m, entries.read_port(domain="comb"), loaded, full)
        m.d.comb += self.pending.eq(wanted | full.any())
        return m

    def _load(self, m: Module, writer: Any, loaded: Signal, full: Signal) -> Any:
        """Take jobs and their rows; return whether rows are still to come."""
        sizes = self.sizes
        tokens, tokens_left, choices_left = Signal(16), Signal(16), Signal(8)
        job_left = Signal(16)
        bank, lane = Signal(name="load_bank"), Signal(sizes.lane_bits, name="load_lane")
        wanted = choices_left.any()
        end_of_job = job_left == 1
        end_of_all = (tokens_left == 1) & (choices_left == 1)
        end_of_group = (lane == sizes.lanes - 1) | end_of_job
        take = self.rows.valid & self.rows.ready
        place = Cat(lane, bank)
        m.d.comb += [
            self.rows.ready.eq(wanted & job_left.any() & ~full.bit_select(bank, 1)),
            self.jobs.ready.eq(wanted & ((job_left == 0) | (end_of_job & take & ~end_of_all))),
            writer.en.eq(take),
            writer.addr.eq(place),
            writer.data.token.eq(self.rows.payload.token),
            writer.data.score.eq(self.rows.payload.score),
            writer.data.last.eq(end_of_group),
        ]
        with m.If(self.start):
            m.d.sync += [
                tokens.eq(self.tokens),
                tokens_left.eq(self.tokens),
                choices_left.eq(self.choices),
            ]
        with m.If(take):
            m.d.sync += [
                loaded.bit_select(place, 1).eq(1),
                lane.eq(lane + 1),
                job_left.eq(job_left - 1),
                tokens_left.eq(tokens_left - 1),
            ]
            with m.If(end_of_group):
                m.d.sync += [lane.eq(0), bank.eq(~bank), full.bit_select(bank, 1).eq(1)]
            with m.If(tokens_left == 1):
                m.d.sync += [tokens_left.eq(tokens), choices_left.eq(choices_left - 1)]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += job_left.eq(self.jobs.payload.rows)
        return wanted

    def _use(self, m: Module, reader: Any, loaded: Signal, full: Signal) -> None:
        """Go through a group's rows once for each beat of a row."""
        sizes = self.sizes
        words = 1 << sizes.lane_bits
        bank, lane = Signal(name="use_bank"), Signal(sizes.lane_bits, name="use_lane")
        beat = Signal(16)
        base = Signal(sizes.address_bits)  # beat x max_tokens
        place = Cat(lane, bank)
        m.d.comb += [
            reader.addr.eq(place),
            self.there.eq(loaded.bit_select(place, 1)),
            self.address.eq(base + reader.data.token),
            self.score.eq(reader.data.score),
        ]
        with m.If(self.take):
            m.d.sync += lane.eq(lane + 1)
            with m.If(reader.data.last):
                m.d.sync += [lane.eq(0), beat.eq(beat + 1), base.eq(base + sizes.max_tokens)]
                with m.If(beat == sizes.row_beats - 1):
                    m.d.sync += [beat.eq(0), base.eq(0), bank.eq(~bank)]
                    m.d.sync += [
                        full.bit_select(bank, 1).eq(0),
                        loaded.word_select(bank, words).eq(0),
                    ]
