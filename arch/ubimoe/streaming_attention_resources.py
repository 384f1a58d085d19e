"""Resources of UbiMoE's streaming attention; DSP and block RAM are exactly its netlist's."""

from functools import lru_cache

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.fabric import (
    DIVIDER,
    EXPONENTIAL,
    LARGEST_PRODUCT,
    Terms,
    adder_tree,
    bits_of,
    chosen,
    fitted,
    log_bits,
    shift_register,
    split_product,
    times,
)
from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION, multiplier_dsp
from headrace.arch.ubimoe.functions import EXP_LATENCY, RECIP_LATENCY
from headrace.arch.ubimoe.memory_blocks import DISTRIBUTED_WORDS, memory_blocks
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes

__all__ = [
    "EXPONENTIAL_DSP",
    "streaming_attention_blocks",
    "streaming_attention_dsp",
    "streaming_attention_resources",
    "streaming_attention_terms",
]

_FACTOR_BITS = WIDE_FRACTION + 2  # an exponential or a reciprocal as a signed number
_EXP_BITS = WIDE_FRACTION + 1
_REST_BITS = 10 + 1
_SUM_BITS, _DIFFERENCE_BITS = 31, 33
_WEIGHED = 2 + EXP_LATENCY  # from a beat to its exponentials

EXPONENTIAL_DSP = multiplier_dsp(_FACTOR_BITS, _FACTOR_BITS) + multiplier_dsp(
    _FACTOR_BITS, _REST_BITS
)
"""DSP slices of an exponential: the product of two tables, and that with the rest."""


def streaming_attention_dsp(sizes: StreamingAttentionSizes) -> int:
    """Return the DSP slices.

    N_a T_a products of operands, N_a T_a of an operand and an exponential, T_a of a sum and a
    reciprocal, and N_a x exp_units exponentials. The divider has none.
    """
    operand = sizes.formats.operand_bits
    weighed = multiplier_dsp(operand, operand) + multiplier_dsp(operand, _FACTOR_BITS)
    return (
        sizes.lanes * sizes.dims * weighed
        + sizes.dims * multiplier_dsp(WIDE_BITS, _FACTOR_BITS)
        + sizes.lanes * sizes.exp_units * EXPONENTIAL_DSP
    )


def streaming_attention_blocks(sizes: StreamingAttentionSizes) -> Resources:
    """Return DSP slices, and what the memories take.

    Memories: `scores_depth` words of N_a wide values, `maxima_depth` wide values; LUT RAM up to 64
    words, block RAM beyond. Rows of queries and of sums are shift registers in LUTs.
    """
    total = Resources(dsp=streaming_attention_dsp(sizes))
    for width, words in (
        (sizes.lanes * WIDE_BITS, sizes.scores_depth),
        (WIDE_BITS, sizes.maxima_depth),
    ):
        style = "distributed" if words <= DISTRIBUTED_WORDS else "block"
        total += memory_blocks(width, max(2, words), style)
    return total


def streaming_attention_terms(sizes: StreamingAttentionSizes) -> Terms:
    """Return LUTs and flip-flops beside the memories, by what they are for."""
    fifos = [2 * bits_of(depth) + 2 * log_bits(max(2, depth)) for depth in _depths(sizes)]
    counts = bits_of(sizes.max_tokens)
    walker = 1 + (sizes.lanes > 1) + log_bits(sizes.head_beats) + log_bits(sizes.heads) + 4 * counts
    return {
        **_score_terms(sizes),
        **_value_terms(sizes),
        **_result_terms(sizes),
        "fifos": Resources(lut=sum(fifos), ff=sum(fifos)),
        "walkers": Resources(lut=2 * walker, ff=2 * walker),
        "flags": _flags(sizes),
        "lanes": Resources(lut=sizes.lanes * counts),
        "control": Resources(lut=1),
    }


def _depths(sizes: StreamingAttentionSizes) -> tuple[int, int]:
    return sizes.scores_depth, sizes.maxima_depth


def _flags(sizes: StreamingAttentionSizes) -> Resources:
    """Return the flags beside the pipelines; only those that tell of data have resets."""
    first, last = sizes.score_cycles - 2, sizes.score_cycles - 1
    product = sizes.value_product_stages
    valid = last + sizes.result_cycles
    ends = sizes.result_cycles - _WEIGHED - product
    total = Resources(ff=valid)
    total += shift_register(1, first) + shift_register(1 + 2 * sizes.lanes, last)
    for bits, stages in (
        (1 + sizes.lanes, 1),
        (1 + sizes.lanes, _WEIGHED - 1),
        (sizes.lanes, _WEIGHED),
        (2 * sizes.lanes, product),
        (sizes.lanes, ends),
    ):
        total += shift_register(bits, stages)
    if sizes.exp_units > 1:
        head = log_bits(sizes.heads)
        total += shift_register(head, 2) + shift_register(head, EXP_LATENCY)
    return total


