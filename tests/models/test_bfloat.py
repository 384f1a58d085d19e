"""Kernels in bfloat16 against exact rationals, rounded once per step, and against float64."""

from fractions import Fraction
from math import inf, isinf, isnan, nan

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.kernels import bfloat

SPECIALS = [
    0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x8080, 0x3F80, 0xBF80, 0x3F81, 0x7F7F,
    0xFF7F, 0x7F80, 0xFF80, 0x7F81, 0x7FC0, 0xFFC1, 0x2000, 0x1F80, 0x5F80,
]  # fmt: skip


# ---- numbers as (sign, Fraction), or a float that is infinite or NaN; no NumPy in here ----------


def floor_log2(x):
    """Return the exponent of a fraction; the least one for zero."""
    if not x:
        return -126
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess - (x < Fraction(2) ** guess)


def rounded(value, bits, sign):
    """Round |value| to a format of 8 exponent bits and so many significand bits; ties to even."""
    magnitude = abs(value)
    unit = Fraction(2) ** (max(-126, floor_log2(magnitude)) - bits + 1)
    count, rest = divmod(magnitude, unit)
    count += 2 * rest > unit or (2 * rest == unit and count % 2)
    return (-inf if sign else inf) if count * unit >= 2**128 else (sign, count * unit)


def unpacked(bits, fraction_bits=7):
    sign, exponent = bits >> (8 + fraction_bits), bits >> fraction_bits & 0xFF
    fraction = bits & (1 << fraction_bits) - 1
    if exponent == 255:
        return nan if fraction else (-inf if sign else inf)
    hidden = (1 << fraction_bits) * (exponent > 0)
    return sign, (fraction + hidden) * Fraction(2) ** (max(exponent, 1) - 127 - fraction_bits)


def is_number(x):
    return isinstance(x, tuple)


def sign_of(x):
    return x[0] if is_number(x) else int(x < 0)


def product(a, b):
    if is_number(a) and is_number(b):
        return rounded(a[1] * b[1], 24, a[0] ^ b[0])
    if any(isinstance(x, float) and isnan(x) for x in (a, b)):
        return nan
    if any(is_number(x) and x[1] == 0 for x in (a, b)):
        return nan
    return -inf if sign_of(a) ^ sign_of(b) else inf


def total(a, b):
    if is_number(a) and is_number(b):
        exact = (-1) ** a[0] * a[1] + (-1) ** b[0] * b[1]
        sign = int(exact < 0) if exact else a[0] & b[0]
        return rounded(exact, 24, sign)
    floats = [x for x in (a, b) if not is_number(x)]
    return nan if any(isnan(x) for x in floats) or len(set(floats)) > 1 else floats[0]


def short(x):
    """Round to a bfloat16 and return its bits."""
    x = rounded(x[1], 8, x[0]) if is_number(x) else x
    if not is_number(x):
        return 0x7FC0 if isnan(x) else (0xFF80 if x < 0 else 0x7F80)
    sign, magnitude = x
    exponent = max(-126, floor_log2(magnitude))
    fraction = magnitude * Fraction(2) ** (7 - exponent)
    assert fraction.denominator == 1
    return sign << 15 | int(fraction) + (exponent + 126 << 7)


def dot(left, right):
    result = (0, Fraction(0))
    for a, b in zip(left, right, strict=True):
        result = total(result, product(unpacked(int(a)), unpacked(int(b))))
    return result


# ---- the other way round: patterns in and out of the kernels ------------------------------------


def to_float(bits):
    return (np.asarray(bits, np.uint32) << np.uint32(16)).view(np.float32)


def to_bits(x):
    patterns = np.ascontiguousarray(x).view(np.uint32)
    assert not np.any(patterns & 0xFFFF)
    return patterns >> 16


def draw(rng, shape, spread):
    """Draw patterns: exponents within `spread` of that of 1, or any; specials now and then."""
    low, high = max(0, 127 - spread), min(255, 127 + spread)
    fields = rng.integers(low, high + 1, shape) << 7 | rng.integers(0, 128, shape)
    bits = fields | rng.integers(0, 2, shape) << 15
    if spread > 100:
        bits = np.where(rng.random(shape) < 0.2, rng.choice(SPECIALS, shape), bits)
    return bits


@pytest.mark.parametrize("spread", [2, 12, 130])
def test_gemm_bit_by_bit(spread):
    rng = np.random.default_rng(spread)
    for _ in range(200):
        m, k, n = rng.integers(1, 6), rng.integers(0, 9), rng.integers(1, 6)
        left, right = draw(rng, (m, k), spread), draw(rng, (k, n), spread)
        result = to_bits(bfloat.gemm(to_float(left), to_float(right)))
        expected = [[short(dot(left[i], right[:, j])) for j in range(n)] for i in range(m)]
        assert result.tolist() == expected


