"""Hash bits of keys: the side of random hyperplanes on which a key lies (V-Rex, ReSV)."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import round_to_bfloat16

__all__ = ["draw_hyperplanes", "hamming_distance", "hash_keys"]

_MAX_BITS = 32


def draw_hyperplanes(dim: int, bits: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw hyperplanes through the origin, their normals of independent N(0, 1) entries.

    V-Rex publishes no distribution; the normal one makes all directions equally likely.

    Parameters
    ----------
    dim : int
        Coordinates of a key, all KV heads together.
    bits : int
        Hyperplanes, from 1 to 32.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (dim, bits)
        bfloat16 values.
    """
    if dim < 1 or not 1 <= bits <= _MAX_BITS:
        raise InputError(
            f"{dim} coordinates, {bits} hyperplanes; at least 1 and 1 to {_MAX_BITS} are needed"
        )
    return round_to_bfloat16(rng.standard_normal((dim, bits), np.float32))


def hash_keys(keys: NDArray[np.float32], planes: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the hash code of every key: bit i is 1 if its projection on plane i is > 0.

    Products of bfloat16 are exact in float32; their sums are rounded to float32 in the order of
    the BLAS library.

    Parameters
    ----------
    keys : ndarray of float32, shape (tokens, dim)
        After RoPE, heads concatenated; rounded to bfloat16 here.
    planes : ndarray of float32, shape (dim, bits)
        From `draw_hyperplanes`.

    Returns
    -------
    ndarray of uint32, shape (tokens,)
    """
    if keys.ndim != 2 or planes.ndim != 2 or keys.shape[1] != len(planes):
        raise InputError(
            f"hash: keys {keys.shape}, planes {planes.shape}; (tokens, dim) and (dim, bits) "
            "are needed"
        )
    bits = (round_to_bfloat16(keys) @ planes) > 0
    weights = np.uint32(1) << np.arange(planes.shape[1], dtype=np.uint32)
    return np.asarray((bits * weights).sum(axis=1, dtype=np.uint32))


def hamming_distance(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the number of bits in which two arrays of codes differ; shapes broadcast."""
    return np.bitwise_count(np.bitwise_xor(a, b))
