"""Layer norm: its bits under stalls, and its cycles without any."""

import importlib.util
import math
import random
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed as reference
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams, unpack
from headrace.rtl.ubimoe.layer_norm import LayerNorm
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_kernels", Path(__file__).parent / "ubimoe_kernels.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
norm_command = _shared.norm_command
norm_sizes = _shared.norm_sizes
norm_vectors = _shared.norm_vectors

LIMIT = 10_000  # cycles; what hangs is found soon

PRECISIONS = {  # feature bits, feature fraction, operand bits, operand fraction, saturates
    "w16a32": (32, 22, 32, 22, False),
    "int16": (16, 10, 16, 10, False),
    "int8": (16, 10, 8, 4, True),
}


def wrap(value, bits=32):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def normalised(row, gains, offsets, precision):
    """Rule 4, in unlimited integers."""
    _, ff, ob, of, saturates = PRECISIONS[precision]
    c = 2**22 // len(row)
    u = [wrap(x * c >> ff) for x in row]
    m = wrap(sum(u))
    msq = wrap(sum(x * v >> ff for x, v in zip(row, u, strict=True)))
    var = wrap(msq - (m * m >> 22) + 4)
    r = min(2**44 // math.isqrt(max(var, 1) << 22), 2**31 - 1)
    results = []
    for x, g, b in zip(row, gains, offsets, strict=True):
        y = wrap((x << (22 - ff)) - m)
        y = wrap(y * r >> 22)
        y = wrap((y * g >> 11) + (b << 11)) >> (22 - of)
        low, high = -(2 ** (ob - 1)), 2 ** (ob - 1) - 1
        results.append(min(max(y, low), high) if saturates else wrap(y, ob))
    return results


def expect(sizes, command):
    gains, offsets, rows = (values.tolist() for values in command)
    return [normalised(row, gains, offsets, sizes.formats.name) for row in rows]


def case(sizes, *tokens, seed):
    """Return the payloads of commands of so many tokens and what must come of them."""
    generator = random.Random(seed)
    commands = [norm_command(sizes, count, generator) for count in tokens]
    drawn = norm_vectors(sizes, commands, expect)
    return {**drawn.inputs, **drawn.results}


def vectors(streams, **more):
    inputs = {name: items for name, items in streams.items() if name != "results"}
    return StreamVectors(inputs, {"results": streams["results"]}, **more)


def stalled(streams, seed, paces):
    """Let each stream offer, or accept, an item every so many cycles on average.

    Results from cycle 80 on, about when the first ones come: a sink that is late is no stall.
    """
    generator = np.random.default_rng(seed)
    return {
        name: 80 * (name == "results")
        + np.cumsum(generator.integers(0, int(2 * pace) + 1, len(streams[name])))
        for name, pace in paces.items()
    }


def sized(precision, width, dims):
    return LayerNormSizes(formats=FORMATS[precision], width=width, dims=dims)


@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize(("width", "dims", "tokens"), [(8, 4, 60), (5, 5, 60), (6, 1, 20)])
@pytest.mark.parametrize(
    "paces",
    [
        {"inputs": 2},
        {"results": 3},
        {"inputs": 1, "results": 1.5, "parameters": 20},
    ],
)
def test_results_do_not_depend_on_stalls(precision, width, dims, tokens, paces):
    sizes = sized(precision, width, dims)
    streams = case(sizes, tokens, seed=width)
    work = vectors(streams, arrivals=stalled(streams, tokens, paces))
    run = simulate_streams(LayerNorm(sizes), work, LIMIT)
    assert run.results["results"] == streams["results"]
    assert run.cycles > sizes.cycles(tokens)


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_rows_of_the_network(precision):
    sizes = sized(precision, 192, 16)
    streams = case(sizes, 4, seed=1)
    run = simulate_streams(LayerNorm(sizes), vectors(streams), LIMIT)
    assert run.results["results"] == streams["results"]
    assert run.cycles == sizes.cycles(4)


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_reference_and_rtl_agree(precision):
    """Rows of all the features there are, and gains and offsets of all 16 bits."""
    sizes = sized(precision, 48, 8)
    bits, _, operand_bits, *_ = PRECISIONS[precision]
    generator = np.random.default_rng(6)
    rows = generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (10, 48))
    rows >>= generator.integers(0, bits, (10, 1))
    gains, offsets = generator.integers(-(2**15), 2**15, (2, 48))
    results = reference.layer_norm(rows, gains, offsets, reference.FORMATS[precision])
    streams = {
        "command": [10],
        "parameters": pack(np.stack([gains, offsets], axis=1).reshape(-1, 16), 16),
        "inputs": pack(rows.reshape(-1, 8), bits),
        "results": pack(results.reshape(-1, 8), operand_bits),
    }
    run = simulate_streams(LayerNorm(sizes), vectors(streams), LIMIT)
    assert run.results["results"] == streams["results"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_any_sizes_under_any_stalls(seed):
    generator = random.Random(seed)
    sizes = norm_sizes(FORMATS[list(PRECISIONS)[seed % 3]], generator)
    tokens = [generator.randint(1, 1 + 400 // sizes.row_beats) for _ in range(3)]
    streams = case(sizes, *tokens, seed=seed)
    paces = {name: generator.choice([0, 0.5, 1, 2]) for name in streams}
    work = vectors(streams, arrivals=stalled(streams, seed, paces))
    run = simulate_streams(LayerNorm(sizes), work, LIMIT)
    assert run.results["results"] == streams["results"]


@pytest.mark.parametrize(
    ("width", "dims", "tokens"),
    [(8, 4, 1), (8, 4, 90), (4, 4, 1), (4, 4, 120), (6, 1, 30), (3, 3, 9), (9, 1, 5), (64, 2, 5)],
)
def test_cycles_are_exact(width, dims, tokens):
    sizes = sized("int16", width, dims)
    streams = case(sizes, tokens, seed=2)
    run = simulate_streams(LayerNorm(sizes), vectors(streams), LIMIT)
    assert run.results["results"] == streams["results"]
    assert run.cycles == sizes.cycles(tokens)
    # A beat per cycle, in and out, without a gap.
    assert (np.diff(run.times["inputs"]) == 1).all()
    assert (np.diff(run.times["results"]) == 1).all()


@pytest.mark.parametrize(("width", "dims"), [(8, 4), (6, 1), (11, 1), (2, 2)])
def test_a_full_row_memory_holds_back_the_inputs(width, dims):
    """While no result is taken, it and the pipeline behind it fill up, and no more."""
    sizes = sized("w16a32", width, dims)
    streams = case(sizes, 120 // sizes.row_beats, seed=3)
    late = {"results": np.full(len(streams["results"]), 400)}
    run = simulate_streams(LayerNorm(sizes), vectors(streams, arrivals=late), LIMIT)
    assert run.results["results"] == streams["results"]
    before = run.times["inputs"] < 400
    assert before.sum() == sizes.buffer_beats + 1 + sizes.normaliser_latency


@pytest.mark.slow
def test_cycles_of_a_picture():
    """All 197 tokens of 192 features, 16 per beat."""
    sizes = sized("int16", 192, 16)
    streams = case(sizes, 197, seed=10)
    run = simulate_streams(LayerNorm(sizes), vectors(streams), LIMIT)
    assert run.results["results"] == streams["results"]
    assert run.cycles == sizes.cycles(197) == 198 * 12 + 75 + 10


def test_cycles_are_those_of_the_docs():
    """192 features in 8 lanes, 197 tokens: 198 rows of 24 beats, and the pipelines."""
    assert sized("int16", 192, 8).cycles(197) == 198 * 24 + 75 + 10
    tokens = np.array([1, 129, 197])
    assert (sized("int16", 192, 8).cycles(tokens) == (tokens + 1) * 24 + 85).all()


@pytest.mark.parametrize("paces", [{}, {"inputs": 1, "results": 1, "parameters": 3, "command": 60}])
def test_a_command_follows_another(paces):
    """The second one's parameters and rows do not touch the first one's."""
    sizes = sized("int8", 8, 2)
    streams = case(sizes, 7, 1, 30, seed=5)
    work = vectors(streams, arrivals=stalled(streams, 5, paces))
    run = simulate_streams(LayerNorm(sizes), work, LIMIT)
    assert run.results["results"] == streams["results"]


def test_results_are_near_the_layer_norm():
    """Ordinary rows with unit gain: mean 0 and deviation 1, to the operands' 10 bits."""
    sizes = sized("int16", 64, 8)
    rows = np.random.default_rng(4).normal(0.5, 2.0, (4, 64))
    inputs = np.round(rows * 1024).astype(int)
    streams = {
        "command": [4],
        "parameters": pack([[2048, 0] * 8] * 8, 16),
        "inputs": pack(inputs.reshape(-1, 8), 16),
        "results": [0] * 32,
    }
    run = simulate_streams(LayerNorm(sizes), vectors(streams), LIMIT)
    results = unpack(run.results["results"], 16, 8).reshape(4, 64) / 1024
    exact = inputs - inputs.mean(axis=1, keepdims=True)
    exact = exact / exact.std(axis=1, keepdims=True)
    assert np.abs(results - exact).max() < 3 / 1024


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("int8", [-128, -128, -128, -128, -127, -1, 0, 126, 127, 127, 127, 127]),
        ("int16", [-16384, -8257, -8256, -8192, -8128, -64, 0, 8064, 8128, 8191, 8192, 16383]),
    ],
)
def test_operands_at_their_limits(precision, expected):
    """Without gain a result is its offset, of 11 fraction bits: 8 bits saturate, 16 hold it."""
    offsets = [-32768, -16513, -16512, -16384, -16256, -128, 0, 16128, 16256, 16383, 16384, 32767]
    sizes = sized(precision, 12, 12)
    operand_bits = PRECISIONS[precision][2]
    streams = {
        "command": [1],
        "parameters": pack([[v for offset in offsets for v in (0, offset)]], 16),
        "inputs": pack([range(-600, 600, 100)], 16),
        "results": [0],
    }
    run = simulate_streams(LayerNorm(sizes), vectors(streams), LIMIT)
    assert unpack(run.results["results"], operand_bits, 12).tolist() == [expected]


@pytest.mark.parametrize(
    ("simulator", "precision"),
    [
        ("icarus", "w16a32"),
        ("icarus", "int8"),
        pytest.param("verilator", "int16", marks=pytest.mark.slow),
    ],
)
def test_verilog_agrees_under_stalls(simulator, precision):
    sizes = sized(precision, 8, 4)
    streams = case(sizes, 30, 5, seed=8)
    work = vectors(streams, stall={"inputs": 0.2, "results": 0.3, "parameters": 0.5})
    verilog = to_verilog(LayerNorm(sizes), "layer_norm")
    done = run_regression(verilog, "layer_norm", work, simulator)
    assert done.passed, done.message


@pytest.mark.parametrize(
    ("width", "dims", "message"),
    [
        (0, 1, "width = 0 is not allowed: 1 to 65535"),
        (8, 3, "dims = 3 is not allowed: a divisor of width = 8"),
        (8, 0, "dims = 0 is not allowed: a divisor of width = 8"),
    ],
)
def test_sizes_are_checked(width, dims, message):
    with pytest.raises(InputError, match=message):
        sized("int16", width, dims)
