"""The nearest of many hash codes: XOR, popcount, running minimum."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.hash_cluster import HashClusterSizes

__all__ = ["NearestCode"]


def _ones(bits: Value) -> Value:
    """Return the number of ones, by a tree of adders."""
    terms: Sequence[Any] = list(bits)
    while len(terms) > 1:
        terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
    return Value.cast(terms[0])


class NearestCode(wiring.Component):
    """Compare a code with groups of clusters and keep the nearest, the oldest of equals.

    A group takes `beats` cycles in a row, `lanes` bits of every code per cycle. The minimum has a
    group two cycles after its last beat: distances are registered, then compared.

    Parameters
    ----------
    sizes : HashClusterSizes

    Attributes
    ----------
    start : In
        Forget the minimum; not within two cycles after a beat.
    active : In
        A beat is there.
    beat : In
        Its number, from 0.
    code : In
        The token's code.
    codes : In
        Codes of the group, one for each accumulator.
    group : In
        Number of the group.
    clusters : In
        Clusters in all; those of a group with higher numbers do not exist.
    distance : Out
        Of the nearest cluster, all ones without any.
    nearest : Out
        Its number.
    """

    def __init__(self, sizes: HashClusterSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "start": In(1),
                "active": In(1),
                "beat": In(range(max(2, sizes.beats))),
                "code": In(sizes.code_bits),
                "codes": In(data.ArrayLayout(unsigned(sizes.code_bits), sizes.accumulators)),
                "group": In(sizes.cluster_bits),
                "clusters": In(sizes.cluster_bits),
                "distance": Out(sizes.distance_bits),
                "nearest": Out(sizes.cluster_bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        none = (1 << sizes.distance_bits) - 1
        compared = Signal()
        m.d.sync += compared.eq(self.active & (self.beat == sizes.beats - 1))
        candidates = [self._candidate(m, lane, none) for lane in range(sizes.accumulators)]
        level = 0
        while len(candidates) > 1:
            pairs = zip(candidates[::2], candidates[1::2], strict=True)
            candidates = [
                self._smaller(m, one, other, f"{level}_{i}") for i, (one, other) in enumerate(pairs)
            ]
            level += 1
        distance, number = candidates[0]
        with m.If(self.start):
            m.d.sync += self.distance.eq(none)
        with m.Elif(compared & (distance < self.distance)):
            m.d.sync += [self.distance.eq(distance), self.nearest.eq(number)]
        return m

    def _candidate(self, m: Module, lane: int, none: int) -> tuple[Value, Value]:
        """Return distance and number of a lane's cluster in the cycle after its last beat."""
        sizes = self.sizes
        differing = Signal(sizes.code_bits, name=f"differing_{lane}")
        part = Signal(sizes.lanes, name=f"part_{lane}")
        m.d.comb += differing.eq(self.code ^ self.codes[lane])
        with m.Switch(self.beat):
            for beat in range(sizes.beats):
                with m.Case(beat):
                    m.d.comb += part.eq(differing[beat * sizes.lanes :][: sizes.lanes])
        total = Signal(sizes.distance_bits, name=f"total_{lane}")
        cluster = Cat(Const(lane, sizes.lane_bits), self.group)
        number = Signal(sizes.cluster_bits, name=f"number_{lane}")
        exists = Signal(name=f"exists_{lane}")
        m.d.sync += [
            total.eq(Mux(self.beat == 0, 0, total) + _ones(part)),
            number.eq(cluster),
            exists.eq(cluster < self.clusters),
        ]
        return Mux(exists, total, none), number

    @staticmethod
    def _smaller(
        m: Module, one: tuple[Value, Value], other: tuple[Value, Value], name: str
    ) -> tuple[Value, Value]:
        """Return the pair with the smaller distance, the first one of equals."""
        distance = Signal.like(one[0], name=f"distance_{name}")
        number = Signal.like(one[1], name=f"number_{name}")
        with m.If(other[0] < one[0]):
            m.d.comb += [distance.eq(other[0]), number.eq(other[1])]
        with m.Else():
            m.d.comb += [distance.eq(one[0]), number.eq(one[1])]
        return distance, number
