"""The arithmetic of UbiMoE's layer norm: rule 4 of docs/ubimoe-numerics.md."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.arch.ubimoe.functions import ROOT_RECIPROCAL_BITS
from headrace.arch.ubimoe.layer_norm import PRODUCT_STAGES, LayerNormSizes
from headrace.rtl.tree import AdderTree
from headrace.rtl.ubimoe.pipeline import delayed
from headrace.rtl.ubimoe.product import split_product
from headrace.rtl.ubimoe.root import RootReciprocal

__all__ = ["RowNormaliser", "RowStatistics", "parameter_layout"]

PARAMETER_BITS = 16
EPSILON = 4  # 1e-6


def parameter_layout(sizes: LayerNormSizes) -> data.ArrayLayout:
    """Return the layout of a beat of parameters."""
    pair = data.StructLayout({"gain": signed(PARAMETER_BITS), "offset": signed(PARAMETER_BITS)})
    return data.ArrayLayout(pair, sizes.dims)


def _wide(value: Value) -> Value:
    """Return the low 32 bits as a signed number."""
    return value[:WIDE_BITS].as_signed()


class RowStatistics(wiring.Component):
    """Mean and 1 / sqrt(variance + 1e-6) of rows.

    A beat per cycle; never stands still. `done` comes `mean_latency` + `scale_latency` cycles after
    the last beat of a row.

    Parameters
    ----------
    sizes : LayerNormSizes

    Attributes
    ----------
    valid, first, last : In(1)
        `features` are a beat, the first or last one of a row.
    features : In
        `dims` features.
    done : Out(1)
        `mean` and `scale` are those of a row.
    mean : Out(signed 32)
    scale : Out(31)
        Both with 22 fraction bits.
    """

    def __init__(self, sizes: LayerNormSizes) -> None:
        self.sizes = sizes
        features = data.ArrayLayout(signed(sizes.formats.feature_bits), sizes.dims)
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "features": In(features),
                "done": Out(1),
                "mean": Out(signed(WIDE_BITS)),
                "scale": Out(unsigned(ROOT_RECIPROCAL_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes, always = self.sizes, Const(1)
        m.submodules.means = means = AdderTree(sizes.dims, WIDE_BITS)
        m.submodules.squares = squares = AdderTree(sizes.dims, WIDE_BITS)
        for lane in range(sizes.dims):
            mean, square = self._terms(m, lane)
            m.d.comb += [means.terms[lane].eq(mean), squares.terms[lane].eq(square)]

        # The tree of the squares is later by one product: the other one waits.
        total = delayed(m, _wide(means.total), PRODUCT_STAGES, always, "total")
        flags = Cat(self.valid, self.first, self.last & self.valid)
        summed = delayed(m, flags, sizes.mean_latency - 1, always, "flags", reset=True)
        mean = Signal(signed(WIDE_BITS), reset_less=True)
        square = Signal(signed(WIDE_BITS), reset_less=True)
        with m.If(summed[0]):
            m.d.sync += [
                mean.eq(total + Mux(summed[1], 0, mean)),
                square.eq(squares.total + Mux(summed[1], 0, square)),
            ]

        m.submodules.root = root = RootReciprocal()
        mean_square = delayed(
            m, _wide((mean * mean) >> WIDE_FRACTION), PRODUCT_STAGES, always, "mean_square"
        )
        variance = Signal(signed(WIDE_BITS), reset_less=True)
        waiting = delayed(m, square, PRODUCT_STAGES, always, "waiting")
        m.d.sync += variance.eq(waiting - mean_square + EPSILON)
        m.d.comb += [
            root.enable.eq(1),
            root.argument.eq(variance),
            self.mean.eq(delayed(m, mean, sizes.scale_latency, always, "mean")),
            self.scale.eq(root.result),
            self.done.eq(
                delayed(m, summed[2], sizes.scale_latency + 1, always, "done", reset=True)
            ),
        ]
        return m

    def _terms(self, m: Module, lane: int) -> tuple[Value, Value]:
        """Return what a lane adds to the mean, and a product later, to the mean square."""
        always, fraction = Const(1), self.sizes.formats.feature_fraction
        x = delayed(m, self.features[lane], 1, always, f"x{lane}")
        share = _wide((x * Const(self.sizes.mean_factor))[fraction:])
        share = delayed(m, share, PRODUCT_STAGES, always, f"share{lane}")
        beside = delayed(m, x, PRODUCT_STAGES, always, f"x{lane}_beside")
        square = split_product(m, beside, share, PRODUCT_STAGES, always, f"square{lane}")
        return share, _wide(square >> fraction)


class RowNormaliser(wiring.Component):
    """(x - mean) scale gain + offset, as operands.

    A rigid pipeline of `latency` = `normaliser_latency` stages, one beat per enabled cycle.

    Parameters
    ----------
    sizes : LayerNormSizes

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    features : In
        `dims` features.
    parameters : In
        `dims` pairs of gain and offset.
    mean, scale : In(signed 32), In(31)
        Those of the row.
    results : Out
        `dims` operands, of the arguments `latency` enabled cycles before.
    """

    def __init__(self, sizes: LayerNormSizes) -> None:
        self.sizes = sizes
        self.latency = sizes.normaliser_latency
        formats = sizes.formats
        super().__init__(
            {
                "enable": In(1),
                "features": In(data.ArrayLayout(signed(formats.feature_bits), sizes.dims)),
                "parameters": In(parameter_layout(sizes)),
                "mean": In(signed(WIDE_BITS)),
                "scale": In(unsigned(ROOT_RECIPROCAL_BITS)),
                "results": Out(data.ArrayLayout(signed(formats.operand_bits), sizes.dims)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        scale = delayed(m, self.scale, 1, self.enable, "scale")
        for lane in range(self.sizes.dims):
            m.d.comb += self.results[lane].eq(self._lane(m, lane, scale))
        return m

    def _lane(self, m: Module, lane: int, scale: Value) -> Value:
        formats, enable = self.sizes.formats, self.enable

        def later(value: Value, stages: int, name: str) -> Value:
            return delayed(m, value, stages, enable, f"{name}{lane}")

        pair = self.parameters[lane]
        gain = later(pair.gain, 1 + PRODUCT_STAGES, "gain")
        offset = later(pair.offset, 1 + 2 * PRODUCT_STAGES, "offset")
        widened = self.features[lane] << formats.feature_shift
        centred = later(_wide(widened - self.mean), 1, "centred")
        scaled = later(_wide((centred * scale) >> WIDE_FRACTION), PRODUCT_STAGES, "scaled")
        gained = _wide((scaled * gain) >> formats.norm_fraction)
        gained = later(gained, PRODUCT_STAGES, "gained")
        shifted = offset << (WIDE_FRACTION - formats.norm_fraction)
        moved = later(_wide(gained + shifted), 1, "moved")
        return later(self._operand(moved), 1, "operand")

    def _operand(self, value: Value) -> Value:
        formats = self.sizes.formats
        shifted = value >> formats.operand_shift
        low = shifted[: formats.operand_bits].as_signed()
        if not formats.saturates:
            return low
        limit = (1 << (formats.operand_bits - 1)) - 1
        kept = Mux(shifted > limit, limit, Mux(shifted < -limit - 1, -limit - 1, low))
        return kept[: formats.operand_bits].as_signed()
