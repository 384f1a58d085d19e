"""Resources of UbiMoE's gate, dispatch and combine; DSP and block RAM are exactly the netlists'."""

from functools import lru_cache

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import SCORE_BITS, DispatchSizes
from headrace.arch.ubimoe.fabric import (
    DIVIDER,
    EXPONENTIAL,
    Terms,
    adder_tree,
    fitted,
    log_bits,
    multiplexer,
    shift_register,
    split_product,
    times,
)
from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION, multiplier_dsp
from headrace.arch.ubimoe.gate import PRODUCT_STAGES, SUM_TIME, GateSizes
from headrace.arch.ubimoe.memory_blocks import memory_blocks
from headrace.arch.ubimoe.streaming_attention_resources import EXPONENTIAL_DSP

__all__ = [
    "combine_blocks",
    "combine_resources",
    "combine_terms",
    "dispatch_blocks",
    "dispatch_resources",
    "dispatch_terms",
    "gate_blocks",
    "gate_resources",
    "gate_terms",
]

_COUNT_BITS = 16  # of commands
_CHOICES_BITS = 8
_SUM_BITS = 31
_DIFFERENCE_BITS = 33


def combine_blocks(sizes: CombineSizes) -> Resources:
    """Return DSP slices, and what the memories of the combine take.

    A product of a wide value and a score per value of a beat. The features are in LUT RAM or block
    RAM as the mapper likes; the rows of a group are in LUT RAM.
    """
    dsp = sizes.dims * multiplier_dsp(WIDE_BITS, SCORE_BITS + 1)
    features = memory_blocks(sizes.memory_word_bits, max(2, sizes.memory_words), "auto")
    entry, entries = sizes.token_bits + SCORE_BITS + 1, 2 << sizes.lane_bits
    rows = memory_blocks(entry, entries, "distributed", registered=False)
    return Resources(dsp=dsp) + features + rows


def combine_terms(sizes: CombineSizes) -> Terms:
    """Return LUTs and flip-flops beside the memories, by what they are for."""
    feature, address, lane = sizes.formats.feature_bits, sizes.address_bits, sizes.lane_bits
    shift = 2 * WIDE_FRACTION - sizes.formats.feature_fraction
    product = split_product(SCORE_BITS, shift, feature, 2)
    entries = 2 << lane
    walk = 2 + sizes.token_bits + 2 * _COUNT_BITS + address + 1
    queue = 4 * _COUNT_BITS + _CHOICES_BITS + address + 2 + entries + 2 + 2 * lane
    return {
        "values": Resources(
            lut=sizes.dims * 2 * feature, ff=sizes.dims * (WIDE_BITS + 2 * feature)
        ),
        "products": times(sizes.dims, product),
        "addresses": Resources(lut=6 * address, ff=4 * address + 4 + SCORE_BITS + 1),
        "walk": Resources(lut=walk, ff=walk),
        "entries": Resources(lut=entries),
        "queue": Resources(lut=queue, ff=queue),
        "control": Resources(lut=1),
    }


@lru_cache(maxsize=4096)
def combine_resources(sizes: CombineSizes) -> Resources:
    """Return the resources of the combine."""
    return combine_blocks(sizes) + fitted("combine", combine_terms(sizes))


def dispatch_blocks(sizes: DispatchSizes) -> Resources:
    """Return what the queues take: block RAM, if the mapper does not take LUT RAM.

    One memory of tokens and scores, a queue per expert; no DSP.
    """
    return memory_blocks(sizes.queue_word_bits, sizes.queue_words, "auto")


def dispatch_terms(sizes: DispatchSizes) -> Terms:
    """Return LUTs and flip-flops beside the queues, by what they are for."""
    experts, count = sizes.experts, sizes.token_bits + 1
    rank = log_bits(sizes.top_k)
    choice = multiplexer(sizes.top_k) * (SCORE_BITS + sizes.expert_bits)
    control = 1 + _COUNT_BITS + 2 * sizes.token_bits + 1 + rank
    return {
        "counts": Resources(lut=experts * count, ff=experts * (count + 2)),
        "count_choice": Resources(lut=3 * count * multiplexer(experts)),
        "choices": Resources(lut=choice),
        "orders": Resources(lut=experts),
        "control": Resources(lut=control, ff=control),
    }


@lru_cache(maxsize=4096)
def dispatch_resources(sizes: DispatchSizes) -> Resources:
    """Return the resources of the dispatch."""
    return dispatch_blocks(sizes) + fitted("dispatch", dispatch_terms(sizes))


def gate_blocks(sizes: GateSizes) -> Resources:
    """Return DSP slices, and what the memories of the gate take.

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
    weights = memory_blocks(sizes.dims * formats.weight_bits, words, "auto")
    scores = memory_blocks(WIDE_BITS, max(2, sizes.experts), "distributed", registered=False)
    return Resources(dsp=dsp) + weights + scores


def gate_terms(sizes: GateSizes) -> Terms:
    """Return LUTs and flip-flops beside the memories, by what they are for."""
    return {**_gate_product_terms(sizes), **_gate_softmax_terms(sizes), "control": Resources(lut=1)}


def _gate_product_terms(sizes: GateSizes) -> Terms:
    """Return the products, their sum over a beat and a row, and the walk through both streams."""
    formats, dims = sizes.formats, sizes.dims
    zeros = max(0, -formats.product_shift)
    bits = formats.operand_bits + formats.weight_bits - max(0, formats.product_shift)
    bits = min(WIDE_BITS - zeros, bits)
    halves = multiplier_dsp(formats.operand_bits, formats.weight_bits) > 1
    address, expert = sizes.address_bits, log_bits(sizes.experts)
    joined = sizes.experts & (sizes.experts - 1) == 0  # the lowest bits of two counters
    walk = 3 * _COUNT_BITS + 2 * address - joined + 3 * expert
    return {
        "operands": Resources(ff=dims * formats.operand_bits),
        "products": Resources(lut=dims * halves * (bits - 3), ff=dims * PRODUCT_STAGES * bits),
        "trees": adder_tree(dims, bits, WIDE_BITS - zeros, grows=False),
        "totals": Resources(lut=2 * WIDE_BITS, ff=3 * sizes.product_cycles)
        + shift_register(WIDE_BITS, sizes.experts),
        "walk": Resources(lut=walk, ff=walk + 2),
    }


def _gate_softmax_terms(sizes: GateSizes) -> Terms:
    """Return what takes the scores one by one, and the choices."""
    expert, top_k = log_bits(sizes.experts), sizes.top_k
    product = split_product(SCORE_BITS, WIDE_FRACTION, _SUM_BITS, PRODUCT_STAGES)
    added = shift_register(SCORE_BITS, PRODUCT_STAGES)
    held = 2 * WIDE_BITS + _DIFFERENCE_BITS + _SUM_BITS
    return {
        "functions": EXPONENTIAL + DIVIDER,
        "softmax": product
        + added
        + Resources(
            lut=5 * WIDE_BITS + 2 * _DIFFERENCE_BITS + 3 * _SUM_BITS + SCORE_BITS,
            ff=held + 2 * expert + 2 * SUM_TIME + 11,
        ),
        "choices": Resources(
            lut=top_k * (2 * WIDE_BITS + 2 * SCORE_BITS + expert),
            ff=top_k * (WIDE_BITS + 2 * SCORE_BITS + expert + 1),
        ),
    }


@lru_cache(maxsize=4096)
def gate_resources(sizes: GateSizes) -> Resources:
    """Return the resources of the gate."""
    return gate_blocks(sizes) + fitted("gate", gate_terms(sizes))
