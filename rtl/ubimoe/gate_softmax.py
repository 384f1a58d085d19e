"""Softmax over the experts' scores and the choice of the best."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.arch.ubimoe.functions import RECIPROCAL_BITS
from headrace.arch.ubimoe.gate import (
    EXPONENTIAL_TIME,
    PRODUCT_STAGES,
    RECIPROCAL_TIME,
    SUM_TIME,
    TURN,
    GateSizes,
)
from headrace.rtl.ubimoe.dispatch import choices_layout
from headrace.rtl.ubimoe.functions import Exponential, Reciprocal
from headrace.rtl.ubimoe.pipeline import delayed
from headrace.rtl.ubimoe.product import split_product

__all__ = ["GateSoftmax"]

ONE = 1 << WIDE_FRACTION
SUM_BITS = 31
LOWEST = -(1 << (WIDE_BITS - 1))
TOP_TIME = 2  # from the choice of a score to the list of the best with it


class GateSoftmax(wiring.Component):
    """Choose the best of a token's scores and give their probabilities.

    One exponential, one multiplier and one divider. The scores are taken one by one, `TURN` cycles
    each, with a running maximum and a sum that is scaled when the maximum grows; then the
    exponentials of the chosen ones are computed once more, from the final maximum, while the sum
    is divided.

    Parameters
    ----------
    sizes : GateSizes

    Attributes
    ----------
    valid, expert, score : In
        Write a score; those of a token in order, in consecutive cycles.
    reserve : In(1)
        The scores of a token will come: there is no room for others.
    room : Out(1)
        There is room for the scores of a token.
    choices : Out stream
        As in `Gate`.
    """

    def __init__(self, sizes: GateSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "valid": In(1),
                "expert": In(sizes.expert_bits),
                "score": In(signed(WIDE_BITS)),
                "reserve": In(1),
                "room": Out(1, init=1),
                "choices": Out(stream.Signature(choices_layout(sizes.top_k))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.scores = scores = Memory(
            shape=signed(WIDE_BITS),
            depth=max(2, sizes.experts),
            init=[],
            attrs={"ram_style": "distributed"},
        )
        writer, reader = scores.write_port(), scores.read_port(domain="comb")
        waiting, begin, turn = Signal(), Signal(), Signal()
        phase, time = Signal(range(TURN)), Signal(range(RECIPROCAL_TIME + PRODUCT_STAGES + 32))
        expert = Signal(sizes.expert_bits, name="turn_expert")
        m.d.comb += [
            writer.en.eq(self.valid),
            writer.addr.eq(self.expert),
            writer.data.eq(self.score),
            reader.addr.eq(expert),
        ]
        with m.If(self.reserve):
            m.d.sync += self.room.eq(0)
        with m.If(self.valid & (self.expert == 0)):
            m.d.sync += waiting.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += begin.eq(waiting)
                with m.If(waiting):
                    m.d.sync += [waiting.eq(0), expert.eq(0), phase.eq(0), time.eq(0)]
                    m.next = "SCORES"
            with m.State("SCORES"):
                m.d.comb += turn.eq(phase == 0)
                m.d.sync += phase.eq(phase + 1)
                with m.If(phase == TURN - 1):
                    m.d.sync += [phase.eq(0), expert.eq(expert + 1)]
                with m.If(turn & (expert == sizes.experts - 1)):
                    m.d.sync += [self.room.eq(1), time.eq(1)]
                    m.next = "CHOICES"
            with m.State("CHOICES"):
                m.d.sync += time.eq(time + 1)
                with m.If(time == RECIPROCAL_TIME + PRODUCT_STAGES + sizes.top_k - 1):
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += self.choices.valid.eq(1)
                with m.If(self.choices.ready):
                    m.next = "IDLE"
        self._compute(m, begin, turn, expert, reader.data, time)
        return m

    def _compute(
        self, m: Module, begin: Signal, turn: Signal, expert: Signal, new: Value, time: Signal
    ) -> None:
        """Follow one score per turn, and the chosen ones afterwards, through the pipelines."""
        turns = Signal(SUM_TIME)  # bit i: a score was chosen i + 1 cycles ago
        score = Signal(signed(WIDE_BITS), reset_less=True)
        number = Signal.like(expert, name="number")
        maximum = Signal(signed(WIDE_BITS))
        difference = Signal(signed(WIDE_BITS + 1), reset_less=True)
        grew = Signal(SUM_TIME)  # bit i: the score chosen i + 2 cycles ago was a new maximum
        grows = score > maximum
        best = self._insert(m, begin, turns[0], score, number)
        chosen = Array(best)[(time - TOP_TIME)[: max(1, (self.sizes.top_k - 1).bit_length())]]
        m.submodules.exponential = exponential = Exponential()
        m.d.comb += [
            exponential.enable.eq(1),
            exponential.argument.eq(Mux(difference < 0, -difference, difference)[: WIDE_BITS + 1]),
        ]
        m.d.sync += [
            turns.eq(Cat(turn, turns)),
            score.eq(Mux(turn, new, chosen)),
            number.eq(expert),
            difference.eq(score - maximum),
            grew.eq(Cat(grows, grew)),
        ]
        with m.If(turns[0] & grows):
            m.d.sync += maximum.eq(score)
        with m.If(begin):
            m.d.sync += maximum.eq(LOWEST)
        self._sum(m, begin, turns[SUM_TIME - 2], grew[SUM_TIME - 3], exponential.result, time)

    def _insert(
        self, m: Module, begin: Signal, there: Value, score: Signal, number: Signal
    ) -> list[Signal]:
        """Keep the best scores in order; an equal one stays behind. Return them."""
        ranks = range(self.sizes.top_k)
        used = Signal(self.sizes.top_k)
        best = [Signal(signed(WIDE_BITS), name=f"best_{i}", reset_less=True) for i in ranks]
        experts = [Signal(8, name=f"best_expert_{i}", reset_less=True) for i in ranks]
        beats = Signal(self.sizes.top_k)
        m.d.comb += [beats[i].eq(~used[i] | (score > best[i])) for i in ranks]
        m.d.comb += [self.choices.payload[i].expert.eq(experts[i]) for i in ranks]
        with m.If(there):
            m.d.sync += used.eq(used << 1 | 1)
            for i in ranks:
                with m.If(beats[i]):
                    m.d.sync += [best[i].eq(score), experts[i].eq(number)]
                if i:
                    with m.If(beats[i - 1]):
                        m.d.sync += [best[i].eq(best[i - 1]), experts[i].eq(experts[i - 1])]
        with m.If(begin):
            m.d.sync += used.eq(0)
        return best

    def _sum(
        self,
        m: Module,
        begin: Signal,
        update: Value,
        scaled: Value,
        exponential: Value,
        time: Signal,
    ) -> None:
        """Sum up the exponentials; then multiply the chosen ones with the reciprocal."""
        top_k = self.sizes.top_k
        total = Signal(SUM_BITS)
        m.submodules.reciprocal = reciprocal = Reciprocal()
        m.d.comb += [reciprocal.enable.eq(1), reciprocal.argument.eq(total)]

        def within(start: int) -> Value:
            return (time >= start) & (time < start + top_k)

        kept = [Signal(len(exponential), name=f"exponential_{i}") for i in range(top_k)]
        giving = within(RECIPROCAL_TIME)
        always = Const(1)
        product = split_product(
            m,
            Mux(giving, kept[0], total),
            Mux(giving, reciprocal.result, exponential),
            PRODUCT_STAGES,
            always,
            "product",
        )
        added = delayed(m, exponential, PRODUCT_STAGES, always, "added")
        high = product >> WIDE_FRACTION
        with m.If(update):
            m.d.sync += total.eq(Mux(scaled, high + ONE, total + added))
        with m.If(begin):
            m.d.sync += total.eq(0)

        # The exponentials of the chosen scores come one per cycle and leave in the same order.
        first = TOP_TIME + EXPONENTIAL_TIME
        with m.If(within(first) | giving):
            m.d.sync += Cat(kept).eq(Cat(*kept[1:], exponential))
        probabilities = [Signal(RECIPROCAL_BITS, name=f"probability_{i}") for i in range(top_k)]
        with m.If(within(RECIPROCAL_TIME + PRODUCT_STAGES)):
            m.d.sync += Cat(probabilities).eq(Cat(*probabilities[1:], high[:RECIPROCAL_BITS]))
        m.d.comb += [self.choices.payload[i].score.eq(p) for i, p in enumerate(probabilities)]
