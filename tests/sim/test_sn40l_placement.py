"""Units per stage: the bottleneck against integer programming and brute force."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from headrace.arch.sn40l.chip import ChipSizes
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.sim.sn40l.placement import place, spread_units
from headrace.sim.sn40l.sections import compile_pass
from headrace.sim.sn40l.workload import Pass


def bottleneck(work, units):
    return max(Fraction(w, u) for w, u in zip(work, units, strict=True))


def test_by_hand():
    assert spread_units([30, 10, 20], 6) == (3, 1, 2)
    assert spread_units([30, 10, 20], 7) == (3, 1, 2)  # a seventh would help none: 10, 10, 10
    assert spread_units([0, 5], 4) == (1, 3)
    assert spread_units([1, 100], 10, [4, 2]) == (4, 6)


@pytest.mark.parametrize("seed", range(10))
def test_bottleneck_is_the_least(seed):
    rng = np.random.default_rng(seed)
    count, available = int(rng.integers(1, 5)), int(rng.integers(8, 13))
    work, least = rng.integers(0, 50, count).tolist(), rng.integers(1, 3, count).tolist()
    every = [u for u in product(*(range(low, available + 1) for low in least))
             if sum(u) <= available]  # fmt: skip
    best = min(bottleneck(work, u) for u in every)
    units = spread_units(work, available, least)
    assert bottleneck(work, units) == best
    assert sum(units) == min(sum(u) for u in every if bottleneck(work, u) == best)


def test_no_large_spread_could_be_better():
    """To be faster than the bottleneck, the stages would need more units than there are."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        count = int(rng.integers(1, 30))
        least = rng.integers(1, 9, count).tolist()
        available = sum(least) + int(rng.integers(0, 1000))
        work = rng.integers(1, 10 ** int(rng.integers(1, 15)), count).tolist()
        units = spread_units(work, available, least)
        slowest = bottleneck(work, units)
        assert sum(units) <= available
        needed = (max(low, w // slowest + 1) for w, low in zip(work, least, strict=True))
        assert sum(needed) > available


def solve_integer_program(work, available):
    """Choose for each stage how many units it has: minimise T >= w_i / k for the chosen k."""
    optimize = pytest.importorskip("scipy.optimize")
    stages, most = len(work), available
    size = stages * most + 1
    one, time, total = (np.zeros((n, size)) for n in (stages, stages, 1))
    for i, w in enumerate(work):
        for k in range(1, most + 1):
            column = i * most + k - 1
            one[i, column], time[i, column], total[0, column] = 1, w / k, k
        time[i, -1] = -1
    limits = [
        optimize.LinearConstraint(one, 1, 1),
        optimize.LinearConstraint(time, -np.inf, 0),
        optimize.LinearConstraint(total, -np.inf, available),
    ]
    integral = np.ones(size)
    integral[-1] = 0
    bounds = optimize.Bounds(0, np.append(np.ones(size - 1), np.inf))
    cost = np.zeros(size)
    cost[-1] = 1
    return optimize.milp(cost, integrality=integral, bounds=bounds, constraints=limits).fun


@pytest.mark.parametrize("seed", range(4))
def test_bottleneck_is_that_of_integer_programming(seed):
    rng = np.random.default_rng(seed)
    work = rng.integers(1, 1000, 5).tolist()
    expected = solve_integer_program(work, 24)
    assert float(bottleneck(work, spread_units(work, 24))) == pytest.approx(expected, rel=1e-6)


def test_a_layer_fills_the_chip():
    """Section 6 of the paper: a decoder layer takes about 90 % of the units."""
    chip = ChipSizes()
    work = Pass(network=load_network("llama-3-8b"), tokens=4096, tensor_parallel=8)
    kernel = compile_pass(work, chip, "full").calls[1]
    placed = place(kernel, chip)
    assert 0.9 < placed.pcu_share <= 1
    assert 0.9 < placed.pmu_share <= 1
    assert 0.95 < placed.balance <= 1
    for buffer, units in zip(kernel.buffers, placed.pmus, strict=True):
        assert units * chip.pmu_bytes >= buffer.bytes
    peak_cycles = kernel.macs / (chip.pcus * chip.macs_per_pcu)
    assert peak_cycles < placed.compute_cycles < 1.1 * peak_cycles
    stages = zip(kernel.tasks, placed.pcus, strict=True)
    slowest = max(
        Fraction(-(-t.macs // 192) + -(-t.values // 32) * -(-t.steps // 6), n) for t, n in stages
    )
    assert placed.compute_cycles == slowest == placed.cycles


def test_refusals():
    for call, words in (
        (lambda: spread_units([1, 2, 3], 2), "need 3 units; there are 2"),
        (lambda: spread_units([1, -2], 5), "from 0"),
        (lambda: spread_units([1, 2], 1 << 40), "units = "),
        (lambda: spread_units([1, 2], 5, [0, 1]), "from 1"),
        (lambda: spread_units([1, 2], 5, [1]), "from 1"),
    ):
        with pytest.raises(InputError, match=words):
            call()
