"""Resources of UbiMoE's blocks: their kernels, their memories and what joins them."""

from collections.abc import Mapping

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.dispatch import SCORE_BITS
from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.fabric import log_bits, times
from headrace.arch.ubimoe.formats import Formats
from headrace.arch.ubimoe.layer_norm_resources import layer_norm_resources
from headrace.arch.ubimoe.linear_resources import linear_resources
from headrace.arch.ubimoe.memory_blocks import memory_blocks
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.moe_resources import (
    combine_resources,
    dispatch_resources,
    gate_resources,
)
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.row_memory_resources import (
    commands_resources,
    group_walker_resources,
    narrowing_resources,
    repack_resources,
    row_reader_resources,
)
from headrace.arch.ubimoe.streaming_attention_resources import streaming_attention_resources

__all__ = ["encoder_block_resources", "moe_block_resources", "msa_block_resources"]

_COUNT_BITS = 16  # of commands and rows
_EXPERT_BITS = 8


def msa_block_resources(sizes: MsaBlockSizes) -> Mapping[str, Resources]:
    """Return the resources of each part of an MSA block; they add up to the block.

    Returns
    -------
    mapping of str to Resources
        ``layer_norm``, ``linear``, ``qkv_rows``, ``attention``, ``combine``, ``glue``.
    """
    formats = sizes.formats
    return {
        "layer_norm": layer_norm_resources(sizes.norm),
        "linear": linear_resources(sizes.linear),
        "qkv_rows": _qkv_rows(sizes),
        "attention": streaming_attention_resources(sizes.attention),
        "combine": combine_resources(sizes.combine),
        "glue": _msa_glue(sizes, formats),
    }


def _qkv_rows(sizes: MsaBlockSizes) -> Resources:
    """Return the memories of Q, K and V, and what writes and reads them."""
    memory, lanes = sizes.row_memory, sizes.attention_lanes
    return (
        row_reader_resources(memory)
        + times(2, row_reader_resources(memory, lanes))
        + group_walker_resources(memory, 3)
        + narrowing_resources(sizes.formats, sizes.tile_out)
        + Resources(lut=4, ff=_COUNT_BITS)
    )


def _msa_glue(sizes: MsaBlockSizes, formats: Formats) -> Resources:
    """Return repacked beats, the choice of the linear's rows, and commands."""
    operand, dims = formats.operand_bits, sizes.dims
    tile, out = sizes.tile_in * operand, sizes.tile_out * operand
    total = times(3, repack_resources(out, dims * operand))
    total += times(2, repack_resources(dims * operand, tile))
    total += _residual_repacks(formats, dims, sizes.tile_out)
    total += commands_resources(8, _COUNT_BITS)
    return total + Resources(lut=tile + 2 * _COUNT_BITS, ff=3 + _COUNT_BITS)


def _residual_repacks(formats: Formats, dims: int, tile_out: int) -> Resources:
    """Return what fits features to the residual's memory, and its sums to features."""
    beat, word = dims * formats.feature_bits, tile_out * formats.feature_bits
    return repack_resources(beat, word) + repack_resources(word, beat)


def moe_block_resources(sizes: MoeBlockSizes) -> Mapping[str, Resources]:
    """Return the resources of each part of an MoE block; they add up to the block.

    Returns
    -------
    mapping of str to Resources
        ``layer_norm``, ``gate``, ``dispatch``, ``token_rows``, ``linear``, ``hidden_rows``,
        ``combine``, ``glue``.
    """
    return {
        "layer_norm": layer_norm_resources(sizes.norm),
        "gate": gate_resources(sizes.gate),
        "dispatch": dispatch_resources(sizes.dispatch),
        "token_rows": _token_rows(sizes),
        "linear": linear_resources(sizes.linear),
        "hidden_rows": _hidden_rows(sizes),
        "combine": combine_resources(sizes.combine),
        "glue": _moe_glue(sizes),
    }


def _token_rows(sizes: MoeBlockSizes) -> Resources:
    """Return the memory of normalised rows."""
    memory = sizes.token_memory
    address, tile = log_bits(max(2, memory.words)), log_bits(memory.tiles)
    blocks = memory_blocks(memory.word_bits, max(2, memory.words), "auto")
    reader = Resources(lut=2 * address + tile + _COUNT_BITS // 2, ff=address + tile + 1)
    return blocks + group_walker_resources(memory) + reader


def _hidden_rows(sizes: MoeBlockSizes) -> Resources:
    """Return the memory of the hidden rows of a job."""
    memory = sizes.hidden_memory
    beats = log_bits(sizes.out_tiles[1])
    return (
        row_reader_resources(memory)
        + group_walker_resources(memory)
        + narrowing_resources(sizes.formats, sizes.tile_out)
        + Resources(lut=beats + 2 * _COUNT_BITS, ff=beats + 2 * _COUNT_BITS)
    )


def _moe_glue(sizes: MoeBlockSizes) -> Resources:
    """Return repacked beats, the choice of the linear's rows, commands, and the rows' scores."""
    formats, dims = sizes.formats, sizes.dims
    operand = formats.operand_bits
    tile, out = sizes.tile_in * operand, sizes.tile_out * operand
    row = _COUNT_BITS + SCORE_BITS
    places = log_bits(sizes.max_tokens + 1)
    total = repack_resources(dims * operand, tile) + repack_resources(out, tile)
    total += _residual_repacks(formats, dims, sizes.tile_out)
    total += commands_resources(7, _COUNT_BITS + 1)
    total += commands_resources(5, _COUNT_BITS + _EXPERT_BITS)
    total += memory_blocks(row, sizes.max_tokens, "auto")
    choices = tile + row + _COUNT_BITS + _EXPERT_BITS
    state = 2 * _COUNT_BITS + 4
    return total + Resources(lut=choices + state + 3 * places, ff=state + 3 * places + 2)


def encoder_block_resources(sizes: EncoderBlockSizes) -> Mapping[str, Resources]:
    """Return the resources of each part of an encoder block; they add up to the block.

    Returns
    -------
    mapping of str to Resources
        The parts of both halves, as ``msa_...`` and ``moe_...``, and ``commands``.
    """
    return {
        **{f"msa_{name}": part for name, part in msa_block_resources(sizes.msa).items()},
        **{f"moe_{name}": part for name, part in moe_block_resources(sizes.moe).items()},
        "commands": commands_resources(2, _COUNT_BITS + 1),
    }
