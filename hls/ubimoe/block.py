"""Both halves of an encoder block as Vitis HLS C++ (docs/ubimoe-kernels.md, "encoder_block")."""

from collections.abc import Sequence

from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.hls.emit import Code, identifier, render
from headrace.hls.ubimoe.combine import combine
from headrace.hls.ubimoe.dispatch import dispatch
from headrace.hls.ubimoe.gate import gate
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel, template
from headrace.hls.ubimoe.layer_norm import layer_norm
from headrace.hls.ubimoe.linear import linear
from headrace.hls.ubimoe.streaming_attention import streaming_attention

__all__ = ["moe_block", "msa_block"]


def msa_block(sizes: MsaBlockSizes) -> Kernel:
    """Return layer norm, QKV, attention, projection and residual as one kernel.

    Words: ``command`` tokens (16 bits); ``norm`` as `parameters` of the layer norm, once per
    command; ``weights`` the images of QKV and of the projection; ``inputs`` and ``results``
    `dims` features. QKV, attention and projection of a sequence take turns, since there is one
    linear for both layers.

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    ports = [
        Port(name="command", bits=16),
        _norm_port(sizes.norm),
        Port(name="weights", bits=sizes.beat_bits),
        *_feature_ports(sizes.norm),
    ]
    unit = min(sizes.dims, sizes.tile_in, sizes.tile_out)
    counts = {
        "WIDTH": sizes.width,
        "DIMS": sizes.dims,
        "TILE_IN": sizes.tile_in,
        "TILE_OUT": sizes.tile_out,
        "UNIT": unit,
        "ROW_BEATS": sizes.row_beats,
        "ROW_UNITS": 3 * sizes.width // unit,
        "IN_TILES": sizes.in_tiles,
        "ROW_TILES": sizes.row_tiles,
        "MAX_TOKENS": sizes.max_tokens,
    }
    parts = [
        layer_norm(sizes.norm),
        linear(sizes.linear, "array"),
        streaming_attention(sizes.attention),
        combine(sizes.combine),
    ]
    values = {"value_depth": (sizes.max_tokens + 1) * sizes.width // unit}
    return _block("msa_block", ports, parts, sizes.norm, counts, values)


def moe_block(sizes: MoeBlockSizes) -> Kernel:
    """Return layer norm, dense FFN or gate and experts, and residual as one kernel.

    Words, the first field lowest: ``command`` tokens (16 bits) and experts (1); ``norm`` as
    `parameters` of the layer norm, once per command; ``gate_weights`` as `weights` of the gate,
    only by experts; ``weights`` two images per job; ``jobs`` expert (8), or the part of a dense
    FFN; ``inputs`` and ``results`` `dims` features.

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    ports = [
        Port(name="command", bits=17),
        _norm_port(sizes.norm),
        Port(name="gate_weights", bits=sizes.dims * sizes.formats.weight_bits),
        Port(name="weights", bits=sizes.beat_bits),
        *_feature_ports(sizes.norm),
        Port(name="jobs", bits=8, output=True),
    ]
    unit = min(sizes.dims, sizes.tile_in, sizes.tile_out)
    counts = {
        "WIDTH": sizes.width,
        "DIMS": sizes.dims,
        "TILE_IN": sizes.tile_in,
        "TILE_OUT": sizes.tile_out,
        "UNIT": unit,
        "ROW_BEATS": sizes.norm.row_beats,
        "ROW_UNITS": max(sizes.width, sizes.hidden) // unit,
        "IN_TILES": sizes.in_tiles[0],
        "HIDDEN_IN_TILES": sizes.in_tiles[1],
        "HIDDEN_OUT_TILES": sizes.out_tiles[0],
        "OUT_TILES": sizes.out_tiles[1],
        "TOP_K": sizes.top_k,
        "DENSE_PARTS": sizes.dense_parts,
        "MAX_TOKENS": sizes.max_tokens,
    }
    parts = [
        layer_norm(sizes.norm),
        gate(sizes.gate),
        dispatch(sizes.dispatch),
        linear(sizes.linear, "array"),
        combine(sizes.combine),
    ]
    # Before a job's first result all its rows have been read.
    values = {"row_depth": sizes.max_tokens + 1}
    return _block("moe_block", ports, parts, sizes.norm, counts, values)


def _norm_port(norm: LayerNormSizes) -> Port:
    return Port(name="norm", bits=norm.dims * 32)


def _feature_ports(norm: LayerNormSizes) -> list[Port]:
    bits = norm.dims * norm.formats.feature_bits
    return [Port(name="inputs", bits=bits), Port(name="results", bits=bits, output=True)]


def _block(
    name: str,
    ports: Sequence[Port],
    parts: Sequence[Kernel],
    norm: LayerNormSizes,
    counts: dict[str, int],
    values: dict[str, int],
) -> Kernel:
    """Put a block together: every part in a namespace and a folder of its name."""
    included = "".join(
        render(template("part.h"), {"part": identifier(part.name)}) for part in parts
    )
    made = kernel(
        name,
        ports,
        formats=norm.formats,
        headers=["block.h"],
        sizes=counts,
        values={**values, "parts": Code(included)},
    )
    for part in parts:
        for path in part.tree.paths():
            if path.startswith("src/"):
                made.tree.add(f"src/{part.name}/{path.removeprefix('src/')}", part.tree[path])
    return made
