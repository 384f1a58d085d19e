"""The lookup array: T values for each of Q outputs and cycle."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.tellme.engine import EngineSizes
from headrace.arch.tellme.packing import index_patterns
from headrace.rtl.tellme.builder import signed_term
from headrace.rtl.tellme.reader import ACTIVATION_BITS

__all__ = ["SelectArray", "TableArray"]


class TableArray(wiring.Component):
    """Look vectors up in tables (methods ``full`` and ``half``).

    Indices of cycle t are decoded into registers at its end, looked up in cycle t + 1 and their
    values are in `values` in cycle t + 2. Q vectors per cycle. A table is one LUT RAM with one
    write and Q read ports of which synthesis makes the Q copies; a second set of tables is the
    upper half of the address space. For ``half``, index i above h = (3^G - 1)/2 is minus entry
    i - h: the decoder splits off the sign and the values pass a sign stage.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    indices : In
        Q x T indices, vector by vector.
    half : In(1)
        Table set that cycle t's indices are for.
    write, write_index, write_half, entries : In
        See `TableBuilder`.
    values : Out
        Q x T signed entries.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        self.index_width = sizes.build_cycles.bit_length()
        super().__init__(
            {
                "indices": In(vector_layout(sizes, unsigned(sizes.index_bits))),
                "half": In(1),
                "write": In(1),
                "write_index": In(self.index_width),
                "write_half": In(1),
                "entries": In(data.ArrayLayout(signed(sizes.entry_bits), sizes.tables)),
                "values": Out(vector_layout(sizes, signed(sizes.entry_bits))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        half = Signal()
        m.d.sync += half.eq(self.half)
        double = sizes.table_buffers == 2
        for t in range(sizes.tables):
            table = Memory(
                shape=signed(sizes.entry_bits),
                depth=sizes.table_buffers << self.index_width,
                init=[],
                attrs={"ram_style": "distributed"},
            )
            m.submodules[f"table_{t}"] = table
            writer = table.write_port()
            m.d.comb += [
                writer.en.eq(self.write),
                writer.addr.eq(Cat(self.write_index, self.write_half if double else Const(0, 0))),
                writer.data.eq(self.entries[t]),
            ]
            for q in range(sizes.copies):
                entry, minus = self._decode(m, self.indices[q][t], f"{q}_{t}")
                reader = table.read_port(domain="comb")
                m.d.comb += reader.addr.eq(Cat(entry, half if double else Const(0, 0)))
                m.d.sync += self.values[q][t].eq(
                    reader.data if minus is None else signed_term(reader.data, Const(1), minus)
                )
        return m

    def _decode(self, m: Module, index: Any, name: str) -> tuple[Signal, Signal | None]:
        """Return the registered entry number, and for the half table the sign."""
        entry = Signal(self.index_width, name=f"entry_{name}")
        if self.sizes.method == "full":
            m.d.sync += entry.eq(index)
            return entry, None
        minus = Signal(name=f"minus_{name}")
        entries = self.sizes.build_cycles
        m.d.sync += [
            minus.eq(index > entries),
            entry.eq(Mux(index > entries, index - entries, index)),
        ]
        return entry, minus


class SelectArray(wiring.Component):
    """Select and add activations by the signs of an index (method ``naive``).

    Same timing as `TableArray`: indices of cycle t are decoded into signs at its end and their
    sums of +-x are in `values` in cycle t + 2. The row of activations that `capture` stores in
    cycle t serves from cycle t + 1 on.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    indices : In
        Q x T indices, vector by vector.
    half : In(1)
        Set of activations that cycle t's indices are for.
    capture, capture_half, inputs : In
        Store a row's activations in a set.
    values : Out
        Q x T signed sums.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "indices": In(vector_layout(sizes, unsigned(sizes.index_bits))),
                "half": In(1),
                "capture": In(1),
                "capture_half": In(1),
                "inputs": In(data.ArrayLayout(signed(ACTIVATION_BITS), sizes.block_inputs)),
                "values": Out(vector_layout(sizes, signed(sizes.entry_bits))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes, group = self.sizes, self.sizes.group_size
        row = self.inputs.shape()
        sets = [Signal(row, name=f"set_{i}") for i in range(sizes.table_buffers)]
        for number, stored in enumerate(sets):
            with m.If(self.capture & (self.capture_half == number)):
                m.d.sync += stored.eq(self.inputs)
        half = Signal()
        m.d.sync += half.eq(self.half)
        operands = Signal(row)
        m.d.comb += operands.eq(sets[0] if len(sets) == 1 else Mux(half, sets[1], sets[0]))
        patterns = index_patterns(group)
        size = 1 << sizes.index_bits
        for q in range(sizes.copies):
            for t in range(sizes.tables):
                terms = []
                for g in range(group):
                    nonzero, minus = (
                        Signal(name=f"nonzero_{q}_{t}_{g}"),
                        Signal(name=f"minus_{q}_{t}_{g}"),
                    )
                    index = self.indices[q][t]
                    m.d.sync += [
                        nonzero.eq(_truth_table(patterns[:, g] != 0, size).bit_select(index, 1)),
                        minus.eq(_truth_table(patterns[:, g] < 0, size).bit_select(index, 1)),
                    ]
                    terms.append(signed_term(operands[t * group + g], nonzero, minus))
                m.d.sync += self.values[q][t].eq(sum(terms[1:], terms[0]))
        return m


def vector_layout(sizes: EngineSizes, element: Any) -> data.ArrayLayout:
    """Return the layout of Q vectors of T elements."""
    return data.ArrayLayout(data.ArrayLayout(element, sizes.tables), sizes.copies)


def _truth_table(flags: Any, size: int) -> Const:
    return Const(sum(int(flag) << i for i, flag in enumerate(flags)), unsigned(size))
