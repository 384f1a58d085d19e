"""DSP and block RAM of UbiMoE's layer norm: exactly those of its mapped netlist."""

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.formats import WIDE_BITS, multiplier_dsp
from headrace.arch.ubimoe.functions import ROOT_RECIPROCAL_BITS
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.memory_blocks import memory_blocks

__all__ = ["layer_norm_blocks", "layer_norm_dsp"]

_PARAMETER_BITS = 16


def layer_norm_dsp(sizes: LayerNormSizes) -> int:
    """Return the DSP slices.

    Per feature of a beat four products: with the factor of the mean (none if that is a power of
    two), with this share of the mean, of the difference with 1 / sqrt(variance), with the gain;
    one square of the mean for all.
    """
    formats = sizes.formats
    factor = sizes.mean_factor
    odd_bits = (factor // (factor & -factor)).bit_length()
    share_bits = min(
        WIDE_BITS, formats.feature_bits + factor.bit_length() - formats.feature_fraction
    )
    each = (
        (multiplier_dsp(formats.feature_bits, odd_bits + 1) if odd_bits > 1 else 0)
        + multiplier_dsp(formats.feature_bits, share_bits)
        + multiplier_dsp(WIDE_BITS, ROOT_RECIPROCAL_BITS + 1)
        + multiplier_dsp(WIDE_BITS, _PARAMETER_BITS)
    )
    return sizes.dims * each + multiplier_dsp(WIDE_BITS, WIDE_BITS)


def layer_norm_blocks(sizes: LayerNormSizes) -> Resources:
    """Return DSP and block RAM; LUT and FF are zero.

    Memories: `buffer_beats` beats of features and `row_beats` beats of gains and offsets; whether
    in LUT RAM or block RAM is left to the mapper.
    """
    total = Resources(dsp=layer_norm_dsp(sizes))
    total += memory_blocks(sizes.dims * sizes.formats.feature_bits, sizes.buffer_beats, "auto")
    return total + memory_blocks(sizes.dims * 2 * _PARAMETER_BITS, sizes.row_beats, "auto")
