"""Tables, indices and the three methods of the ternary matmul."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.models.kernels import (
    build_tables,
    group_patterns,
    int_matmul,
    lookup_matmul,
    pad_features,
    ternary_matmul,
    weight_indices,
)

# TeLLMe, section 3.1: what each entry of the table for (a, b, c) adds up
PUBLISHED = [
    "", "a", "b", "c", "a+b", "a-b", "a+c", "a-c", "b+c", "b-c", "a+b+c", "a+b-c", "a-b+c",
    "-a+b+c",
]  # fmt: skip


def pattern_of(text):
    signs = {}
    for part in text.replace("-", " -").replace("+", " ").split():
        signs[part[-1]] = -1 if part.startswith("-") else 1
    return [signs.get(letter, 0) for letter in "abc"]


def test_patterns_of_three_are_the_published_ones():
    expected = [pattern_of(text) for text in PUBLISHED]
    patterns = group_patterns(3).tolist()
    assert patterns[:14] == expected
    assert patterns[14:] == [[-v for v in p] for p in expected[1:]]


def test_worked_table():
    table = build_tables(np.array([5, -3, 7], dtype=np.int8), 3)[0].tolist()
    assert table[:14] == [0, 5, -3, 7, 2, 8, 12, -2, 4, -10, 9, -5, 15, -1]
    assert table[14:] == [-v for v in table[1:14]]


def test_half_table_is_the_first_half_without_zero():
    x = np.array([5, -3, 7, 1, 2, 3], dtype=np.int8)
    assert np.array_equal(build_tables(x, 3, half=True), build_tables(x, 3)[:, 1:14])


@pytest.mark.parametrize("group_size", range(1, 6))
def test_patterns_are_all_different_and_mirrored(group_size):
    patterns = group_patterns(group_size)
    half = (3**group_size - 1) // 2
    assert len({tuple(p) for p in patterns.tolist()}) == 3**group_size
    assert not patterns[0].any()
    assert np.array_equal(patterns[1 : half + 1], -patterns[half + 1 :])
    for p in patterns[1 : half + 1].tolist():
        plus, minus = p.count(1), p.count(-1)
        assert minus < plus or (minus == plus and next(v for v in p if v) == 1)


def test_order_of_group_size_two_and_four():
    assert group_patterns(2)[:5].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1], [1, -1]]
    # four nonzeros: no minus, one minus (flags ascending: last first), two with + in front
    assert group_patterns(4)[33:41].tolist() == [
        [1, 1, 1, 1],
        [1, 1, 1, -1],
        [1, 1, -1, 1],
        [1, -1, 1, 1],
        [-1, 1, 1, 1],
        [1, 1, -1, -1],
        [1, -1, 1, -1],
        [1, -1, -1, 1],
    ]


def test_indices_of_every_pattern():
    for group_size in range(1, 6):
        patterns = np.array(group_patterns(group_size))
        assert weight_indices(patterns, group_size)[:, 0].tolist() == list(range(3**group_size))


def test_worst_table_entry_fits_ten_bits():
    for sign in (127, -127):
        table = build_tables(np.full(3, sign, dtype=np.int8), 3)
        assert np.abs(table).max() == 381 < 2**9


def test_block_pads_as_tellme_does():
    w = np.zeros((1, 1536), dtype=np.int8)
    assert weight_indices(w, 3, 84).shape == (1, 19 * 28)
    assert pad_features(np.ones(4096, dtype=np.int8), 3, 84).shape == (49 * 84,)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 4),
    inputs=st.integers(1, 130),
    outputs=st.integers(1, 40),
    group_size=st.integers(1, 5),
    blocks=st.none() | st.integers(1, 9),
    method=st.sampled_from(["naive", "half", "full"]),
)
def test_methods_equal_int64(seed, tokens, inputs, outputs, group_size, blocks, method):
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (tokens, inputs)).astype(np.int8)
    w = rng.integers(-1, 2, (outputs, inputs)).astype(np.int8)
    exact = x.astype(np.int64) @ w.astype(np.int64).T
    block = None if blocks is None else blocks * group_size
    result = ternary_matmul(x, w, method, group_size, block)
    assert result.dtype == np.int32
    assert np.array_equal(result, exact)
    assert np.array_equal(int_matmul(x, w), exact)


@pytest.mark.parametrize("method", ["naive", "half", "full"])
def test_full_size_rows_at_the_extremes(method):
    x = np.full((1, 4116), 127, dtype=np.int8)
    w = np.stack([np.ones(4116, dtype=np.int8), -np.ones(4116, dtype=np.int8)])
    assert ternary_matmul(x, w, method, 3, 84).tolist() == [[522_732, -522_732]]
    assert int_matmul(x, w).tolist() == [[522_732, -522_732]]


def test_int_matmul_of_int8_rows_at_the_extremes():
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (3, 5001)).astype(np.int8)
    w = rng.integers(-128, 128, (4, 5001)).astype(np.int8)
    x[0], w[0] = -128, -128
    exact = x.astype(np.int64) @ w.astype(np.int64).T
    assert exact[0, 0] == 128 * 128 * 5001 > 2**24
    assert np.array_equal(int_matmul(x, w), exact)


def test_leading_axes_are_kept():
    rng = np.random.default_rng(1)
    x = rng.integers(-127, 128, (2, 3, 10)).astype(np.int8)
    w = rng.integers(-1, 2, (5, 10)).astype(np.int8)
    assert ternary_matmul(x, w).shape == (2, 3, 5)
    assert ternary_matmul(x[0, 0], w).shape == (5,)


def test_bad_arguments():
    x, w = np.zeros((1, 6), dtype=np.int8), np.zeros((2, 6), dtype=np.int8)
    for kwargs, part in [
        ({"method": "fast"}, "one of naive, half, full"),
        ({"group_size": 6}, "from 1 to 5"),
        ({"group_size": True}, "from 1 to 5"),
        ({"block": 4}, "a multiple of group_size = 3"),
    ]:
        with pytest.raises(InputError, match=part):
            ternary_matmul(x, w, **kwargs)
    with pytest.raises(InputError, match="does not fit"):
        ternary_matmul(x[:, :5], w)
    with pytest.raises(InputError, match="int8 is needed"):
        ternary_matmul(x.astype(np.int16), w)
    for method in ("naive", "half", "full"):
        with pytest.raises(InputError, match="only -1, 0 and 1"):
            ternary_matmul(x, w + np.int8(2), method)
    with pytest.raises(InputError, match="values below 27"):
        lookup_matmul(x, np.full((2, 2), 27, dtype=np.uint8))
