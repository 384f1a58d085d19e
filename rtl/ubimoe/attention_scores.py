"""Part 1 of the streaming attention: scores and the rows' maxima."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.rtl.ubimoe.attention_parts import Ring, delayed_flags, one_of, wide, wrapping_sum
from headrace.rtl.ubimoe.pipeline import delayed

__all__ = ["AttentionScores"]


class AttentionScores(wiring.Component):
    """Multiply every lane's query row with the keys, and keep the largest score of each head.

    A rigid pipeline that always runs, one beat per cycle: the scores of a head whose last beat
    came in cycle t are there in cycle t + `score_cycles` - 1. Per lane and beat
    ``t = sum((q * k) >> (2 of - 22))`` over the `dims` operands, wrapped to 32 bits; the score is
    the sum of ``t >> scale_shift`` over the head's beats, wrapped.

    Multiplications per cycle: lanes x dims, operand by operand.

    Parameters
    ----------
    sizes : StreamingAttentionSizes

    Attributes
    ----------
    valid : In(1)
        There is a beat; the next inputs are its own.
    key, query : In
        `dims` operands; of `query` only in a step in which a row starts.
    first, last, starts, ends : In
        Its place, as `StepWalker` tells it.
    done : Out(1)
        The scores of a head are there.
    scores : Out
        One of 32 bits per lane, 22 of them fraction.
    row_done : Out(1)
        With `done`: one of the rows ends.
    maximum : Out(signed(32))
        Its largest score of this head.
    """

    def __init__(self, sizes: StreamingAttentionSizes) -> None:
        self.sizes = sizes
        operands = data.ArrayLayout(signed(sizes.formats.operand_bits), sizes.dims)
        super().__init__(
            {
                "valid": In(1),
                "key": In(operands),
                "query": In(operands),
                "first": In(1),
                "last": In(1),
                "starts": In(unsigned(sizes.lanes)),
                "ends": In(unsigned(sizes.lanes)),
                "done": Out(1),
                "scores": Out(data.ArrayLayout(signed(WIDE_BITS), sizes.lanes)),
                "row_done": Out(1),
                "maximum": Out(signed(WIDE_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        lanes = sizes.lanes
        track = delayed_flags(
            m,
            self.valid,
            Cat(self.first, self.last, self.starts, self.ends),
            sizes.score_cycles - 1,
            Const(1),
            "beat",
        )
        key = Signal.like(self.key.as_value(), reset_less=True)
        m.d.sync += key.eq(self.key.as_value())
        valid, flags = track[-1]
        done = valid & flags[1]
        starts, ends = flags[2 : 2 + lanes], flags[2 + lanes :]
        maxima = []
        for lane in range(lanes):
            score = self._score(m, lane, key, *track[-2])
            ring = Ring(m, WIDE_BITS, sizes.heads, f"maxima_{lane}")
            before = ring.oldest.as_signed()
            largest = Signal(signed(WIDE_BITS), name=f"largest_{lane}")
            m.d.comb += [
                self.scores[lane].eq(score),
                largest.eq(Mux(starts[lane] | (score > before), score, before)),
            ]
            ring.push(largest.as_unsigned(), done)
            maxima.append(largest)
        m.d.comb += [
            self.done.eq(done),
            self.row_done.eq(done & ends.any()),
            self.maximum.eq(one_of(ends, maxima)),
        ]
        return m

    def _score(self, m: Module, lane: int, key: Value, valid: Value, flags: Value) -> Value:
        """Build one lane; `valid` and `flags` are those of the beat about to be added."""
        sizes = self.sizes
        bits = sizes.formats.operand_bits
        row = Ring(m, bits * sizes.dims, sizes.row_beats, f"queries_{lane}")
        row.push(Mux(self.starts[lane], self.query.as_value(), row.oldest), self.valid)
        terms = []
        for dim in range(sizes.dims):
            place = slice(dim * bits, (dim + 1) * bits)
            product = row.newest[place].as_signed() * key[place].as_signed()
            name = f"product_{lane}_{dim}"
            product = delayed(m, product, sizes.score_product_stages, Const(1), name)
            terms.append(wide(_shifted(product.as_signed(), sizes.formats.score_shift)))
        total = wrapping_sum(m, terms, f"sum_{lane}")
        scaled = wide(total) >> sizes.scale_shift
        score = Signal(signed(WIDE_BITS), name=f"score_{lane}", reset_less=True)
        with m.If(valid):
            m.d.sync += score.eq(Mux(flags[0], 0, score) + scaled)
        return score


def _shifted(value: Value, shift: int) -> Value:
    """Return a signed value shifted to the right, or to the left if `shift` is negative."""
    return value >> shift if shift >= 0 else value << -shift
