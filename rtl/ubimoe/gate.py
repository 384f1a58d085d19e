"""Rule 5 of docs/ubimoe-numerics.md: the gate."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.gate import GateSizes
from headrace.rtl.ubimoe.dispatch import choices_layout
from headrace.rtl.ubimoe.gate_products import (
    GateProducts,
    command_layout,
    inputs_layout,
    weights_layout,
)
from headrace.rtl.ubimoe.gate_softmax import GateSoftmax

__all__ = ["Gate"]


class Gate(wiring.Component):
    """Score the experts for each token, and choose the best.

    Products of a token beside the softmax of the one before; `GateSizes.cycles` from the command
    to the last choices.

    Parameters
    ----------
    sizes : GateSizes

    Attributes
    ----------
    command : In stream
        `tokens` (16 bits), 1 to max_tokens; accepted when the last input beat before it is taken.
    weights : In stream
        `dims` weights; experts x row_beats beats, expert major, after each command.
    inputs : In stream
        `dims` operands; rows of row_beats beats.
    choices : Out stream
        `choices_layout`, per token: the experts of the top_k largest scores, largest first, of
        equal ones the lower expert first, and their probabilities (22 fraction bits).
    """

    def __init__(self, sizes: GateSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "command": In(stream.Signature(command_layout())),
                "weights": In(stream.Signature(weights_layout(sizes))),
                "inputs": In(stream.Signature(inputs_layout(sizes))),
                "choices": Out(stream.Signature(choices_layout(sizes.top_k))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.products = products = GateProducts(self.sizes)
        m.submodules.softmax = softmax = GateSoftmax(self.sizes)
        for name in ("command", "weights", "inputs"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(products, name))
        wiring.connect(m, softmax.choices, wiring.flipped(self.choices))
        m.d.comb += [
            products.room.eq(softmax.room),
            softmax.reserve.eq(products.reserve),
            softmax.valid.eq(products.valid),
            softmax.expert.eq(products.expert),
            softmax.score.eq(products.score),
        ]
        return m
