"""Which lane has which bank: as many rounds as lanes of a vector share one."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.rtl.sn40l.vector_places import carrying, places_layout

__all__ = ["BankRounds", "chosen"]


class BankRounds(wiring.Component):
    """Give each bank the first of the lanes that want it, in every round, until all had theirs.

    Parameters
    ----------
    sizes : MemoryUnitSizes
    carried_bits : int

    Attributes
    ----------
    places : In stream
        `places_layout` with `carried`; taken with its last round.
    go : In(1)
        The banks serve in this cycle.
    round : Out(1)
        There is a vector whose lanes are served.
    final : Out(1)
        All of its lanes are, if the banks serve in this cycle.
    picks : Out
        For each bank the lane that it serves, one-hot, or 0.
    rows : Out
        For each bank the row.
    lanes : Out
        Lanes that are served.
    """

    def __init__(self, sizes: MemoryUnitSizes, carried_bits: int) -> None:
        self.sizes = sizes
        banks = sizes.banks
        places = carrying(places_layout(sizes), carried_bits)
        super().__init__(
            {
                "places": In(stream.Signature(places)),
                "go": In(1),
                "round": Out(1),
                "final": Out(1),
                "picks": Out(data.ArrayLayout(unsigned(banks), banks)),
                "rows": Out(data.ArrayLayout(unsigned(sizes.row_bits), banks)),
                "lanes": Out(banks),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        banks, item = self.sizes.banks, self.places.payload
        served, pending = Signal(banks), Signal(banks)
        m.d.comb += [
            pending.eq(Mux(self.places.valid, item.inside & ~served, 0)),
            self.round.eq(self.places.valid),
            self.final.eq(self.lanes == pending),
            self.places.ready.eq(self.go & self.final),
        ]
        for bank in range(banks):
            hits = Signal(banks, name=f"hits_{bank}")
            m.d.comb += [
                hits.eq(pending & Cat(item.banks[lane] == bank for lane in range(banks))),
                self.picks[bank].eq(hits & -hits),
                self.rows[bank].eq(chosen(self.picks[bank], item.rows)),
            ]
        m.d.comb += self.lanes.eq(
            Cat(Cat(self.picks[b][lane] for b in range(banks)).any() for lane in range(banks))
        )
        with m.If(self.places.valid & self.go):
            m.d.sync += served.eq(Mux(self.final, 0, served | self.lanes))
        return m


def chosen(pick: Any, values: Any) -> Any:
    """Return the value whose bit in `pick` is 1, or 0."""
    value = Mux(pick[0], values[0], 0)
    for number in range(1, len(pick)):
        value = value | Mux(pick[number], values[number], 0)
    return value
