"""SN40L's compute unit: the reference's bits under stalls, and the unit's cycles without any.

A vector is a result of a lane: a dot product, or what a pipeline of stages made of its operands;
the tail behind it included. `sn40l_compute` has the reference, in NumPy's float32.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.sn40l.compute_program import (
    ComputeProgram,
    Operand,
    Operation,
    Stage,
    TailFunction,
)
from headrace.arch.sn40l.compute_unit import ComputeUnitSizes
from headrace.errors import InputError
from headrace.models.kernels.bfloat import (
    StochasticRounding,
    gemm_sums,
    round_to_bfloat16,
    softmax,
)
from headrace.rtl.lint import lint
from headrace.rtl.ports import check_ports, signature_ports
from headrace.rtl.sn40l.compute_unit import ComputeUnit
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams, unpack
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "sn40l_compute", Path(__file__).parent / "sn40l_compute.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
PORTS, draw_program, make, streams = (
    _shared.PORTS, _shared.draw_program, _shared.make, _shared.streams,
)  # fmt: skip
draw_numbers, single, wide = _shared.draw_numbers, _shared.single, _shared.wide

LIMIT = 20_000
POINTS, VECTORS = 13, 5_200
SMALL = ComputeUnitSizes(lanes=2, stages=2)


def draw_sizes(rng, lanes=(1, 2, 4), stages=4):
    return ComputeUnitSizes(
        lanes=int(rng.choice(lanes)),
        stages=int(rng.integers(1, stages)),
        multiply_registers=int(rng.integers(1, 5)),
        add_registers=int(rng.integers(1, 6)),
    )


def draw_works(rng, sizes, commands, wild=0.1):
    return [make(rng, sizes, draw_program(rng, sizes, rng.integers(2) == 0), wild)
            for _ in range(commands)]  # fmt: skip


def run_free(sizes, works, **more):
    vectors = streams(sizes, works, **more)
    run = simulate_streams(ComputeUnit(sizes), vectors, LIMIT)
    assert run.results == vectors.results
    return run


def late(vectors, rng):
    """Let every stream be late now and then, each at a pace of its own."""
    ports = {**vectors.inputs, **vectors.results}
    return {
        name: np.cumsum(rng.integers(0, rng.integers(1, 5), len(items)))
        for name, items in ports.items()
    }


@pytest.mark.parametrize("seed", range(5))
def test_bits_do_not_depend_on_stalls(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng, lanes=(1, 2))
    works = draw_works(rng, sizes, 5)
    run_free(sizes, works, arrivals=late(streams(sizes, works), rng))


def test_cycles_are_exact():
    rng = np.random.default_rng(7)
    for point in range(8):
        sizes = draw_sizes(rng, lanes=(1, 2), stages=5)
        works = [make(rng, sizes, draw_program(rng, sizes, point % 2 == 0)) for _ in range(2)]
        run = run_free(sizes, works)
        cycles = [sizes.cycles(work.program) for work in works]
        assert run.cycles == sum(cycles) - len(works) + 1, (sizes, works)
        starts = np.cumsum([0, *(c - 1 for c in cycles)])[:-1]
        assert run.times["commands"].tolist() == starts.tolist()


def test_an_array_multiplies_matrices():
    """Rows t * lanes + i of a tile, in the stated order, against float64."""
    rng = np.random.default_rng(2)
    sizes, depth = SMALL, 40
    work = make(rng, sizes, ComputeProgram(count=1, depth=depth))
    a = wide(work.left).reshape(depth, sizes.tile_rows).T.astype(float)
    b = wide(work.right)[:, : sizes.stages].astype(float)
    run = run_free(sizes, [work])
    found = wide(work.results).reshape(sizes.stages, sizes.tile_rows).T
    assert np.allclose(found, a @ b, rtol=2**-8, atol=abs(a).max() * abs(b).max() * 2**-16)
    steps = depth * sizes.interleave
    assert run.times["left"].tolist() == list(range(1, steps + 1))
    assert run.times["right"].tolist() == list(range(sizes.interleave, steps + 1, 6))


def test_deep_tiles_follow_each_other_without_a_gap():
    sizes = SMALL
    deep = ComputeProgram(count=5, depth=4)
    steps, fill = 4 * sizes.interleave, sizes.first_drain + sizes.drain_beats
    assert steps >= sizes.drain_beats + sizes.first_drain - 1
    assert sizes.cycles(deep) == 1 + 5 * steps + fill - 1 + sizes.tail_cycles(deep.reduction) + 1
    run = run_free(sizes, [make(np.random.default_rng(1), sizes, deep)])
    assert run.times["left"].tolist() == list(range(1, 5 * steps + 1))


def test_a_beat_per_cycle():
    work = make(np.random.default_rng(1), SMALL, ComputeProgram(count=30))
    run = run_free(SMALL, [work])
    assert run.times["left"].tolist() == list(range(1, 31))
    assert np.array_equal(work.results, work.left)


def commanded(sizes, program, left, right=()):
    """Return the results of a command, patterns (beats, lanes)."""
    beats = sizes.results(program)
    vectors = StreamVectors(
        {
            "commands": [program.word(sizes.stages)],
            "left": pack(np.reshape(left, (-1, sizes.lanes)), 16),
            "right": pack(right, 16),
        },
        {"results": [0] * beats},
    )
    results = simulate_streams(ComputeUnit(sizes), vectors, LIMIT).results["results"]
    return unpack(results, 16, sizes.lanes) & 0xFFFF


def patterns(numbers):
    return np.asarray(numbers, np.float32).view(np.uint32).astype(np.int64) >> 16


@pytest.mark.parametrize("seed", [None, 0, 4711])
def test_products_are_those_of_the_reference(seed):
    """`gemm_sums` of 2 tiles, rounded to the nearest, or by chance with a seed."""
    rng = np.random.default_rng(3)
    sizes, depth = ComputeUnitSizes(lanes=2, stages=3, add_registers=3), 7
    left = wide(draw_numbers(rng, (2 * sizes.tile_rows, depth), 0.02))
    right = wide(draw_numbers(rng, (depth, 3), 0.02))
    left[1, 2], right[3, 1] = np.inf, wide(0x7FC0)
    with np.errstate(all="ignore"):
        sums = gemm_sums(left, right).reshape(2, sizes.tile_rows, 3).transpose(0, 2, 1)
    rounding = round_to_bfloat16 if seed is None else StochasticRounding(seed, lanes=2)
    wanted = patterns(rounding(sums.reshape(-1, 2)))
    rows = left.reshape(2, sizes.tile_rows, depth).transpose(0, 2, 1)
    program = ComputeProgram(count=2, depth=depth, stochastic=seed is not None, seed=seed or 0)
    found = commanded(sizes, program, patterns(rows), np.tile(patterns(right), (2, 1)))
    assert np.isnan(wide(found)).any()
    assert found.tolist() == wanted.tolist()


def test_softmax_is_that_of_the_reference():
    """Rows in lanes: maxima; exponentials of differences; sums and reciprocals; products."""
    rng = np.random.default_rng(3)
    sizes, columns = SMALL, 8
    x = draw_numbers(rng, (sizes.tile_rows, columns), 0)
    wanted = patterns(softmax(wide(x)))
    largest = list(x.T)
    while len(largest) > 1:
        larger = Stage(operation=Operation.MAXIMUM, right=Operand.RIGHT)
        halves = np.array(largest[::2]), np.array(largest[1::2])
        beats = halves[0].size // sizes.lanes
        found = commanded(
            sizes,
            ComputeProgram(count=beats, stages=(larger,)),
            halves[0],
            halves[1].reshape(-1, sizes.lanes),
        )
        largest = list(found.reshape(len(largest) // 2, -1))
    negated = Stage(
        operation=Operation.MULTIPLY, left=Operand.RIGHT, constant=int(patterns(-1)) << 16
    )
    difference = Stage(operation=Operation.ADD, left=Operand.LEFT, right=Operand.PREVIOUS)
    beats = x.size // sizes.lanes
    exponentials = commanded(
        sizes,
        ComputeProgram(
            count=beats, stages=(negated, difference), function=TailFunction.EXPONENTIAL
        ),
        x.T,
        np.tile(largest[0], columns).reshape(-1, sizes.lanes),
    )
    ones = np.full((columns, sizes.right_values), patterns(1))
    program = ComputeProgram(count=1, depth=columns, function=TailFunction.RECIPROCAL)
    inverse = commanded(sizes, program, exponentials, ones)[: sizes.interleave]
    product = Stage(operation=Operation.MULTIPLY, right=Operand.RIGHT)
    found = commanded(
        sizes,
        ComputeProgram(count=beats, stages=(product,)),
        exponentials,
        np.tile(inverse, (columns, 1)),
    )
    assert found.reshape(columns, -1).T.tolist() == wanted.tolist()


def test_stochastic_rounding_is_fair():
    """1 + 2^-9 is a quarter of the way to the next bfloat16: up one time in four."""
    stage = Stage(operation=Operation.PASS, left=Operand.CONSTANT, constant=0x3F804000)
    counts = []
    for seed in (1, 77):
        program = ComputeProgram(count=200, stages=(stage,), stochastic=True, seed=seed)
        work = make(np.random.default_rng(1), SMALL, program)
        counts.append((work.results == 0x3F81).sum())
        assert set(np.unique(work.results)) == {0x3F80, 0x3F81}
        run_free(SMALL, [work])
    assert single(0x3F804000) == 1 + 2.0**-9
    assert all(abs(count - 100) < 40 for count in counts)
    assert counts[0] != counts[1]


def regression(rng, sizes, wanted, simulator, seed):
    """Run commands of both modes until there are so many results of lanes; return the vectors."""
    works, vectors = [], 0
    while vectors < wanted:
        program = draw_program(rng, sizes, len(works) % 2 == 0, most=60)
        works.append(make(rng, sizes, program, wild=0.1))
        vectors += works[-1].results.size
    stall = {name: float(rng.choice([0, 0.1, 0.4])) for name in PORTS}
    verilog = to_verilog(ComputeUnit(sizes), "compute_unit")
    given = streams(sizes, works, stall=stall)
    done = run_regression(verilog, "compute_unit", given, simulator, seed)
    assert done.passed, done.message
    return vectors


def test_verilog_agrees_under_stalls():
    rng = np.random.default_rng(11)
    regression(rng, ComputeUnitSizes(lanes=2, stages=1), 150, "icarus", 0)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("point", range(POINTS))
def test_verilog_agrees_on_many_vectors(simulator, point):
    rng = np.random.default_rng(100 + point)
    regression(rng, draw_sizes(rng), VECTORS // POINTS, simulator, point)


@pytest.mark.slow
def test_cycles_are_exact_on_many_points():
    rng = np.random.default_rng(8)
    for point in range(60):
        sizes = draw_sizes(rng, lanes=(1, 2), stages=5)
        work = make(rng, sizes, draw_program(rng, sizes, point % 2 == 0))
        assert run_free(sizes, [work]).cycles == sizes.cycles(work.program), (sizes, work)


@pytest.mark.slow
def test_sizes_of_plasticine():
    """16 lanes, 6 stages, in Verilator."""
    regression(np.random.default_rng(5), ComputeUnitSizes(), 5_000, "verilator", 0)


def test_verilog_is_clean():
    unit = ComputeUnit(ComputeUnitSizes(lanes=1, stages=2, add_registers=3))
    report = lint(to_verilog(unit, "compute_unit"), "compute_unit")
    assert report.findings == ()
    assert check_ports(report.ports, signature_ports(unit)) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 3}, "lanes = 3 is not allowed: a power of two up to 64"),
        ({"stages": 33}, "stages = 33 is not allowed: 1 to 32"),
        ({"multiply_registers": 5}, "multiply registers = 5 is not allowed: 1 to 4"),
        ({"add_registers": 0}, "add registers = 0 is not allowed: 1 to 5"),
    ],
)
def test_sizes_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        ComputeUnitSizes(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count = 0 is not allowed: 1 to 65535"),
        ({"depth": 1 << 16}, "depth = 65536 is not allowed: 0 to 65535"),
        ({"seed": -1}, "seed = -1 is not allowed: 0 to 65535"),
        ({"depth": 2, "stages": (Stage(),)}, "stages are not allowed with a depth"),
        ({"stages": (Stage(),) * 3}, "stages = 3 is not allowed: 0 to 2"),
    ],
)
def test_programs_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        ComputeProgram(**{"count": 1, **change}).word(2)
