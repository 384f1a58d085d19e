"""Root-mean-square normalisation, in float32 and as TeLLMe's RMS-MAX unit rounds it."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["rms_norm", "rms_norm_half"]


def rms_norm(
    x: NDArray[np.float32], weight: NDArray[np.float32], eps: float
) -> NDArray[np.float32]:
    """Return ``weight * x / sqrt(mean(x^2) + eps)`` in float32.

    Parameters
    ----------
    x : ndarray of float32, shape (..., features)
    weight : ndarray of float32, shape (features,)
    eps : float
    """
    mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
    root = np.float32(1) / np.sqrt(mean + np.float32(eps))
    return np.asarray(weight * (x * root), dtype=np.float32)


def rms_norm_half(
    x: NDArray[np.float16], weight: NDArray[np.float16], eps: float
) -> NDArray[np.float16]:
    """Normalise in half precision with an FP32 sum of squares (TeLLMe's release).

    Order: squares (exact in float32) of even positions go to one accumulator, of odd positions
    to the other, each in ascending order; the two are added; then ``mean = sum * float(1/n)``,
    ``r = rsqrt(mean + eps)`` in float32 (the float32 nearest to the double-precision value),
    ``r`` is cast to half, and ``(x * r) * weight`` rounds to half twice.

    Parameters
    ----------
    x : ndarray of float16, shape (..., features)
    weight : ndarray of float16, shape (features,)
    eps : float
    """
    x = np.asarray(x, dtype=np.float16)
    squares = np.square(x.astype(np.float32))
    # cumsum adds strictly in order; sum() does not
    total = sum(
        np.cumsum(squares[..., lane::2], axis=-1, dtype=np.float32)[..., -1:]
        for lane in range(min(2, x.shape[-1]))
    )
    mean = total * (np.float32(1) / np.float32(x.shape[-1])) + np.float32(eps)
    root = (1.0 / np.sqrt(mean.astype(np.float64))).astype(np.float32).astype(np.float16)
    with np.errstate(over="ignore", under="ignore"):
        result: NDArray[np.float16] = (x * root) * np.asarray(weight, dtype=np.float16)
    return result
