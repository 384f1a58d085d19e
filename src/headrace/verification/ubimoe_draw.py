"""Work for the kernels of a point of UbiMoE."""

from dataclasses import replace
from functools import partial

import numpy as np

from headrace.arch.point import Point
from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.machine import block_sizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.verification import ubimoe_cases as cases
from headrace.verification.ubimoe_blocks import encoder_block_case, prefetch_case
from headrace.verification.ubimoe_cases import Case
from headrace.verification.ubimoe_words import Rng, sequences

__all__ = ["draw_cases"]


def draw_cases(point: Point, kernel: str, total: int, seed: int) -> list[Case]:
    """Draw the same work for a kernel of a point every time.

    Parameters
    ----------
    point : Point
    kernel : str
        One of the kernels of `headrace.verification.ubimoe`.
    total : int
        Rows, or beats of the prefetch, in all commands; there are at least two commands.
    seed : int

    Raises
    ------
    InputError
        A size is out of the range of a kernel.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    block, tokens = block_sizes(point), point.integer("max_tokens")
    msa, moe = block.msa, block.moe
    counts = partial(sequences, total, most=tokens, rng=rng)
    if kernel == "linear":
        return _linear_cases(point, block, total, rng)
    if kernel == "streaming_attention":
        heads = msa.heads // point.integer("attention_modules")
        units = heads if point.text("exp_units") == "head" else 1
        module = replace(msa.attention, heads=heads, exp_units=units)
        return [cases.attention_case(module, counts(module.lanes), rng)]
    if kernel == "prefetch":
        return _prefetch_cases(point, block, total, rng)
    if kernel == "combine":
        routed = moe.experts, moe.top_k
        return [
            cases.combine_case(msa.combine, "MSA", (1, 1), counts(1), rng),
            cases.combine_case(moe.combine, "MoE", routed, counts(1), rng),
        ]
    if kernel == "encoder_block":
        return [encoder_block_case(block, counts(msa.attention_lanes), rng)]
    if kernel == "layer_norm":
        return [cases.layer_norm_case(msa.norm, counts(1), rng)]
    if kernel == "gate":
        return [cases.gate_case(moe.gate, counts(1), rng)]
    return [cases.dispatch_case(moe.dispatch, counts(1), rng)]


def _linear_cases(point: Point, block: EncoderBlockSizes, total: int, rng: Rng) -> list[Case]:
    """Draw both linears; of more than one group of rows where there are rows enough."""
    found = []
    for half, sizes, tiles in (
        ("MSA", block.msa.linear, _msa_tiles(block)),
        ("MoE", block.moe.linear, _moe_tiles(block)),
    ):
        sizes = replace(sizes, slots=point.integer("weight_slots"))
        least = min(sizes.lanes + 1, point.integer("max_tokens"))
        counts = sequences(total, least, point.integer("max_tokens"), rng)
        found.append(cases.linear_case(sizes, half, tiles, counts, rng))
    return found


def _prefetch_cases(point: Point, block: EncoderBlockSizes, total: int, rng: Rng) -> list[Case]:
    """Draw the prefetch of FFN and experts, and that of the MSA block if it has its own."""
    found = []
    for half, axis, tiles in (
        ("MSA", "msa_weight_ports", _msa_tiles(block)),
        ("MoE", "weight_ports", _moe_tiles(block)),
    ):
        if ports := point.integer(axis):
            sizes = PrefetchSizes(ports=ports, port_bits=point.integer("port_bits"))
            found.append(prefetch_case(sizes, half, tiles, total, rng))
    return found


def _msa_tiles(block: EncoderBlockSizes) -> list[tuple[int, int]]:
    msa = block.msa
    return [(msa.in_tiles, 3 * msa.row_tiles), (msa.in_tiles, msa.row_tiles)]


def _moe_tiles(block: EncoderBlockSizes) -> list[tuple[int, int]]:
    return list(zip(block.moe.in_tiles, block.moe.out_tiles, strict=True))
