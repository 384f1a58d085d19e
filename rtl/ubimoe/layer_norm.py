"""Layer norm of UbiMoE: rule 4 of docs/ubimoe-numerics.md on streams."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.functions import ROOT_RECIPROCAL_BITS
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.rtl.ubimoe.layer_norm_parts import RowNormaliser, RowStatistics, parameter_layout
from headrace.rtl.ubimoe.pipeline import delayed

__all__ = ["LayerNorm"]

TOKEN_BITS = 16


class LayerNorm(wiring.Component):
    """Layer norm of the rows of a command.

    Beats of inputs go into a row memory and through the statistics; a row whose statistics are
    known is read again, normalised and given out while the statistics of later ones are collected.
    The row memory is as large as a beat per cycle needs. From the command to the last result:
    `LayerNormSizes.cycles`, if nothing stalls. The next command is taken when the last beat is
    on its way to the results.

    Parameters
    ----------
    sizes : LayerNormSizes

    Attributes
    ----------
    command : stream
        `tokens`, 16 bits: rows, at least 1.
    parameters : stream
        `dims` pairs of `gain` and `offset`, 16 bits each; `row_beats` beats per command.
    inputs : stream
        `dims` features; `tokens` rows of `row_beats` beats.
    results : stream
        `dims` operands, in the order of the inputs.
    """

    def __init__(self, sizes: LayerNormSizes) -> None:
        self.sizes = sizes
        features = data.ArrayLayout(signed(sizes.formats.feature_bits), sizes.dims)
        operands = data.ArrayLayout(signed(sizes.formats.operand_bits), sizes.dims)
        command = data.StructLayout({"tokens": unsigned(TOKEN_BITS)})
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "parameters": In(stream.Signature(parameter_layout(sizes))),
                "inputs": In(stream.Signature(features)),
                "results": Out(stream.Signature(operands)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.statistics = statistics = RowStatistics(sizes)
        m.submodules.normaliser = normaliser = RowNormaliser(sizes)
        rows_in, rows_out = Signal(TOKEN_BITS), Signal(TOKEN_BITS)
        issue, last_issue, loaded = Signal(), Signal(), Signal()

        m.d.comb += self.command.ready.eq(rows_out == 0)
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [
                rows_in.eq(self.command.payload.tokens),
                rows_out.eq(self.command.payload.tokens),
            ]

        beat, next_beat = _counter(m, sizes.row_beats, issue, "issued")
        m.d.comb += last_issue.eq(issue & next_beat)
        with m.If(last_issue):
            m.d.sync += rows_out.eq(rows_out - 1)
        pairs = self._parameters(m, rows_out != 0, loaded, beat, normaliser.enable)
        with m.If(last_issue & (rows_out == 1)):
            m.d.sync += loaded.eq(0)

        features = self._rows(m, statistics, rows_in, issue, normaliser.enable)
        known = self._known(m, statistics, last_issue, normaliser)

        # What is read is a stage in front of the normaliser.
        moving = delayed(m, issue, 1 + normaliser.latency, normaliser.enable, "moving", reset=True)
        m.d.comb += [
            issue.eq(known & loaded & normaliser.enable),
            normaliser.enable.eq(~moving | self.results.ready),
            normaliser.features.eq(features),
            normaliser.parameters.eq(pairs),
            self.results.valid.eq(moving),
            self.results.payload.eq(normaliser.results),
        ]
        return m

    def _parameters(
        self, m: Module, busy: Value, loaded: Signal, address: Value, enable: Value
    ) -> Value:
        """Take the parameters of a command; return those of the beat issued before."""
        m.submodules.pairs = pairs = memory.Memory(
            shape=parameter_layout(self.sizes), depth=self.sizes.row_beats, init=[]
        )
        write, read = pairs.write_port(), pairs.read_port()
        taken = self.parameters.valid & self.parameters.ready
        place, last = _counter(m, self.sizes.row_beats, taken, "parameter")
        with m.If(taken & last):
            m.d.sync += loaded.eq(1)
        m.d.comb += [
            self.parameters.ready.eq(busy & ~loaded),
            write.en.eq(taken),
            write.addr.eq(place),
            write.data.eq(self.parameters.payload),
            read.en.eq(enable),
            read.addr.eq(address),
        ]
        return read.data

    def _rows(
        self, m: Module, statistics: RowStatistics, rows_in: Signal, issue: Value, enable: Value
    ) -> Value:
        """Take the inputs of a command; return the beat issued before."""
        sizes = self.sizes
        m.submodules.rows = rows = memory.Memory(
            shape=self.inputs.payload.shape(), depth=sizes.buffer_beats, init=[]
        )
        write, read = rows.write_port(), rows.read_port()
        taken = self.inputs.valid & self.inputs.ready
        beat, last = _counter(m, sizes.row_beats, taken, "input")
        with m.If(taken & last):
            m.d.sync += rows_in.eq(rows_in - 1)
        held = Signal(range(sizes.buffer_beats + 1))
        m.d.sync += held.eq(held + taken - issue)
        m.d.comb += [
            self.inputs.ready.eq((rows_in != 0) & (held != sizes.buffer_beats)),
            write.en.eq(taken),
            write.addr.eq(_counter(m, sizes.buffer_beats, taken, "write")[0]),
            write.data.eq(self.inputs.payload),
            read.en.eq(enable),
            read.addr.eq(_counter(m, sizes.buffer_beats, issue, "read")[0]),
            statistics.valid.eq(taken),
            statistics.first.eq(beat == 0),
            statistics.last.eq(last),
            statistics.features.eq(self.inputs.payload),
        ]
        return read.data

    def _known(
        self, m: Module, statistics: RowStatistics, leaves: Value, normaliser: RowNormaliser
    ) -> Value:
        """Keep the statistics of rows that wait; return whether there are any of the next row."""
        width = WIDE_BITS + ROOT_RECIPROCAL_BITS
        m.submodules.known = known = fifo.SyncFIFO(width=width, depth=self.sizes.waiting_rows)
        pair = delayed(m, known.r_data, 1, normaliser.enable, "pair")
        m.d.comb += [
            known.w_en.eq(statistics.done),
            known.w_data.eq(Cat(statistics.mean, statistics.scale)),
            known.r_en.eq(leaves),
            normaliser.mean.eq(pair[:WIDE_BITS].as_signed()),
            normaliser.scale.eq(pair[WIDE_BITS:]),
        ]
        return known.r_rdy


def _counter(m: Module, length: int, step: Value, name: str) -> tuple[Value, Value]:
    """Return a counter of steps modulo `length`, and whether it is at its end."""
    count = Signal(range(length), name=f"{name}_count")
    last = count == length - 1
    with m.If(step):
        m.d.sync += count.eq(Mux(last, 0, count + 1))
    return count, last
