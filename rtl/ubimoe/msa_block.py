"""UbiMoE's MSA block: layer norm, QKV, streaming attention, projection and the residual."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_FRACTION
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.rtl.ubimoe.combine import Combine
from headrace.rtl.ubimoe.layer_norm import LayerNorm
from headrace.rtl.ubimoe.layer_norm_parts import parameter_layout
from headrace.rtl.ubimoe.linear import Linear
from headrace.rtl.ubimoe.repack import (
    Repack,
    bits_of,
    connect_bits,
    issue_to_all,
    repacked,
    value_of,
)
from headrace.rtl.ubimoe.row_memory import QkvRows
from headrace.rtl.ubimoe.streaming_attention import StreamingAttention

__all__ = ["MsaBlock"]


class MsaBlock(wiring.Component):
    """x + feature(projection(attention(qkv(layer_norm(x))))) of one sequence per command.

    One linear makes Q, K and V of all rows and then the projection, whose first row there cannot
    be before all keys are: nothing is lost, and half of the multipliers are saved. The weights of
    one are loaded while it computes with those of the other. Q, K and V are kept whole
    (`QkvRows`), so that the attention never holds back the linear.

    Each feature goes to the layer norm and to the memory of `Combine` at once; those of the next
    sequence are taken when the last result is out.

    Parameters
    ----------
    sizes : MsaBlockSizes

    Attributes
    ----------
    command : stream
        `tokens` (16 bits), N: attention_lanes to max_tokens.
    norm : stream
        `dims` pairs of gain and offset (`LayerNorm`); row_beats beats per command.
    weights : stream
        Beats of `beat_bits`; per command the weight image (`Linear`) of QKV, its outputs Q, K, V,
        each head after head, then the one of the projection.
    inputs : stream
        `dims` features; N rows of row_beats beats.
    results : stream
        The same.
    """

    def __init__(self, sizes: MsaBlockSizes) -> None:
        self.sizes = sizes
        features = data.ArrayLayout(signed(sizes.formats.feature_bits), sizes.dims)
        command = data.StructLayout({"tokens": unsigned(16)})
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "norm": In(stream.Signature(parameter_layout(sizes.norm))),
                "weights": In(stream.Signature(unsigned(sizes.beat_bits))),
                "inputs": In(stream.Signature(features)),
                "results": Out(stream.Signature(features)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.layer_norm = norm = LayerNorm(sizes.norm)
        m.submodules.linear = linear = Linear(sizes.linear)
        m.submodules.qkv_rows = rows = QkvRows(sizes)
        m.submodules.attention = attention = StreamingAttention(sizes.attention)
        m.submodules.combine = combine = Combine(sizes.combine)
        connect_bits(m, self.norm, norm.parameters)
        connect_bits(m, self.weights, linear.weights)
        for name in ("queries", "keys", "values"):
            source, sink = getattr(rows, name), getattr(attention, name)
            connect_bits(m, repacked(m, name, source, bits_of(sink)), sink)
        projecting = self._commands(m, norm, linear, rows, attention, combine)
        self._features(m, norm, combine)
        self._linear(m, linear, norm, attention, rows, combine, projecting)
        connect_bits(m, repacked(m, "sums", combine.results, bits_of(self.results)), self.results)
        return m

    def _features(self, m: Module, norm: LayerNorm, combine: Combine) -> None:
        """Give each beat of features to the layer norm and the residual's memory at once."""
        bits = bits_of(self.inputs)
        m.submodules.residual = residual = Repack(bits, bits_of(combine.residual))
        connect_bits(m, residual.results, combine.residual)
        m.d.comb += [
            norm.inputs.payload.eq(self.inputs.payload),
            residual.inputs.payload.eq(self.inputs.payload.as_value()),
            norm.inputs.valid.eq(self.inputs.valid & residual.inputs.ready),
            residual.inputs.valid.eq(self.inputs.valid & norm.inputs.ready),
            self.inputs.ready.eq(norm.inputs.ready & residual.inputs.ready),
        ]

    def _linear(
        self,
        m: Module,
        linear: Linear,
        norm: LayerNorm,
        attention: StreamingAttention,
        rows: QkvRows,
        combine: Combine,
        projecting: Signal,
    ) -> None:
        """Lead rows of the norm and then of the attention through the linear, and results on."""
        bits = bits_of(linear.inputs)
        normalised = repacked(m, "normalised", norm.results, bits)
        attended = repacked(m, "attended", attention.results, bits)
        beat = Mux(projecting, value_of(attended), value_of(normalised))
        m.d.comb += [
            linear.inputs.valid.eq(Mux(projecting, attended.valid, normalised.valid)),
            linear.inputs.payload.as_value().eq(beat),
            normalised.ready.eq(~projecting & linear.inputs.ready),
            attended.ready.eq(projecting & linear.inputs.ready),
        ]
        # The rows' memories want results from their command to the last one of QKV; after it
        # comes the projection. Until the next command they want none: `_commands` sees to it.
        m.d.comb += [
            rows.inputs.valid.eq(rows.writing & linear.results.valid),
            rows.inputs.payload.eq(linear.results.payload),
            combine.values.valid.eq(~rows.writing & linear.results.valid),
            combine.values.payload.eq(linear.results.payload),
            linear.results.ready.eq(Mux(rows.writing, rows.inputs.ready, combine.values.ready)),
        ]

    def _commands(
        self,
        m: Module,
        norm: LayerNorm,
        linear: Linear,
        rows: QkvRows,
        attention: StreamingAttention,
        combine: Combine,
    ) -> Signal:
        """Hand a command on to all kernels; return whether the linear takes attention's results."""
        sizes = self.sizes
        second = {name: Signal(name=f"second_{name}") for name in ("load", "compute")}
        offered = {name: Signal(name=f"{name}_offered") for name in ("rows", "entries")}
        ready = {name: Signal(name=f"{name}_accepted") for name in ("rows", "entries")}
        sinks = {
            "norm": (norm.command.valid, norm.command.ready),
            "attention": (attention.command.valid, attention.command.ready),
            "combine": (combine.command.valid, combine.command.ready),
            "jobs": (combine.jobs.valid, combine.jobs.ready),
            "load": (linear.load.valid, linear.load.ready & second["load"]),
            "compute": (linear.compute.valid, linear.compute.ready & second["compute"]),
            **{name: (offered[name], ready[name]) for name in offered},
        }
        found = issue_to_all(m, self.command, sinks)
        tokens = found["payload"].tokens
        for name, port in (("load", linear.load), ("compute", linear.compute)):
            tiles = Mux(second[name], sizes.row_tiles, 3 * sizes.row_tiles)
            m.d.comb += [port.payload.in_tiles.eq(sizes.in_tiles), port.payload.out_tiles.eq(tiles)]
            with m.If(port.valid & port.ready):
                m.d.sync += second[name].eq(~second[name])
        projecting, token, left = Signal(), Signal(16), Signal(16)
        with m.If(linear.compute.valid & linear.compute.ready):
            # accepted only when all rows of the one before are taken
            m.d.sync += projecting.eq(second["compute"])
        # Combine takes a command when the sequence before is done: no result of its projection
        # can then meet a memory that waits for QKV.
        m.d.comb += [
            norm.command.payload.tokens.eq(tokens),
            attention.command.payload.tokens.eq(tokens),
            linear.compute.payload.rows.eq(tokens),
            rows.command.payload.tokens.eq(tokens),
            rows.command.valid.eq(offered["rows"] & ~found["combine"]),
            ready["rows"].eq(rows.command.ready & ~found["combine"]),
            combine.command.payload.tokens.eq(tokens),
            combine.command.payload.choices.eq(1),
            combine.jobs.payload.rows.eq(tokens),
            combine.rows.valid.eq(left.any()),
            combine.rows.payload.token.eq(token),
            combine.rows.payload.score.eq(1 << WIDE_FRACTION),
            ready["entries"].eq(left == 0),
        ]
        # The rows' entries are taken until shortly before the last results: the next command, and
        # with it the next weights, do not wait for them.
        with m.If(combine.rows.valid & combine.rows.ready):
            m.d.sync += [token.eq(token + 1), left.eq(left - 1)]
        with m.If(offered["entries"] & ready["entries"]):
            m.d.sync += [token.eq(0), left.eq(tokens)]
        return projecting