def test_pairs_of_specials_bit_by_bit():
    left, right = np.array(SPECIALS)[:, None], np.array(SPECIALS)[None, :]
    result = to_bits(bfloat.gemm(to_float(left), to_float(right)))
    assert result.tolist() == [[short(dot([a], [b])) for b in SPECIALS] for a in SPECIALS]
    wide = [np.broadcast_to(x, (20, 20)).copy() for x in (left, right)]
    # a product alone keeps the sign of zero, a sum that starts at +0 does not
    result = to_bits(bfloat.multiply(to_float(wide[0]), to_float(wide[1])))
    expected = [[short(product(unpacked(a), unpacked(b))) for b in SPECIALS] for a in SPECIALS]
    assert result.tolist() == expected


def test_order_of_the_sum_is_seen():
    left = np.array([[1.0, 2.0**24, -(2.0**24)], [2.0**24, -(2.0**24), 1.0]], np.float32)
    sums = bfloat.gemm_sums(left, np.ones((3, 1), np.float32))
    assert sums[:, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("spread", [6, 130])
def test_complex_products_bit_by_bit(spread):
    rng = np.random.default_rng(spread)
    for _ in range(100):
        m, k, n = rng.integers(1, 5, 3)
        parts = [draw(rng, (m, k, 2), spread), draw(rng, (k, n, 2), spread)]
        left, right = (np.ascontiguousarray(to_float(p)).view(np.complex64)[..., 0] for p in parts)
        result = to_bits(bfloat.gemm(left, right)).reshape(m, n, 2)
        for i, j in np.ndindex(m, n):
            a, b = parts[0][i], parts[1][:, j]
            real = dot(a.ravel(), np.stack([b[:, 0], b[:, 1] ^ 0x8000], 1).ravel())
            imaginary = dot(a.ravel(), b[:, ::-1].ravel())
            assert result[i, j].tolist() == [short(real), short(imaginary)]
        if m == k:
            single = to_bits(bfloat.multiply(left[:, :1], right[:, :1])).reshape(m, 2)
            for i in range(m):
                (ar, ai), (br, bi) = (
                    [unpacked(int(v)) for v in p] for p in (parts[0][i, 0], parts[1][i, 0])
                )
                minus = unpacked(int(parts[1][i, 0, 1]) ^ 0x8000)
                real = total(product(ar, br), product(ai, minus))
                imaginary = total(product(ar, bi), product(ai, br))
                assert single[i].tolist() == [short(real), short(imaginary)]


def test_reciprocals_of_all_numbers():
    every = np.arange(2**16)
    result = to_bits(bfloat.reciprocal_bfloat16(to_float(every)))
    for bits in range(2**15):
        x = unpacked(bits)
        if is_number(x):
            expected = short((0, 1 / x[1])) if x[1] else 0x7F80
        else:
            expected = 0 if isinf(x) else 0x7FC0
        assert result[bits] == expected
        assert result[bits | 0x8000] == (expected | 0x8000 if expected != 0x7FC0 else expected)


# ---- stochastic rounding ------------------------------------------------------------------------


def numbers(seed):
    """The generator from its description, a list of bits, the highest first."""
    state = [int(b) for b in f"{seed or 1:016b}"]
    while True:
        yield int("".join(map(str, state)), 2)
        for _ in range(16):
            fresh = (state[16 - 16] + state[16 - 15] + state[16 - 13] + state[16 - 4]) % 2
            state = [*state[1:], fresh]


def test_stochastic_rounding_bit_by_bit():
    rng = np.random.default_rng(3)
    patterns = rng.integers(0, 2**32, (40, 11), np.uint32)
    patterns[0, :6] = [0, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0x80000001]
    rounding = bfloat.StochasticRounding(seed=0x9E37, lanes=4)
    result = to_bits(np.concatenate([rounding(patterns[:7].view(np.float32)),
                                     rounding(patterns[7:].view(np.float32))]))  # fmt: skip
    lanes = [numbers(0x9E37 ^ (lane * 0x9E37 & 0xFFFF)) for lane in range(4)]
    for row in range(40):
        for first in range(0, 11, 4):
            drawn = [next(lane) for lane in lanes]
            for j in range(first, min(first + 4, 11)):
                pattern = int(patterns[row, j])
                number = is_number(x := unpacked(pattern, 23)) or isinf(x)
                expected = (pattern + drawn[j - first]) >> 16 if number else 0x7FC0
                assert result[row, j] == expected


def test_stochastic_rounding_is_unbiased():
    for lower in (0x0000, 0x0001, 0x4000, 0x8000, 0xFFFF):
        value = np.full((65_535, 2), 0x3F800000 | lower, np.uint32).view(np.float32)
        up = to_bits(bfloat.StochasticRounding(seed=7, lanes=2)(value)) - 0x3F80
        assert up.sum(axis=0).tolist() == [lower, lower]  # the whole period: every number once


def test_kernels_take_a_rounding():
    rng = np.random.default_rng(5)
    left, right = (to_float(draw(rng, (24, 24), 3)) for _ in range(2))
    sums = bfloat.gemm_sums(left, right)
    by_chance = bfloat.gemm(left, right, bfloat.StochasticRounding(1, 8))
    assert np.array_equal(by_chance, bfloat.StochasticRounding(1, 8)(sums))
    nearest = bfloat.gemm(left, right)
    assert 0.2 < np.mean(by_chance != nearest) < 0.3  # a quarter goes to the farther neighbour
    y = bfloat.softmax(left, bfloat.StochasticRounding(1, 8))
    assert not np.any(y.view(np.uint32) & 0xFFFF)
    assert np.any(y != bfloat.softmax(left))


# ---- whole kernels ------------------------------------------------------------------------------


def normal(rng, shape, scale=1.0):
    return bfloat.round_to_bfloat16(rng.normal(0, scale, shape).astype(np.float32))


def test_gemm_near_float64():
    rng = np.random.default_rng(8)
    left, right = normal(rng, (40, 300)), normal(rng, (300, 50))
    exact = left.astype(np.float64) @ right.astype(np.float64)
    bound = 2.0**-8 * np.abs(exact) + 300 * 2.0**-24 * (np.abs(left) @ np.abs(right))
    assert np.all(np.abs(bfloat.gemm(left, right) - exact) <= bound * 1.01)


def test_softmax_bit_by_bit():
    rng = np.random.default_rng(9)
    x = normal(rng, (30, 17), 4.0)
    result = to_bits(bfloat.softmax(x))
    table = {}
    for number, (row, bits) in enumerate(zip(x, to_bits(x), strict=True)):
        top = to_bits(np.array([-row.max()], np.float32))[0]
        gaps = [short(total(unpacked(int(b)), unpacked(int(top)))) for b in bits]
        for gap in gaps:
            if gap not in table:
                with np.errstate(under="ignore"):
                    value = float(np.exp(np.float64(to_float([gap])[0])))
                table[gap] = short((0, Fraction(value)))
        exponentials = [table[gap] for gap in gaps]
        total_bits = short(dot(exponentials, [0x3F80] * 17))
        inverse = short((0, 1 / unpacked(total_bits)[1]))
        expected = [short(product(unpacked(e), unpacked(inverse))) for e in exponentials]
        assert result[number].tolist() == expected


def test_softmax_near_float64():
    x = normal(np.random.default_rng(10), (50, 200), 2.0)
    gaps = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    exact = np.exp(gaps) / np.exp(gaps).sum(axis=1, keepdims=True)
    # the gap's rounding, then: exponential, sum of exponentials, sum, reciprocal, product
    worst = np.abs(gaps).max(axis=1, keepdims=True)
    bound = np.expm1((np.abs(gaps) + worst + 5) * 2.0**-8)
    assert np.all(np.abs(bfloat.softmax(x) / exact - 1) <= bound)


def test_softmax_of_specials():
    x = np.array([[1, inf, 0], [-inf, -inf, -inf], [0, nan, 1], [-inf, 3, -inf]], np.float32)
    x = bfloat.round_to_bfloat16(x)
    y = bfloat.softmax(x)
    assert to_bits(y[:3]).tolist() == [[0x7FC0] * 3] * 3
    assert y[3].tolist() == [0, 1, 0]


def test_rms_norm_near_float64_and_by_hand():
    rng = np.random.default_rng(11)
    x, weights = normal(rng, (20, 256)), normal(rng, 256)
    wide = x.astype(np.float64)
    exact = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5) * weights
    error = np.abs(bfloat.rms_norm(x, weights, 1e-5) - exact)
    assert np.all(error <= np.abs(exact) * (2.0**-8 + 2.0**-16))
    by_hand = bfloat.rms_norm(np.array([[3, -4]], np.float32), np.ones(2, np.float32), 0.0)
    assert to_bits(by_hand).tolist() == [[0x3F59, 0xBF91]]  # 3 and -4 over the root of 12.5
    zeros = bfloat.rms_norm(np.zeros((1, 2), np.float32), np.ones(2, np.float32), 0.0)
    assert to_bits(zeros).tolist() == [[0x7FC0, 0x7FC0]]


