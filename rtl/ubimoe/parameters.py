"""Norm parameters and gate weights out of memory."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.shell import ShellSizes
from headrace.rtl.axi import ADDRESS_BITS, AxiReader, read_master_ports
from headrace.rtl.ubimoe.gate_products import weights_layout
from headrace.rtl.ubimoe.layer_norm_parts import parameter_layout
from headrace.rtl.ubimoe.repack import Repack, bits_of, connect_bits

__all__ = ["ParameterReader"]


class ParameterReader(wiring.Component):
    """Read the parameters of a layer: those of both norms, then the weights of the gate.

    The image is consecutive words of `parameter_bits`: the beats of the norm of MSA, those of the
    norm of the FFN, low bits first; by experts a word for each beat of gate weights. The next
    layer is read when the last word of this one is taken.

    Parameters
    ----------
    sizes : ShellSizes

    Attributes
    ----------
    command : stream
        `base` (40 bits), byte address of the image, a multiple of a burst; `experts` (1).
    msa_norm, moe_norm, gate_weights : stream
        As the encoder block takes them.
    busy, error : Out(1)
        A layer is not all taken; a word arrived with SLVERR or DECERR.
    araddr, ... : In, Out
        See `read_master_ports`.
    """

    def __init__(self, sizes: ShellSizes) -> None:
        self.sizes = sizes
        moe = sizes.block.moe
        command = data.StructLayout({"base": unsigned(ADDRESS_BITS), "experts": unsigned(1)})
        own = {
            "command": In(stream.Signature(command)),
            "msa_norm": Out(stream.Signature(parameter_layout(moe.norm))),
            "moe_norm": Out(stream.Signature(parameter_layout(moe.norm))),
            "gate_weights": Out(stream.Signature(weights_layout(moe.gate))),
            "busy": Out(1),
            "error": Out(1),
        }
        super().__init__(own | read_master_ports(sizes.parameter_bits))

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        port = sizes.parameters
        m.submodules.reader = reader = AxiReader(port.port_bits, burst_beats=port.burst_beats)
        for name, member in read_master_ports(port.port_bits).items():
            outer, inner = getattr(self, name), getattr(reader, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        by_experts = Signal()
        m.d.comb += [
            self.command.ready.eq(~self.busy & reader.reads.ready),
            reader.reads.valid.eq(self.command.valid & ~self.busy),
            reader.reads.payload.base.eq(self.command.payload.base),
            reader.reads.payload.count.eq(
                Mux(
                    self.command.payload.experts,
                    sizes.parameter_words(True),
                    sizes.parameter_words(False),
                )
            ),
            self.error.eq(reader.error),
        ]
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [self.busy.eq(1), by_experts.eq(self.command.payload.experts)]
        self._deal(m, reader.words, by_experts)
        return m

    def _deal(self, m: Module, words: Any, by_experts: Signal) -> None:
        """Give the words of each part to its port."""
        sizes = self.sizes
        sinks = []
        for name in ("msa_norm", "moe_norm", "gate_weights"):
            outer = getattr(self, name)
            # a word of a narrow gate has more bits than its beat
            width = min(sizes.parameter_bits, bits_of(outer))
            m.submodules[name] = repack = Repack(width, bits_of(outer))
            connect_bits(m, repack.results, outer)
            sinks.append(repack.inputs)
        counts = (sizes.norm_words, sizes.norm_words, sizes.gate_words)
        part, word = Signal(range(len(counts))), Signal(range(max(2, *counts)))
        last, final = Signal(), Signal()
        m.d.comb += final.eq(part == Mux(by_experts, 2, 1))
        with m.Switch(part):
            for number, (sink, count) in enumerate(zip(sinks, counts, strict=True)):
                with m.Case(number):
                    m.d.comb += [
                        sink.valid.eq(words.valid),
                        words.ready.eq(sink.ready),
                        last.eq(word == count - 1),
                    ]
        m.d.comb += [sink.payload.eq(words.payload) for sink in sinks]
        with m.If(words.valid & words.ready):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
            with m.If(last):
                m.d.sync += part.eq(Mux(final, 0, part + 1))
                with m.If(final):
                    m.d.sync += self.busy.eq(0)
