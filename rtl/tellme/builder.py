"""Builds the tables of a row block, one entry of each per cycle."""

from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.tellme.engine import EngineSizes
from headrace.arch.tellme.packing import index_patterns
from headrace.rtl.tellme.reader import ACTIVATION_BITS

__all__ = ["BUILD_LATENCY_CYCLES", "TableBuilder"]

BUILD_LATENCY_CYCLES = 2  # signs out of the ROM, sum


class TableBuilder(wiring.Component):
    """Sum G activations with the signs of an index, for all T tables at once.

    The entry asked for in cycle t is written in cycle t + 2; one entry of every table per cycle.
    A row needs `build_cycles` of them, (3^G - 1)/2 for the half table and 3^G - 1 for the full
    one: entry 0 is zero and never written.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    inputs : In
        The row's activations; they must not change before cycle t + 2.
    enable, index, half : In
        Build entry `index` of table set `half`.
    write, write_index, write_half, entries : Out
        Write port of the tables; one signed entry of `entry_bits` for each of the T tables.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        self.index_width = sizes.build_cycles.bit_length()
        super().__init__(
            {
                "inputs": In(data.ArrayLayout(signed(ACTIVATION_BITS), sizes.block_inputs)),
                "enable": In(1),
                "index": In(self.index_width),
                "half": In(1),
                "write": Out(1),
                "write_index": Out(self.index_width),
                "write_half": Out(1),
                "entries": Out(data.ArrayLayout(signed(sizes.entry_bits), sizes.tables)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes, group = self.sizes, self.sizes.group_size
        nonzero, minus = Signal(group), Signal(group)
        index, half, valid = Signal(self.index_width), Signal(), Signal()
        patterns = index_patterns(group)[: sizes.build_cycles + 1]
        m.d.sync += [
            nonzero.eq(_rom(patterns != 0, self.index)),
            minus.eq(_rom(patterns < 0, self.index)),
            index.eq(self.index),
            half.eq(self.half),
            valid.eq(self.enable),
            self.write.eq(valid),
            self.write_index.eq(index),
            self.write_half.eq(half),
        ]
        for table in range(sizes.tables):
            terms = [
                signed_term(self.inputs[table * group + g], nonzero[g], minus[g])
                for g in range(group)
            ]
            m.d.sync += self.entries[table].eq(sum(terms[1:], terms[0]))
        return m


def signed_term(value: Any, nonzero: Any, minus: Any) -> Any:
    """Return +value, -value or 0, as an expression one bit wider than `value`."""
    flipped = value.as_unsigned() ^ minus.replicate(len(value))
    return Mux(nonzero, flipped.as_signed() + minus, 0)


def _rom(flags: Any, index: Any) -> Any:
    words = [sum(int(bit) << g for g, bit in enumerate(row)) for row in flags]
    return Array([Const(word, unsigned(flags.shape[1])) for word in words])[index]
