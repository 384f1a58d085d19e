import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from headrace.search.ladder import kendall_tau, nearest, promote


def brute_force_rank(costs):
    """Count, for every row, how often its front has to be peeled off."""
    left = set(range(len(costs)))
    rank = np.zeros(len(costs), int)
    level = 0
    while left:
        front = {
            i
            for i in left
            if not any(
                (costs[j] <= costs[i]).all() and (costs[j] < costs[i]).any() for j in left - {i}
            )
        }
        rank[list(front)] = level
        left -= front
        level += 1
    return rank


def test_one_objective_promotes_the_cheapest():
    indices = np.array([30, 10, 20, 40])
    costs = np.array([[2.0], [1.0], [1.0], [0.5]])
    assert promote(indices, costs, 3).tolist() == [40, 10, 20]  # of equals the first one given
    assert promote(indices[::-1], costs[::-1], 3).tolist() == [40, 20, 10]


@pytest.mark.parametrize("seed", range(8))
def test_several_objectives_promote_front_by_front(seed):
    generator = np.random.default_rng(seed)
    costs = generator.random((60, 3))
    indices = generator.permutation(1000)[:60]
    rank = brute_force_rank(costs)
    budget = int(generator.integers(1, 60))
    chosen = promote(indices, costs, budget)
    assert len(set(chosen.tolist())) == budget
    place = {int(i): at for at, i in enumerate(indices)}
    ranks = [rank[place[int(i)]] for i in chosen]
    assert ranks == sorted(ranks)
    # Whole fronts, but for the last one.
    for level in range(max(ranks)):
        assert ranks.count(level) == (rank == level).sum()


def test_what_climbs_is_spread_over_the_front_and_begins_with_the_nearest_to_the_ideal():
    x = np.linspace(0, 1, 101)
    costs = np.stack([x, (1 - x) ** 2], axis=1)
    chosen = promote(np.arange(101), costs, 4).tolist()
    assert chosen[0] == int(np.argmin(x**2 + (1 - x) ** 4))
    assert {0, 100} <= set(chosen[1:3])
    assert nearest(costs) == chosen[0]


def test_promote_does_not_depend_on_the_order_of_points():
    generator = np.random.default_rng(3)
    costs = generator.integers(0, 5, (200, 3)).astype(float)
    order = generator.permutation(200)
    straight = promote(np.arange(200), costs, 17)
    assert promote(np.arange(200)[order], costs[order], 17).tolist() == straight.tolist()


def test_promote_leaves_out_what_is_not_a_number_of_costs():
    costs = np.array([[1.0, np.inf], [2.0, 2.0]])
    assert promote(np.array([0, 1]), costs, 5).tolist() == [1]
    assert promote(np.array([], np.int64), np.empty((0, 2)), 5).tolist() == []


@pytest.mark.parametrize("seed", range(10))
def test_rank_correlation_equals_that_of_scipy(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 9, (2, 40)).astype(float)
    assert kendall_tau(a, b) == pytest.approx(kendalltau(a, b).statistic)


def test_rank_correlation_of_nothing_is_not_a_number():
    assert math.isnan(kendall_tau(np.array([1.0]), np.array([1.0])))
    assert math.isnan(kendall_tau(np.array([1.0, 1.0]), np.array([1.0, 2.0])))
