"""Patch embedding as Vitis HLS C++ (docs/ubimoe-numerics.md, rule 7)."""

from dataclasses import dataclass

from headrace.arch.ubimoe.formats import WIDE_FRACTION, Formats
from headrace.arch.ubimoe.linear import BIAS_BITS
from headrace.errors import InputError
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel

__all__ = ["PATCH_WEIGHT_BITS", "PIXEL_BITS", "PatchEmbeddingSizes", "patch_embedding"]

PATCH_WEIGHT_BITS = 16
PIXEL_BITS = 8
"""Bits of an unsigned pixel, all of them fraction."""


@dataclass(frozen=True, kw_only=True)
class PatchEmbeddingSizes:
    """Sizes of the patch embedding.

    Parameters
    ----------
    formats : Formats
        Features.
    width : int
        D, features of a row.
    pixels : int
        K, pixels of a patch, over all colours.
    tile_in, tile_out : int
        Pixels and features of a weight tile; `tile_out` divides `width`. The last pixels of a
        patch that no tile fills are zeros.
    max_tokens : int
        Largest sequence, the class token included.
    beat_bits : int
        Bits of a beat of weights.

    Raises
    ------
    InputError
        A size is out of range.
    """

    formats: Formats
    width: int
    pixels: int
    tile_in: int
    tile_out: int
    max_tokens: int
    beat_bits: int = 256

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, least, most in (
            ("width", 1, 65535),
            ("pixels", 1, 65535),
            ("tile_in", 1, 1024),
            ("tile_out", 1, 1024),
            ("max_tokens", 2, 65535),
            ("beat_bits", 8, 4096),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
        if self.width % self.tile_out:
            raise InputError(
                f"tile_out = {self.tile_out} is not allowed: a divisor of width = {self.width}"
            )

    @property
    def in_tiles(self) -> int:
        """Beats of the pixels of a patch."""
        return -(-self.pixels // self.tile_in)

    @property
    def out_tiles(self) -> int:
        """Beats of a row of features."""
        return self.width // self.tile_out


def patch_embedding(sizes: PatchEmbeddingSizes) -> Kernel:
    """Return the patch embedding.

    Words, the first field lowest: ``command`` patches (16 bits), without the class token;
    ``weights`` once per command an image as `linear` has it, of weights of 16 bits; ``pixels``
    `tile_in` pixels of 8 bits, unsigned, in_tiles beats for each patch; ``positions`` and
    ``results`` `tile_out` features, a row more than there are patches.

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    formats = sizes.formats
    tile_bits = sizes.tile_in * sizes.tile_out * PATCH_WEIGHT_BITS
    features = sizes.tile_out * formats.feature_bits
    ports = [
        Port(name="command", bits=16),
        Port(name="weights", bits=sizes.beat_bits),
        Port(name="pixels", bits=sizes.tile_in * PIXEL_BITS),
        Port(name="positions", bits=features),
        Port(name="results", bits=features, output=True),
    ]
    counts = {
        "TILE_IN": sizes.tile_in,
        "TILE_OUT": sizes.tile_out,
        "IN_TILES": sizes.in_tiles,
        "OUT_TILES": sizes.out_tiles,
        "MAX_TOKENS": sizes.max_tokens,
        "BEAT_BITS": sizes.beat_bits,
        "BIAS_BEATS": -(-sizes.tile_out * BIAS_BITS // sizes.beat_bits),
        "TILE_BEATS": -(-tile_bits // sizes.beat_bits),
        "BIAS_FRACTION": formats.bias_fraction,
        "PIXEL_BITS": PIXEL_BITS,
        "PATCH_WEIGHT_BITS": PATCH_WEIGHT_BITS,
        "PATCH_SHIFT": PIXEL_BITS + formats.patch_fraction - WIDE_FRACTION,
    }
    return kernel(
        "patch_embedding",
        ports,
        formats=formats,
        headers=["fields.h"],
        sizes=counts,
        values={"sum_depth": 2 * sizes.out_tiles},
    )
