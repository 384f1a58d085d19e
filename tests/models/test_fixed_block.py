"""UbiMoE's encoder block in fixed point: its bits, and its distance from float64."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from headrace.models.kernels import fixed
from headrace.models.kernels.fixed import FORMATS

_SPEC = importlib.util.spec_from_file_location(
    "oracle", Path(__file__).with_name("test_fixed_kernels.py")
)
oracle = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(oracle)


def real_parameters(seed, width, hidden, experts, spread):
    """Random weights of a block with `experts` FFNs (one: dense)."""
    rng = np.random.default_rng(seed)

    def affine(outputs, inputs):
        return rng.normal(0, spread, (outputs, inputs)), rng.normal(0, 0.05, outputs)

    def norm():
        return rng.normal(1, 0.1, width), rng.normal(0, 0.1, width)

    return {
        "norms": (norm(), norm()),
        "qkv": affine(3 * width, width),
        "projection": affine(width, width),
        "ffns": [(affine(hidden, width), affine(width, hidden)) for _ in range(experts)],
        "gate": rng.normal(0, spread, (experts, width)),
    }


def stored(p, f, heads, top_k=2):
    """Return the same parameters as integers of the formats."""

    def affine(pair, bias_fraction):
        weights = fixed.from_real(pair[0], f.weight_bits, f.weight_fraction)
        return fixed.Affine(weights=weights, bias=fixed.from_real(pair[1], 16, bias_fraction))

    def norm(pair):
        gain, offset = (fixed.from_real(v, 16, f.norm_fraction) for v in pair)
        return fixed.Affine(weights=gain, bias=offset)

    ffns = tuple(
        fixed.FeedForward(first=affine(a, f.bias_fraction), second=affine(b, f.bias_fraction))
        for a, b in p["ffns"]
    )
    gate = fixed.from_real(p["gate"], f.weight_bits, f.weight_fraction)
    return fixed.EncoderBlock(
        attention_norm=norm(p["norms"][0]),
        attention=fixed.Attention(
            heads=heads,
            qkv=affine(p["qkv"], f.attention_bias_fraction),
            projection=affine(p["projection"], f.attention_bias_fraction),
        ),
        ffn_norm=norm(p["norms"][1]),
        ffn=ffns[0] if len(ffns) == 1 else fixed.Experts(gate=gate, top_k=top_k, experts=ffns),
    )


def rows_of(affine, rows, f, bf):
    pairs = list(zip(affine.weights.tolist(), affine.bias.tolist(), strict=True))
    return [[oracle.linear(row, w, b, f, bf) for w, b in pairs] for row in rows]


def norm_of(affine, rows, f):
    gain, offset = affine.weights.tolist(), affine.bias.tolist()
    return [oracle.layer_norm(row, gain, offset, f) for row in rows]


def scalar_attention(x, block, f, dims):
    """The projection's results."""
    heads, width = block.attention.heads, len(x[0])
    size, bf = width // heads, f.attention_bias_fraction
    qkv = rows_of(block.attention.qkv, norm_of(block.attention_norm, x, f), f, bf)
    qkv = [[oracle.operand(v, f) for v in row] for row in qkv]
    attended = [[] for _ in x]
    for h in range(heads):
        q, k, v = (
            [row[part * width + h * size : part * width + (h + 1) * size] for row in qkv]
            for part in range(3)
        )
        for row, query in zip(attended, q, strict=True):
            row += oracle.attend(query, k, v, f, dims)
    return rows_of(block.attention.projection, attended, f, bf)


def scalar_ffn(rows, ffn, f):
    hidden = rows_of(ffn.first, rows, f, f.bias_fraction)
    hidden = [[oracle.operand(oracle.gelu(v), f) for v in row] for row in hidden]
    return rows_of(ffn.second, hidden, f, f.bias_fraction)


def scalar_block(x, block, f, dims):
    """The page, token by token."""

    def add(row, addend):
        return [oracle.wrap(a + b, f.feature_bits) for a, b in zip(row, addend, strict=True)]

    def features(row):
        return [oracle.feature(v, f) for v in row]

    attended = scalar_attention(x, block, f, dims)
    x = [add(row, features(y)) for row, y in zip(x, attended, strict=True)]
    rows = norm_of(block.ffn_norm, x, f)
    if isinstance(block.ffn, fixed.FeedForward):
        results = scalar_ffn(rows, block.ffn, f)
        return [add(row, features(y)) for row, y in zip(x, results, strict=True)]
    out = []
    for token, row in zip(x, rows, strict=True):
        scores = [oracle.linear(row, w, 0, f, 0) for w in block.ffn.gate.tolist()]
        p, mixture = oracle.softmax(scores), [0] * len(row)
        for e in oracle.best(scores, block.ffn.top_k):
            (y,) = scalar_ffn([row], block.ffn.experts[e], f)
            part = [oracle.wrap(v * p[e] >> (44 - f.feature_fraction), f.feature_bits) for v in y]
            mixture = add(mixture, part)
        out.append(add(token, mixture))
    return out


