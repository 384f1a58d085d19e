"""The ternary matmul engine (docs/engine.md)."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.tellme.engine import EngineSizes
from headrace.rtl.tellme.accumulator import Accumulator
from headrace.rtl.tellme.buffer import WeightBuffer
from headrace.rtl.tellme.builder import TableBuilder
from headrace.rtl.tellme.lookup import SelectArray, TableArray
from headrace.rtl.tellme.reader import ACTIVATION_BITS, ActivationReader
from headrace.rtl.tellme.sequencer import COMPUTE, Sequencer, Slots
from headrace.rtl.tellme.unpacker import LOAD, Unpacker
from headrace.rtl.tree import AdderTree

__all__ = ["TernaryMatmul"]


class TernaryMatmul(wiring.Component):
    """Multiply INT8 activations by ternary weights through lookup tables.

    Ports, commands and the order of events are stated in docs/engine.md, the cycles they take by
    `headrace.arch.tellme.engine.job_cycles`. Every stream may stall in any cycle.

    The pipeline from the issue of a group in cycle t: index vectors read (t + 1), decoded
    (t + 2), looked up (t + 3), added up (t + 3 + s for s = `tree_stages`), accumulated at the
    end of that cycle. A drained group is on `results` two cycles after the last accumulation.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    load, compute, weights, activations, results : stream
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        lanes = data.ArrayLayout(signed(ACTIVATION_BITS), sizes.activation_lanes)
        totals = data.ArrayLayout(signed(sizes.accumulator_bits), sizes.copies)
        super().__init__(
            {
                "load": In(stream.Signature(LOAD)),
                "compute": In(stream.Signature(COMPUTE)),
                "weights": In(stream.Signature(unsigned(sizes.beat_bits))),
                "activations": In(stream.Signature(lanes)),
                "results": Out(stream.Signature(totals)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.sequencer = sequencer = Sequencer(sizes)
        wiring.connect(m, wiring.flipped(self.compute), sequencer.compute)
        buffer = self._weights(m, sequencer)
        array = self._front_end(m, sequencer)
        m.d.comb += [
            array.indices.as_value().eq(self._vectors(m, sequencer, buffer)),
            array.half.eq(_delayed(m, sequencer.half, 1, "half")),
        ]
        self._sum(m, sequencer, array)
        return m

    def _weights(self, m: Module, sequencer: Sequencer) -> WeightBuffer:
        """Join unpacker, slots and buffer."""
        m.submodules.unpacker = unpacker = Unpacker(self.sizes)
        m.submodules.slots = slots = Slots(self.sizes)
        m.submodules.buffer = buffer = WeightBuffer(self.sizes)
        wiring.connect(m, wiring.flipped(self.load), unpacker.load)
        wiring.connect(m, wiring.flipped(self.weights), unpacker.weights)
        m.d.comb += [
            unpacker.slot_free.eq(slots.free),
            unpacker.base.eq(slots.fill_base),
            slots.accepted.eq(unpacker.accepted),
            slots.loaded.eq(unpacker.loaded),
            slots.begun.eq(sequencer.begun),
            slots.released.eq(sequencer.released),
            sequencer.slot_ready.eq(slots.ready),
            sequencer.base.eq(slots.use_base),
            sequencer.write.eq(unpacker.write),
            unpacker.wait.eq(sequencer.wait),
            buffer.write.eq(unpacker.write),
            buffer.enable.eq(unpacker.enable),
            buffer.write_address.eq(unpacker.address),
            buffer.write_data.eq(unpacker.data),
            buffer.read.eq(sequencer.issue),
            buffer.address_a.eq(sequencer.address_a),
            buffer.address_b.eq(sequencer.address_b),
        ]
        return buffer

    def _front_end(self, m: Module, sequencer: Sequencer) -> TableArray | SelectArray:
        """Join reader, builder and lookup array."""
        sizes = self.sizes
        m.submodules.reader = reader = ActivationReader(sizes)
        wiring.connect(m, wiring.flipped(self.activations), reader.activations)
        m.d.comb += [reader.enable.eq(sequencer.read), sequencer.taken.eq(reader.taken)]
        if sizes.method == "naive":
            select = SelectArray(sizes)
            m.submodules.array = select
            m.d.comb += [
                select.inputs.eq(reader.inputs),
                select.capture.eq(_delayed(m, sequencer.complete, 1, "capture")),
                select.capture_half.eq(_delayed(m, sequencer.build_half, 1, "capture_half")),
            ]
            return select
        table = TableArray(sizes)
        m.submodules.array = table
        m.submodules.builder = builder = TableBuilder(sizes)
        m.d.comb += [
            builder.inputs.eq(reader.inputs),
            builder.enable.eq(sequencer.build),
            builder.index.eq(sequencer.index),
            builder.half.eq(sequencer.build_half),
            table.write.eq(builder.write),
            table.write_index.eq(builder.write_index),
            table.write_half.eq(builder.write_half),
            table.entries.eq(builder.entries),
        ]
        return table

    def _vectors(self, m: Module, sequencer: Sequencer, buffer: WeightBuffer) -> Any:
        """Return the Q vectors of a group, one cycle after its last read was issued."""
        pair = buffer.data_b.as_value()
        if self.sizes.words_per_group > 1:
            pair = Cat(buffer.data_a.as_value(), pair)
        if self.sizes.lookup_cycles == 1:
            return pair
        first = Signal(len(pair))
        with m.If(_delayed(m, sequencer.issue & (sequencer.part == 0), 1, "first_part")):
            m.d.sync += first.eq(pair)
        return Cat(first, pair)

    def _sum(self, m: Module, sequencer: Sequencer, array: TableArray | SelectArray) -> None:
        """Join adder trees and accumulator."""
        sizes = self.sizes
        m.submodules.accumulator = accumulator = Accumulator(sizes)
        wiring.connect(m, accumulator.results, wiring.flipped(self.results))
        for q in range(sizes.copies):
            tree = AdderTree(sizes.tables, sizes.entry_bits)
            m.submodules[f"tree_{q}"] = tree
            m.d.comb += [tree.terms.eq(array.values[q]), accumulator.sums[q].eq(tree.total)]
        cycles = sizes.pipeline_cycles - 1
        m.d.comb += [
            accumulator.enable.eq(_delayed(m, sequencer.group_issued, cycles, "issued")),
            accumulator.group.eq(_delayed(m, sequencer.group, cycles, "group")),
            accumulator.first.eq(_delayed(m, sequencer.first, cycles, "first")),
            accumulator.last.eq(_delayed(m, sequencer.last, cycles, "last")),
            accumulator.groups.eq(sequencer.groups),
            sequencer.drained.eq(accumulator.done),
        ]


def _delayed(m: Module, value: Any, cycles: int, name: str) -> Any:
    """Return `value` of `cycles` cycles ago."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{stage + 1}")
        m.d.sync += register.eq(value)
        value = register
    return value
