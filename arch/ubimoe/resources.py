"""DSP, block RAM and URAM of UbiMoE's machine by module; LUT and FF are not modelled yet."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.ubimoe.layer_norm_resources import layer_norm_blocks
from headrace.arch.ubimoe.linear_resources import linear_blocks
from headrace.arch.ubimoe.machine import block_sizes
from headrace.arch.ubimoe.memory_blocks import memory_blocks
from headrace.arch.ubimoe.moe_resources import combine_blocks, dispatch_blocks, gate_blocks
from headrace.arch.ubimoe.row_memory import RowMemorySizes
from headrace.arch.ubimoe.streaming_attention_resources import streaming_attention_blocks

__all__ = ["MODULES", "resources"]

_BLOCK = ("numerics", "heads", "head_dim", "max_tokens", "attention_dims", "tile_in", "tile_out")
_MSA_LINEAR = (
    *_BLOCK,
    "msa_linear_lanes",
    "msa_weight_ports",
    "weight_ports",
    "port_bits",
    "ultra",
)
_MOE_LINEAR = (*_BLOCK, "linear_lanes", "weight_ports", "port_bits", "ultra", "expert_hidden")


def _attention(point: Point) -> Resources:
    sizes = block_sizes(point).msa.attention
    modules = point.integer("attention_modules")
    share = sizes.heads // modules
    one = replace(sizes, heads=share, exp_units=share if sizes.exp_units == sizes.heads else 1)
    return times(modules, streaming_attention_blocks(one))


def times(count: int, one: Resources) -> Resources:
    """Return `count` times the resources."""
    return Resources(**{name: count * value for name, value in one.as_dict().items()})


def _memory(sizes: RowMemorySizes) -> Resources:
    return memory_blocks(sizes.word_bits, sizes.words, "auto")


def _rows(point: Point) -> Resources:
    if point.text("keys") == "ports":
        return Resources()
    return times(3, _memory(block_sizes(point).msa.row_memory))


MODULES: Mapping[str, tuple[tuple[str, ...], Callable[[Point], Resources]]] = {
    "input_norm": (_BLOCK, lambda p: layer_norm_blocks(block_sizes(p).msa.norm)),
    "msa_linear": (_MSA_LINEAR, lambda p: linear_blocks(block_sizes(p).msa.linear)),
    "qkv_rows": ((*_BLOCK, "msa_linear_lanes", "keys"), _rows),
    "attention": (
        (*_BLOCK, "attention_modules", "attention_lanes", "exp_units"),
        _attention,
    ),
    "msa_combine": (
        (*_BLOCK, "msa_linear_lanes"),
        lambda p: combine_blocks(block_sizes(p).msa.combine),
    ),
    "post_attention_norm": (_BLOCK, lambda p: layer_norm_blocks(block_sizes(p).moe.norm)),
    "gate": (
        (*_BLOCK, "experts", "top_k"),
        lambda p: gate_blocks(block_sizes(p).moe.gate),
    ),
    "dispatch": (
        (*_BLOCK, "experts", "top_k"),
        lambda p: dispatch_blocks(block_sizes(p).moe.dispatch),
    ),
    "moe_linear": (_MOE_LINEAR, lambda p: linear_blocks(block_sizes(p).moe.linear)),
    "moe_rows": (
        (*_BLOCK, "linear_lanes", "expert_hidden"),
        lambda p: (
            _memory(block_sizes(p).moe.token_memory) + _memory(block_sizes(p).moe.hidden_memory)
        ),
    ),
    "moe_combine": (
        (*_BLOCK, "linear_lanes"),
        lambda p: combine_blocks(block_sizes(p).moe.combine),
    ),
}
"""Of every module, the axes that it depends on, and its resources."""


def resources(point: Point) -> dict[str, Resources]:
    """Return the resources of each module; they add up to the machine."""
    return {name: build(point) for name, (_, build) in MODULES.items()}
