"""UbiMoE's linear kernel: weight slots, router, lanes and what drives them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.rtl.ubimoe.linear_gelu import GeluUnits
from headrace.rtl.ubimoe.linear_lanes import Lanes
from headrace.rtl.ubimoe.linear_router import Router
from headrace.rtl.ubimoe.linear_weights import WeightSlots

__all__ = ["Linear"]


class Linear(wiring.Component):
    """Rows times a weight matrix, plus biases, GELU if asked (docs/ubimoe-numerics.md, rule 1).

    A command to `compute` is accepted when the rows of the one before are all taken and that one
    has begun; its own rows are taken from the next cycle on, also while the one before computes
    or its weights are still being loaded. It begins when its slot is full and the one before has
    issued its last tile; the first tile can be issued in the next cycle. Then one tile per cycle:
    groups, in them output tiles, in them input tiles. The slot is free when the last output tile
    is finished. `headrace.sim.ubimoe.linear` states every transfer's cycle.

    In commands every field is at least 1; in_tiles, out_tiles and their product are at most
    max_in_tiles, max_out_tiles and max_tiles, and those of `compute` equal those of its `load`.

    Parameters
    ----------
    sizes : LinearSizes

    Attributes
    ----------
    load, compute, weights, inputs, results : stream
        See docs/ubimoe-kernels.md. `gelu` of `compute` must be 0 without GELU units.
    """

    def __init__(self, sizes: LinearSizes) -> None:
        self.sizes = sizes
        load = data.StructLayout({"in_tiles": 16, "out_tiles": 16})
        compute = data.StructLayout({"rows": 16, "in_tiles": 16, "out_tiles": 16, "gelu": 1})
        inputs = data.ArrayLayout(signed(sizes.formats.operand_bits), sizes.tile_in)
        results = data.ArrayLayout(signed(WIDE_BITS), sizes.tile_out)
        super().__init__(
            {
                "load": In(stream.Signature(load)),
                "compute": In(stream.Signature(compute)),
                "weights": In(stream.Signature(unsigned(sizes.beat_bits))),
                "inputs": In(stream.Signature(inputs)),
                "results": Out(stream.Signature(results)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.slots = slots = WeightSlots(sizes)
        m.submodules.router = router = Router(sizes)
        m.submodules.lanes = lanes = Lanes(sizes)
        pairs = [
            (self.load, slots.load),
            (self.weights, slots.weights),
            (self.inputs, router.inputs),
        ]
        if sizes.gelu:
            m.submodules.gelu = gelu = GeluUnits(sizes)
            m.d.comb += gelu.apply.eq(lanes.gelu)
            pairs += [(lanes.results, gelu.inputs), (gelu.results, self.results)]
        else:
            pairs.append((lanes.results, self.results))
        for source, sink in pairs:
            m.d.comb += [
                sink.valid.eq(source.valid),
                sink.payload.eq(source.payload),
                source.ready.eq(sink.ready),
            ]
        m.d.comb += [
            lanes.weights.eq(slots.weight),
            lanes.operands.eq(router.operands),
            lanes.biases.eq(slots.biases),
            slots.read_bias.eq(lanes.read_bias),
            slots.bias.eq(lanes.bias),
            slots.release.eq(lanes.released),
        ]
        self._issue(m, slots, router, lanes)
        return m

    def _issue(self, m: Module, slots: WeightSlots, router: Router, lanes: Lanes) -> None:
        """Take commands and walk through groups, output tiles and input tiles."""
        sizes = self.sizes
        queued, running = Signal(), Signal()
        following = Signal(self.compute.payload.shape())
        command = Signal(self.compute.payload.shape())
        rows = Signal(16)  # of the command, from the current group on
        in_tile, out_tile = Signal(16), Signal(16)
        tile = Signal(slots.tile.shape())  # within the slot
        last_in, last_out, last_group = Signal(), Signal(), Signal()
        issue = Signal()
        m.d.comb += [
            self.compute.ready.eq(~queued & router.idle),
            router.begin.eq(self.compute.valid & self.compute.ready),
            router.rows.eq(self.compute.payload.rows),
            router.in_tiles.eq(self.compute.payload.in_tiles),
            slots.begin.eq(queued & ~running & slots.full),
            issue.eq(running & router.full & lanes.ready),
            slots.read.eq(issue),
            slots.tile.eq(slots.tile_base + tile),
            router.read.eq(issue),
            router.beat.eq(in_tile),
            last_in.eq(in_tile == command.in_tiles - 1),
            last_out.eq(out_tile == command.out_tiles - 1),
            last_group.eq(rows <= sizes.lanes),
            router.release.eq(issue & last_in & last_out),
            lanes.issue.eq(issue),
            lanes.tag.first.eq(in_tile == 0),
            lanes.tag.last.eq(last_in),
            lanes.tag.final.eq(last_in & last_out & last_group),
            lanes.tag.gelu.eq(command.gelu),
            lanes.tag.bias.eq(slots.bias_base + out_tile),
            lanes.tag.rows.eq(Mux(last_group, rows, sizes.lanes)),
        ]
        with m.If(router.begin):
            m.d.sync += [queued.eq(1), following.eq(self.compute.payload)]
        with m.If(slots.begin):
            m.d.sync += [queued.eq(0), running.eq(1), command.eq(following)]
            m.d.sync += rows.eq(following.rows)
        with m.If(issue):
            m.d.sync += [in_tile.eq(Mux(last_in, 0, in_tile + 1)), tile.eq(tile + 1)]
            with m.If(last_in):
                m.d.sync += out_tile.eq(Mux(last_out, 0, out_tile + 1))
                with m.If(last_out):
                    m.d.sync += [tile.eq(0), rows.eq(rows - sizes.lanes)]
                    with m.If(last_group):
                        m.d.sync += running.eq(0)
