"""DSP, block RAM and URAM of UbiMoE's linear kernel: exactly those of its mapped netlist."""

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.formats import multiplier_dsp
from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes
from headrace.arch.ubimoe.memory_blocks import memory_blocks, style_by_depth

__all__ = ["linear_blocks", "linear_dsp"]

_GELU_DSP = multiplier_dsp(18, 17)
"""A GELU unit has one product: the slope by the place between two values of the table."""


def linear_dsp(sizes: LinearSizes) -> int:
    """Return the DSP slices: N_L T_in T_out multipliers, and one per GELU unit."""
    formats = sizes.formats
    each = multiplier_dsp(formats.operand_bits, formats.weight_bits)
    return sizes.multipliers * each + sizes.gelu * sizes.tile_out * _GELU_DSP


def linear_blocks(sizes: LinearSizes) -> Resources:
    """Return DSP, block RAM and URAM; LUT and FF are zero.

    Memories: per lane 2 x 2^ceil(log2 max_in_tiles) words of T_in operands; banks as wide as a
    beat of slots x max_tiles weight tiles and of slots x max_out_tiles biases. Each is LUT RAM,
    block RAM or URAM by its depth (`style_by_depth`).
    """
    row_words = 2 << (max(2, sizes.max_in_tiles) - 1).bit_length()
    row = _memory(sizes, sizes.tile_in * sizes.formats.operand_bits, row_words)
    total = Resources(dsp=linear_dsp(sizes), bram36=sizes.lanes * row.bram36)
    total += Resources(uram=sizes.lanes * row.uram)
    for bits, per_slot in (
        (sizes.tile_bits, sizes.max_tiles),
        (sizes.tile_out * BIAS_BITS, sizes.max_out_tiles),
    ):
        for low in range(0, bits, sizes.beat_bits):
            total += _memory(sizes, min(sizes.beat_bits, bits - low), sizes.slots * per_slot)
    return total


def _memory(sizes: LinearSizes, width: int, words: int) -> Resources:
    return memory_blocks(width, words, style_by_depth(words, sizes.ultra))
