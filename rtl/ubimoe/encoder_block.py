"""An encoder block of UbiMoE: the MSA block, then the MoE block."""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.rtl.ubimoe.moe_block import MoeBlock
from headrace.rtl.ubimoe.msa_block import MsaBlock
from headrace.rtl.ubimoe.repack import connect_bits, issue_to_all

__all__ = ["EncoderBlock"]


class EncoderBlock(wiring.Component):
    """Both halves of an encoder layer, one sequence per command.

    The MoE block takes rows as soon as the MSA block gives them; then the MSA block may have the
    next sequence.

    Parameters
    ----------
    sizes : EncoderBlockSizes

    Attributes
    ----------
    command : stream
        `tokens` (16 bits), attention_lanes to max_tokens; `experts` (1): by experts.
    msa_norm, msa_weights : stream
        `norm` and `weights` of `MsaBlock`.
    moe_norm, gate_weights, jobs, moe_weights : stream
        Those of `MoeBlock`.
    inputs, results : stream
        `dims` features; N rows.
    """

    def __init__(self, sizes: EncoderBlockSizes) -> None:
        self.msa, self.moe = MsaBlock(sizes.msa), MoeBlock(sizes.moe)
        command = data.StructLayout({"tokens": unsigned(16), "experts": unsigned(1)})

        def signature(port: Any) -> Any:
            return stream.Signature(port.payload.shape())

        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "msa_norm": In(signature(self.msa.norm)),
                "msa_weights": In(signature(self.msa.weights)),
                "moe_norm": In(signature(self.moe.norm)),
                "gate_weights": In(signature(self.moe.gate_weights)),
                "jobs": Out(signature(self.moe.jobs)),
                "moe_weights": In(signature(self.moe.weights)),
                "inputs": In(signature(self.msa.inputs)),
                "results": Out(signature(self.moe.results)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.msa = msa = self.msa
        m.submodules.moe = moe = self.moe
        sinks = {
            "msa": (msa.command.valid, msa.command.ready),
            "moe": (moe.command.valid, moe.command.ready),
        }
        command = issue_to_all(m, self.command, sinks)["payload"]
        m.d.comb += [
            msa.command.payload.tokens.eq(command.tokens),
            moe.command.payload.eq(command),
        ]
        connect_bits(m, self.msa_norm, msa.norm)
        connect_bits(m, self.msa_weights, msa.weights)
        connect_bits(m, self.moe_norm, moe.norm)
        connect_bits(m, self.gate_weights, moe.gate_weights)
        connect_bits(m, self.moe_weights, moe.weights)
        connect_bits(m, self.inputs, msa.inputs)
        connect_bits(m, msa.results, moe.inputs)
        connect_bits(m, moe.jobs, self.jobs)
        connect_bits(m, moe.results, self.results)
        return m
