"""Half-precision kernels against exact rational arithmetic and step-by-step scalars."""

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest
from numba import njit

from headrace.models.kernels import (
    dequantise,
    dequantise_half,
    exp_half,
    quantise_activations,
    quantise_activations_half,
    reciprocal_half,
    relu2_gate_half,
    rms_norm,
    rms_norm_half,
    silu_half,
    swiglu,
    swiglu_half,
)
from headrace.models.kernels.rounding import half_bits, round_to_half

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = ALL[np.isfinite(ALL)]
OVERFLOW = Fraction(65520)


def nearest_half(value):
    """Round an exact number to a half, ties to even, with integers alone."""
    value = Fraction(value)
    magnitude = abs(value)
    if magnitude >= OVERFLOW:
        return float("inf") if value > 0 else float("-inf")
    # eleven significant bits, or the spacing of subnormals; round() rounds ties to even
    unit = Fraction(2) ** max(-24, math.frexp(magnitude)[1] - 11)
    return float(round(value / unit) * unit)


def h(value):
    return np.float16(value)


@njit
def rounded(values):
    out = np.empty_like(values)
    for i in range(values.size):
        out[i] = round_to_half(values[i])
    return out


@njit
def bits_of(values):
    out = np.empty(values.size, np.uint32)
    for i in range(values.size):
        out[i] = half_bits(values[i])
    return out


def test_rounding_around_every_half():
    bits = FINITE.astype(np.float32).view(np.uint32).astype(np.int64)
    near = (bits[:, None] + np.array([-0x1001, -0x1000, -1, 0, 1, 0xFFF, 0x1000, 0x1001])).ravel()
    values = (near & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(rounded(values).view(np.uint32), expected.view(np.uint32))


def test_rounding_of_random_floats():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, 500_000, dtype=np.uint32).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    number = ~np.isnan(values)
    result = rounded(values)
    assert np.array_equal(result[number].view(np.uint32), expected[number].view(np.uint32))
    assert np.isnan(result[~number]).all()


def test_bits_of_every_half():
    found = bits_of(ALL.astype(np.float32))
    number = ~np.isnan(ALL)
    assert np.array_equal(found[number], ALL.view(np.uint16)[number])
    assert (found[~number] & 0x7FFF == 0x7E00).all()


def test_exp_of_every_half_is_correctly_rounded():
    context = Context(prec=30)
    result = exp_half(FINITE)
    for x, y in zip(FINITE.tolist(), result.tolist(), strict=True):
        if x > 12:
            assert y == float("inf")
        elif x < -18:
            assert y == 0
        else:
            exact = Fraction(Decimal(x).exp(context))
            # the reference is good to 30 digits: far from every tie but at exp(0)
            assert y == nearest_half(exact), x


def test_exp_of_infinities_and_nan():
    assert exp_half(np.array([-np.inf, np.inf], dtype=np.float16)).tolist() == [0, np.inf]
    assert np.isnan(exp_half(np.array([np.nan], dtype=np.float16)))[0]


def test_reciprocal_of_every_half_is_correctly_rounded():
    positive = FINITE[FINITE > 0]
    for x, y in zip(positive.tolist(), reciprocal_half(positive).tolist(), strict=True):
        assert y == nearest_half(1 / Fraction(x)), x
    assert np.array_equal(reciprocal_half(-positive), -reciprocal_half(positive))
    assert reciprocal_half(np.array([0, np.inf], dtype=np.float16)).tolist() == [np.inf, 0]


def test_silu_of_every_half_is_close_and_step_exact():
    result = silu_half(FINITE).astype(np.float64)
    wide = FINITE.astype(np.float64)
    with np.errstate(over="ignore"):
        true = wide / (1 + np.exp(-wide))
    # where exp does not overflow the error is a few rounding steps of 2^-11 each
    inside = wide > -9
    assert (np.abs(result - true) <= 2.0**-9 * np.abs(true) + 2.0**-24)[inside].all()
    assert (np.abs(result - true) <= 1.5e-3)[~inside].all()


@pytest.mark.parametrize("g", [-30.0, -3.25, -0.5, 0.0, 0.1, 1.0, 6.5, 40.0])
def test_silu_steps(g):
    x = float(h(g))
    e = nearest_half(Fraction(Decimal(-x).exp(Context(prec=40)))) if x > -12 else float("inf")
    reciprocal = (
        0.0 if e == float("inf") else nearest_half(1 / Fraction(nearest_half(1 + Fraction(e))))
    )
    assert float(silu_half(h(x))) == nearest_half(Fraction(x) * Fraction(reciprocal))


def test_swiglu_rounds_the_product():
    rng = np.random.default_rng(2)
    gate, up = rng.normal(0, 2, (2, 400)).astype(np.float16)
    expected = [
        nearest_half(Fraction(float(s)) * Fraction(float(u)))
        for s, u in zip(silu_half(gate), up, strict=True)
    ]
    assert swiglu_half(gate, up).tolist() == expected
    exact = swiglu(gate.astype(np.float32), up.astype(np.float32))
    np.testing.assert_allclose(swiglu_half(gate, up), exact, rtol=4e-3, atol=1e-4)