def spectrum_error(result, exact):
    return np.linalg.norm(result - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("factors", [(16,), (8, 8), (4, 16), (3, 5), (8, 4, 8), (2, 3, 4, 5)])
def test_monarch_fft_near_numpy(factors):
    rng = np.random.default_rng(len(factors))
    size = int(np.prod(factors))
    parts = normal(rng, (size, 2))
    x = parts.view(np.complex64)[:, 0]
    # roots, results of a stage, twiddle products: each about 2^-9 in the mean square
    bound = 2.0**-9 * (3 * len(factors)) ** 0.5
    assert spectrum_error(bfloat.monarch_fft(x, factors), np.fft.fft(x)) < bound
    inverse = bfloat.monarch_fft(x, factors, inverse=True)
    assert spectrum_error(inverse, size * np.fft.ifft(x)) < bound


def test_two_factors_are_the_pipeline_of_the_paper():
    x = normal(np.random.default_rng(12), (32, 2)).view(np.complex64)[:, 0]
    one, two = bfloat.fourier_matrix(4), bfloat.fourier_matrix(8)
    pipeline = bfloat.gemm_mul_transpose_gemm(
        x.reshape(4, 8), one, bfloat.twiddle_factors(4, 8), two
    )
    assert np.array_equal(pipeline.reshape(-1), bfloat.monarch_fft(x, (4, 8)))
    # and its stages, one by one
    scaled = bfloat.multiply(bfloat.gemm(one, x.reshape(4, 8)), bfloat.twiddle_factors(4, 8))
    assert np.array_equal(pipeline, bfloat.gemm(two, bfloat.transpose(scaled)))


@pytest.mark.parametrize("factors", [(16, 16), (32, 64), (8, 8, 16)])
def test_convolution_near_numpy(factors):
    rng = np.random.default_rng(13)
    size = int(np.prod(factors))
    x, kernel = normal(rng, size), rng.normal(0, 1, size) * np.exp(-np.arange(size) / 20)
    exact = np.fft.ifft(np.fft.fft(x.astype(np.float64)) * np.fft.fft(kernel)).real
    result = bfloat.fft_convolution(x, bfloat.kernel_spectrum(kernel), factors)
    assert spectrum_error(result, exact) < 2.0**-9 * (6 * len(factors) + 2) ** 0.5
    # by chance: another result, about as near
    chance = bfloat.StochasticRounding(3)
    other = bfloat.fft_convolution(x, bfloat.kernel_spectrum(kernel), factors, chance)
    assert np.any(other != result)
    assert spectrum_error(other, exact) < 2.0**-8 * (6 * len(factors) + 2) ** 0.5


def test_transpose_keeps_bits():
    x = to_float(np.array([[0x7F81, 0x8000, 1], [0xFFC1, 2, 3]]))
    assert to_bits(bfloat.transpose(x)).tolist() == [[0x7F81, 0xFFC1], [0x8000, 2], [1, 3]]


ONE = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: bfloat.gemm(ONE, np.ones((3, 2), np.float32)), "left is (2, 2)"),
        (lambda: bfloat.gemm(ONE, ONE.astype(np.complex64)), "of one type"),
        (lambda: bfloat.gemm(ONE, ONE.astype(np.float64)), "right is of float64"),
        (lambda: bfloat.gemm(ONE, ONE[0]), "right has 1 axes; 2 are needed"),
        (lambda: bfloat.gemm(ONE, ONE / 3), "right holds values that are no bfloat16"),
        (lambda: bfloat.gemm([[1.0]], ONE), "left is of list"),
        (lambda: bfloat.multiply(ONE, ONE[:1]), "one shape and type"),
        (lambda: bfloat.softmax(ONE[:, :0]), "n from 1"),
        (lambda: bfloat.rms_norm(ONE, np.ones(3, np.float32), 0.0), "weights are (3,)"),
        (lambda: bfloat.rms_norm(ONE, ONE[0], nan), "epsilon = nan"),
        (lambda: bfloat.monarch_fft(ONE[0], (2, 2)), "factors (2, 2); positive ones that give 2"),
        (lambda: bfloat.monarch_fft(ONE[0], ()), "factors ()"),
        (lambda: bfloat.fft_convolution(ONE[0], ONE[0], (2,)), "complex64 is needed"),
        (lambda: bfloat.StochasticRounding(-1), "seed = -1; an integer from 0 to 65535"),
        (lambda: bfloat.StochasticRounding(1, 0), "lanes = 0"),
        (lambda: bfloat.StochasticRounding(1)(np.float32(1)), "rows of float32 are needed"),
    ],
)
def test_refusals(call, part):
    with pytest.raises(InputError) as caught:
        call()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
