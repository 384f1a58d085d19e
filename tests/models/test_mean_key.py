"""Mean keys against fractions: the exact mean, rounded once."""

from fractions import Fraction

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.kernels.retrieval.mean_key import move_means

LARGEST = 255 / 128 * 2.0**127
LEAST = 2.0**-133


def nearest(x):
    """Round a fraction to a bfloat16 value; Python rounds ties to even."""
    place = max(abs(x), Fraction(2) ** -126)
    exponent = place.numerator.bit_length() - place.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > place
    step = Fraction(2) ** (exponent - 7)
    return float(round(x / step) * step)


def exact_mean(mean, key, count):
    return nearest(((count - 1) * Fraction(float(mean)) + Fraction(float(key))) / count)


def moved(mean, key, count):
    return float(move_means(np.float32(mean), np.float32(key), np.array(count)))


def draw(rng, size):
    """Draw bfloat16 values whose exponents are those of a few kinds of pairs."""

    def number(exponents):
        bits = exponents << 7 | rng.integers(128, size=size) | rng.integers(2, size=size) << 15
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)

    base = rng.integers(0, 255, size)
    reach = rng.choice([1, 3, 12, 40, 255], size)
    near = np.clip(base + rng.integers(-255, 256, size) % (2 * reach) - reach, 0, 254)
    return number(base), number(near)


def test_means_are_exact_and_rounded_once():
    rng = np.random.default_rng(1)
    means, keys = draw(rng, 20_000)
    counts = np.maximum(2, rng.integers(0, 65536, 20_000) >> rng.integers(0, 16, 20_000))
    cases = zip(means, keys, counts.tolist(), strict=True)
    for given, case in zip(move_means(means, keys, counts), cases, strict=True):
        assert given == exact_mean(*case), case


def test_ties_that_a_far_away_key_decides():
    """3/4 of 129 lies halfway between two bfloat16 values."""
    assert moved(129, 0, 4) == 97  # 96.75: no tie, 7 bits and more below 128
    rng = np.random.default_rng(2)
    decided = set()
    for count in (4, 8, 16, 256, 4096):
        for mean in range(128, 256):
            if (count - 1) * mean % count == 0:
                continue
            for key in (0.0, 1.0, -1.0):
                key *= 2.0 ** int(rng.integers(-133, -20))
                given = moved(mean, key, count)
                assert given == exact_mean(mean, key, count)
                decided.add((moved(mean, 0, count) != given, np.sign(key)))
    assert {(True, 1), (True, -1)} <= decided


@pytest.mark.parametrize(
    ("mean", "key", "count", "result"),
    [
        (LARGEST, LARGEST, 65535, LARGEST),
        (LARGEST, -LARGEST, 2, 0),  # the difference alone would overflow
        (LARGEST, -LARGEST, 4, LARGEST / 2),
        (1.0, 1.0, 3, 1.0),  # no drift
        (LEAST, 0.0, 2, 0.0),  # half of the least number: to even
        (3 * LEAST, 0.0, 2, 2 * LEAST),
        (LEAST, LEAST, 9, LEAST),
        (0.0, -LEAST, 65535, -0.0),
        (0.0, -1.0, 3, -171 / 512),
    ],
)
def test_edges(mean, key, count, result):
    given = moved(mean, key, count)
    assert given == result
    assert np.signbit(given) == np.signbit(result)


@pytest.mark.parametrize("mean", [0.0, -0.0])
@pytest.mark.parametrize("key", [0.0, -0.0])
def test_only_two_negative_zeros_have_a_negative_mean(mean, key):
    assert np.signbit(moved(mean, key, 5)) == (np.signbit(mean) and np.signbit(key))
    assert not np.signbit(moved(1.0, -1.0, 2))


@pytest.mark.parametrize("count", [1, 65536])
def test_counts_are_checked(count):
    with pytest.raises(InputError, match=f"counts from {count} to {count}; 2 to 65535 are needed"):
        moved(1.0, 1.0, count)
