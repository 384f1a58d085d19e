"""All kernels of an encoder of UbiMoE, and its blocks, each with vectors for its test bench."""

from dataclasses import replace

import numpy as np

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.hls.ubimoe import samples
from headrace.hls.ubimoe.block import moe_block, msa_block
from headrace.hls.ubimoe.block_samples import moe_block_sample, msa_block_sample
from headrace.hls.ubimoe.combine import combine
from headrace.hls.ubimoe.dispatch import dispatch
from headrace.hls.ubimoe.gate import gate
from headrace.hls.ubimoe.kernel import Kernel
from headrace.hls.ubimoe.layer_norm import layer_norm
from headrace.hls.ubimoe.linear import linear
from headrace.hls.ubimoe.patch_embedding import PatchEmbeddingSizes, patch_embedding
from headrace.hls.ubimoe.prefetch import prefetch
from headrace.hls.ubimoe.samples import Sample
from headrace.hls.ubimoe.streaming_attention import streaming_attention

__all__ = ["encoder_kernels"]

_PATCH_PIXELS = 3 * 16 * 16  # patches of 16 x 16 pixels in three colours: M3ViT, ViT-S/16
_SEED = 0


def encoder_kernels(
    sizes: EncoderBlockSizes,
    weights: tuple[PrefetchSizes, PrefetchSizes],
    *,
    attention_modules: int = 1,
    slots: int = 2,
) -> list[tuple[Kernel, Sample]]:
    """Return the kernels in the order in which data meets them, then the blocks made of them.

    The blocks have one attention kernel with all heads, and two weight sets per linear.

    Parameters
    ----------
    sizes : EncoderBlockSizes
    weights : pair of PrefetchSizes
        What reads the weights of MSA, and those of the experts and the dense FFN.
    attention_modules : int
        Attention kernels side by side; divides the heads, of which each has its share.
    slots : int
        Weight sets of a linear, 1 or 2.

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    msa, moe = sizes.msa, sizes.moe
    attention = replace(msa.attention, heads=msa.heads // attention_modules)
    linears = [replace(half.linear, slots=slots) for half in (msa, moe)]
    patches = PatchEmbeddingSizes(
        formats=msa.formats,
        width=msa.width,
        pixels=_PATCH_PIXELS,
        tile_in=msa.tile_in,
        tile_out=msa.tile_out,
        max_tokens=msa.max_tokens,
        beat_bits=msa.beat_bits,
    )
    msa_loads = [(msa.in_tiles, 3 * msa.row_tiles), (msa.in_tiles, msa.row_tiles)]
    moe_loads = list(zip(moe.in_tiles, moe.out_tiles, strict=True))
    rng = np.random.Generator(np.random.PCG64(_SEED))
    return [
        (patch_embedding(patches), samples.patch_embedding_sample(patches, rng)),
        (layer_norm(msa.norm), samples.layer_norm_sample(msa.norm, rng)),
        (
            prefetch(weights[0], msa_loads, "msa_prefetch"),
            samples.prefetch_sample(weights[0], msa_loads, rng),
        ),
        (linear(linears[0], "msa_linear"), samples.linear_sample(linears[0], rng)),
        (streaming_attention(attention), samples.streaming_attention_sample(attention, rng)),
        (combine(msa.combine, "msa_combine"), samples.combine_sample(msa.combine, rng)),
        (gate(moe.gate), samples.gate_sample(moe.gate, rng)),
        (dispatch(moe.dispatch), samples.dispatch_sample(moe.dispatch, rng)),
        (
            prefetch(weights[1], moe_loads, "moe_prefetch"),
            samples.prefetch_sample(weights[1], moe_loads, rng),
        ),
        (linear(linears[1], "moe_linear"), samples.linear_sample(linears[1], rng)),
        (combine(moe.combine, "moe_combine"), samples.combine_sample(moe.combine, rng)),
        (msa_block(msa), msa_block_sample(msa, rng)),
        (moe_block(moe), moe_block_sample(moe, rng)),
    ]