def test_relu2_gate():
    gate, up = np.array([-2, 0, 1.5, 300], np.float16), np.array([5, 5, -2, 1], np.float16)
    assert relu2_gate_half(gate, up).tolist() == [0, 0, -4.5, np.inf]


def test_rounding_examples_of_the_quantiser():
    # max 127 makes the factor exactly 1: recip16(127) * 127 = 1 in half
    assert float(h(127) * reciprocal_half(h(127))) == 1
    x = np.array([2.5, 3.5, -2.5, 127, -126.5, 0.5], dtype=np.float16)
    q, largest = quantise_activations_half(x)
    assert q.tolist() == [2, 4, -2, 127, -126, 0]
    assert largest.tolist() == [127]


def test_quantiser_maps_every_largest_value_to_127():
    largest = FINITE[FINITE >= 0.00195]
    q, _ = quantise_activations_half(np.stack([largest, -largest], axis=1))
    assert (q == [127, -127]).all()
    small = FINITE[(FINITE >= 0) & (FINITE < 0.00195)]
    q, _ = quantise_activations_half(np.stack([small, -small], axis=1))
    assert (q[:, 0] == -q[:, 1]).all()
    assert q.max() <= 127
    assert quantise_activations(np.array([-3.0, 1.5], np.float32))[0].tolist() == [-127, 64]


def test_quantiser_in_half_step_by_step():
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(50, 33)) * 10.0 ** rng.uniform(-2, 3, (50, 1))).astype(np.float16)
    q, largest = quantise_activations_half(x)
    for row, codes, top in zip(x.tolist(), q.tolist(), largest.tolist(), strict=True):
        biggest = max(abs(v) for v in row)
        assert top == [biggest]
        factor = nearest_half(127 * Fraction(nearest_half(1 / Fraction(biggest))))
        expected = [round(Fraction(nearest_half(Fraction(v) * Fraction(factor)))) for v in row]
        assert codes == [max(-127, min(127, v)) for v in expected]


def test_quantiser_of_zero_and_tiny_tokens():
    q, largest = quantise_activations_half(np.zeros((2, 5), dtype=np.float16))
    assert not q.any()
    assert not largest.any()
    tiny = np.array([6e-8, -6e-8, 1e-5], dtype=np.float16)
    q, _ = quantise_activations_half(tiny)
    assert q.tolist() == [0, 0, 1]  # 1e-5 * 65504 = 0.66
    assert not quantise_activations(np.zeros(4, np.float32))[0].any()


def test_dequantisation_worked_examples():
    acc = np.array([[12_700, -127, 0, 522_732]], dtype=np.int32)
    y = dequantise_half(acc, np.array([[1.0]], np.float16), h(0.5))
    assert y.tolist() == [[50, -0.5, 0, 2058]]
    assert dequantise(acc[:, :2], np.float32([[12.7]]), np.float32(0.5)).tolist() == [[500, -5]]


def test_dequantisation_step_by_step():
    rng = np.random.default_rng(4)
    acc = rng.integers(-500_000, 500_000, 300).astype(np.int32)
    largest, scale = h(3.7), h(0.0123)
    factor = nearest_half(Fraction(float(largest)) * Fraction(float(scale)))
    one_127th = np.float32(1 / 127)
    expected = [
        nearest_half(Fraction(factor) * Fraction(nearest_half(float(one_127th * np.float32(a)))))
        for a in acc.tolist()
    ]
    assert dequantise_half(acc, np.array([largest]), scale).tolist() == expected


def test_rms_norm_in_the_stated_order():
    rng = np.random.default_rng(5)
    x = rng.normal(0, 3, (6, 37)).astype(np.float16)
    weight = rng.normal(1, 0.2, 37).astype(np.float16)
    for row, result in zip(x, rms_norm_half(x, weight, 1e-5), strict=True):
        sums = [np.float32(0), np.float32(0)]
        for i, value in enumerate(row):
            sums[i % 2] += np.float32(value) * np.float32(value)
        mean = (sums[0] + sums[1]) * (np.float32(1) / np.float32(37)) + np.float32(1e-5)
        root = nearest_half(Fraction(float(np.float32(1 / float(mean) ** 0.5))))
        for value, w, y in zip(row.tolist(), weight.tolist(), result.tolist(), strict=True):
            scaled = nearest_half(Fraction(value) * Fraction(root))
            assert y == nearest_half(Fraction(scaled) * Fraction(w))
    exact = rms_norm(x.astype(np.float32), weight.astype(np.float32), 1e-5)
    np.testing.assert_allclose(rms_norm_half(x, weight, 1e-5), exact, rtol=3e-3, atol=1e-6)


def test_rms_norm_worked_example():
    x, weight = np.array([[3.0, 4.0]], np.float32), np.array([1.0, 2.0], np.float32)
    root = 12.5**0.5
    np.testing.assert_allclose(rms_norm(x, weight, 0.0), [[3 / root, 8 / root]], rtol=1e-6)
    assert rms_norm_half(np.full((1, 8), 2, np.float16), np.ones(8, np.float16), 0.0).tolist() == [
        [1.0] * 8
    ]
