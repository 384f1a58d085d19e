"""DSP and block RAM of UbiMoE's gate, dispatch and combine: exactly those of mapped netlists."""

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import SCORE_BITS, DispatchSizes
from headrace.arch.ubimoe.formats import WIDE_BITS, multiplier_dsp
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.memory_blocks import memory_blocks
from headrace.arch.ubimoe.streaming_attention_resources import EXPONENTIAL_DSP

__all__ = ["combine_blocks", "dispatch_blocks", "gate_blocks"]


def combine_blocks(sizes: CombineSizes) -> Resources:
    """Return DSP and block RAM of the combine; LUT and FF are zero.

    A product of a wide value and a score per value of a beat. The features are in LUT RAM or block
    RAM as the mapper likes; the rows of a group are in LUT RAM.
    """
    dsp = sizes.dims * multiplier_dsp(WIDE_BITS, SCORE_BITS + 1)
    words = max(2, sizes.memory_words)
    return Resources(dsp=dsp) + memory_blocks(sizes.memory_word_bits, words, "auto")


def dispatch_blocks(sizes: DispatchSizes) -> Resources:
    """Return the block RAM of the queues, if the mapper does not take LUT RAM; LUT and FF are zero.

    One memory of tokens and scores, a queue per expert; no DSP.
    """
    return memory_blocks(sizes.queue_word_bits, sizes.queue_words, "auto")


def gate_blocks(sizes: GateSizes) -> Resources:
    """Return DSP and block RAM of the gate; LUT and FF are zero.

    A product per operand of a beat, one exponential, and one product that scales the sum and
    weighs the chosen exponentials. The weights are in LUT RAM or block RAM as the mapper likes.
    """
    formats = sizes.formats
    dsp = (
        sizes.dims * multiplier_dsp(formats.operand_bits, formats.weight_bits)
        + EXPONENTIAL_DSP
        + multiplier_dsp(WIDE_BITS, SCORE_BITS + 1)
    )
    words = max(2, sizes.weight_words)
    return Resources(dsp=dsp) + memory_blocks(sizes.dims * formats.weight_bits, words, "auto")
