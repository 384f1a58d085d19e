"""The arithmetic of V-Rex's threshold unit: bounds, bucket, weights, decision."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.threshold import PRODUCT_STAGES, ThresholdSizes
from headrace.rtl.tree import AdderTree
from headrace.rtl.vrex.minimum import MinimumTree

__all__ = ["ThresholdLanes", "beat_layout", "count_layout", "score_layout"]


def beat_layout(sizes: ThresholdSizes) -> data.StructLayout:
    """Return the layout of what is known of a beat beside its scores and counts."""
    flags = dict.fromkeys(("valid", "filling", "first", "last", "final"), unsigned(1))
    return data.StructLayout({**flags, "place": unsigned(sizes.word_bits)})


def score_layout(sizes: ThresholdSizes) -> data.ArrayLayout:
    """Return the layout of a beat of scores."""
    return data.ArrayLayout(signed(sizes.score_bits), sizes.lanes)


def count_layout(sizes: ThresholdSizes) -> data.ArrayLayout:
    """Return the layout of a beat of counts."""
    return data.ArrayLayout(unsigned(sizes.count_bits), sizes.lanes)


class ThresholdLanes(wiring.Component):
    """Take the beats of a row's preprocess pass, then those of its buckets, and decide.

    A beat per cycle; never stands still. A bucket holds the scores s with
    ``low <= (s - min) * buckets < high``, where `low` falls by ``max - min`` with every bucket: the
    division in `min((s - min) * buckets // (max - min), buckets - 1)` without a divider.

    Parameters
    ----------
    sizes : ThresholdSizes

    Attributes
    ----------
    beat : In
        `valid`; `filling`, of the preprocess pass; `first` and `last` of that pass or `first` of
        all buckets and `last` of each one; `final`, of the lowest bucket; `place` of its word.
    scores, counts : In
        `lanes` scores and counts of the beat of the cycle before.
    last_lane : In
        The last lane with a cluster in `last` beats.
    share : In
        Threshold over weight of the row, `ratio_bits` fraction bits.
    bounded : Out(1)
        Beats of the highest bucket may come from the next cycle on.
    chosen, place : Out
        A bit per lane, and the word: clusters of a bucket that belongs to the choice.
    done : Out(1)
        The row is decided; all beats so far are forgotten.
    """

    def __init__(self, sizes: ThresholdSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "beat": In(beat_layout(sizes)),
                "scores": In(score_layout(sizes)),
                "counts": In(count_layout(sizes)),
                "last_lane": In(sizes.lane_bits),
                "share": In(sizes.ratio_bits + 1),
                "bounded": Out(1),
                "chosen": Out(sizes.lanes),
                "place": Out(sizes.word_bits),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        beats = self._beats(m)
        exists = Signal(sizes.lanes)
        m.d.comb += exists.eq(
            Cat(
                Const(1, 1),
                *(~beats[1].last | (self.last_lane >= i) for i in range(1, sizes.lanes)),
            )
        )
        lowest, width = self._range(m, beats, exists)
        low, high = self._bounds(m, beats, width)
        inside = Signal(sizes.lanes)
        m.submodules.tree = tree = AdderTree(sizes.lanes, sizes.weight_bits)
        there = _later(m, exists, 1, "exists")
        for lane in range(sizes.lanes):
            above = (self.scores[lane] - lowest)[: sizes.score_bits]
            scaled = _later(m, (above * sizes.buckets)[: sizes.bound_bits], 1, f"scaled{lane}")
            held = beats[2].filling | ((scaled >= low) & (scaled < high))
            m.d.comb += inside[lane].eq(there[lane] & held)
            score = _later(m, self.scores[lane], 1, f"score{lane}")
            score = _later(m, Mux(inside[lane], score, 0), 1, f"held{lane}")
            count = _later(m, self.counts[lane], 2, f"count{lane}")
            weight = _later(m, score * count, PRODUCT_STAGES, f"weight{lane}")
            m.d.comb += tree.terms[lane].eq(weight)
        chosen = _later(m, inside, sizes.decision_cycles - 2, "inside")
        self._decide(m, beats, tree.total, chosen)
        return m

    def _beats(self, m: Module) -> list[Any]:
        """Return what is known of the beats so many cycles ago."""
        beats: list[Any] = [self.beat]
        for stage in range(1, self.sizes.decision_cycles + 1):
            beat = Signal(beat_layout(self.sizes), name=f"beat_{stage}")
            m.d.sync += beat.eq(beats[-1])
            with m.If(self.done):
                m.d.sync += beat.valid.eq(0)
            beats.append(beat)
        return beats

    def _range(self, m: Module, beats: list[Any], exists: Value) -> tuple[Value, Value]:
        """Return the row's lowest score and, a cycle later, the highest one less that."""
        sizes = self.sizes
        bits, known = sizes.score_bits, beats[1 + sizes.tree_stages]
        most = (1 << bits - 1) - 1
        found = []
        # The highest one is found as the lowest complement.
        for name, turn in (("lowest", 0), ("highest", -1)):
            m.submodules[name] = tree = MinimumTree(sizes.lanes, bits)
            for lane in range(sizes.lanes):
                score = self.scores[lane] ^ turn
                m.d.comb += tree.terms[lane].eq(Mux(exists[lane], score, most))
            least = Signal(signed(bits), name=f"{name}_of_row", reset_less=True)
            with m.If(known.valid & known.filling & (known.first | (tree.least < least))):
                m.d.sync += least.eq(tree.least)
            found.append(least)
        m.d.comb += self.bounded.eq(known.valid & known.filling & known.last)
        lowest, complement = found
        return lowest, _later(m, (~complement - lowest)[:bits], 1, "width")

    def _bounds(self, m: Module, beats: list[Any], width: Value) -> tuple[Value, Value]:
        """Return the bounds of the bucket whose beats are two cycles old."""
        sizes = self.sizes
        low = Signal(sizes.bound_bits, reset_less=True)
        high = Signal(sizes.bound_bits, reset_less=True)
        known, walked = beats[3 + sizes.tree_stages], beats[2]
        with m.If(known.valid & known.filling & known.last):
            m.d.sync += [low.eq(width * (sizes.buckets - 1)), high.eq(-1)]
        with m.Elif(walked.last):
            m.d.sync += [low.eq(low - width), high.eq(low)]
        return low, high

    def _decide(self, m: Module, beats: list[Any], total: Value, chosen: Value) -> None:
        sizes = self.sizes
        added, decided = beats[sizes.decision_cycles - 1 :]
        running = Signal(signed(sizes.sum_bits), reset_less=True)
        with m.If(added.valid):
            m.d.sync += running.eq(Mux(added.first, 0, running) + total)

        limit = Signal(signed(sizes.sum_bits + sizes.ratio_bits + 1), reset_less=True)
        product = _later(m, running * self.share, 1, "product")
        summed = Signal()
        m.d.sync += summed.eq(decided.valid & decided.filling & decided.last)
        with m.If(summed):
            m.d.sync += limit.eq(product)

        counts, exceeds = Signal(), Signal()
        m.d.comb += [
            counts.eq(decided.valid & ~decided.filling & ~self.done),
            exceeds.eq((running << sizes.ratio_bits) > limit),
            self.chosen.eq(chosen & counts.replicate(sizes.lanes)),
            self.place.eq(decided.place),
        ]
        m.d.sync += self.done.eq(counts & decided.last & (exceeds | decided.final))


def _later(m: Module, value: Value, cycles: int, name: str) -> Value:
    """Return `value` as it was `cycles` cycles before."""
    for cycle in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{cycle + 1}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value
