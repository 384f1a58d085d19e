import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.errors import InputError
from headrace.search.pareto import Front, pareto_front


def brute_force(costs: np.ndarray) -> list[int]:
    """Indices by the definition: finite, not dominated, and the first of its equals."""
    front = []
    for i, a in enumerate(costs):
        if not all(x < np.inf for x in a):
            continue
        rivals = [b for b in costs if all(x < np.inf for x in b)]
        dominated = any((b <= a).all() and (b < a).any() for b in rivals)
        if not dominated and not any((b == a).all() for b in costs[:i]):
            front.append(i)
    return front


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda d: arrays(
            np.float64,
            st.tuples(st.integers(0, 40), st.just(d)),
            elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan, np.inf, -np.inf]),
        )
    )
)
def test_equals_the_definition(costs: np.ndarray) -> None:
    assert pareto_front(costs).tolist() == brute_force(costs)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_chunks_and_order_do_not_matter(seed: int, pieces: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 6, (300, 3)).astype(float)
    whole = pareto_front(costs)
    order = rng.permutation(300)
    front = Front(3)
    for part in np.array_split(order, pieces):
        front.update(costs[part], part)
    assert front.ids.tolist() == whole.tolist()
    np.testing.assert_array_equal(front.costs, costs[whole])


def test_front_that_outgrows_its_array() -> None:
    x = np.linspace(0, 1, 3000)
    costs = np.stack([x, 1 - x], axis=1)
    assert pareto_front(costs).tolist() == list(range(3000))
    assert len(pareto_front(np.vstack([costs, [[-1.0, -1.0]]]))) == 1


def test_random_points_in_five_dimensions() -> None:
    costs = np.random.default_rng(5).random((500, 5))
    assert pareto_front(costs).tolist() == brute_force(costs)


def dominated(costs: np.ndarray) -> np.ndarray:
    """Which rows the definition rules out; the first of equals stays."""
    out = np.zeros(len(costs), bool)
    for i, row in enumerate(costs):
        below = (costs <= row).all(axis=1)
        equal = (costs == row).all(axis=1)
        out[i] = (below & ~equal).any() or equal[:i].any()
    return out


@pytest.mark.parametrize("dimensions", [2, 3, 5])
@pytest.mark.parametrize("levels", [4, 40, 10**6])
def test_many_rows_with_and_without_ties(dimensions: int, levels: int) -> None:
    # Near a plane few rows dominate each other, so the front takes several trees in turn.
    rng = np.random.default_rng(dimensions * levels)
    costs = rng.dirichlet(np.ones(dimensions), 6000) + 0.02 * rng.random((6000, dimensions))
    costs = np.round(costs * levels)
    expected = np.flatnonzero(~dominated(costs))
    order = rng.permutation(6000)
    front = Front(dimensions)
    for part in np.array_split(order, 7):
        front.update(costs[part], part)
    assert front.ids.tolist() == expected.tolist()
    front.update(costs, np.arange(6000))  # rows that come again
    assert front.ids.tolist() == expected.tolist()
    np.testing.assert_array_equal(front.costs, costs[expected])


def test_copies_go_their_own_ways() -> None:
    front = Front(2)
    front.update(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([0, 1]))
    other = front.copy()
    other.update(np.array([[0.0, 0.0]]), np.array([2]))
    assert (front.ids.tolist(), other.ids.tolist(), len(front)) == ([0, 1], [2], 2)


def test_bad_shapes() -> None:
    with pytest.raises(InputError, match=re.escape("dimensions = 0 is not allowed: at least 1")):
        Front(0)
    with pytest.raises(InputError, match=re.escape("(n, 2) with n ids")):
        Front(2).update(np.zeros((3, 3)), np.arange(3))
