"""Streaming attention (rules 2 and 3): blockwise scores, safe softmax, division at the end."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.fixed.formats import WIDE_FRACTION, Formats
from headrace.models.kernels.fixed.functions import exponential, reciprocal
from headrace.models.kernels.fixed.integers import (
    Integers,
    checked,
    shifted_products,
    to_operand,
    wrap,
)

__all__ = ["MAX_TOKENS", "attention_scores", "streaming_attention"]

MAX_TOKENS = 511
"""Tokens whose exponentials, each at most 2^22, add up to less than 2^31."""


def streaming_attention(
    q: NDArray[np.integer],
    k: NDArray[np.integer],
    v: NDArray[np.integer],
    formats: Formats,
    *,
    dims: int,
) -> Integers:
    """Attend over all tokens as the streaming kernel does; no mask.

    Per query and head, with the scores s of `attention_scores`: ``e = EXP(s - max s)``, the
    difference not wrapped; ``acc_d = sum over keys ((v_d * e) >> of)``, wrapped to 32 bits;
    ``out_d = operand((acc_d * RECIP(sum of e)) >> 22)``, wrapped to 32 bits before it is
    narrowed. Lanes and their skew change no bit, as no order matters; T_a does.

    Parameters
    ----------
    q, k, v : ndarray of integers, shape (tokens, heads, head_dim)
        Operands; 1 to 511 tokens, head_dim a power of 4.
    formats : Formats
    dims : int
        T_a, dims per beat; divides head_dim.

    Returns
    -------
    ndarray of int64, shape (tokens, heads, head_dim)
        Operands.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    queries = checked("q", q, (None, None, None), formats.operand_bits)
    keys = checked("k", k, queries.shape, formats.operand_bits)
    values = checked("v", v, queries.shape, formats.operand_bits)
    if len(queries) > MAX_TOKENS:
        raise InputError(f"tokens = {len(queries)} is not allowed: 1 to {MAX_TOKENS}")
    out = np.empty_like(queries)
    for head in range(queries.shape[1]):
        scores = attention_scores(queries[:, head], keys[:, head], formats, dims=dims)
        e = exponential(scores - scores.max(axis=1, keepdims=True))
        acc = shifted_products(e, values[:, head].T, formats.operand_fraction)
        inverse = reciprocal(e.sum(axis=1, keepdims=True))
        out[:, head] = to_operand(wrap((acc * inverse) >> WIDE_FRACTION), formats)
    return out


def attention_scores(
    q: NDArray[np.integer], k: NDArray[np.integer], formats: Formats, *, dims: int
) -> Integers:
    """Return the scaled scores of one head.

    For every block of `dims` consecutive dims ``t = sum ((q_i * k_i) >> (2 of - 22))``, wrapped
    to 32 bits, then ``t >> log2(sqrt(head_dim))`` (3 for 64); the score is the wrapped sum of the
    blocks.

    Parameters
    ----------
    q : ndarray of integers, shape (queries, head_dim)
    k : ndarray of integers, shape (keys, head_dim)
    formats : Formats
    dims : int
        T_a; divides head_dim, which is a power of 4.

    Returns
    -------
    ndarray of int64, shape (queries, keys)
        Wide.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    queries = checked("q", q, (None, None), formats.operand_bits)
    head_dim = queries.shape[1]
    keys = checked("k", k, (None, head_dim), formats.operand_bits)
    scale = (head_dim.bit_length() - 1) // 2
    if head_dim != 4**scale:
        raise InputError(f"head_dim = {head_dim} is not allowed: a power of 4")
    if dims < 1 or head_dim % dims:
        raise InputError(f"dims = {dims} is not allowed: a divisor of head_dim = {head_dim}")
    shift = 2 * formats.operand_fraction - WIDE_FRACTION
    score = np.zeros((len(queries), len(keys)), np.int64)
    for first in range(0, head_dim, dims):
        block = slice(first, first + dims)
        score += shifted_products(queries[:, block], keys[:, block], shift) >> scale
    return wrap(score)
