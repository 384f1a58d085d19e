"""V-Rex's score alignment: rows of bfloat16 scores become 16-bit integers of one exponent."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.score_align import (
    EXP_CYCLES,
    ROWS_INSIDE,
    SCORE_BITS,
    TRANSFORMS,
    ScoreAlignSizes,
)
from headrace.rtl.vrex.datapath import held, unpacked
from headrace.rtl.vrex.exponential import ExponentialLane
from headrace.rtl.vrex.minimum import MinimumTree

__all__ = ["ScoreAlign"]

_MANTISSA = 7
_NOTHING = 0xFF80  # minus infinity, whose exponential is 0
_LEFT = 2 * _MANTISSA  # bits below a mantissa of 8 before the shift to the right


class ScoreAlign(wiring.Component):
    """Align the bfloat16 scores of every row, or their exponentials, to one exponent.

    Beats wait in a ring for the end of their row, when the exponent is known; a beat comes and a
    beat goes in every cycle. `ScoreAlignSizes.cycles` from a command to its last beat.

    Parameters
    ----------
    sizes : ScoreAlignSizes

    Attributes
    ----------
    command : stream
        `clusters` (16 bits), 1 to `max_clusters`; `rows` (16), at least 1; `transform` (2), a
        number in `TRANSFORMS`; `exp` needs the exponentials.
    scores : stream
        `lanes` bfloat16 scores; `rows` rows of `beats(clusters)` beats. Lanes of clusters that do
        not exist may hold anything.
    aligned : stream
        `lanes` signed integers of 16 bits, beat for beat; 0 where no cluster is.
    """

    def __init__(self, sizes: ScoreAlignSizes) -> None:
        self.sizes = sizes
        command = data.StructLayout(
            {"clusters": unsigned(16), "rows": unsigned(16), "transform": unsigned(2)}
        )
        self._scores = data.ArrayLayout(unsigned(SCORE_BITS), sizes.lanes)
        aligned = data.ArrayLayout(signed(SCORE_BITS), sizes.lanes)
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "scores": In(stream.Signature(self._scores)),
                "aligned": Out(stream.Signature(aligned)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        word = data.StructLayout({"scores": self._scores, "last": unsigned(1)})
        m.submodules.ring = ring = memory.Memory(shape=word, depth=self.sizes.memory_words, init=[])
        top = data.StructLayout(
            {"top": unsigned(9)}
            | ({"exp": unsigned(1), "largest": unsigned(SCORE_BITS)} if self.sizes.exp else {})
        )
        m.submodules.tops = tops = memory.Memory(shape=top, depth=ROWS_INSIDE, init=[])
        write, read = ring.write_port(), ring.read_port()
        pointer_bits = self.sizes.memory_words.bit_length()  # one more than an address has
        known, given = Signal(pointer_bits), Signal(pointer_bits)
        left = Signal()
        first, exp = self._take(m, write, given, left)
        self._find_top(m, write, first, exp, tops.write_port(), known)
        self._give(m, read, tops.read_port(domain="comb"), known, given, left)
        return m

    def _take(self, m: Module, write: Any, given: Value, left: Value) -> tuple[Value, Value]:
        """Write scores into the ring; return whether a row begins, and if it is exponential."""
        sizes = self.sizes
        command, scores = self.command, self.scores
        busy, relu, exp = Signal(), Signal(), Signal()
        rows, last_lane = Signal(16), Signal(sizes.lane_bits)
        word, last_word = Signal(sizes.word_bits), Signal(sizes.word_bits)
        taken, inside = Signal.like(given), Signal(range(ROWS_INSIDE + 1))
        last = write.data.last
        highest = (command.payload.clusters - 1)[: sizes.lane_bits + sizes.word_bits]
        m.d.comb += [
            command.ready.eq(~busy),
            scores.ready.eq(busy & ~(taken - given)[len(given) - 1] & (inside != ROWS_INSIDE)),
            last.eq(word == last_word),
            write.en.eq(scores.valid & scores.ready),
            write.addr.eq(taken),
        ]
        for lane in range(sizes.lanes):
            score = scores.payload[lane]
            exists = ~last | (last_lane >= lane) if lane else Const(1, 1)
            kept = exists & ~(relu & score[-1])
            m.d.comb += write.data.scores[lane].eq(Mux(kept, score, Mux(exp, _NOTHING, 0)))
        with m.If(command.valid & command.ready):
            m.d.sync += [
                busy.eq(1),
                relu.eq(command.payload.transform == TRANSFORMS.index("relu")),
                rows.eq(command.payload.rows),
                last_lane.eq(highest[: sizes.lane_bits]),
                last_word.eq(highest[sizes.lane_bits :]),
            ]
            if sizes.exp:
                m.d.sync += exp.eq(command.payload.transform == TRANSFORMS.index("exp"))
        ended = write.en & last
        m.d.sync += inside.eq(inside + ended - left)
        with m.If(write.en):
            m.d.sync += [taken.eq(taken + 1), word.eq(Mux(last, 0, word + 1))]
        with m.If(ended):
            m.d.sync += [rows.eq(rows - 1), busy.eq(rows != 1)]
        return word == 0, exp

    def _find_top(
        self, m: Module, write: Any, first: Value, exp: Value, top: Any, known: Signal
    ) -> None:
        """Note where every whole row ends, and its largest score or that one's exponent."""
        sizes = self.sizes
        m.submodules.tree = tree = MinimumTree(sizes.lanes, SCORE_BITS)
        for lane in range(sizes.lanes):
            # The largest magnitude, or number, is the lowest complement.
            score = write.data.scores[lane]
            magnitude = score[: SCORE_BITS - 1]
            m.d.comb += tree.terms[lane].eq(~Mux(exp & score[-1], -magnitude, magnitude))
        flags: Value = Cat(write.en, write.en & write.data.last, first, exp)
        for stage in range(sizes.tree_stages):
            later = Signal(4, name=f"flags_{stage}")
            m.d.sync += later.eq(flags)
            flags = later
        valid, last, first, exp = flags
        least, ended = Signal(signed(SCORE_BITS)), Signal()
        seen = Signal.like(known)
        m.d.sync += ended.eq(last)
        with m.If(valid):
            m.d.sync += seen.eq(seen + 1)
            with m.If(first | (tree.least < least)):
                m.d.sync += least.eq(tree.least)
        m.d.comb += [top.en.eq(ended), top.data.top.eq(self._top(m, ~least[: SCORE_BITS - 1]))]
        if sizes.exp:
            sign = ~least[-1]
            largest = Mux(sign, least + 1, ~least)[: SCORE_BITS - 1]
            of_row = Signal()
            m.d.sync += of_row.eq(exp)
            m.d.comb += [top.data.exp.eq(of_row), top.data.largest.eq(Cat(largest, sign))]
        with m.If(ended):
            m.d.sync += [known.eq(seen), top.addr.eq(top.addr + 1)]

    @staticmethod
    def _top(m: Module, largest: Value) -> Value:
        """Return by how much to shift mantissas of exponent 0 to the right, at least 1.

        That of the largest magnitude is then shifted to the highest bit, a subnormal one too.
        """
        top = Signal(9)
        m.d.comb += top.eq(1)
        for place in range(_MANTISSA):
            with m.If(largest[place]):
                m.d.comb += top.eq(1 + place)
        with m.If(largest[_MANTISSA:].any()):
            m.d.comb += top.eq(largest[_MANTISSA:] + _MANTISSA)
        return top

    def _give(
        self, m: Module, read: Any, top: Any, known: Value, given: Signal, left: Signal
    ) -> None:
        """Read the beats of whole rows and shift them; tell when the last one of a row leaves."""
        aligned = self.aligned
        there, go = Signal(self.sizes.read_cycles), Signal()
        lasts = Signal(self.sizes.read_cycles - 1)
        m.d.comb += [
            go.eq(~aligned.valid | aligned.ready),
            read.en.eq(go),
            read.addr.eq(given),
            aligned.valid.eq(there[-1]),
            left.eq(aligned.valid & aligned.ready & lasts[-1]),
        ]
        with m.If(go):
            m.d.sync += [
                given.eq(given + (known != given)),
                there.eq(Cat(known != given, there)),
                lasts.eq(Cat(read.data.last, lasts)),
                top.addr.eq(top.addr + (there[0] & read.data.last)),
            ]
        exp = self._later(m, go, top.data.exp, "exp", EXP_CYCLES - 1) if self.sizes.exp else None
        for lane in range(self.sizes.lanes):
            score = read.data.scores[lane]
            result = self._shift(m, go, score, top.data.top, lane)
            if exp is not None:
                m.submodules[f"exponential_{lane}"] = power = ExponentialLane()
                m.d.comb += [
                    power.enable.eq(go),
                    power.score.eq(score),
                    power.largest.eq(top.data.largest),
                ]
                result = self._later(m, go, result, f"aligned_{lane}", EXP_CYCLES - 2)
                result = Mux(exp, power.result, result)
            with m.If(go):
                m.d.sync += aligned.payload[lane].eq(result)

    @staticmethod
    def _later(m: Module, go: Value, value: Value, name: str, cycles: int) -> Value:
        for cycle in range(cycles):
            (value,) = held(m, go, f"{name}_{cycle}", value)
        return value

    @staticmethod
    def _shift(m: Module, go: Value, score: Value, top: Value, lane: int) -> Value:
        """Return a score in units of the row's exponent, a cycle later."""
        mantissa, exponent = unpacked(score)
        distance = (top - exponent)[:9]
        shift = distance[:5] | distance[5:].any().replicate(5)
        mantissa, shift, sign = held(m, go, f"distance_{lane}", mantissa, shift, score[-1])
        shifted = (Cat(Const(0, _LEFT), mantissa) >> shift)[: SCORE_BITS - 1]
        return Mux(sign, -shifted, shifted)
