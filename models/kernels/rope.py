"""Rotary position embedding: half-split in float32, adjacent pairs in half precision."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["pair_permutation", "rope", "rope_half", "rope_table"]


def rope_table(
    positions: NDArray[np.int64], head_dim: int, theta: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cos and sin of the rotation angles.

    The angle of pair t at position p is ``p * theta^(-2t/head_dim)``, frequencies and angles in
    float32 as transformers computes them.

    Parameters
    ----------
    positions : ndarray of int, shape (tokens,)
    head_dim : int
        Even.
    theta : float
        Base of the frequencies.

    Returns
    -------
    cos, sin : ndarray of float32, shape (tokens, head_dim / 2)
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = np.float32(1) / np.power(np.float32(theta), exponents)
    angles = np.asarray(positions, dtype=np.float32)[:, None] * frequencies
    return np.cos(angles), np.sin(angles)


def rope(
    x: NDArray[np.float32], cos: NDArray[np.float32], sin: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Rotate coordinates (t, t + head_dim/2), Llama's half-split order, in float32.

    Parameters
    ----------
    x : ndarray of float32, shape (tokens, heads, head_dim)
    cos, sin : ndarray of float32, shape (tokens, head_dim / 2)
        From `rope_table`.
    """
    first, second = np.split(x, 2, axis=-1)
    c, s = cos[:, None, :], sin[:, None, :]
    return np.concatenate([first * c - second * s, second * c + first * s], axis=-1)


def rope_half(
    x: NDArray[np.float16], cos: NDArray[np.float16], sin: NDArray[np.float16]
) -> NDArray[np.float16]:
    """Rotate adjacent coordinates (2t, 2t + 1) in half precision (TeLLMe, Eq 5-6).

    ``y[2t] = x[2t] c - x[2t+1] s`` and ``y[2t+1] = x[2t+1] c + x[2t] s``; both products and the
    sum round to half.

    Parameters
    ----------
    x : ndarray of float16, shape (tokens, heads, head_dim)
    cos, sin : ndarray of float16, shape (tokens, head_dim / 2)
        `rope_table` rounded to half, as the host stores it.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    c, s = cos[:, None, :].astype(np.float16), sin[:, None, :].astype(np.float16)
    result = np.empty_like(x)
    result[..., 0::2] = even * c - odd * s
    result[..., 1::2] = odd * c + even * s
    return result


def pair_permutation(heads: int, head_dim: int) -> NDArray[np.int64]:
    """Return the order of Wq's or Wk's outputs that turns half-split RoPE into adjacent pairs.

    ``W[pair_permutation(heads, head_dim)]`` has output t of each head at 2t and output
    t + head_dim/2 at 2t + 1 (TeLLMe, Eq 5-6). Scores do not change: q and k move alike.

    Parameters
    ----------
    heads, head_dim : int
        Of the matrix: KV heads for Wk.

    Returns
    -------
    ndarray of int, shape (heads * head_dim,)
    """
    within = np.arange(head_dim).reshape(2, -1).T.ravel()
    return (np.arange(heads)[:, None] * head_dim + within).ravel()
