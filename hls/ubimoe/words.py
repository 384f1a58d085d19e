"""Values for vectors, and the words of the ports that carry them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from headrace.arch.ubimoe.linear import BIAS_BITS
from headrace.hls.ubimoe.rules import Ints

__all__ = ["beats_of", "draw", "draw_real", "image_of", "pack", "thin"]

_TILES_PER_NONZERO = 16


def pack(values: Sequence[int] | Ints, bits: int) -> int:
    """Return values as one word, the first one lowest."""
    return sum((int(value) & ((1 << bits) - 1)) << (bits * i) for i, value in enumerate(values))


def beats_of(rows: ArrayLike, dims: int, bits: int) -> list[int]:
    """Return rows as words of `dims` values of `bits` bits."""
    return [pack(beat, bits) for beat in np.reshape(rows, (-1, dims))]


def image_of(w: Ints, b: Ints, tiles: tuple[int, int], bits: int, beat_bits: int) -> list[int]:
    """Return the weight image of w [N, K] and b [N] in tiles of (T_in, T_out)."""
    tile_in, tile_out = tiles
    beats = [beat for row in b.reshape(-1, tile_out) for beat in _cut(row, BIAS_BITS, beat_bits)]
    for out in range(0, w.shape[0], tile_out):
        for into in range(0, w.shape[1], tile_in):
            tile = w[out : out + tile_out, into : into + tile_in]
            beats += _cut(tile.ravel(), bits, beat_bits)
    return beats


def _cut(values: Ints, width: int, beat_bits: int) -> list[int]:
    whole, bits = pack(values, width), width * len(values)
    return [(whole >> at) & ((1 << beat_bits) - 1) for at in range(0, bits, beat_bits)]


def draw(rng: np.random.Generator, bits: int, *shape: int) -> Ints:
    """Draw signed values of all magnitudes."""
    values = rng.integers(-1 << (bits - 1), 1 << (bits - 1), shape)
    drawn: Ints = values >> rng.integers(0, bits, shape)
    return drawn


def draw_real(rng: np.random.Generator, spread: float, fraction: int, *shape: int) -> Ints:
    """Draw values around 0 as a network has them."""
    drawn: Ints = (rng.normal(0, spread, shape) * (1 << fraction)).astype(np.int64)
    return drawn


def thin(rng: np.random.Generator, w: Ints, tiles: tuple[int, int]) -> None:
    """Set most tiles (T_in, T_out) of w [N, K] to zero, for a file of vectors of bearable size."""
    tile_in, tile_out = tiles
    shape = (w.shape[0] // tile_out, w.shape[1] // tile_in)
    kept = rng.integers(0, _TILES_PER_NONZERO, shape) == 0
    w *= kept.repeat(tile_out, axis=0).repeat(tile_in, axis=1)
