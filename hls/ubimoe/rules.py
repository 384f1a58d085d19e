"""The rules of docs/ubimoe-numerics.md in NumPy, for the vectors of emitted test benches.

Arrays are int64 throughout. Every product is shifted on its own, so there is no matrix product.
"""

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION, Formats
from headrace.hls.ubimoe.patch_embedding import PIXEL_BITS
from headrace.hls.ubimoe.tables import exponentials, gelu_differences

__all__ = [
    "Ints",
    "attend",
    "choose",
    "contribute",
    "embed",
    "exponential",
    "gelu",
    "linear",
    "normalise",
    "reciprocal",
    "root_reciprocal",
    "to_feature",
    "to_operand",
    "wrap",
]

Ints = NDArray[np.int64]

_ONE = 1 << WIDE_FRACTION
_COARSE = np.array(exponentials(16))
_FINE = np.array(exponentials(4096))
_GELU = np.array(gelu_differences())


def wrap(values: Ints, bits: int = WIDE_BITS) -> Ints:
    """Keep the low `bits` bits as a signed number."""
    half = 1 << (bits - 1)
    kept: Ints = (values + half) % (2 * half) - half
    return kept


def _shift(values: Ints, right: int) -> Ints:
    shifted: Ints = values >> right if right >= 0 else values << -right
    return shifted


def to_operand(values: Ints, f: Formats) -> Ints:
    """Narrow wide values to operands."""
    kept = values >> f.operand_shift
    if not f.saturates:
        return wrap(kept, f.operand_bits)
    half = 1 << (f.operand_bits - 1)
    clipped: Ints = np.clip(kept, -half, half - 1)
    return clipped


def to_feature(values: Ints, f: Formats) -> Ints:
    """Narrow wide values to features."""
    return wrap(values >> f.feature_shift, f.feature_bits)


def exponential(differences: Ints) -> Ints:
    """Return EXP of differences, 0 or below."""
    x = -differences
    inside = np.minimum(x, 16 * _ONE - 1)
    p = (_COARSE[inside >> 18] * _FINE[(inside >> 10) & 255]) >> WIDE_FRACTION
    p = p - ((p * (inside & 1023)) >> WIDE_FRACTION)
    values: Ints = np.where(x < 16 * _ONE, p, 0)
    return values


def reciprocal(sums: Ints) -> Ints:
    """Return RECIP of sums of at least one."""
    quotients: Ints = (1 << 44) // sums
    return quotients


def root_reciprocal(values: Ints) -> Ints:
    """Return RSQRT."""
    roots = np.array([isqrt(max(int(v), 1) << WIDE_FRACTION) for v in values.ravel()])
    quotients: Ints = np.minimum((1 << 44) // roots, (1 << 31) - 1).reshape(values.shape)
    return quotients


def gelu(x: Ints) -> Ints:
    """Return GELU of wide values."""
    magnitude = np.abs(x)
    inside = np.minimum(magnitude, 11 * _ONE // 2 - 1)
    i, rest = inside >> 17, inside & ((1 << 17) - 1)
    delta = _GELU[i] + (((_GELU[i + 1] - _GELU[i]) * rest) >> 17)
    values: Ints = np.maximum(x, 0) - np.where(magnitude < 11 * _ONE // 2, delta, 0)
    return values


def linear(x: Ints, w: Ints, b: Ints, f: Formats, bias_fraction: int) -> Ints:
    """Return rule 1 for x [rows, K], w [N, K] and b [N], wide."""
    products = _shift(x[:, None] * w[None], f.product_shift)
    return wrap((b << (WIDE_FRACTION - bias_fraction)) + products.sum(axis=2))


def attend(q: Ints, k: Ints, v: Ints, f: Formats, dims: int) -> Ints:
    """Return rules 2 and 3 for one head, [tokens, head_dim] each; operands."""
    tokens, head_dim = q.shape
    products = _shift(q[:, None] * k[None], f.score_shift)
    blocks = wrap(products.reshape(tokens, tokens, -1, dims).sum(axis=3))
    scores = wrap((blocks // isqrt(head_dim)).sum(axis=2))
    e = exponential(scores - scores.max(axis=1, keepdims=True))
    sums = wrap(((v[None] * e[:, :, None]) >> f.operand_fraction).sum(axis=1))
    factors = reciprocal(e.sum(axis=1, keepdims=True))
    return to_operand(wrap((sums * factors) >> WIDE_FRACTION), f)


def normalise(x: Ints, gain: Ints, offset: Ints, f: Formats) -> Ints:
    """Return rule 4 for features x [rows, D]; operands."""
    share = wrap((x * (_ONE // x.shape[1])) >> f.feature_fraction)
    mean = wrap(share.sum(axis=1, keepdims=True))
    square = wrap(((x * share) >> f.feature_fraction).sum(axis=1, keepdims=True))
    factor = root_reciprocal(wrap(square - ((mean * mean) >> WIDE_FRACTION) + 4))
    scaled = wrap((wrap((x << f.feature_shift) - mean) * factor) >> WIDE_FRACTION)
    moved = offset << (WIDE_FRACTION - f.norm_fraction)
    return to_operand(wrap(((scaled * gain) >> f.norm_fraction) + moved), f)


def choose(scores: Ints, top_k: int) -> tuple[Ints, Ints]:
    """Return rule 5 for scores [tokens, experts]: experts and probabilities [tokens, top_k]."""
    largest = np.full(len(scores), -(1 << 31))
    total = np.zeros(len(scores), np.int64)
    for score in scores.T:
        e = exponential(-np.abs(score - largest))
        higher = score > largest
        total = np.where(higher, ((total * e) >> WIDE_FRACTION) + _ONE, total + e)
        largest = np.maximum(largest, score)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    e = exponential(np.take_along_axis(scores, best, axis=1) - largest[:, None])
    return best, (e * reciprocal(total)[:, None]) >> WIDE_FRACTION


def contribute(x: Ints, token: int, y: Ints, probability: int, f: Formats) -> None:
    """Add an expert's wide result y [D], weighted, to one row of the features x: rule 6."""
    x[token] += wrap((y * probability) >> (WIDE_FRACTION + f.feature_shift), f.feature_bits)
    x[token] = wrap(x[token], f.feature_bits)


def embed(pixels: Ints, w: Ints, b: Ints, positions: Ints, f: Formats) -> Ints:
    """Return rule 7 for pixels [patches, K], w [D, K], b [D] and positions [patches + 1, D]."""
    products = _shift(pixels[:, None] * w[None], PIXEL_BITS + f.patch_fraction - WIDE_FRACTION)
    sums = wrap((b << (WIDE_FRACTION - f.bias_fraction)) + products.sum(axis=2))
    rows = positions.copy()
    rows[1:] += to_feature(sums, f)
    return wrap(rows, f.feature_bits)
