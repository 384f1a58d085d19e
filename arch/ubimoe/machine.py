"""The encoder block that a point of UbiMoE stands for."""

from functools import lru_cache

from headrace.arch.point import Point
from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes

__all__ = ["block_sizes"]


@lru_cache(maxsize=4096)
def block_sizes(point: Point) -> EncoderBlockSizes:
    """Return the sizes of the RTL's encoder block at `point`.

    The heads are those of one module where there are several: every module is such a kernel.
    Axes that the RTL does not have (see `headrace.rtl.ubimoe`) do not show in the sizes.

    Raises
    ------
    InputError
        A size is out of the range of a kernel.
    """
    formats = FORMATS[point.text("numerics")]
    heads, dims = point.integer("heads"), point.integer("attention_dims")
    shared = {
        "formats": formats,
        "max_tokens": point.integer("max_tokens"),
        "dims": dims,
        "tile_in": point.integer("tile_in"),
        "tile_out": point.integer("tile_out"),
        "ultra": point.switch("ultra"),
    }
    weight_bits = point.integer("weight_ports") * point.integer("port_bits")
    msa_ports = point.integer("msa_weight_ports")
    msa = MsaBlockSizes(
        **shared,  # type: ignore[arg-type]
        heads=heads,
        head_dim=point.integer("head_dim"),
        attention_lanes=point.integer("attention_lanes"),
        linear_lanes=point.integer("msa_linear_lanes"),
        beat_bits=msa_ports * point.integer("port_bits") if msa_ports else weight_bits,
        exp_units=heads if point.text("exp_units") == "head" else 1,
    )
    moe = MoeBlockSizes(
        **shared,  # type: ignore[arg-type]
        width=msa.width,
        hidden=point.integer("expert_hidden"),
        experts=point.integer("experts"),
        top_k=point.integer("top_k"),
        linear_lanes=point.integer("linear_lanes"),
        beat_bits=weight_bits,
        dense_parts=point.integer("hidden") // point.integer("expert_hidden"),
    )
    return EncoderBlockSizes(msa=msa, moe=moe)
