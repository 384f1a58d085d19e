"""A registered adder tree."""

from typing import Any

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.tree import TREE_LEVELS_PER_STAGE

__all__ = ["AdderTree"]


class AdderTree(wiring.Component):
    """Add `count` signed numbers, exactly.

    A register follows every second level and the last one: the sum of cycle t's numbers is there
    in cycle t + ceil(ceil(log2 count) / 2). One sum per cycle.

    Parameters
    ----------
    count : int
        Numbers to add, at least 1.
    width : int
        Bits of each.

    Attributes
    ----------
    terms : In
        The numbers.
    total : Out
        Their sum, `width` + ceil(log2 count) bits.
    """

    def __init__(self, count: int, width: int) -> None:
        self.count = count
        self.width = width
        self.levels = ceil_log2(count)
        super().__init__(
            {
                "terms": In(data.ArrayLayout(signed(width), count)),
                "total": Out(signed(width + self.levels)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        terms = [self.terms[i] for i in range(self.count)]
        for level in range(self.levels):
            last = level == self.levels - 1
            registered = last or (level + 1) % TREE_LEVELS_PER_STAGE == 0
            sums = []
            for pair in range(0, len(terms), 2):
                node = Signal(signed(self.width + level + 1), name=f"sum_{level}_{pair // 2}")
                domain = m.d.sync if registered else m.d.comb
                domain += node.eq(sum(terms[pair + 1 : pair + 2], terms[pair]))
                sums.append(node)
            terms = sums
        m.d.comb += self.total.eq(terms[0])
        return m
