"""Multipliers, adder trees and accumulators of the linear kernel's lanes."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes

__all__ = ["Lanes", "tag_layout"]


def tag_layout(sizes: LinearSizes) -> data.StructLayout:
    """Return what goes with a weight tile through the pipeline.

    `first` and `last` of its output tile's; `final`: the last one that uses the slot; `bias`: the
    address of the output tile's biases; `rows`: of the group; `gelu`: of the computation.
    """
    address = ceil_log2(max(2, sizes.slots * sizes.max_out_tiles))
    rows = (sizes.lanes).bit_length()
    flags = {"first": 1, "last": 1, "final": 1, "gelu": 1}
    return data.StructLayout({**flags, "bias": address, "rows": rows})


class Lanes(wiring.Component):
    """Multiply a weight tile with a beat of every lane's row; add up output tiles.

    An elastic pipeline of `LinearSizes.pipeline_cycles` stages: each holds what it has until the
    next one takes it. The first stage is the output registers of the memories, which are read
    when something is issued; behind it two registers for the products and those of the trees.
    What is issued in cycle t and not held up is added to the accumulators in t + pipeline_cycles.

    A finished output tile goes to the output registers, and from there to `results` lane after
    lane from the next cycle on, while the next one is computed. It waits in the pipeline, and all
    behind it, until the lane before the last of the previous tile's is gone.

    Parameters
    ----------
    sizes : LinearSizes

    Attributes
    ----------
    issue, tag : In
        The memories are read in this cycle; only while `ready`.
    ready : Out(1)
    weights, operands : In
        Outputs of the memories, which stay until the next issue.
    read_bias, bias : Out
        Read the biases in this cycle; they stay until the next read.
    biases : In
    released : Out(1)
        The last tile that uses the oldest slot is done with it.
    results : stream
        T_out wide values of a row.
    gelu : Out(1)
        The beat on `results` is of a computation with GELU.
    """

    def __init__(self, sizes: LinearSizes) -> None:
        self.sizes = sizes
        formats = sizes.formats
        wide = data.ArrayLayout(signed(WIDE_BITS), sizes.tile_out)
        operands = data.ArrayLayout(signed(formats.operand_bits), sizes.tile_in)
        weights = data.ArrayLayout(signed(formats.weight_bits), sizes.tile_out * sizes.tile_in)
        super().__init__(
            {
                "issue": In(1),
                "tag": In(tag_layout(sizes)),
                "ready": Out(1),
                "weights": In(weights),
                "operands": In(data.ArrayLayout(operands, sizes.lanes)),
                "read_bias": Out(1),
                "bias": Out(ceil_log2(max(2, sizes.slots * sizes.max_out_tiles))),
                "biases": In(data.ArrayLayout(signed(BIAS_BITS), sizes.tile_out)),
                "released": Out(1),
                "results": Out(stream.Signature(wide)),
                "gelu": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        stages = self.sizes.pipeline_cycles
        valid = [self.issue, *(Signal(name=f"valid_{s}") for s in range(1, stages + 1))]
        tags = [
            self.tag,
            *(Signal(tag_layout(self.sizes), name=f"tag_{s}") for s in range(1, stages + 1)),
        ]
        # advance[s]: stage s takes what stage s - 1 has; the last one is the accumulators.
        advance = [Const(1), *(Signal(name=f"advance_{s}") for s in range(1, stages + 2))]
        for stage in range(1, stages + 1):
            m.d.comb += advance[stage].eq(~valid[stage] | advance[stage + 1])
            with m.If(advance[stage]):
                m.d.sync += [valid[stage].eq(valid[stage - 1]), tags[stage].eq(tags[stage - 1])]
        sums = self._products(m, advance)
        m.d.comb += [
            self.ready.eq(advance[1]),
            self.read_bias.eq(advance[stages]),
            self.bias.eq(tags[stages - 1].bias),
        ]
        self._accumulate(m, valid[stages], tags[stages], advance[stages + 1], sums)
        return m

    def _products(self, m: Module, advance: list[Any]) -> list[list[Any]]:
        """Return the sum of every lane and output, behind multipliers and trees.

        Data need no reset, only what tells that there are data.
        """
        sizes = self.sizes
        shift = sizes.formats.product_shift
        sums = []
        for lane in range(sizes.lanes):
            row = []
            for output in range(sizes.tile_out):
                terms = []
                for i in range(sizes.tile_in):
                    weight = self.weights[output * sizes.tile_in + i]
                    node: Any = self.operands[lane][i] * weight
                    for stage in range(2, 2 + sizes.product_stages):
                        name = f"product_{lane}_{output}_{i}_{stage}"
                        product = Signal(node.shape(), name=name, reset_less=True)
                        with m.If(advance[stage]):
                            m.d.sync += product.eq(node)
                        node = product
                    term = Signal(signed(sizes.term_bits), name=f"term_{lane}_{output}_{i}")
                    m.d.comb += term.eq(node >> shift if shift >= 0 else node << -shift)
                    terms.append(term)
                row.append(self._tree(m, terms, advance, f"{lane}_{output}"))
            sums.append(row)
        return sums

    def _tree(self, m: Module, terms: list[Any], advance: list[Any], name: str) -> Any:
        """Add the terms, wrapping at 32 bits; a register follows every second level."""
        levels = ceil_log2(len(terms))
        stage = 2 + self.sizes.product_stages
        for level in range(levels):
            registered = level % 2 == 1 or level == levels - 1
            bits = min(WIDE_BITS, self.sizes.term_bits + level + 1)
            sums = []
            for pair in range(0, len(terms), 2):
                node = Signal(signed(bits), name=f"sum_{name}_{level}_{pair // 2}", reset_less=True)
                total = sum(terms[pair + 1 : pair + 2], terms[pair])
                if registered:
                    with m.If(advance[stage]):
                        m.d.sync += node.eq(total)
                else:
                    m.d.comb += node.eq(total)
                sums.append(node)
            terms = sums
            stage += registered
        return terms[0]

    def _accumulate(
        self, m: Module, valid: Signal, tag: Any, accept: Signal, sums: list[list[Any]]
    ) -> None:
        """Add the sums to the accumulators; move finished tiles out."""
        sizes = self.sizes
        rows = Signal(tag.rows.shape())  # left in the output registers
        leave, finish = Signal(), Signal()
        out = [
            Signal(self.results.payload.shape(), name=f"out_{lane}", reset_less=True)
            for lane in range(sizes.lanes)
        ]
        m.d.comb += [
            self.results.valid.eq(rows != 0),
            self.results.payload.eq(out[0]),
            leave.eq(self.results.valid & self.results.ready),
            accept.eq(~tag.last | (rows == 0) | (leave & (rows == 1))),
            finish.eq(valid & accept & tag.last),
            self.released.eq(finish & tag.final),
        ]
        with m.If(leave):
            m.d.sync += rows.eq(rows - 1)
            m.d.sync += [out[lane].eq(out[lane + 1]) for lane in range(sizes.lanes - 1)]
        with m.If(finish):
            m.d.sync += [rows.eq(tag.rows), self.gelu.eq(tag.gelu)]
        for lane in range(sizes.lanes):
            for output in range(sizes.tile_out):
                total = Signal(signed(WIDE_BITS), name=f"total_{lane}_{output}")
                name = f"before_{lane}_{output}"
                before = Signal(signed(WIDE_BITS), name=name, reset_less=True)
                bias = self.biases[output] << (WIDE_FRACTION - sizes.bias_fraction)
                m.d.comb += total.eq(Mux(tag.first, bias, before) + sums[lane][output])
                with m.If(valid & accept):
                    m.d.sync += before.eq(total)
                with m.If(finish):
                    m.d.sync += out[lane][output].eq(total)
