"""Numbers for UbiMoE's kernels, and the beats in which they travel (docs/ubimoe-kernels.md)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes
from headrace.models.kernels import fixed
from headrace.rtl.streams import pack

__all__ = [
    "Ints",
    "Rng",
    "any_numbers",
    "beats",
    "choice_beats",
    "natural",
    "norm_beats",
    "rows",
    "sequences",
    "weight_image",
]

Ints = NDArray[np.int64]
Rng = np.random.Generator

_NORM_BITS = 16
_CHOICE_BITS, _EXPERT_BITS = 31, 8
_ENDS = 1 / 16  # share of numbers at an end of their range
_ANY = 4  # of so many rows one has numbers that no network has


def sequences(total: int, least: int, most: int, rng: Rng) -> list[int]:
    """Return lengths of sequences: the longest, the shortest, then any until there are `total`."""
    lengths = [min(most, max(least, total)), least]
    while sum(lengths) < total:
        lengths.append(int(rng.integers(least, most + 1)))
    return lengths


def any_numbers(rng: Rng, bits: int, *shape: int) -> Ints:
    """Draw signed numbers of all magnitudes, the ends of the range among them."""
    low = -1 << (bits - 1)
    drawn = rng.integers(low, -low, shape) >> rng.integers(0, bits, shape)
    found: Ints = np.where(rng.random(shape) < _ENDS, rng.choice([low, -low - 1], shape), drawn)
    return found


def natural(rng: Rng, spread: float, bits: int, fraction: int, *shape: int) -> Ints:
    """Draw normal numbers of a standard deviation, cut to the range."""
    return fixed.from_real(rng.normal(0, spread, shape), bits, fraction)


def rows(rng: Rng, spread: float, bits: int, fraction: int, *shape: int) -> Ints:
    """Draw natural rows, but every fourth one, the first too, of any numbers."""
    found = natural(rng, spread, bits, fraction, *shape)
    found[::_ANY] = any_numbers(rng, bits, *found[::_ANY].shape)
    return found


def beats(values: Any, dims: int, bits: int) -> list[int]:
    """Return the beats of rows, `dims` values each, the first one lowest."""
    return pack(np.reshape(values, (-1, dims)).tolist(), bits)


def norm_beats(norm: fixed.Affine, dims: int) -> list[int]:
    """Return the beats of a norm's gains and offsets."""
    return beats(np.stack([norm.weights, norm.bias], axis=1), 2 * dims, _NORM_BITS)


def choice_beats(choices: fixed.Choices) -> list[int]:
    """Return a beat for each token's choices, best first."""
    both = choices.experts | choices.probabilities << _EXPERT_BITS
    return beats(both, both.shape[1], _CHOICE_BITS)


def weight_image(layer: fixed.Affine, sizes: LinearSizes) -> list[int]:
    """Return the beats of a load: biases per output tile, then the tiles, low bits first."""
    t_in, t_out = sizes.tile_in, sizes.tile_out
    outputs, inputs = layer.weights.shape
    tiles = layer.weights.reshape(outputs // t_out, t_out, inputs // t_in, t_in).swapaxes(1, 2)
    return [
        *_cut(beats(layer.bias, t_out, BIAS_BITS), sizes.bias_beats, sizes.beat_bits),
        *_cut(beats(tiles, t_in * t_out, sizes.formats.weight_bits), sizes.tile_beats,
              sizes.beat_bits),
    ]  # fmt: skip


def _cut(numbers: Sequence[int], count: int, bits: int) -> list[int]:
    mask = (1 << bits) - 1
    return [number >> (bits * part) & mask for number in numbers for part in range(count)]
