"""EXP, RECIP, RSQRT and GELU of UbiMoE: exact rules, and how far they are from the real ones."""

import math
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.kernels.fixed import exponential, gelu, reciprocal, root_reciprocal
from headrace.models.kernels.fixed.functions import exp_tables, gelu_table

ONE = 2**22
TOP = 2**31 - 1
HALF = Fraction(1, 2)
getcontext().prec = 40


def rounded(real):
    return math.floor(Fraction(real) + HALF)


def exp_oracle(d):
    """EXP by the page, with exp from 40 decimal digits."""
    x = -d
    if x >= 16 * ONE:
        return 0
    a, b, r = x // 2**18, x // 2**10 % 256, x % 1024
    coarse = rounded(ONE * (Decimal(-a) / 16).exp())
    fine = rounded(ONE * (Decimal(-b) / 4096).exp())
    p = coarse * fine // ONE
    return p - p * r // ONE


def normal_tail(z):
    """1 - Phi(z) of a Fraction, by the alternating series of erf in exact fractions."""
    pi = Fraction("3.14159265358979323846264338327950288419716939937510582")
    total, term, n = Fraction(0), z, 0
    while n < 3 or abs(term) > Fraction(1, 2**80):
        total += term / (2 * n + 1)
        n += 1
        term = Fraction(rounded(-term * z * z / (2 * n) * 2**160), 2**160)
    return HALF - total / Fraction((2 * Decimal(pi.numerator) / Decimal(pi.denominator)).sqrt())


@pytest.fixture(scope="module")
def delta_table():
    return [rounded(ONE * Fraction(i, 32) * normal_tail(Fraction(i, 32))) for i in range(177)]


def gelu_oracle(x, table):
    size = abs(x)
    delta = 0
    if size * 2 < 11 * ONE:
        i, f = size // 2**17, size % 2**17
        delta = table[i] + (table[i + 1] - table[i]) * f // 2**17
    return max(x, 0) - delta


def arguments(low, high, corners, seed, count=400):
    """Corners, and others of every size between low and high (inclusive)."""
    rng = np.random.default_rng(seed)
    bits = rng.uniform(0, math.log2(high - low + 1), count)
    return [*corners, *(low + min(int(2**b), high - low) for b in bits)]


def test_tables_are_the_nearest_integers(delta_table):
    coarse, fine = exp_tables()
    assert coarse.tolist() == [rounded(ONE * (Decimal(-i) / 16).exp()) for i in range(256)]
    assert fine.tolist() == [rounded(ONE * (Decimal(-i) / 4096).exp()) for i in range(256)]
    assert gelu_table().tolist() == delta_table


def test_tables_do_not_depend_on_the_last_bits_of_the_library():
    """No entry is so near a tie that libm's last bits could decide it."""
    reals = [ONE * (Decimal(-i) / step).exp() for step in (16, 4096) for i in range(256)]
    reals += [
        Decimal(float(ONE * Fraction(i, 32) * normal_tail(Fraction(i, 32)))) for i in range(177)
    ]
    margin = min(abs(real % 1 - Decimal("0.5")) for real in reals)
    assert margin > Decimal("1e-5")  # float64 of 2^22 is good to 1e-9


def test_exponential_equals_the_page():
    corners = [0, 1, 1023, 1024, 2**18 - 1, 2**18, 16 * ONE - 1, 16 * ONE, 2**32 - 1, 2**40]
    xs = arguments(0, 17 * ONE, corners, seed=1)
    assert exponential(-np.array(xs)).tolist() == [exp_oracle(-x) for x in xs]
    assert exponential(np.array([0])).tolist() == [ONE]


