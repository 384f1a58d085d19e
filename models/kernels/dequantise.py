"""From integer accumulators back to real numbers, in float32 and in half precision."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["dequantise", "dequantise_half"]

_ONE_127TH = np.float32(1) / np.float32(127)


def dequantise(
    accumulators: NDArray[np.int32], a: NDArray[np.float32], weight_scale: np.float32
) -> NDArray[np.float32]:
    """Return ``acc / a * weight_scale``, two float32 operations.

    Parameters
    ----------
    accumulators : ndarray of int32, shape (..., N)
    a : ndarray of float32, shape (..., 1)
        Activation scale of `quantise_activations`.
    weight_scale : float32
        Scale of the matrix.
    """
    return accumulators.astype(np.float32) / a * np.float32(weight_scale)


def dequantise_half(
    accumulators: NDArray[np.int32], largest: NDArray[np.float16], weight_scale: np.float16
) -> NDArray[np.float16]:
    """Return ``half(max) * half(w_scale) * half(float(1/127) * float(acc))`` as TeLLMe does.

    The first product is formed first; each product is rounded to half.

    Parameters
    ----------
    accumulators : ndarray of int32, shape (..., N)
        Magnitudes below 2^24, so that float32 holds them.
    largest : ndarray of float16, shape (..., 1)
        max|x| of the token, from `quantise_activations_half`.
    weight_scale : float16
        Scale of the matrix.
    """
    scaled = (_ONE_127TH * accumulators.astype(np.float32)).astype(np.float16)
    with np.errstate(over="ignore", under="ignore"):
        factor = largest.astype(np.float16) * np.float16(weight_scale)
        result: NDArray[np.float16] = factor * scaled
    return result
