"""V-Rex's mean keys: those of clusters that tokens join, moved by the tokens' keys."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.mean_key import COUNT_BITS, MeanKeySizes
from headrace.rtl.vrex.datapath import normalised
from headrace.rtl.vrex.mean_lane import MeanLane

__all__ = ["MeanKey"]

_COUNT_NORMAL = 4  # enabled cycles from a beat to its count without leading zeros


class MeanKey(wiring.Component):
    """Move mean keys: ((count - 1) * mean + key) / count, exact, rounded once to bfloat16.

    A beat per cycle. `MeanKeySizes.cycles` from the first count to the last beat.

    Parameters
    ----------
    sizes : MeanKeySizes

    Attributes
    ----------
    counts : stream
        16 bits; for every token, the keys of its cluster, itself included, at least 1.
    keys : stream
        `lanes` bfloat16 coordinates, `beats` beats for every token.
    means : stream
        The same of its cluster's mean key; none for a token with a count of 1.
    moved : stream
        The same of the mean key with the token; the key itself with a count of 1.
    """

    def __init__(self, sizes: MeanKeySizes) -> None:
        self.sizes = sizes
        beat = data.ArrayLayout(unsigned(16), sizes.lanes)
        super().__init__(
            {
                "counts": In(stream.Signature(unsigned(COUNT_BITS))),
                "keys": In(stream.Signature(beat)),
                "means": In(stream.Signature(beat)),
                "moved": Out(stream.Signature(beat)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        count, fresh, go = Signal(COUNT_BITS), Signal(), Signal()
        m.d.comb += [fresh.eq(count == 1), go.eq(~self.moved.valid | self.moved.ready)]
        taken = self._take(m, count, fresh, go)
        valid = self._track(m, taken, go, "valid", sizes.latency, reset_less=False)
        m.d.comb += self.moved.valid.eq(valid[-1])

        counts = self._track(m, count, go, "count", _COUNT_NORMAL - 1)
        divisor, zeros = normalised(m, counts[-1], "count")
        ((zeros, *_), divisors) = (
            self._track(m, zeros, go, "zeros", 1),
            self._track(m, divisor, go, "divisor", 1 + sizes.division_stages),
        )
        for number in range(sizes.lanes):
            m.submodules[f"lane_{number}"] = lane = MeanLane(sizes)
            m.d.comb += [
                lane.enable.eq(go),
                lane.key.eq(self.keys.payload[number]),
                lane.mean.eq(self.means.payload[number]),
                lane.fresh.eq(fresh),
                lane.factor.eq(counts[0] - 1),
                lane.zeros.eq(zeros),
                lane.divisors.eq(Cat(divisors[1:])),
                self.moved.payload[number].eq(lane.moved),
            ]
        return m

    def _take(self, m: Module, count: Signal, fresh: Value, go: Value) -> Value:
        """Take counts and beats; return whether a beat is taken."""
        busy, taken, last = Signal(), Signal(), Signal()
        beat = Signal(range(max(2, self.sizes.beats)))
        m.d.comb += [
            taken.eq(busy & go & self.keys.valid & (self.means.valid | fresh)),
            self.keys.ready.eq(busy & go & (self.means.valid | fresh)),
            self.means.ready.eq(busy & go & self.keys.valid & ~fresh),
            last.eq(taken & (beat == self.sizes.beats - 1)),
            self.counts.ready.eq(~busy | last),
        ]
        with m.If(taken):
            m.d.sync += beat.eq(beat + 1)
        with m.If(last):
            m.d.sync += [beat.eq(0), busy.eq(0)]
        with m.If(self.counts.valid & self.counts.ready):
            m.d.sync += [count.eq(self.counts.payload), busy.eq(1)]
        return taken

    @staticmethod
    def _track(
        m: Module, value: Value, go: Value, name: str, stages: int, *, reset_less: bool = True
    ) -> list[Value]:
        """Return the value of 1 to `stages` enabled cycles before."""
        track = [value]
        for stage in range(stages):
            register = Signal(value.shape(), name=f"{name}_{stage + 1}", reset_less=reset_less)
            with m.If(go):
                m.d.sync += register.eq(track[-1])
            track.append(register)
        return track[1:]
