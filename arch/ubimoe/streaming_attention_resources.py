"""DSP and block RAM of UbiMoE's streaming attention: exactly those of its mapped netlist."""

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION, multiplier_dsp
from headrace.arch.ubimoe.memory_blocks import DISTRIBUTED_WORDS, memory_blocks
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes

__all__ = ["EXPONENTIAL_DSP", "streaming_attention_blocks", "streaming_attention_dsp"]

_FACTOR_BITS = WIDE_FRACTION + 2  # an exponential or a reciprocal as a signed number
_REST_BITS = 10 + 1

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
    """Return DSP and block RAM; LUT and FF are zero.

    Memories: `scores_depth` words of N_a wide values, `maxima_depth` wide values; LUT RAM up to 64
    words, block RAM beyond. Rows of queries and of sums are shift registers in LUTs.
    """
    total = Resources(dsp=streaming_attention_dsp(sizes))
    for width, words in (
        (sizes.lanes * WIDE_BITS, sizes.scores_depth),
        (WIDE_BITS, sizes.maxima_depth),
    ):
        style = "distributed" if words <= DISTRIBUTED_WORDS else "block"
        total += memory_blocks(width, words, style)
    return total
