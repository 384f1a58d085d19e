"""Resources of UbiMoE's layer norm; DSP and block RAM are exactly those of its netlist."""

from functools import lru_cache

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.fabric import (
    LARGEST_PRODUCT,
    ROOT,
    Terms,
    adder_tree,
    bits_of,
    fitted,
    is_split,
    log_bits,
    shift_register,
    split_product,
    times,
)
from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION, multiplier_dsp
from headrace.arch.ubimoe.functions import ROOT_RECIPROCAL_BITS
from headrace.arch.ubimoe.layer_norm import PRODUCT_STAGES, LayerNormSizes
from headrace.arch.ubimoe.memory_blocks import memory_blocks

__all__ = ["layer_norm_blocks", "layer_norm_dsp", "layer_norm_resources", "layer_norm_terms"]

_PARAMETER_BITS = 16
_BITS_OF_ONE = 2  # with a sign
_MEAN_LUTS = {0: 0, 1: 0, 2: 1, 4: 2}  # adders of a product of so many slices


def layer_norm_dsp(sizes: LayerNormSizes) -> int:
    """Return the DSP slices.

    Per feature of a beat four products: with the factor of the mean (none if that is a power of
    two), with this share of the mean, of the difference with 1 / sqrt(variance), with the gain;
    one square of the mean for all.
    """
    formats = sizes.formats
    each = (
        _mean_dsp(sizes)
        + multiplier_dsp(formats.feature_bits, _share_bits(sizes))
        + multiplier_dsp(WIDE_BITS, ROOT_RECIPROCAL_BITS + 1)
        + multiplier_dsp(WIDE_BITS, _PARAMETER_BITS)
    )
    return sizes.dims * each + multiplier_dsp(WIDE_BITS, WIDE_BITS)


def _share_bits(sizes: LayerNormSizes) -> int:
    """Return the bits of a feature's share of the mean."""
    formats = sizes.formats
    bits = formats.feature_bits + sizes.mean_factor.bit_length() - formats.feature_fraction
    return min(WIDE_BITS, bits)


