"""Attention in both directions and RoPE in both orders."""

import math

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.kernels import (
    attention,
    decode_attention_half,
    pair_permutation,
    prefill_attention_half,
    rope,
    rope_half,
    rope_table,
)

F16 = np.float16


def exp16(x):
    return F16(math.exp(float(x))) if x > -1000 else F16(0)


def dot16(a, b):
    """The stated order: 16 products, lanes folded by 8, 4, 2, 1, vectors in sequence."""
    total = F16(0)
    for first in range(0, len(a), 16):
        part = [x * y for x, y in zip(a[first : first + 16], b[first : first + 16], strict=True)]
        part += [F16(0)] * (16 - len(part))
        for fold in (8, 4, 2, 1):
            part = [part[i] + part[i + fold] for i in range(fold)]
        total = total + part[0]
    return total


def online(q, keys, values, scale):
    m, total, out = F16(-np.inf), F16(0), [F16(0)] * len(q)
    for k, v in zip(keys, values, strict=True):
        s = dot16(q, k) * scale
        new = max(m, s)
        c, p = exp16(m - new), exp16(s - new)
        total = c * total + p
        out = [c * o + p * x for o, x in zip(out, v, strict=True)]
        m = new
    inverse = F16(1) / total
    return [o * inverse for o in out]


def two_phase(q, keys, values, scale):
    scores = [dot16(q, k) * scale for k in keys]
    m, total = F16(-np.inf), F16(0)
    for s in scores:
        new = max(m, s)
        total = exp16(m - new) * total + exp16(s - new)
        m = new
    inverse = F16(1) / total
    out = [F16(0)] * len(q)
    for s, v in zip(scores, values, strict=True):
        weight = exp16(s - m) * inverse
        out = [o + weight * x for o, x in zip(out, v, strict=True)]
    return out


def case(tokens, heads, kv_heads, head_dim, seed=0):
    rng = np.random.default_rng(seed)
    q = rng.normal(0, 2, (tokens, heads, head_dim)).astype(F16)
    k, v = rng.normal(0, 1, (2, tokens, kv_heads, head_dim)).astype(F16)
    return q, k, v


@pytest.mark.parametrize("shape", [(11, 2, 1, 20), (8, 1, 1, 16), (3, 3, 3, 6), (17, 2, 2, 32)])
def test_prefill_equals_the_scalar_steps(shape):
    q, k, v = case(*shape)
    result = prefill_attention_half(q, k, v)
    group, scale = shape[1] // shape[2], F16(1 / math.sqrt(shape[3]))
    for i in range(shape[0]):
        for head in range(shape[1]):
            keys, values = k[: i + 1, head // group], v[: i + 1, head // group]
            assert result[i, head].tolist() == online(q[i, head], keys, values, scale)


@pytest.mark.parametrize("lanes", [1, 3, 8, 64])
def test_lanes_do_not_change_bits(lanes):
    q, k, v = case(21, 2, 2, 16)
    assert np.array_equal(prefill_attention_half(q, k, v, lanes), prefill_attention_half(q, k, v))


@pytest.mark.parametrize("shape", [(1, 2, 2, 16), (9, 4, 2, 20), (33, 1, 1, 32)])
def test_decode_equals_the_scalar_steps(shape):
    q, k, v = case(*shape, seed=3)
    result = decode_attention_half(q[-1], k, v)
    group, scale = shape[1] // shape[2], F16(1 / math.sqrt(shape[3]))
    for head in range(shape[1]):
        expected = two_phase(q[-1, head], k[:, head // group], v[:, head // group], scale)
        assert result[head].tolist() == expected


def test_half_attention_is_close_to_float32():
    q, k, v = case(96, 4, 2, 32, seed=1)
    exact = attention(*(a.astype(np.float32) for a in (q, k, v)))
    assert np.abs(prefill_attention_half(q, k, v) - exact).max() < 0.02
    assert np.abs(decode_attention_half(q[-1], k, v) - exact[-1]).max() < 0.02


def test_float32_attention_in_float64():
    q, k, v = (a.astype(np.float64) for a in case(7, 2, 1, 4, seed=2))
    result = attention(
        *(a[3 if n == 0 else 0 :].astype(np.float32) for n, a in enumerate((q, k, v)))
    )
    for i in range(3, 7):
        for head in range(2):
            scores = k[: i + 1, 0] @ q[i, head] / 2
            weights = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(result[i - 3, head], weights @ v[: i + 1, 0], rtol=2e-5)


def test_attention_of_one_token_is_its_value():
    q, k, v = case(1, 2, 2, 16)
    assert np.array_equal(prefill_attention_half(q, k, v), v)
    assert np.array_equal(decode_attention_half(q[0], k, v), v[0])


def test_bad_shapes():
    q, k, v = case(4, 3, 1, 8)
    for bad in [(q, k, v[:3]), (q, np.repeat(k, 2, 1), np.repeat(v, 2, 1)), (q[..., :4], k, v)]:
        with pytest.raises(InputError, match="do not fit"):
            prefill_attention_half(*bad)
    with pytest.raises(InputError, match="equal numbers"):
        prefill_attention_half(q[:2], k, v)
    with pytest.raises(InputError, match="at least 1"):
        prefill_attention_half(q, k, v, lanes=0)


def test_rope_in_double_precision():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5, 2, 8)).astype(np.float32)
    positions = np.array([0, 1, 7, 100, 500])
    result = rope(x, *rope_table(positions, 8, 10_000.0))
    for token, position in enumerate(positions):
        for t in range(4):
            angle = position * 10_000.0 ** (-2 * t / 8)
            pair = x[token, :, t] + 1j * x[token, :, t + 4].astype(np.complex128)
            turned = pair * np.exp(1j * angle)
            np.testing.assert_allclose(result[token, :, t], turned.real, atol=1e-4)
            np.testing.assert_allclose(result[token, :, t + 4], turned.imag, atol=1e-4)


def test_permuted_columns_and_adjacent_pairs_equal_half_split():
    heads, head_dim, hidden = 3, 8, 20
    rng = np.random.default_rng(6)
    w = rng.integers(-1, 2, (heads * head_dim, hidden)).astype(np.float32)
    x = rng.integers(-4, 5, (6, hidden)).astype(np.float32)
    order = pair_permutation(heads, head_dim)
    cos, sin = rope_table(np.arange(6), head_dim, 10_000.0)
    cos, sin = cos.astype(F16), sin.astype(F16)
    split = (x @ w.T).reshape(6, heads, head_dim).astype(F16)
    pairs = (x @ w[order].T).reshape(6, heads, head_dim).astype(F16)
    # half-split rotation with every operation rounded to half
    a, b, c, s = split[..., :4], split[..., 4:], cos[:, None], sin[:, None]
    expected = np.concatenate([a * c - b * s, b * c + a * s], axis=-1).reshape(6, -1)[:, order]
    assert np.array_equal(rope_half(pairs, cos, sin).reshape(6, -1), expected)


def test_permutation_is_the_stated_one():
    assert pair_permutation(2, 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
