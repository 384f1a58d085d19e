"""Collects the activations of one row block."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.tellme.engine import EngineSizes

__all__ = ["ACTIVATION_BITS", "ActivationReader"]

ACTIVATION_BITS = 8


class ActivationReader(wiring.Component):
    """Shift the lanes of `read_cycles` transfers into a row of G x T activations.

    A transfer of cycle t is in `inputs` from cycle t + 1. The row is complete after `read_cycles`
    transfers; the spare lanes of the last one lie beyond it. One transfer per cycle while
    `enable` is high.

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    activations : stream
        `activation_lanes` signed 8-bit lanes, lane 0 first. -128 is not allowed: the quantiser
        saturates at +-127, and the tables hold no sum beyond that.
    enable : In(1)
        Accept transfers.
    taken : Out(1)
        A transfer happens in this cycle.
    inputs : Out
        The G x T activations.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        lanes = data.ArrayLayout(signed(ACTIVATION_BITS), sizes.activation_lanes)
        super().__init__(
            {
                "activations": In(stream.Signature(lanes)),
                "enable": In(1),
                "taken": Out(1),
                "inputs": Out(data.ArrayLayout(signed(ACTIVATION_BITS), sizes.block_inputs)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        lane_bits = self.sizes.activation_lanes * ACTIVATION_BITS
        collected = Signal(self.sizes.read_cycles * lane_bits)
        m.d.comb += [
            self.activations.ready.eq(self.enable),
            self.taken.eq(self.activations.valid & self.enable),
            self.inputs.as_value().eq(collected[: self.sizes.block_inputs * ACTIVATION_BITS]),
        ]
        with m.If(self.taken):
            m.d.sync += collected.eq(Cat(collected[lane_bits:], self.activations.payload))
        return m
