"""A registered tree that finds the least of numbers."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.tree import TREE_LEVELS_PER_STAGE

__all__ = ["MinimumTree"]


class MinimumTree(wiring.Component):
    """Find the least of `count` signed numbers; registers are where `AdderTree` has them.

    Parameters
    ----------
    count : int
        Numbers, at least 1.
    width : int
        Bits of each.

    Attributes
    ----------
    terms : In
        The numbers.
    least : Out
        The least one, as many cycles later as the sum of an `AdderTree`.
    """

    def __init__(self, count: int, width: int) -> None:
        self.count = count
        self.width = width
        super().__init__(
            {
                "terms": In(data.ArrayLayout(signed(width), count)),
                "least": Out(signed(width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        terms = [self.terms[i] for i in range(self.count)]
        levels = ceil_log2(self.count)
        for level in range(levels):
            registered = level == levels - 1 or (level + 1) % TREE_LEVELS_PER_STAGE == 0
            nodes = []
            for pair in range(0, len(terms), 2):
                node = Signal(signed(self.width), name=f"least_{level}_{pair // 2}")
                one, other = terms[pair], terms[min(pair + 1, len(terms) - 1)]
                domain = m.d.sync if registered else m.d.comb
                domain += node.eq(Mux(other < one, other, one))
                nodes.append(node)
            terms = nodes
        m.d.comb += self.least.eq(terms[0])
        return m
