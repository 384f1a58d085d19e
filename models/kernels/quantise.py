"""Activation quantisers: per-token symmetric INT8, in float32 and in half precision."""

import numpy as np
from numpy.typing import NDArray

from headrace.models.kernels.half_functions import reciprocal_half

__all__ = ["quantise_activations", "quantise_activations_half"]

_LARGEST_HALF = np.float16(65504)


def quantise_activations(
    x: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise each token to INT8 in float32, as BitNet's training code does.

    ``a = 127 / max(max|x|, 1e-5)``, ``q = clamp(round_half_even(x * a), -128, 127)``; every
    operation is one float32 operation.

    Parameters
    ----------
    x : ndarray of float32, shape (..., features)
        Finite activations.

    Returns
    -------
    q : ndarray of int8, shape (..., features)
        Values from -127 to 127.
    a : ndarray of float32, shape (..., 1)
        The activation scale; the quantised value stands for ``q / a``.
    """
    x = np.asarray(x, dtype=np.float32)
    largest = np.abs(x).max(axis=-1, keepdims=True)
    a = np.float32(127) / np.maximum(largest, np.float32(1e-5))
    return np.clip(np.rint(x * a), -128, 127).astype(np.int8), a


def quantise_activations_half(
    x: NDArray[np.float16],
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Quantise each token to INT8 in half precision (TeLLMe's release).

    ``q = sat(round_half_even(x * (127 * recip16(max|x|))))`` with every product rounded to
    half and `sat` to -127..127. The reciprocal and the factor saturate at 65504, so that a
    token of zeros gives zeros and a token of tiny values (below 0.00195) gives small integers,
    never NaN. The three roundings move the largest value by less than 0.2, so every token of
    normal size reaches exactly 127 or -127.

    Parameters
    ----------
    x : ndarray of float16, shape (..., features)
        Finite activations.

    Returns
    -------
    q : ndarray of int8, shape (..., features)
        Values from -127 to 127.
    largest : ndarray of float16, shape (..., 1)
        max|x| of the token, which dequantisation needs.
    """
    x = np.asarray(x, dtype=np.float16)
    largest = np.abs(x).max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        reciprocal = np.minimum(reciprocal_half(largest), _LARGEST_HALF)
        factor = np.minimum(np.float16(127) * reciprocal, _LARGEST_HALF)
        scaled = x * factor
    q = np.clip(np.rint(scaled.astype(np.float32)), -127, 127).astype(np.int8)
    return q, largest
