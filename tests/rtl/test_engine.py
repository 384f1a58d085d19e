"""The engine in Amaranth's simulator: bits by an int64 product, cycles by the timed graph."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.arch.tellme.job import Compute, EngineJob, Load, check_job
from headrace.arch.tellme.packing import pack_weights
from headrace.errors import InputError
from headrace.rtl.tellme.bench import activation_transfers, simulate_engine
from headrace.rtl.tellme.draw import random_sizes, random_vectors
from headrace.rtl.tellme.verify import check_cycles
from headrace.sim.cycle import simulate
from headrace.sim.memory import MemoryPort, beat_arrivals
from headrace.sim.tellme.engine import engine_graph
from headrace.sim.tellme.formulas import engine_cycles

SMALL = EngineSizes(
    group_size=3,
    tables=4,
    copies=4,
    method="full",
    table_buffers=1,
    activation_lanes=1,
    block_gap=2,
    banks=4,
    words=64,
    slots=1,
    packing="beat",
    beat_bits=128,
    accumulator_bits=24,
    max_groups=8,
)


def product(inputs, weights):
    return inputs.astype(np.int64) @ weights.T.astype(np.int64)


def predicted(sizes, job):
    return simulate(engine_graph(sizes, job), iterations=1).cycles


def scattered(generator, count, mean_cycles):
    """Arrival cycles with random gaps."""
    return np.cumsum(generator.geometric(1 / mean_cycles, count))


@pytest.mark.parametrize("point", range(30))
def test_graph_equals_rtl_without_stalls(point):
    sizes = random_sizes(np.random.default_rng([1, point]))
    result = check_cycles(sizes, 8, point, product, predicted)
    assert result.bits_equal
    assert result.cycles_measured == result.cycles_predicted, sizes


@pytest.mark.parametrize("point", range(20))
def test_graph_equals_rtl_with_a_stalling_memory(point):
    generator = np.random.default_rng([2, point])
    sizes = random_sizes(generator)
    port = MemoryPort(
        bytes_per_beat=sizes.beat_bits // 8,
        clock_hz=250_000_000,
        burst_beats=int(generator.integers(1, 17)),
        outstanding=int(generator.integers(1, 5)),
        read_latency_cycles=int(generator.integers(0, 30)),
        efficiency=float(generator.uniform(0.3, 1)),
    )

    def arrivals(beats):
        return beat_arrivals(port, beats, stall_probability=0.2, rng=generator)

    result = check_cycles(sizes, 8, point, product, predicted, arrivals)
    assert result.bits_equal
    assert result.cycles_measured == result.cycles_predicted, sizes  # 1 % would do


@pytest.mark.parametrize("point", range(20))
def test_graph_equals_rtl_with_everything_stalling(point):
    generator = np.random.default_rng([3, point])
    sizes = random_sizes(generator, most_group_size=3)
    vectors = random_vectors(sizes, 8, generator, product)
    job = replace(
        vectors.job,
        weight_arrivals=scattered(generator, len(vectors.beats), 2),
        activation_arrivals=scattered(generator, len(vectors.activations), 1.5),
        result_arrivals=scattered(generator, len(vectors.results), 4),
    )
    run = simulate_engine(sizes, job, vectors.beats, vectors.activations)
    assert np.array_equal(run.results, vectors.results)
    assert run.cycles == predicted(sizes, job)


def test_points_reach_the_contended_port():
    """Writes and lookups that need port A overlap in some of the points above."""
    drawn = [random_sizes(np.random.default_rng([1, point])) for point in range(30)]
    assert sum(s.slots > 1 and s.words_per_group > 1 for s in drawn) >= 5


def run_one(sizes, weights, inputs):
    """Run one tile."""
    groups = -(-len(weights) // sizes.copies)
    rows = sizes.row_blocks(weights.shape[1])
    padded = np.zeros((len(inputs), rows * sizes.block_inputs), np.int8)
    padded[:, : inputs.shape[1]] = inputs
    job = EngineJob([Load(rows, groups)], [Compute(rows, groups, groups, len(inputs))])
    return simulate_engine(
        sizes, job, pack_weights(weights, sizes), activation_transfers(padded, sizes)
    )


@pytest.mark.parametrize("table_buffers", [1, 2])
@pytest.mark.parametrize("method", ["naive", "half", "full"])
@pytest.mark.parametrize(("rows", "groups", "tokens"), [(1, 1, 3), (3, 2, 2), (2, 7, 2), (5, 1, 2)])
def test_closed_form(method, table_buffers, rows, groups, tokens):
    """Loading, then computing, by plain formulas."""
    sizes = replace(SMALL, method=method, table_buffers=table_buffers)
    generator = np.random.default_rng(0)
    weights = generator.integers(-1, 2, (groups * 4, rows * 12)).astype(np.int8)
    inputs = generator.integers(-127, 128, (tokens, rows * 12)).astype(np.int8)
    run = run_one(sizes, weights, inputs)
    assert np.array_equal(run.results.reshape(tokens, -1), product(inputs, weights))
    build = {"naive": 0, "half": 13, "full": 26}[method]
    front, drain = 2 + 12 + build, 3 + 1 + 1 + groups
    # 5 vectors a beat into 4 banks: two writes each.
    load = 2 + 2 * rows * -(-groups * 4 // 5)
    compute = engine_cycles(rows, front, groups, drain, tokens, table_buffers)
    assert sizes.load_cycles(rows, groups) == load
    assert run.cycles == load + 1 + compute


@pytest.mark.parametrize(
    ("axes", "outputs"),
    [
        pytest.param({}, 1536, marks=pytest.mark.slow, id="published"),
        pytest.param(
            {
                "activation_lanes": 16,
                "table_buffers": 2,
                "block_gap_cycles": 0,
                "weight_layout": "exact",
                "weight_slots": 2,
                "weight_packing": "group",
            },
            256,
            id="improved",
        ),
    ],
)
def test_engine_of_full_size(axes, outputs):
    """A token of 1536 inputs through T = 28, Q = 16: bits, closed form and graph."""
    sizes = engine_sizes(TELLME.point(axes))
    generator = np.random.default_rng(0)
    weights = generator.integers(-1, 2, (outputs, 1536)).astype(np.int8)
    inputs = generator.integers(-127, 128, (1, 1536)).astype(np.int8)
    rows, groups = 19, outputs // 16
    run = run_one(sizes, weights, inputs)
    assert np.array_equal(run.results.reshape(1, -1), product(inputs, weights))
    job = EngineJob([Load(rows, groups)], [Compute(rows, groups, groups, 1)])
    drain = sizes.drain_cycles(groups)
    compute = engine_cycles(rows, sizes.front_cycles, groups, drain, 1, sizes.table_buffers)
    assert run.cycles == sizes.load_cycles(rows, groups) + 1 + compute == predicted(sizes, job)


@pytest.mark.parametrize("group_size", range(1, 6))
@pytest.mark.parametrize("method", ["naive", "half", "full"])
def test_largest_sums_do_not_overflow(group_size, method):
    sizes = replace(SMALL, group_size=group_size, method=method, tables=2, beat_bits=64)
    weights = np.ones((4, 3 * 2 * group_size), np.int8)
    weights[1] = -1
    inputs = np.full((2, weights.shape[1]), 127, np.int8)
    inputs[1] = -127
    run = run_one(sizes, weights, inputs)
    assert np.array_equal(run.results, product(inputs, weights))


def test_accumulators_wrap():
    sizes = replace(SMALL, accumulator_bits=10)
    weights = np.ones((4, 36), np.int8)
    inputs = np.full((1, 36), 127, np.int8)
    assert run_one(sizes, weights, inputs).results.tolist() == [[(36 * 127 + 512) % 1024 - 512] * 4]


def test_regions():
    """A matrix in three regions, each row of which is a row of the load (docs/engine.md)."""
    generator = np.random.default_rng(4)
    sizes = replace(SMALL, banks=2)
    weights = np.zeros((24, 24), np.int8)  # 2 row blocks, 3 regions of 2 output groups
    weights[:16] = generator.integers(-1, 2, (16, 24))  # the third region is not used
    inputs = generator.integers(-127, 128, (2, 24)).astype(np.int8)
    beats = [
        pack_weights(weights[region * 8 : region * 8 + 8, row * 12 : row * 12 + 12], sizes)
        for row in range(2)
        for region in range(3)
    ]
    job = EngineJob([Load(6, 2)], [Compute(2, 4, 6, 2)])
    run = simulate_engine(sizes, job, np.concatenate(beats), activation_transfers(inputs, sizes))
    assert np.array_equal(run.results.reshape(2, -1), product(inputs, weights[:16]))


def test_spare_lanes_are_ignored():
    sizes = replace(SMALL, activation_lanes=5)
    generator = np.random.default_rng(5)
    weights = generator.integers(-1, 2, (4, 12)).astype(np.int8)
    inputs = generator.integers(-127, 128, (1, 12)).astype(np.int8)
    transfers = activation_transfers(inputs, sizes)
    assert transfers.shape == (3, 5)
    transfers[2, 2:] = 77
    job = EngineJob([Load(1, 1)], [Compute(1, 1, 1, 1)])
    run = simulate_engine(sizes, job, pack_weights(weights, sizes), transfers)
    assert np.array_equal(run.results, product(inputs, weights))


@pytest.mark.parametrize(
    ("loads", "computes", "message"),
    [
        ([], [], "engine job: 0 loads and 0 computations; one computation for each load"),
        ([Load(0, 1)], [Compute(1, 1, 1, 1)], "engine job: rows = 0 of Load(rows=0, groups=1): 1"),
        (
            [Load(13, 5)],
            [Compute(13, 5, 5, 1)],
            "engine job: Load(rows=13, groups=5) has 65 words, a slot 64",
        ),
        (
            [Load(2, 3)],
            [Compute(2, 3, 4, 1)],
            "engine job: Compute(rows=2, groups=3, stride=4, tokens=1) reads output group 7 of a",
        ),
        (
            [Load(1, 9)],
            [Compute(1, 9, 9, 1)],
            "engine job: 9 output groups; the accumulators hold 8",
        ),
    ],
)
def test_bad_jobs(loads, computes, message):
    with pytest.raises(InputError) as error:
        check_job(EngineJob(loads, computes), SMALL)
    assert str(error.value).startswith(message)
