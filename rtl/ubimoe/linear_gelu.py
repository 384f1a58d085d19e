"""The GELU units of the linear kernel."""

from typing import Any

from amaranth.hdl import C, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.rtl.ubimoe.functions import Gelu
from headrace.rtl.ubimoe.pipeline import delayed

__all__ = ["GeluUnits"]


class GeluUnits(wiring.Component):
    """Apply GELU to the beats that ask for it; the others take as long.

    The pipelines never stop: a beat enters only if the FIFO behind them, of
    `LinearSizes.gelu_places` beats, has a place for it, those in the pipelines counted. A beat of
    cycle t is on `results` from t + `LinearSizes.gelu_cycles` on; one beat per cycle.

    Resources: T_out `Gelu`, and a FIFO in LUT RAM.

    Parameters
    ----------
    sizes : LinearSizes

    Attributes
    ----------
    inputs : stream
        T_out wide values.
    apply : In(1)
        GELU of the beat on `inputs`.
    results : stream
        T_out wide values.
    """

    def __init__(self, sizes: LinearSizes) -> None:
        self.sizes = sizes
        wide = data.ArrayLayout(signed(WIDE_BITS), sizes.tile_out)
        super().__init__(
            {
                "inputs": In(stream.Signature(wide)),
                "apply": In(1),
                "results": Out(stream.Signature(wide)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        places, always = self.sizes.gelu_places, C(1)
        m.submodules.fifo = queue = fifo.SyncFIFO(
            width=WIDE_BITS * self.sizes.tile_out, depth=places
        )
        used = Signal(range(places + 1))  # places asked for
        enter, leave = Signal(), Signal()
        m.d.comb += [
            self.inputs.ready.eq(used != places),
            enter.eq(self.inputs.valid & self.inputs.ready),
            self.results.valid.eq(queue.r_rdy),
            self.results.payload.eq(queue.r_data),
            queue.r_en.eq(self.results.ready),
            leave.eq(self.results.valid & self.results.ready),
            queue.w_en.eq(delayed(m, enter, Gelu.latency, always, "enter", reset=True)),
        ]
        m.d.sync += used.eq(used + enter - leave)
        apply = delayed(m, self.apply, Gelu.latency, always, "apply")
        for output in range(self.sizes.tile_out):
            m.submodules[f"gelu_{output}"] = unit = Gelu()
            value = self.inputs.payload[output]
            plain = delayed(m, value, Gelu.latency, always, f"plain_{output}")
            m.d.comb += [
                unit.enable.eq(1),
                unit.argument.eq(value),
                queue.w_data.word_select(output, WIDE_BITS).eq(Mux(apply, unit.result, plain)),
            ]
        return m
