"""The engine's Verilog equals the reference, in both simulators, while every stream stalls."""

import numpy as np
import pytest

from headrace.models.kernels.ternary_matmul import ternary_matmul
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.tellme.draw import random_sizes
from headrace.rtl.tellme.verify import check_bits

SEED = 24
POINTS = 14
VECTORS_PER_POINT = 750  # 10,500 over all points
SAMPLE_VECTORS = 60


def drawn_sizes(point):
    return random_sizes(np.random.default_rng([SEED, point]), least_group_size=2)


def reference_of(sizes):
    """The models layer's kernel, itself held against a plain integer product."""

    def product(inputs, weights):
        exact = inputs.astype(np.int64) @ weights.T.astype(np.int64)
        kernel = ternary_matmul(inputs, weights, sizes.method, sizes.group_size, sizes.block_inputs)
        assert np.array_equal(kernel, exact)
        return exact

    return product


def check(point, simulator, vectors):
    sizes = drawn_sizes(point)
    result = check_bits(sizes, vectors, 1000 + point, simulator, reference_of(sizes))
    assert result.passed, f"{sizes}\n{result.message}"
    assert result.vectors >= vectors
    print(f"point {point}, {simulator}: {result.vectors} vectors, {result.cycles_measured} cycles")
    return result


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    results = [check(point, simulator, VECTORS_PER_POINT) for simulator in SIMULATORS]
    assert results[0].cycles_measured == results[1].cycles_measured


@pytest.mark.parametrize("point", [0, 2, 7, 8])
def test_bits_in_icarus(point):
    check(point, "icarus", SAMPLE_VECTORS)


def test_bits_in_verilator():
    check(8, "verilator", SAMPLE_VECTORS)


def test_drawn_points_cover_what_matters():
    sizes = [drawn_sizes(point) for point in range(POINTS)]
    assert {s.group_size for s in sizes} == {2, 3, 4}
    assert {s.method for s in sizes} == {"naive", "half", "full"}
    assert {s.packing for s in sizes} == {"beat", "group"}
    assert {s.table_buffers for s in sizes} == {1, 2}
    assert {s.words_per_group for s in sizes} == {1, 2, 4}
    assert {s.slots for s in sizes} == {1, 2, 3}
    assert any(s.tables % 2 for s in sizes)
    assert any(s.copies % 2 for s in sizes)


def test_a_wrong_expectation_fails():
    sizes = drawn_sizes(0)
    right = reference_of(sizes)

    def wrong(inputs, weights):
        product = right(inputs, weights)
        product[-1, -1] += 1
        return product

    result = check_bits(sizes, 20, 3, "icarus", wrong)
    assert not result.passed
    assert "instead of" in result.message
