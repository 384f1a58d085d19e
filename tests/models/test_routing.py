"""Routings: every expert has its share, no token meets an expert twice."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.models.routing import (
    draw_routing,
    expert_rows,
    read_loads,
    skewed_loads,
    uniform_loads,
)


def test_uniform_and_skewed_shares():
    assert uniform_loads(16).tolist() == [1 / 16] * 16
    harmonic = sum(Fraction(1, e) for e in range(1, 17))
    assert np.allclose(skewed_loads(16, 1.0), [1 / (float(harmonic) * e) for e in range(1, 17)])
    assert np.allclose(skewed_loads(5, 0.0), 0.2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=24).filter(any), st.integers(1, 6),
    st.integers(0, 2**32),
)  # fmt: skip
def test_a_token_meets_no_expert_twice_and_none_without_a_share(counts, top_k, seed):
    loads = np.array(counts) / sum(counts)
    if top_k > len(counts) or top_k * max(counts) > sum(counts):
        with pytest.raises(InputError):
            draw_routing(loads, 40, top_k, np.random.default_rng(seed))
        return
    routing = draw_routing(loads, 40, top_k, np.random.default_rng(seed))
    assert routing.shape == (40, top_k)
    assert all(len(set(row)) == top_k for row in routing.tolist())
    rows = expert_rows(routing, len(counts))
    assert rows.sum() == 40 * top_k
    assert not rows[np.array(counts) == 0].any()


def test_shares_are_met():
    loads = skewed_loads(16, 1.0)
    tokens = 100_000
    rows = expert_rows(draw_routing(loads, tokens, 2, np.random.default_rng(4)), 16)
    deviation = np.sqrt(tokens * 2 * loads * (1 - 2 * loads))
    assert (abs(rows - 2 * tokens * loads) < 4.5 * deviation).all()


def test_seeds_decide():
    draws = [draw_routing(uniform_loads(8), 20, 2, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


def test_an_expert_that_every_token_meets():
    routing = draw_routing(np.array([0.5, 0.25, 0.25]), 500, 2, np.random.default_rng(0))
    assert expert_rows(routing, 3)[0] == 500


def test_a_measured_histogram(tmp_path):
    path = tmp_path / "loads.json"
    path.write_text(json.dumps({"layers": [[1, 3, 0, 0], [5, 5, 5, 5]]}))
    assert read_loads(path).tolist() == [[0.25, 0.75, 0, 0], [0.25] * 4]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (None, "layers:"),
        ([], "layers:"),
        ([3], r"layers\[0\]:"),
        ([[1, 2], [1]], r"layers\[1\]:"),
        ([[]], r"layers\[0\]:"),
        ([[1, 2.5]], r"layers\[0\]:"),
        ([[True, 1]], r"layers\[0\]:"),
        ([[1, -1]], r"layers\[0\]:"),
        ([[0, 0]], r"layers\[0\]:"),
        ([[1, 2**60]], r"layers\[0\]:"),
    ],
)
def test_what_is_no_histogram_is_one_line(value, where, tmp_path):
    path = tmp_path / "loads.json"
    path.write_text(json.dumps({"layers": value}))
    with pytest.raises(InputError, match=where) as caught:
        read_loads(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: uniform_loads(0), "experts = 0; an integer from 1 to 4096"),
        (lambda: skewed_loads(4, -1.0), "exponent = -1.0; a number from 0 to 16"),
        (lambda: skewed_loads(4, float("nan")), "exponent = nan"),
        (lambda: draw(np.full(4, 0.25), 5, 5), "top_k = 5; an integer from 1 to 4"),
        (lambda: draw(np.full(4, 0.25), -1, 1), "tokens = -1; an integer from 0"),
        (lambda: draw(np.full(4, 0.3), 5, 1), "of sum 1"),
        (lambda: draw(np.array([0.7, 0.3]), 5, 2), "expert 0 has a share of 0.7; at most"),
    ],
)  # fmt: skip
def test_refusals(call, part):
    with pytest.raises(InputError, match=part):
        call()


def draw(loads, tokens, top_k):
    return draw_routing(loads, tokens, top_k, np.random.default_rng(0))
