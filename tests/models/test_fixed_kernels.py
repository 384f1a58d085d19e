"""UbiMoE's fixed-point kernels, bit by bit against scalar steps written from the page."""

import dataclasses
import math

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS as ARCH_FORMATS
from headrace.arch.ubimoe.formats import WIDE_BITS as ARCH_WIDE_BITS
from headrace.arch.ubimoe.formats import WIDE_FRACTION as ARCH_WIDE_FRACTION
from headrace.models.kernels import fixed
from headrace.models.kernels.fixed.formats import FORMATS, ONE, WIDE_BITS, WIDE_FRACTION

PRECISIONS = list(FORMATS.values())
IDS = list(FORMATS)
each_precision = pytest.mark.parametrize("f", PRECISIONS, ids=IDS)
each_spread = pytest.mark.parametrize("spread", [1.0, 0.02], ids=["full range", "small"])


def shr(v, bits):
    return v // 2**bits if bits >= 0 else v * 2**-bits


def wrap(v, bits=32):
    return (v + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def operand(v, f):
    narrow, half = v // 2 ** (22 - f.operand_fraction), 2 ** (f.operand_bits - 1)
    if f.saturates:
        return max(-half, min(half - 1, narrow))
    return wrap(narrow, f.operand_bits)


def feature(v, f):
    return wrap(v // 2 ** (22 - f.feature_fraction), f.feature_bits)


def exp(d):
    if d <= -16 * ONE:
        return 0
    a, rest = divmod(-d, 2**18)
    b, r = divmod(rest, 2**10)
    p = math.floor(ONE * math.exp(-a / 16) + 0.5) * math.floor(ONE * math.exp(-b / 4096) + 0.5)
    return p // ONE - (p // ONE * r) // ONE


def gelu(x):
    def g(i):
        return math.floor(ONE * (i / 32) * math.erfc(i / 32 / math.sqrt(2)) / 2 + 0.5)

    if abs(x) >= 5.5 * ONE:
        return max(x, 0)
    i, rest = divmod(abs(x), 2**17)
    return max(x, 0) - (g(i) + (g(i + 1) - g(i)) * rest // 2**17)


def linear(x, w, b, f, bias_fraction):
    shift = f.operand_fraction + f.weight_fraction - 22
    products = [shr(p * q, shift) for p, q in zip(x, w, strict=True)]
    return wrap(b * 2 ** (22 - bias_fraction) + sum(products))


def score(q, k, f, dims):
    scale = round(math.log2(math.sqrt(len(q))))
    total = 0
    for first in range(0, len(q), dims):
        block = range(first, first + dims)
        t = wrap(sum(shr(q[i] * k[i], 2 * f.operand_fraction - 22) for i in block))
        total += t // 2**scale
    return wrap(total)


def attend(q, keys, values, f, dims):
    """One query of one head."""
    scores = [score(q, k, f, dims) for k in keys]
    e = [exp(s - max(scores)) for s in scores]
    inverse = 2**44 // sum(e)
    out = []
    for d in range(len(q)):
        column = [v[d] for v in values]
        acc = wrap(sum(shr(v * p, f.operand_fraction) for v, p in zip(column, e, strict=True)))
        out.append(operand(wrap(acc * inverse // ONE), f))
    return out


def layer_norm(x, gain, offset, f):
    c = 2**22 // len(x)
    u = [shr(v * c, f.feature_fraction) for v in x]
    m = wrap(sum(u))
    msq = wrap(sum(shr(v * w, f.feature_fraction) for v, w in zip(x, u, strict=True)))
    var = max(wrap(msq - m * m // ONE + 4), 1)
    r = min(2**44 // math.isqrt(var * ONE), 2**31 - 1)
    out = []
    for v, g, b in zip(x, gain, offset, strict=True):
        normal = wrap(wrap(v * 2 ** (22 - f.feature_fraction) - m) * r // ONE)
        y = normal * g // 2**f.norm_fraction + b * 2 ** (22 - f.norm_fraction)
        out.append(operand(wrap(y), f))
    return out


def softmax(scores):
    largest, total = -(2**31), 0
    for s in scores:
        if s > largest:
            total = total * exp(largest - s) // ONE + ONE
            largest = s
        else:
            total += exp(s - largest)
    return [exp(s - largest) * (2**44 // total) // ONE for s in scores]


def best(scores, k):
    """Insertion in the order of the experts, strict >."""
    chosen = []
    for e, s in enumerate(scores):
        place = next((i for i, c in enumerate(chosen) if s > scores[c]), len(chosen))
        chosen.insert(place, e)
    return chosen[:k]


def draw(seed, shape, bits, spread=1.0):
    """Uniform `bits`-bit numbers of `spread` of the range; both ends are among them at 1.0."""
    half = 2 ** (bits - 1)
    low, high = -math.ceil(half * spread), max(1, math.floor(half * spread))
    values = np.random.default_rng(seed).integers(low, high, shape, dtype=np.int64)
    if spread == 1.0:
        values.flat[: min(2, values.size)] = [-half, half - 1][: values.size]
    return values


def test_formats_are_those_of_the_hardware():
    assert {n: dataclasses.asdict(f) for n, f in FORMATS.items()} == {
        n: dataclasses.asdict(f) for n, f in ARCH_FORMATS.items()
    }
    assert (WIDE_BITS, WIDE_FRACTION) == (ARCH_WIDE_BITS, ARCH_WIDE_FRACTION)


@each_precision
def test_storing(f):
    v = [*draw(1, 300, 32).tolist(), 0, -1, *(s * 2**22 * 8 + e for s in (-1, 1) for e in (-1, 0))]
    a = np.array(v)
    assert fixed.to_operand(a, f).tolist() == [operand(x, f) for x in v]
    assert fixed.to_feature(a, f).tolist() == [feature(x, f) for x in v]
    assert fixed.wrap(a * 3, 32).tolist() == [wrap(3 * x) for x in v]
    x = draw(2, 50, f.feature_bits)
    assert fixed.to_feature(fixed.to_wide(x, f), f).tolist() == x.tolist()


def test_int8_operands_saturate_where_int16_operands_wrap():
    v = np.array([8 * ONE - 1, 8 * ONE, -8 * ONE - 1, 40 * ONE])
    assert fixed.to_operand(v, FORMATS["int8"]).tolist() == [127, 127, -128, 127]
    assert fixed.to_operand(4 * v, FORMATS["int16"]).tolist()[:2] == [2**15 - 1, -(2**15)]


@each_spread
@each_precision
@pytest.mark.parametrize("inside_msa", [False, True])
def test_linear(f, spread, inside_msa):
    x, w = draw(1, (3, 40), f.operand_bits, spread), draw(2, (5, 40), f.weight_bits, spread)
    b = draw(3, 5, 16)
    bf = f.attention_bias_fraction if inside_msa else f.bias_fraction
    option = {"bias_fraction": bf} if inside_msa else {}
    expected = [
        [linear(r, v, c, f, bf) for v, c in zip(w.tolist(), b.tolist(), strict=True)]
        for r in x.tolist()
    ]
    assert fixed.linear(x, w, b, f, **option).tolist() == expected
    with_gelu = fixed.linear(x, w, b, f, **option, gelu=True)
    assert with_gelu.tolist() == [[gelu(v) for v in row] for row in expected]


def test_linear_wraps_and_floors_every_product():
    f = FORMATS["w16a32"]
    x, w = np.full((1, 3), -(2**31)), np.full((1, 3), -(2**15))
    assert fixed.linear(x, w, None, f).tolist() == [[wrap(3 * 2**32)]]
    # three products of -1/2^14 are floored to -1 each
    assert fixed.linear(np.array([[1, 1, 1]]), np.array([[-1, -1, -1]]), None, f).tolist() == [[-3]]


@each_spread
@each_precision
@pytest.mark.parametrize("head_dim, dims", [(4, 1), (4, 2), (16, 4), (16, 16), (64, 8)])
def test_streaming_attention(f, spread, head_dim, dims):
    q, k, v = draw(head_dim + dims, (3, 5, 2, head_dim), f.operand_bits, spread)
    result = fixed.streaming_attention(q, k, v, f, dims=dims)
    for i, h in np.ndindex(5, 2):
        expected = attend(q[i, h].tolist(), k[:, h].tolist(), v[:, h].tolist(), f, dims)
        assert result[i, h].tolist() == expected


def test_scores_depend_on_the_dims_per_beat():
    f = FORMATS["w16a32"]
    q, k = draw(5, (2, 1, 16), 32, 0.01)
    both = [fixed.attention_scores(q, k, f, dims=dims).item() for dims in (4, 16)]
    assert both == [score(q[0].tolist(), k[0].tolist(), f, dims) for dims in (4, 16)]
    assert both[0] != both[1]


def test_attention_of_one_token_and_of_the_most():
    f = FORMATS["int16"]
    v = draw(6, (511, 1, 4), 16)
    assert fixed.streaming_attention(v[:1], v[:1], v[:1], f, dims=4).tolist() == v[:1].tolist()
    zeros = np.zeros_like(v)
    mean = fixed.streaming_attention(zeros, zeros, v, f, dims=4)[510, 0].tolist()
    assert mean == attend([0] * 4, [[0] * 4] * 511, v[:, 0].tolist(), f, 4)


@each_spread
@each_precision
@pytest.mark.parametrize("width", [1, 6, 48, 192])
def test_layer_norm(f, spread, width):
    x = draw(width, (4, width), f.feature_bits, spread)
    x[3] = x[3, 0]  # no variance but eps
    gain, offset = draw(7, width, 16, spread), draw(8, width, 16, spread)
    expected = [layer_norm(r, gain.tolist(), offset.tolist(), f) for r in x.tolist()]
    assert fixed.layer_norm(x, gain, offset, f).tolist() == expected


def test_layer_norm_wraps_before_it_saturates():
    """One outlier in 2048 is 45 deviations: times the largest gain, 16, it leaves 32 bits."""
    f = FORMATS["int8"]
    x = [2**15 - 1] + [0] * 2047
    y = fixed.layer_norm(np.array([x]), np.full(2048, 2**15 - 1), np.zeros(2048, int), f)
    assert y.tolist() == [layer_norm(x, [2**15 - 1] * 2048, [0] * 2048, f)]
    assert y[0, 0] == -128


@each_spread
@each_precision
@pytest.mark.parametrize("experts, k", [(1, 1), (5, 2), (16, 4), (16, 16)])
def test_gate(f, spread, experts, k):
    x, w = draw(9, (6, 12), f.operand_bits, spread), draw(10, (experts, 12), f.weight_bits, spread)
    w[experts // 2 :] = w[: experts - experts // 2]  # ties in every row
    chosen, probabilities = fixed.gate(x, w, f, top_k=k)
    for row, indices, p in zip(x.tolist(), chosen.tolist(), probabilities.tolist(), strict=True):
        scores = [linear(row, v, 0, f, 0) for v in w.tolist()]
        assert indices == best(scores, k)
        assert p == [softmax(scores)[e] for e in indices]


def test_equal_scores_leave_the_lower_index_first():
    scores = np.array([[7, 9, 9, 7], [0, 0, 0, 0], [-(2**31)] * 4, [-5, -4, -3, -3]])
    assert fixed.top_k(scores, 3).tolist() == [[1, 2, 0], [0, 1, 2], [0, 1, 2], [2, 3, 1]]


def test_softmax_at_the_ends_of_the_scores():
    low, high = -(2**31), 2**31 - 1
    rows = [[low, low], [low, high], [high, low], [low, low + 1], [0, -16 * ONE], [0, 1 - 16 * ONE]]
    assert fixed.online_softmax(np.array(rows)).tolist() == [softmax(row) for row in rows]
    assert softmax([low, high]) == [0, ONE]
    rising = (np.arange(256)[None] * 3000).tolist()
    assert fixed.online_softmax(np.array(rising)).tolist() == [softmax(rising[0])]


def test_dispatch_sorts_tokens_by_expert():
    experts = np.array([[4, 1], [1, 0], [4, 0]])
    jobs = fixed.dispatch(fixed.Choices(experts, np.array([[11, 12], [21, 22], [31, 32]])), 6)
    found = [(j.expert, j.tokens.tolist(), j.probabilities.tolist()) for j in jobs]
    assert found == [(0, [1, 2], [22, 32]), (1, [0, 1], [12, 21]), (4, [0, 2], [11, 31])]


@each_spread
@each_precision
def test_combine_and_residuals(f, spread):
    x = draw(11, (3, 8), f.feature_bits)
    tokens = [[0, 2], [0, 1, 2]]
    ps = [[ONE, 12345], [0, 1, ONE - 1]]
    results = [draw(12 + i, (len(t), 8), 32, spread) for i, t in enumerate(tokens)]
    jobs = [
        fixed.Job(i, np.array(t), np.array(p))
        for i, (t, p) in enumerate(zip(tokens, ps, strict=True))
    ]
    expected = x.tolist()
    for t, d in np.ndindex(3, 8):
        moe = 0
        for rows, p, y in zip(tokens, ps, results, strict=True):
            for i, row in enumerate(rows):
                product = int(y[i, d]) * p[i]
                moe += wrap(product // 2 ** (44 - f.feature_fraction), f.feature_bits) * (row == t)
        expected[t][d] = wrap(expected[t][d] + moe, f.feature_bits)
    assert fixed.combine(x, jobs, results, f).tolist() == expected
    wide = draw(14, (3, 8), 32)
    pairs = zip(x.ravel().tolist(), wide.ravel().tolist(), strict=True)
    added = [wrap(a + feature(b, f), f.feature_bits) for a, b in pairs]
    assert fixed.add_residual(x, wide, f).ravel().tolist() == added


@each_precision
def test_patch_embedding(f):
    pixels = np.random.default_rng(15).integers(0, 256, (3, 48))
    pixels[0] = 255
    w, b, positions = draw(16, (6, 48), 16), draw(17, 6, 16), draw(18, (4, 6), f.feature_bits)
    w[0] = 2**15 - 1
    expected = [positions[0].tolist()]
    for row, position in zip(pixels.tolist(), positions[1:].tolist(), strict=True):
        sums = [sum(p * v // 4 for p, v in zip(row, line, strict=True)) for line in w.tolist()]
        biases = [c * 2 ** (22 - f.bias_fraction) for c in b.tolist()]
        features = [feature(wrap(c + s), f) for c, s in zip(biases, sums, strict=True)]
        sums = zip(features, position, strict=True)
        expected.append([wrap(a + c, f.feature_bits) for a, c in sums])
    assert fixed.patch_embedding(pixels, w, b, positions, f).tolist() == expected
