"""Causal attention: float32, reversed prefill in half, two-phase decode in half."""

import math
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.half_functions import exp_table, reciprocal_half
from headrace.models.kernels.rounding import half_bits, round_to_half

__all__ = ["attention", "decode_attention_half", "prefill_attention_half"]

VECTOR = 16
"""Halves per vector between TeLLMe's units; a dot product works on one vector at a time."""

Half = NDArray[np.float16]


def attention(
    q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return causal softmax attention in float32.

    The queries are the last `tokens` of the `context` positions. Sums run in ascending order of
    the coordinate or key, without BLAS.

    Parameters
    ----------
    q : ndarray of float32, shape (tokens, heads, head_dim)
    k, v : ndarray of float32, shape (context, kv_heads, head_dim)
        `kv_heads` divides `heads`; neighbouring query heads share a KV head.

    Returns
    -------
    ndarray of float32, shape (tokens, heads, head_dim)
    """
    _check(q, k, v)
    out = np.zeros(q.shape, np.float32)
    q, k, v = (np.ascontiguousarray(a, dtype=np.float32) for a in (q, k, v))
    _attend(q, k, v, np.float32(1 / math.sqrt(q.shape[-1])), out)
    return out


def prefill_attention_half(q: Half, k: Half, v: Half, lanes: int = 8) -> Half:
    """Attend as TeLLMe's reversed prefill unit does, in half precision (Eq 11).

    Queries go from the last token backwards, `lanes` at a time; the first tokens may leave
    lanes idle. For each batch the keys 0, 1, .. up to its newest query are broadcast; a lane
    skips keys later than its query. Per lane and head, every operation rounded to half:
    ``s = (q.k) * half(1/sqrt(head_dim)); m' = max(m, s); c = exp(m - m'); p = exp(s - m');
    l = c*l + p; o = c*o + p*v; m = m'``, starting from m = -inf, l = o = 0; the result is
    ``o * recip16(l)``.

    A dot product multiplies 16 lanes at a time and adds lane i to lane i+8, then i+4, i+2, i+1;
    the sums of successive vectors are added in order. A head is padded with zeros to a multiple
    of 16.

    Parameters
    ----------
    q : ndarray of float16, shape (tokens, heads, head_dim)
    k, v : ndarray of float16, shape (tokens, kv_heads, head_dim)
    lanes : int
        Query lanes N_pe, at least 1.

    Returns
    -------
    ndarray of float16, shape (tokens, heads, head_dim)

    Raises
    ------
    InputError
        Shapes do not fit, or `lanes` is not positive.
    """
    _check(q, k, v)
    if len(q) != len(k):
        raise InputError(f"prefill: {len(q)} queries but {len(k)} keys; equal numbers are needed")
    if lanes < 1:
        raise InputError(f"lanes = {lanes}; at least 1 is needed")
    out, total = np.zeros(_padded(q).shape, np.float32), np.zeros(q.shape[:2], np.float32)
    _prefill(_padded(q), _padded(k), _padded(v), _scale(q), _exp_table_float32(), lanes, out, total)
    return _divide(out, total, q.shape[-1])


def decode_attention_half(q: Half, k: Half, v: Half) -> Half:
    """Attend with one query in the two phases of TeLLMe's decode unit, in half precision.

    Phase 1 streams K: ``s = (q.k) * half(1/sqrt(head_dim))`` is stored, and ``m' = max(m, s);
    l = exp(m - m')*l + exp(s - m')``. Phase 2 streams V: ``o = o + (exp(s - m) * recip16(l)) *
    v`` in order. Every operation rounds to half; dot products as in `prefill_attention_half`.

    Parameters
    ----------
    q : ndarray of float16, shape (heads, head_dim)
        The newest token.
    k, v : ndarray of float16, shape (context, kv_heads, head_dim)
        The whole cache, the newest token included.

    Returns
    -------
    ndarray of float16, shape (heads, head_dim)

    Raises
    ------
    InputError
        Shapes do not fit.
    """
    _check(q[None], k, v)
    scores = np.empty((len(q), len(k)), np.float32)
    largest, total = np.empty(len(q), np.float32), np.empty(len(q), np.float32)
    table = _exp_table_float32()
    _decode_scores(_padded(q), _padded(k), _scale(q), table, scores, largest, total)
    with np.errstate(over="ignore"):
        inverse = reciprocal_half(total.astype(np.float16)).astype(np.float32)
    out = np.zeros(_padded(q).shape, np.float32)
    _decode_values(scores, largest, inverse, _padded(v), table, out)
    return out[:, : q.shape[-1]].astype(np.float16)


def _check(q: NDArray[np.generic], k: NDArray[np.generic], v: NDArray[np.generic]) -> None:
    fits = (
        q.ndim == k.ndim == v.ndim == 3
        and k.shape == v.shape
        and q.shape[-1] == k.shape[-1]
        and 1 <= len(q) <= len(k)
        and k.shape[1] >= 1
        and q.shape[1] % k.shape[1] == 0
    )
    if not fits:
        raise InputError(
            f"attention: q {q.shape}, k {k.shape}, v {v.shape} do not fit; (tokens, heads, "
            "head_dim) and twice (context, kv_heads, head_dim) are needed"
        )


def _padded(x: Half) -> NDArray[np.float32]:
    missing = -x.shape[-1] % VECTOR
    widths = [(0, 0)] * (x.ndim - 1) + [(0, missing)]
    return np.pad(np.asarray(x, dtype=np.float16).astype(np.float32), widths)


def _scale(q: Half) -> np.float32:
    return np.float32(np.float16(1 / math.sqrt(q.shape[-1])))


@cache
def _exp_table_float32() -> NDArray[np.float32]:
    return exp_table().astype(np.float32)


def _divide(out: NDArray[np.float32], total: NDArray[np.float32], head_dim: int) -> Half:
    inverse = reciprocal_half(total.astype(np.float16))[..., None]
    with np.errstate(over="ignore", under="ignore"):
        result: Half = out[..., :head_dim].astype(np.float16) * inverse
    return result


@njit(cache=True)
def _attend(q, k, v, scale, out):  # type: ignore[no-untyped-def]
    tokens, heads, head_dim = q.shape
    group = heads // k.shape[1]
    weights = np.empty(k.shape[0], np.float32)
    for i in range(tokens):
        seen = k.shape[0] - tokens + i + 1
        for h in range(heads):
            for key in range(seen):
                dot = np.float32(0)
                for d in range(head_dim):
                    dot += q[i, h, d] * k[key, h // group, d]
                weights[key] = dot * scale
            largest = weights[:seen].max()
            total = np.float32(0)
            for key in range(seen):
                weights[key] = np.exp(weights[key] - largest)
                total += weights[key]
            for key in range(seen):
                weight = weights[key] / total
                for d in range(head_dim):
                    out[i, h, d] += weight * v[key, h // group, d]


@njit(cache=True)
def _dot(a, b, lane):  # type: ignore[no-untyped-def]
    """Dot product of two padded halves; `lane` is scratch of 16 float32."""
    result = np.float32(0)
    for first in range(0, a.size, 16):
        for i in range(16):
            lane[i] = round_to_half(a[first + i] * b[first + i])
        for i in range(8):
            lane[i] = round_to_half(lane[i] + lane[i + 8])
        for i in range(4):
            lane[i] = round_to_half(lane[i] + lane[i + 4])
        for i in range(2):
            lane[i] = round_to_half(lane[i] + lane[i + 2])
        result = round_to_half(result + round_to_half(lane[0] + lane[1]))
    return result


@njit(cache=True)
def _prefill(q, k, v, scale, exp, lanes, out, total):  # type: ignore[no-untyped-def]
    tokens, heads = q.shape[0], q.shape[1]
    group = heads // k.shape[1]
    lane_values = np.empty(16, np.float32)
    largest = np.full((tokens, heads), -np.inf, np.float32)
    for newest in range(tokens - 1, -1, -lanes):
        for key in range(newest + 1):
            for i in range(newest, max(newest - lanes, key - 1, -1), -1):
                for h in range(heads):
                    dot = _dot(q[i, h], k[key, h // group], lane_values)
                    s = round_to_half(dot * scale)
                    m = max(largest[i, h], s)
                    c = exp[half_bits(round_to_half(largest[i, h] - m))]
                    p = exp[half_bits(round_to_half(s - m))]
                    total[i, h] = round_to_half(round_to_half(c * total[i, h]) + p)
                    largest[i, h] = m
                    _accumulate(out[i, h], v[key, h // group], c, p)


@njit(cache=True)
def _accumulate(out, value, c, p):  # type: ignore[no-untyped-def]
    for d in range(out.size):
        out[d] = round_to_half(round_to_half(c * out[d]) + round_to_half(p * value[d]))


@njit(cache=True)
def _decode_scores(q, k, scale, exp, scores, largest, total):  # type: ignore[no-untyped-def]
    group = q.shape[0] // k.shape[1]
    lane_values = np.empty(16, np.float32)
    for h in range(q.shape[0]):
        m, running = np.float32(-np.inf), np.float32(0)
        for key in range(k.shape[0]):
            s = round_to_half(_dot(q[h], k[key, h // group], lane_values) * scale)
            new = max(m, s)
            c = exp[half_bits(round_to_half(m - new))]
            p = exp[half_bits(round_to_half(s - new))]
            running = round_to_half(round_to_half(c * running) + p)
            m = new
            scores[h, key] = s
        largest[h], total[h] = m, running


@njit(cache=True)
def _decode_values(scores, largest, inverse, v, exp, out):  # type: ignore[no-untyped-def]
    group = out.shape[0] // v.shape[1]
    for h in range(out.shape[0]):
        for key in range(v.shape[0]):
            p = exp[half_bits(round_to_half(scores[h, key] - largest[h]))]
            weight = round_to_half(p * inverse[h])
            _accumulate(out[h], v[key, h // group], np.float32(1), weight)
