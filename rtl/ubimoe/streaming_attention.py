"""The streaming attention kernel."""

from typing import Any

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.rtl.ubimoe.attention_fifo import ReservedFifo
from headrace.rtl.ubimoe.attention_scores import AttentionScores
from headrace.rtl.ubimoe.attention_values import AttentionValues
from headrace.rtl.ubimoe.attention_walker import TOKEN_BITS, StepWalker

__all__ = ["StreamingAttention"]


class StreamingAttention(wiring.Component):
    """Softmax attention of all heads over one sequence per command (rules 2 and 3).

    Which lane meets which key when: `headrace.arch.ubimoe.streaming_attention`. Two parts take one
    beat per cycle each, with two FIFOs between them: scores, one word per step and head, and the
    maxima of the rows that ended. Part 2 may begin a head of a step when its scores are there, and
    its maximum if a row starts in that step; so it runs N - 1 steps behind part 1 and may catch up
    in between when part 1 had to wait. The results of a pass leave while the next one begins.

    Cycles from a command to its last result, when no stream waits:
    (S + N - 1) row_beats + head_beats + score_cycles + result_cycles.

    Memory: `scores_depth` words of lanes x 32 bits; per lane, in shift registers, a row of queries
    and a row of 32-bit sums.

    Parameters
    ----------
    sizes : StreamingAttentionSizes

    Attributes
    ----------
    command : In, stream
        `tokens`, N: lanes <= N <= max_tokens.
    queries : In, stream
        `dims` operands; N rows of row_beats, in order.
    keys, values : In, stream
        `dims` operands; S rows each, row s is token s mod N.
    results : Out, stream
        `dims` operands; N rows in order.
    """

    def __init__(self, sizes: StreamingAttentionSizes) -> None:
        self.sizes = sizes
        operands = stream.Signature(
            data.ArrayLayout(signed(sizes.formats.operand_bits), sizes.dims)
        )
        command = stream.Signature(data.StructLayout({"tokens": unsigned(TOKEN_BITS)}))
        super().__init__(
            {
                "command": In(command),
                "queries": In(operands),
                "keys": In(operands),
                "values": In(operands),
                "results": Out(operands),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        word = WIDE_BITS * sizes.lanes
        m.submodules.scores_fifo = scores = ReservedFifo(word, sizes.scores_depth)
        m.submodules.maxima_fifo = maxima = ReservedFifo(WIDE_BITS, sizes.maxima_depth)
        m.submodules.key_walker = key_walker = StepWalker(sizes)
        m.submodules.value_walker = value_walker = StepWalker(sizes)
        idle = ~key_walker.running & ~value_walker.running
        m.d.comb += self.command.ready.eq(idle)
        for walker in (key_walker, value_walker):
            m.d.comb += [
                walker.begin.eq(self.command.valid & idle),
                walker.tokens.eq(self.command.payload.tokens),
            ]
        self._part_1(m, key_walker, scores, maxima)
        self._part_2(m, value_walker, scores, maxima)
        return m

    def _part_1(
        self, m: Module, walker: StepWalker, scores: ReservedFifo, maxima: ReservedFifo
    ) -> None:
        """Build the way from queries and keys into the FIFOs."""
        m.submodules.part_1 = part = AttentionScores(self.sizes)
        starts, ends = walker.starts.any(), walker.ends.any()
        may_go, goes = Signal(), Signal()
        room = scores.room & (maxima.room | ~ends)
        m.d.comb += [
            may_go.eq(walker.running & (room | ~walker.first)),
            goes.eq(may_go & self.keys.valid & (self.queries.valid | ~starts)),
            self.keys.ready.eq(may_go & (self.queries.valid | ~starts)),
            self.queries.ready.eq(may_go & starts & self.keys.valid),
            walker.advance.eq(goes),
            scores.reserve.eq(goes & walker.first),
            maxima.reserve.eq(goes & walker.first & ends),
            part.valid.eq(goes),
            part.key.eq(self.keys.payload),
            part.query.eq(self.queries.payload),
            part.first.eq(walker.first),
            part.last.eq(walker.last),
            part.starts.eq(walker.starts),
            part.ends.eq(walker.ends),
            scores.write.eq(part.done),
            scores.word.eq(part.scores.as_value()),
            maxima.write.eq(part.row_done),
            maxima.word.eq(part.maximum),
        ]

    def _part_2(
        self, m: Module, walker: StepWalker, scores: ReservedFifo, maxima: ReservedFifo
    ) -> None:
        """Build the way from the FIFOs and the values to the results."""
        m.submodules.part_2 = part = AttentionValues(self.sizes)
        starts = walker.starts.any()
        may_go, goes = Signal(), Signal()
        ready = scores.available & (maxima.available | ~starts)
        m.d.comb += [
            part.enable.eq(self.results.ready | ~part.done),
            may_go.eq(walker.running & part.enable & ready),
            goes.eq(may_go & self.values.valid),
            self.values.ready.eq(may_go),
            walker.advance.eq(goes),
            scores.read.eq(goes),
            scores.pop.eq(goes & walker.last),
            maxima.read.eq(goes),
            maxima.pop.eq(goes & walker.last & starts),
            part.valid.eq(goes),
            part.value.eq(self.values.payload),
            part.last.eq(walker.last),
            part.head.eq(walker.head),
            part.starts.eq(walker.starts),
            part.ends.eq(walker.ends),
            part.scores.as_value().eq(scores.data),
            part.maximum.eq(maxima.data),
            self.results.valid.eq(part.done),
            self.results.payload.eq(part.result),
        ]