@pytest.mark.parametrize("experts", [1, 5])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [0.3, 30.0], ids=["usual", "wrapping"])
def test_every_bit_of_a_block(name, experts, size):
    f = FORMATS[name]
    block = stored(real_parameters(1, 8, 6, experts, size), f, heads=2)
    real = np.random.default_rng(2).normal(0, size, (6, 8))
    x = fixed.from_real(real, f.feature_bits, f.feature_fraction)
    for dims in (2, 4):
        expected = scalar_block(x.tolist(), block, f, dims)
        assert fixed.encoder_block(x, block, f, dims=dims).tolist() == expected


def float_norm(x, parameters):
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
    return centred / deviation * parameters[0] + parameters[1]


def float_softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def float_linear(x, parameters):
    return x @ parameters[0].T + parameters[1]


def float_ffn(x, parameters):
    hidden = float_linear(x, parameters[0])
    erf = np.array([math.erf(v / math.sqrt(2)) for v in hidden.ravel()]).reshape(hidden.shape)
    return float_linear(hidden * (1 + erf) / 2, parameters[1])


def float_block(x, p, heads, top_k=2):
    """A pre-norm transformer block in float64: its result and, in each row, the experts used."""
    tokens, width = x.shape
    qkv = float_linear(float_norm(x, p["norms"][0]), p["qkv"])
    q, k, v = qkv.reshape(tokens, 3, heads, -1).transpose(1, 2, 0, 3)
    weights = float_softmax(q @ k.transpose(0, 2, 1) / math.sqrt(width // heads))
    x = x + float_linear((weights @ v).transpose(1, 0, 2).reshape(tokens, width), p["projection"])
    rows = float_norm(x, p["norms"][1])
    if len(p["ffns"]) == 1:
        return x + float_ffn(rows, p["ffns"][0]), np.ones((tokens, 1), bool)
    probabilities = float_softmax(rows @ p["gate"].T)
    used = probabilities >= np.sort(probabilities)[:, -top_k, None]
    parts = [
        (probabilities * used)[:, e, None] * float_ffn(rows, ffn) for e, ffn in enumerate(p["ffns"])
    ]
    return x + sum(parts), used


def experts_used(x, block, f, dims):
    """The same table of the fixed-point block."""
    attended = fixed.msa_block(x, block, f, dims=dims)
    rows = fixed.layer_norm(attended, block.ffn_norm.weights, block.ffn_norm.bias, f)
    choices = fixed.gate(rows, block.ffn.gate, f, top_k=block.ffn.top_k)
    used = np.zeros((len(x), len(block.ffn.gate)), bool)
    np.put_along_axis(used, choices.experts, True, axis=1)
    return used


def distance(name, experts, hidden):
    """RMS error of the update over its RMS, of tokens with the same experts; number of others."""
    f = FORMATS[name]
    p = real_parameters(3, 192, hidden, experts, 0.04)
    real = np.random.default_rng(4).normal(0, 1, (129, 192))
    block = stored(p, f, heads=3)
    x = fixed.from_real(real, f.feature_bits, f.feature_fraction)
    expected, used = float_block(real, p, heads=3)
    same = np.ones(len(x), bool)
    if experts > 1:
        same = (used == experts_used(x, block, f, dims=8)).all(axis=1)
    y = fixed.to_real(fixed.encoder_block(x, block, f, dims=8), f.feature_fraction)
    error, update = (y - expected)[same], (expected - real)[same]
    return math.sqrt((error**2).mean() / (update**2).mean()), int((~same).sum())


@pytest.mark.parametrize(
    "name, experts, hidden, stated, others",
    [
        ("w16a32", 1, 768, 0.0021, 0),
        ("w16a32", 16, 384, 0.0075, 1),
        ("int16", 1, 768, 0.0043, 0),
        ("int16", 16, 384, 0.02, 1),
        ("int8", 1, 768, 0.16, 0),
        ("int8", 16, 384, 0.44, 12),
    ],
)
def test_distance_of_a_block_from_float64(name, experts, hidden, stated, others):
    """129 x 192, weights of deviation 0.04; the rounding of weights and input is included.

    A token whose second and third expert are nearly equal may get the other one; such tokens are
    counted.
    """
    assert distance(name, experts, hidden) == (pytest.approx(stated, rel=0.1), others)