def _mean_dsp(sizes: LayerNormSizes) -> int:
    """Return the DSP slices of a product with the factor of the mean.

    It is left to the mapper, which cuts both factors if no slice holds either (D below 32).
    """
    feature, factor = sizes.formats.feature_bits, sizes.mean_factor
    bits = (factor // (factor & -factor)).bit_length() + 1
    if bits == _BITS_OF_ONE:
        return 0
    return multiplier_dsp(feature, bits) * (1 + is_split(feature, bits))


def layer_norm_blocks(sizes: LayerNormSizes) -> Resources:
    """Return DSP slices, and what the memories take.

    Memories: `buffer_beats` beats of features and `row_beats` beats of gains and offsets; whether
    in LUT RAM or block RAM is left to the mapper.
    """
    total = Resources(dsp=layer_norm_dsp(sizes))
    total += memory_blocks(sizes.dims * sizes.formats.feature_bits, sizes.buffer_beats, "auto")
    total += _pairs(sizes)
    known = WIDE_BITS + ROOT_RECIPROCAL_BITS
    return total + memory_blocks(known, sizes.waiting_rows, "distributed", registered=False)


def _pairs(sizes: LayerNormSizes) -> Resources:
    """Return the memory of gains and offsets; a register behind LUT RAM begins their delays."""
    bits = sizes.dims * 2 * _PARAMETER_BITS
    return memory_blocks(bits, sizes.row_beats, "auto", registered=False)


def layer_norm_terms(sizes: LayerNormSizes) -> Terms:
    """Return LUTs and flip-flops beside the memories, by what they are for."""
    known = WIDE_BITS + ROOT_RECIPROCAL_BITS
    counters = 3 * log_bits(sizes.row_beats) + 2 * log_bits(sizes.buffer_beats)
    counters += bits_of(sizes.buffer_beats)
    waiting = 2 * log_bits(sizes.waiting_rows) + bits_of(sizes.waiting_rows)
    return {
        **_statistics_terms(sizes),
        **_normaliser_terms(sizes),
        "counters": Resources(lut=counters, ff=counters + waiting + 2 * 16 + 1),
        "known": Resources(ff=known + 1 + sizes.normaliser_latency),
        "control": Resources(lut=1),
    }


def _statistics_terms(sizes: LayerNormSizes) -> Terms:
    """Return mean and root: shares and squares of the features, their sums, the function."""
    formats, dims = sizes.formats, sizes.dims
    feature, share = formats.feature_bits, _share_bits(sizes)
    if _mean_dsp(sizes):
        features = shift_register(feature, 1) + shift_register(feature, PRODUCT_STAGES)
        features += shift_register(share, PRODUCT_STAGES)
    else:  # the share is the feature itself, shifted
        features = shift_register(feature, 1 + PRODUCT_STAGES)
    square = min(WIDE_BITS, feature + share - formats.feature_fraction)
    if is_split(feature, share):
        squares = split_product(share, formats.feature_fraction, square, PRODUCT_STAGES)
    else:
        squares = shift_register(square, PRODUCT_STAGES)
        squares += Resources(lut=LARGEST_PRODUCT * (multiplier_dsp(feature, share) > 1))
    levels = log_bits(dims)
    wide = shift_register(WIDE_BITS, PRODUCT_STAGES)
    return {
        "features": times(dims, features),
        "means": Resources(lut=dims * _MEAN_LUTS[_mean_dsp(sizes)] * (share + 4)),
        "squares": times(dims, squares),
        "trees": adder_tree(dims, share, WIDE_BITS) + adder_tree(dims, square, WIDE_BITS),
        "totals": shift_register(min(WIDE_BITS, share + levels), PRODUCT_STAGES)
        + Resources(lut=4 * WIDE_BITS, ff=2 * WIDE_BITS),
        "flags": Resources(ff=3 * (sizes.mean_latency - 1) + sizes.scale_latency + 1),
        "variance": wide + wide + Resources(lut=LARGEST_PRODUCT + 2 * WIDE_BITS, ff=WIDE_BITS),
        "mean": shift_register(WIDE_BITS, sizes.scale_latency),
        "root": ROOT,
    }


def _normaliser_terms(sizes: LayerNormSizes) -> Terms:
    """Return difference, two products and the offset of each feature of a beat."""
    formats, dims = sizes.formats, sizes.dims
    operand, shift, low = formats.operand_bits, formats.operand_shift, WIDE_FRACTION
    low -= formats.norm_fraction  # bits that the offset does not reach
    top = WIDE_BITS if formats.saturates else shift + operand
    through = max(0, low - shift)  # of those the ones that are results
    moved = top - max(shift, low)
    tail = PRODUCT_STAGES + 2
    gained = shift_register(top - low, PRODUCT_STAGES) + shift_register(through, tail)
    first = 1 + (_pairs(sizes).bram36 == 0)
    pair = shift_register(_PARAMETER_BITS, first + PRODUCT_STAGES)
    pair += shift_register(_PARAMETER_BITS, first + 2 * PRODUCT_STAGES)
    halves = multiplier_dsp(WIDE_BITS, _PARAMETER_BITS) > 1
    each = pair + gained + shift_register(WIDE_BITS, PRODUCT_STAGES)
    each += Resources(lut=WIDE_BITS + moved, ff=WIDE_BITS + moved + operand - through)
    products = LARGEST_PRODUCT + halves * (WIDE_BITS - 3)
    return {
        "normaliser": times(dims, each) + Resources(ff=ROOT_RECIPROCAL_BITS),
        "normaliser_products": Resources(lut=dims * products),
        "saturation": Resources(lut=dims * formats.saturates * (operand + 4)),
    }


@lru_cache(maxsize=4096)
def layer_norm_resources(sizes: LayerNormSizes) -> Resources:
    """Return the resources of the layer norm."""
    return layer_norm_blocks(sizes) + fitted("layer_norm", layer_norm_terms(sizes))
