"""Resources of UbiMoE's machine, module by module."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.ubimoe.block_resources import moe_block_resources, msa_block_resources
from headrace.arch.ubimoe.fabric import times
from headrace.arch.ubimoe.machine import block_sizes
from headrace.arch.ubimoe.streaming_attention_resources import streaming_attention_resources

__all__ = ["PARTS", "resources"]

_BLOCK = (
    "numerics",
    "max_tokens",
    "heads",
    "head_dim",
    "attention_dims",
    "tile_in",
    "tile_out",
    "weight_ports",
    "port_bits",
    "ultra",
)


def _msa(point: Point) -> dict[str, Resources]:
    """Return the MSA block; through memory without the memories of Q, K and V."""
    sizes = block_sizes(point).msa
    parts = dict(msa_block_resources(sizes))
    if point.text("keys") == "ports":
        del parts["qkv_rows"]
    modules = point.integer("attention_modules")
    if modules > 1:
        heads = sizes.heads // modules
        units = heads if sizes.exp_units == sizes.heads else 1
        one = replace(sizes.attention, heads=heads, exp_units=units)
        parts["attention"] = times(modules, streaming_attention_resources(one))
    return {f"msa_{name}": part for name, part in parts.items()}


def _moe(point: Point) -> dict[str, Resources]:
    parts = moe_block_resources(block_sizes(point).moe)
    return {f"moe_{name}": part for name, part in parts.items()}


def _ports(point: Point) -> dict[str, Resources]:
    """Return the readers of memory ports: of weights, of keys and values, and of features.

    As netlists of `headrace.rtl.ubimoe.prefetch` have them: per port an address generator, a
    FIFO of 32 words in LUT RAM and its control.
    """
    streams = point.integer("key_ports") if point.text("keys") == "ports" else 1
    weights = point.integer("weight_ports") + point.integer("msa_weight_ports")
    groups = 1 + (point.integer("msa_weight_ports") > 0) + streams
    bits = point.integer("port_bits")
    port = Resources(lut=178 + 142 * bits / 256, ff=115)
    group = Resources(lut=15, ff=96, dsp=1)
    return {"ports": times(weights + streams, port) + times(groups, group)}


PARTS: tuple[tuple[tuple[str, ...], Callable[[Point], Mapping[str, Resources]]], ...] = (
    (
        (
            *_BLOCK,
            "attention_modules",
            "attention_lanes",
            "exp_units",
            "msa_linear_lanes",
            "msa_weight_ports",
            "keys",
        ),
        _msa,
    ),
    ((*_BLOCK, "linear_lanes", "hidden", "expert_hidden", "experts", "top_k"), _moe),
    (("weight_ports", "msa_weight_ports", "key_ports", "port_bits", "keys"), _ports),
)
"""Groups of modules: the axes on which a group depends, and its modules' resources."""


def resources(point: Point) -> dict[str, Resources]:
    """Return the resources of each module; they add up to the machine."""
    found: dict[str, Resources] = {}
    for _, build in PARTS:
        found |= build(point)
    return found