def _score_terms(sizes: StreamingAttentionSizes) -> Terms:
    """Return what part 1 has: queries, products, scores and maxima."""
    formats, lanes, dims = sizes.formats, sizes.lanes, sizes.dims
    beat = formats.operand_bits * dims
    left, right = max(0, -formats.score_shift), max(0, formats.score_shift)
    unused = max(0, sizes.scale_shift - left)  # bits below the scores
    kept = min(WIDE_BITS - left, 2 * formats.operand_bits - right)
    product = kept - (unused if dims == 1 else 0)
    halves = multiplier_dsp(formats.operand_bits, formats.operand_bits) > 1
    tree = adder_tree(dims, kept, WIDE_BITS - left, grows=False)
    score = WIDE_BITS - max(0, left - sizes.scale_shift)
    return {
        "queries": Resources(lut=lanes * beat, ff=(lanes + 1) * beat)
        + shift_register(lanes * beat, sizes.row_beats - 1),
        "score_products": Resources(lut=LARGEST_PRODUCT * halves * lanes * dims)
        + shift_register(lanes * dims * product, sizes.score_product_stages),
        "score_trees": times(lanes, tree) + Resources(ff=-lanes * unused * (dims > 1)),
        "scores": Resources(lut=lanes * 2 * score, ff=lanes * score),
        "maxima": Resources(lut=lanes * 2 * score + WIDE_BITS * chosen(lanes))
        + times(2, shift_register(lanes * WIDE_BITS, sizes.heads)),
    }


def _value_terms(sizes: StreamingAttentionSizes) -> Terms:
    """Return what part 2 has for each lane: exponentials, their sum, weighed values."""
    formats, lanes, dims, units = sizes.formats, sizes.lanes, sizes.dims, sizes.exp_units
    operand, fraction = formats.operand_bits, formats.operand_fraction
    stages = sizes.value_product_stages
    kept = min(WIDE_BITS, operand + _FACTOR_BITS - fraction)
    if multiplier_dsp(operand, _FACTOR_BITS) > 1:
        weighed = split_product(_EXP_BITS, fraction, kept, stages)
    else:
        weighed = shift_register(kept, stages)
    # With one unit the last bits of the difference go through no multiplexer to the exponential.
    rest = _REST_BITS - 1
    alone = shift_register(rest, 3) + Resources(ff=-3 * rest)
    exponentials = times(lanes * units, EXPONENTIAL)
    choices = lanes * (units * _DIFFERENCE_BITS + _EXP_BITS * chosen(units)) if units > 1 else 0
    return {
        "exponentials": exponentials + (times(lanes, alone) if units == 1 else Resources()),
        "exponential_choice": Resources(lut=choices),
        "differences": Resources(
            lut=lanes * (WIDE_BITS + _DIFFERENCE_BITS), ff=lanes * _DIFFERENCE_BITS
        ),
        "sums": Resources(lut=lanes * 2 * _SUM_BITS + _SUM_BITS * chosen(lanes), ff=_SUM_BITS)
        + shift_register(lanes * _SUM_BITS, sizes.heads),
        "values": shift_register(dims * operand, _WEIGHED),
        "weighed": times(lanes * dims, weighed),
        "rows": Resources(lut=lanes * dims * 2 * WIDE_BITS)
        + shift_register(lanes * dims * WIDE_BITS, sizes.row_beats),
    }


def _result_terms(sizes: StreamingAttentionSizes) -> Terms:
    """Return the division by the sums."""
    formats, dims = sizes.formats, sizes.dims
    shift = WIDE_FRACTION + formats.operand_shift
    wait = RECIP_LATENCY - sizes.value_product_stages
    bits = dims * WIDE_BITS
    if sizes.lanes == 1:  # the row itself or zero: a reset
        finished = Resources(ff=bits) + shift_register(bits, wait)
    else:
        finished = shift_register(bits, wait + 1)
    stages = sizes.result_product_stages
    quotient = split_product(_EXP_BITS, shift, formats.operand_bits, stages)
    return {
        "divider": DIVIDER,
        "finished": finished + Resources(lut=bits * chosen(sizes.lanes)),
        "quotients": times(dims, quotient + Resources(ff=formats.operand_bits)),
    }


@lru_cache(maxsize=4096)
def streaming_attention_resources(sizes: StreamingAttentionSizes) -> Resources:
    """Return the resources of the streaming attention."""
    terms = streaming_attention_terms(sizes)
    return streaming_attention_blocks(sizes) + fitted("streaming_attention", terms)
