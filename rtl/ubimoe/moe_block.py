"""UbiMoE's MoE block: layer norm, dense FFN or gate and experts, and the residual."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.dispatch import SCORE_BITS
from headrace.arch.ubimoe.formats import WIDE_FRACTION
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.rtl.ubimoe.combine import Combine
from headrace.rtl.ubimoe.dispatch import Dispatch
from headrace.rtl.ubimoe.gate import Gate
from headrace.rtl.ubimoe.gate_products import weights_layout
from headrace.rtl.ubimoe.layer_norm import LayerNorm
from headrace.rtl.ubimoe.layer_norm_parts import parameter_layout
from headrace.rtl.ubimoe.linear import Linear
from headrace.rtl.ubimoe.moe_rows import HiddenRows, TokenRows
from headrace.rtl.ubimoe.repack import (
    Repack,
    bits_of,
    connect_bits,
    issue_to_all,
    repacked,
    value_of,
)

__all__ = ["MoeBlock"]

_JOB = data.StructLayout({"expert": unsigned(8), "rows": unsigned(16)})
_ROW = data.StructLayout({"token": unsigned(16), "score": unsigned(SCORE_BITS)})


class MoeBlock(wiring.Component):
    """x + ffn(layer_norm(x)) of one sequence per command, dense or by experts.

    The normalised rows are kept. Jobs come from the dispatch; a dense FFN is `dense_parts` jobs of
    all rows with the score one. Each job goes twice through one linear of two slots: its rows, as
    they are wanted, with GELU, then its hidden rows; the weights of the next half are loaded
    meanwhile. The rows' scores wait in a FIFO of a whole job for `Combine`, which has the residual.

    Parameters
    ----------
    sizes : MoeBlockSizes

    Attributes
    ----------
    command : stream
        `tokens` (16 bits), N, 1 to max_tokens; `experts` (1): by experts.
    norm : stream
        `dims` pairs of gain and offset (`LayerNorm`); width / dims beats per command.
    gate_weights : stream
        As `weights` of `Gate`; only for a command by experts.
    jobs : stream
        `expert` (8 bits), or the part of the dense FFN: whose weights are wanted next.
    weights : stream
        Beats of `beat_bits`: per job the weight image (`Linear`) of the first linear and then the
        one of the second.
    inputs, results : stream
        `dims` features; N rows of width / dims beats.
    """

    def __init__(self, sizes: MoeBlockSizes) -> None:
        self.sizes = sizes
        features = data.ArrayLayout(signed(sizes.formats.feature_bits), sizes.dims)
        command = data.StructLayout({"tokens": unsigned(16), "experts": unsigned(1)})
        job = data.StructLayout({"expert": unsigned(8)})
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "norm": In(stream.Signature(parameter_layout(sizes.norm))),
                "gate_weights": In(stream.Signature(weights_layout(sizes.gate))),
                "jobs": Out(stream.Signature(job)),
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
        m.submodules.gate = gate = Gate(sizes.gate)
        m.submodules.dispatch = dispatch = Dispatch(sizes.dispatch)
        m.submodules.token_rows = tokens = TokenRows(sizes)
        m.submodules.linear = linear = Linear(sizes.linear)
        m.submodules.hidden_rows = hidden = HiddenRows(sizes)
        m.submodules.combine = combine = Combine(sizes.combine)
        job = stream.Signature(_JOB).create(path=("job",))
        row = stream.Signature(_ROW).create(path=("row",))
        connect_bits(m, self.norm, norm.parameters)
        connect_bits(m, self.gate_weights, gate.weights)
        connect_bits(m, gate.choices, dispatch.choices)
        connect_bits(m, self.weights, linear.weights)
        self._features(m, norm, combine)
        by_experts = self._commands(m, norm, gate, dispatch, tokens, combine, job, row)
        self._normalised(m, norm, gate, tokens, by_experts)
        second = self._jobs(m, job, linear, hidden, combine)
        self._rows(m, row, tokens, combine)
        self._linear(m, linear, tokens, hidden, combine, second)
        connect_bits(m, repacked(m, "sums", combine.results, bits_of(self.results)), self.results)
        return m

    def _features(self, m: Module, norm: LayerNorm, combine: Combine) -> None:
        """Give each beat of features to the layer norm and the residual's memory at once."""
        m.submodules.residual = residual = Repack(bits_of(self.inputs), bits_of(combine.residual))
        connect_bits(m, residual.results, combine.residual)
        m.d.comb += [
            norm.inputs.payload.eq(self.inputs.payload),
            residual.inputs.payload.eq(self.inputs.payload.as_value()),
            norm.inputs.valid.eq(self.inputs.valid & residual.inputs.ready),
            residual.inputs.valid.eq(self.inputs.valid & norm.inputs.ready),
            self.inputs.ready.eq(norm.inputs.ready & residual.inputs.ready),
        ]

    def _normalised(
        self, m: Module, norm: LayerNorm, gate: Gate, tokens: TokenRows, by_experts: Signal
    ) -> None:
        """Give each beat of normalised rows to their memory and, by experts, to the gate."""
        m.submodules.normalised = kept = Repack(bits_of(norm.results), bits_of(tokens.inputs))
        connect_bits(m, kept.results, tokens.inputs)
        gate_goes = gate.inputs.ready | ~by_experts
        m.d.comb += [
            gate.inputs.payload.eq(norm.results.payload),
            gate.inputs.valid.eq(norm.results.valid & kept.inputs.ready & by_experts),
            kept.inputs.payload.eq(value_of(norm.results)),
            # Parts of a beat before the last one go on alone; the gate waits for that one.
            kept.inputs.valid.eq(norm.results.valid & (gate_goes | ~kept.inputs.ready)),
            norm.results.ready.eq(kept.inputs.ready & gate_goes),
        ]

    def _commands(
        self,
        m: Module,
        norm: LayerNorm,
        gate: Gate,
        dispatch: Dispatch,
        store: TokenRows,
        combine: Combine,
        job: Any,
        row: Any,
    ) -> Signal:
        """Hand a command on to all kernels; lead jobs and rows of either kind into one stream.

        Combine takes a command when the sequence before is done; the others wait for it.
        """
        pairs = {
            name: (Signal(name=f"{name}_offered"), Signal(name=f"{name}_accepted"))
            for name in ("norm", "store", "gate", "dispatch", "dense_job", "dense_rows")
        }
        sinks = {"combine": (combine.command.valid, combine.command.ready), **pairs}
        found = issue_to_all(m, self.command, sinks)
        command, begun = found["payload"], ~found["combine"]
        by_experts, tokens, token = Signal(), Signal(16), Signal(16)
        with m.If(combine.command.valid & combine.command.ready):
            m.d.sync += [by_experts.eq(command.experts), tokens.eq(command.tokens)]
        ports = {
            "norm": (norm.command, 1),
            "store": (store.command, 1),
            "gate": (gate.command, by_experts),
            "dispatch": (dispatch.command, by_experts),
        }
        for name, (port, concerned) in ports.items():
            offered, accepted = pairs[name]
            m.d.comb += [
                port.payload.tokens.eq(tokens),
                port.valid.eq(offered & begun & concerned),
                accepted.eq(begun & (port.ready | ~concerned)),
            ]
        # Rows of a dense FFN are wanted at once: not before those of the last sequence are gone.
        wants = begun & ~found["store"]
        dense = {name: pairs[name][0] & wants & ~by_experts for name in ("dense_job", "dense_rows")}
        parts = self.sizes.dense_parts
        job_part, row_part = Signal(range(max(2, parts))), Signal(range(max(2, parts)))
        last = token == tokens - 1
        last_job, last_row = job_part == parts - 1, last & (row_part == parts - 1)
        m.d.comb += [
            combine.command.payload.tokens.eq(command.tokens),
            combine.command.payload.choices.eq(Mux(command.experts, self.sizes.top_k, parts)),
            job.valid.eq(Mux(by_experts, dispatch.jobs.valid, dense["dense_job"])),
            job.payload.expert.eq(Mux(by_experts, dispatch.jobs.payload.expert, job_part)),
            job.payload.rows.eq(Mux(by_experts, dispatch.jobs.payload.rows, tokens)),
            dispatch.jobs.ready.eq(job.ready & by_experts),
            pairs["dense_job"][1].eq(wants & ((job.ready & last_job) | by_experts)),
            row.valid.eq(Mux(by_experts, dispatch.rows.valid, dense["dense_rows"])),
            row.payload.token.eq(Mux(by_experts, dispatch.rows.payload.token, token)),
            row.payload.score.eq(Mux(by_experts, dispatch.rows.payload.score, 1 << WIDE_FRACTION)),
            dispatch.rows.ready.eq(row.ready & by_experts),
            pairs["dense_rows"][1].eq(wants & ((row.ready & last_row) | by_experts)),
        ]
        with m.If(dense["dense_rows"] & row.ready):
            m.d.sync += token.eq(Mux(last, 0, token + 1))
            with m.If(last):
                m.d.sync += row_part.eq(Mux(last_row, 0, row_part + 1))
        with m.If(dense["dense_job"] & job.ready):
            m.d.sync += job_part.eq(Mux(last_job, 0, job_part + 1))
        return by_experts

    def _jobs(
        self, m: Module, job: Any, linear: Linear, hidden: HiddenRows, combine: Combine
    ) -> Signal:
        """Hand each job on; return whether the linear takes hidden rows."""
        sizes = self.sizes
        second = {name: Signal(name=f"second_{name}") for name in ("load", "compute")}
        sinks = {
            "hidden": (hidden.command.valid, hidden.command.ready),
            "combined": (combine.jobs.valid, combine.jobs.ready),
            "fetched": (self.jobs.valid, self.jobs.ready),
            "load": (linear.load.valid, linear.load.ready & second["load"]),
            "compute": (linear.compute.valid, linear.compute.ready & second["compute"]),
        }
        present = issue_to_all(m, job, sinks)["payload"]
        for name, port in (("load", linear.load), ("compute", linear.compute)):
            m.d.comb += [
                port.payload.in_tiles.eq(Mux(second[name], *reversed(sizes.in_tiles))),
                port.payload.out_tiles.eq(Mux(second[name], *reversed(sizes.out_tiles))),
            ]
            with m.If(port.valid & port.ready):
                m.d.sync += second[name].eq(~second[name])
        from_hidden = Signal()
        with m.If(linear.compute.valid & linear.compute.ready):
            # accepted only when all rows of the one before are taken
            m.d.sync += from_hidden.eq(second["compute"])
        m.d.comb += [
            linear.compute.payload.rows.eq(present.rows),
            linear.compute.payload.gelu.eq(~second["compute"]),
            hidden.command.payload.tokens.eq(present.rows),
            combine.jobs.payload.rows.eq(present.rows),
            self.jobs.payload.expert.eq(present.expert),
        ]
        return from_hidden

    def _rows(self, m: Module, row: Any, tokens: TokenRows, combine: Combine) -> None:
        """Ask for each row, and keep its score until its job's results come.

        A job gives no result before all of its rows are read, so all of them must have a place.
        """
        m.submodules.scores = scores = fifo.SyncFIFOBuffered(
            width=len(value_of(row)), depth=self.sizes.max_tokens + 1
        )
        m.d.comb += [
            tokens.wanted.valid.eq(row.valid & scores.w_rdy),
            tokens.wanted.payload.eq(row.payload.token),
            row.ready.eq(tokens.wanted.valid & tokens.wanted.ready),
            scores.w_en.eq(row.ready),
            scores.w_data.eq(value_of(row)),
            combine.rows.valid.eq(scores.r_rdy),
            value_of(combine.rows).eq(scores.r_data),
            scores.r_en.eq(combine.rows.ready),
        ]

    def _linear(
        self,
        m: Module,
        linear: Linear,
        tokens: TokenRows,
        hidden: HiddenRows,
        combine: Combine,
        from_hidden: Signal,
    ) -> None:
        """Lead rows of tokens and hidden rows through the linear, and results on."""
        again = repacked(m, "hidden_tiles", hidden.results, bits_of(linear.inputs))
        m.d.comb += [
            linear.inputs.valid.eq(Mux(from_hidden, again.valid, tokens.results.valid)),
            value_of(linear.inputs).eq(Mux(from_hidden, value_of(again), value_of(tokens.results))),
            again.ready.eq(from_hidden & linear.inputs.ready),
            tokens.results.ready.eq(~from_hidden & linear.inputs.ready),
        ]
        connect_bits(m, linear.results, hidden.inputs)
        connect_bits(m, hidden.passed, combine.values)