def test_reciprocal_equals_the_page():
    ss = arguments(ONE, TOP, [ONE, ONE + 1, 2 * ONE, 3 * ONE, 511 * ONE, TOP], seed=2)
    assert reciprocal(np.array(ss)).tolist() == [2**44 // s for s in ss]


def test_root_reciprocal_equals_the_page():
    """Also next to squares; of 2^30 + 32 a float root rounds up and spoils the result."""
    near = [k * k + e for k in (2**10, 12345, 46339, 46340) for e in (-1, 0, 1)] + [2**30 + 32]
    vs = arguments(1, TOP, [-(2**31), -1, 0, 1, 15, 16, 17, 18, TOP - 1, TOP, *near], seed=3)
    expected = [min(2**44 // math.isqrt(max(v, 1) << 22), TOP) for v in vs]
    assert root_reciprocal(np.array(vs)).tolist() == expected


def test_gelu_equals_the_page(delta_table):
    edge = 11 * ONE // 2
    corners = [0, 1, 2**17 - 1, 2**17, edge - 2**17, edge - 1, edge, edge + 1, TOP, 2**31]
    xs = [s * x for x in arguments(0, 6 * ONE, corners, seed=4) for s in (-1, 1) if s * x <= TOP]
    assert gelu(np.array(xs)).tolist() == [gelu_oracle(x, delta_table) for x in xs]
    assert gelu(np.array([-(2**31)])).tolist() == [0]


def test_arguments_out_of_range_are_refused():
    with pytest.raises(InputError, match="EXP: 1 is not allowed: at most 0"):
        exponential(np.array([0, 1]))
    for s in (ONE - 1, TOP + 1):
        with pytest.raises(InputError, match="RECIP: .* is not allowed: 4194304 to 2147483647"):
            reciprocal(np.array([ONE, s]))


def chunks(low, high, step):
    """All integers from low to high, 2^21 at a time, or every `step`-th of these chunks."""
    for first in range(low, high + 1, step << 21):
        yield np.arange(first, min(first + (1 << 21), high + 1))


def normal_tails(z):
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in z.tolist()])


def exp_errors(step):
    errors = [exponential(-x) - ONE * np.exp(-x / ONE) for x in chunks(0, 17 * ONE, step)]
    return min(e.min() for e in errors), max(e.max() for e in errors)


def test_worst_error_of_exp():
    low, high = exp_errors(step=4)
    assert -1.75 < low < -1.5
    assert 1.4 < high < 1.58


@pytest.mark.slow
def test_worst_error_of_exp_over_all_arguments():
    low, high = exp_errors(step=1)
    assert -1.75 < low < -1.74
    assert 1.57 < high < 1.58


def test_worst_error_of_reciprocal():
    s = np.array(arguments(ONE, TOP, [ONE, TOP], seed=5, count=100_000))
    error = reciprocal(s) - ONE / (s / ONE)
    assert error.max() < 1e-9
    assert -1 < error.min() < -0.99


@pytest.mark.parametrize("step", [64, pytest.param(8, marks=pytest.mark.slow)])
def test_worst_error_of_root_reciprocal(step):
    """All arguments to 2^21, where the floored root is coarsest, and a part of the others."""
    worst = 0.0
    for v in chunks(17, TOP, step):
        real = ONE / np.sqrt(v / ONE)
        error = root_reciprocal(v) - real
        assert error.min() > -1 - 1e-9
        worst = max(worst, (error / real).max())
    assert 1.06e-4 < worst < 1.07e-4
    assert root_reciprocal(np.arange(1, 19)).tolist().count(TOP) == 16


def gelu_errors(x):
    z = x / ONE
    return gelu(x) - ONE * z * (1 - normal_tails(z))


def test_worst_error_of_gelu():
    """The chord of a cell is farthest in its middle, so cells are sampled there and densely."""
    grid = np.arange(0, 6 * ONE, 2**17)
    x = np.concatenate([grid + 2**16, np.arange(0, 6 * ONE, 251)])
    errors = np.concatenate([gelu_errors(x), gelu_errors(-x)])
    assert -56 < errors.min() < -54
    assert 408 < errors.max() < 410


@pytest.mark.slow
def test_worst_error_of_gelu_over_all_arguments():
    bounds = [(e.min(), e.max()) for x in chunks(0, 6 * ONE, 1) for e in (gelu_errors(x),)]
    assert min(low for low, _ in bounds) > -56
    assert 409 < max(high for _, high in bounds) < 410
