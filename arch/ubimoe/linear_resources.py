"""Resources of UbiMoE's linear kernel; DSP and memories are exactly those of its mapped netlist."""

from functools import lru_cache

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.fabric import (
    GELU,
    Terms,
    adder_tree,
    bits_of,
    fitted,
    log_bits,
    shift_register,
    times,
)
from headrace.arch.ubimoe.formats import WIDE_BITS, multiplier_dsp
from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes
from headrace.arch.ubimoe.memory_blocks import memory_blocks, style_by_depth

__all__ = ["linear_blocks", "linear_dsp", "linear_resources", "linear_terms"]

_GELU_DSP = multiplier_dsp(18, 17)
"""A GELU unit has one product: the slope by the place between two values of the table."""

_COUNT_BITS = 16  # of commands


def linear_dsp(sizes: LinearSizes) -> int:
    """Return the DSP slices: N_L T_in T_out multipliers, and one per GELU unit."""
    formats = sizes.formats
    each = multiplier_dsp(formats.operand_bits, formats.weight_bits)
    return sizes.multipliers * each + sizes.gelu * sizes.tile_out * _GELU_DSP


def linear_blocks(sizes: LinearSizes) -> Resources:
    """Return DSP slices, and what the memories take.

    Memories: per lane 2 x 2^ceil(log2 max_in_tiles) words of T_in operands; banks as wide as a
    beat of slots x max_tiles weight tiles and of slots x max_out_tiles biases. Each is LUT RAM,
    block RAM or URAM by its depth (`style_by_depth`).
    """
    row_words = 2 << (max(2, sizes.max_in_tiles) - 1).bit_length()
    row = _memory(sizes, sizes.tile_in * sizes.formats.operand_bits, row_words)
    total = Resources(dsp=linear_dsp(sizes)) + times(sizes.lanes, row)
    for bits, per_slot in (
        (sizes.tile_bits, sizes.max_tiles),
        (sizes.tile_out * BIAS_BITS, sizes.max_out_tiles),
    ):
        full, rest = divmod(bits, sizes.beat_bits)
        words = max(2, sizes.slots * per_slot)
        total += times(full, _memory(sizes, sizes.beat_bits, words))
        if rest:
            total += _memory(sizes, rest, words)
    return total


def _memory(sizes: LinearSizes, width: int, words: int) -> Resources:
    return memory_blocks(width, words, style_by_depth(words, sizes.ultra))


def linear_terms(sizes: LinearSizes) -> Terms:
    """Return LUTs and flip-flops beside the memories, by what they are for."""
    formats, lanes, outputs = sizes.formats, sizes.lanes, sizes.lanes * sizes.tile_out
    zeros = max(0, -formats.product_shift)  # bits that are zero throughout
    product = formats.operand_bits + formats.weight_bits - max(0, formats.product_shift)
    product = min(WIDE_BITS - zeros, product)
    halves = multiplier_dsp(formats.operand_bits, formats.weight_bits) > 1
    wide = WIDE_BITS - zeros
    bias, tile = (log_bits(max(2, sizes.slots * n)) for n in (sizes.max_out_tiles, sizes.max_tiles))
    stages, rows = sizes.pipeline_cycles, bits_of(lanes)
    tag = (3 + sizes.gelu + bias + rows) * stages - bias + stages + rows + sizes.gelu
    lane = max(1, log_bits(lanes))
    part = log_bits(max(sizes.bias_beats, sizes.tile_beats))
    second = sizes.slots - 1
    issue = 2 + 7 * _COUNT_BITS + _COUNT_BITS + 2 * sizes.gelu + tile
    slots = bias + tile + part + 4 * _COUNT_BITS + 2 + (1 + second) * 2 + 3 * second
    terms = {
        "products": Resources(
            lut=sizes.multipliers * halves * (product - 3),
            ff=sizes.multipliers * sizes.product_stages * product,
        ),
        "trees": times(outputs, adder_tree(sizes.tile_in, product, wide)),
        "accumulators": Resources(lut=outputs * 2 * WIDE_BITS, ff=outputs * WIDE_BITS),
        "outputs": Resources(lut=(lanes - 1) * sizes.tile_out * WIDE_BITS, ff=outputs * WIDE_BITS),
        "lanes": Resources(lut=lanes),
        "tags": Resources(lut=bias + stages, ff=tag),
        "router": Resources(lut=1, ff=2 * _COUNT_BITS + 4 + lane),
        "addresses": Resources(lut=bias + tile),
        "control": Resources(lut=1, ff=issue + slots),
        "parts": Resources(lut=sizes.tile_beats + sizes.bias_beats),
    }
    return terms | (_gelu_terms(sizes) if sizes.gelu else {})


def _gelu_terms(sizes: LinearSizes) -> Terms:
    queue = memory_blocks(
        WIDE_BITS * sizes.tile_out, sizes.gelu_places, "distributed", registered=False
    )
    places, latency = bits_of(sizes.gelu_places), sizes.gelu_cycles - 1
    plain = shift_register(WIDE_BITS * sizes.tile_out + 1, latency)
    return {
        "gelu": times(sizes.tile_out, GELU) + plain + queue + Resources(ff=latency + 4 * places),
        "gelu_choice": Resources(lut=WIDE_BITS * sizes.tile_out),
    }


@lru_cache(maxsize=4096)
def linear_resources(sizes: LinearSizes) -> Resources:
    """Return the resources of the linear kernel."""
    return linear_blocks(sizes) + fitted("linear", linear_terms(sizes))
