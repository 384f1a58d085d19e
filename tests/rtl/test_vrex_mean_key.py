"""V-Rex's mean keys: the reference's bits under stalls, and the unit's cycles without any.

A vector is a coordinate: a mean, a key and a count. `move_means` of the reference, itself held
against fractions in `tests/models/test_mean_key.py`, says what must come out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from headrace.arch.vrex.mean_key import MeanKeySizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval.mean_key import move_means
from headrace.rtl.lint import lint
from headrace.rtl.ports import check_ports, signature_ports
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.mean_key import MeanKey

LIMIT = 50_000  # cycles; what hangs is found soon
SWEEP_POINTS, SWEEP_COORDINATES = 4, 12_000
PORTS = ("counts", "keys", "means", "moved")


@dataclass(frozen=True)
class Tokens:
    """Counts, and bits of keys and means: (tokens,) and (tokens, coordinates)."""

    counts: Any
    keys: Any
    means: Any


def draw_sizes(rng):
    lanes = int(rng.integers(1, 4))
    beats = int(rng.integers(1, 13))
    stages = int(rng.integers(1, 11))
    return MeanKeySizes(lanes=lanes, coordinates=lanes * beats, bits_per_stage=stages)


def draw_tokens(rng, sizes, tokens):
    """Draw pairs whose exponents are equal, near, far or extreme, and counts of all lengths."""
    shape = (tokens, sizes.coordinates)
    reach = rng.choice([0, 1, 3, 12, 30, 255], shape)
    low = rng.choice([0, 0, 20, 100, 254], shape)
    first = np.clip(low + rng.integers(0, 30, shape), 0, 254)
    second = np.clip(first + rng.integers(-255, 256, shape) % (2 * reach + 1) - reach, 0, 254)
    swap = rng.integers(2, size=shape, dtype=bool)
    exponents = np.where(swap, first, second), np.where(swap, second, first)
    keys, means = (
        exponent << 7 | rng.integers(128, size=shape) & rng.choice([0, 64, 127], shape)
        | rng.integers(2, size=shape) << 15
        for exponent in exponents
    )  # fmt: skip
    cancel = rng.integers(8, size=shape) == 0
    means = np.where(cancel, keys ^ 0x8000, means)
    counts = np.maximum(1, rng.integers(0, 65536, tokens) >> rng.integers(0, 17, tokens))
    return Tokens(counts, keys, means)


def values(bits):
    return (np.asarray(bits, np.uint32) << np.uint32(16)).view(np.float32)


def reference(tokens):
    """Return the bits of the moved means; a cluster's first key is its mean."""
    counts = tokens.counts[:, None]
    moved = move_means(values(tokens.means), values(tokens.keys), np.maximum(counts, 2))
    return np.where(counts == 1, tokens.keys, moved.view(np.uint32) >> np.uint32(16))


def beats(sizes, bits):
    return pack(np.asarray(bits).reshape(-1, sizes.lanes), 16)


def streams(sizes, tokens, moved=None, **more):
    """Return the streams; the results are the reference's if none are given."""
    inputs = {
        "counts": tokens.counts.tolist(),
        "keys": beats(sizes, tokens.keys),
        "means": beats(sizes, tokens.means[tokens.counts > 1]),
    }
    moved = reference(tokens) if moved is None else moved
    return StreamVectors(inputs, {"moved": beats(sizes, moved)}, **more)


def late(vectors, rng):
    """Let every stream be late now and then, each at a pace of its own."""
    ports = {**vectors.inputs, **vectors.results}
    return {
        name: np.cumsum(rng.integers(0, rng.integers(2, 6), len(items)))
        for name, items in ports.items()
    }


def run_free(sizes, tokens, moved=None):
    vectors = streams(sizes, tokens, moved)
    run = simulate_streams(MeanKey(sizes), vectors, LIMIT)
    assert run.results == vectors.results
    return run


@pytest.mark.parametrize("seed", range(6))
def test_bits_do_not_depend_on_stalls(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    free = streams(sizes, draw_tokens(rng, sizes, 60))
    vectors = StreamVectors(free.inputs, free.results, arrivals=late(free, rng))
    run = simulate_streams(MeanKey(sizes), vectors, LIMIT)
    assert run.results == vectors.results


LARGEST, LEAST = 255 / 128 * 2.0**127, 2.0**-133


@pytest.mark.parametrize(
    ("mean", "key", "count", "moved"),
    [
        (1.0, 2.0, 2, 1.5),
        (1.0, 1.0, 3, 1.0),
        (0.0, -1.0, 3, -171 / 512),
        (LARGEST, LARGEST, 65535, LARGEST),
        (LARGEST, -LARGEST, 2, 0.0),
        (LARGEST, -LARGEST, 4, LARGEST / 2),
        (LEAST, 0.0, 2, 0.0),  # half of the least number: to even
        (3 * LEAST, 0.0, 2, 2 * LEAST),
        (2.0**-126, -LEAST, 2, 2.0**-127),  # 127/2 + 1/2 - 1/2 of the least: a tie, to even
        (0.0, -LEAST, 65535, -0.0),
        (-0.0, -0.0, 7, -0.0),
        (-0.0, 0.0, 7, 0.0),
        (5.0, -0.0, 1, -0.0),  # the first key
        (5.0, LEAST, 1, LEAST),
        (2.0**-120, LARGEST, 1, LARGEST),
        (170.0, 0.0, 4, 127.5),
        (255.0, 0.0, 4, 191.0),  # 191.25
        (254.0, 0.0, 4, 190.0),  # 190.5: to even
        (254.0, LEAST, 4, 191.0),  # and one bit, 140 places below, decides
        (254.0, -LEAST, 4, 190.0),
        (250.0, 0.0, 4, 188.0),  # 187.5
        (250.0, -LEAST, 4, 187.0),
    ],
)
def test_edges(mean, key, count, moved):
    sizes = MeanKeySizes(lanes=1, coordinates=1)

    def bits(value):
        return np.array([[value]], np.float32).view(np.uint32) >> 16

    tokens = Tokens(np.array([count]), bits(key), bits(mean))
    run_free(sizes, tokens, bits(moved))


@pytest.mark.parametrize("count", [3, 65535])
def test_every_mantissa_of_a_key(count):
    """Next to all distances of exponents from -30 to 30."""
    rng = np.random.default_rng(count)
    sizes = MeanKeySizes(lanes=16, coordinates=128)
    distances = np.arange(-30, 31)
    keys = np.broadcast_to(120 << 7 | np.arange(128), (61, 128))
    means = (120 + distances[:, None]) << 7 | rng.integers(128, size=(61, 128))
    means |= rng.integers(2, size=means.shape) << 15
    run_free(sizes, Tokens(np.full(61, count), keys, means))


def test_cycles_are_exact():
    rng = np.random.default_rng(7)
    for _ in range(50):
        sizes = draw_sizes(rng)
        tokens = draw_tokens(rng, sizes, int(rng.integers(1, 6)))
        run = run_free(sizes, tokens)
        assert run.cycles == sizes.cycles(len(tokens.counts)), (sizes, tokens)


def test_first_keys_need_no_means():
    sizes = MeanKeySizes(lanes=2, coordinates=4)
    tokens = draw_tokens(np.random.default_rng(2), sizes, 5)
    tokens = Tokens(np.ones(5, int), tokens.keys, tokens.means)
    assert streams(sizes, tokens).inputs["means"] == []
    assert run_free(sizes, tokens, tokens.keys).cycles == sizes.cycles(5)


def test_sizes_of_the_paper():
    """A frame of 10 tokens, 1024 coordinates in 16 lanes: a beat per cycle."""
    rng = np.random.default_rng(9)
    sizes = MeanKeySizes()
    keys, means = rng.integers(0x3F00, 0x4000, (2, 10, 1024))
    run = run_free(sizes, Tokens(rng.integers(2, 64, 10), keys, means))
    assert run.cycles == 1 + 10 * 64 + 17
    assert run.times["counts"].tolist() == list(range(0, 640, 64))


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_verilog_agrees_under_stalls(simulator):
    rng = np.random.default_rng(11)
    sizes = MeanKeySizes(lanes=3, coordinates=12, bits_per_stage=2)
    vectors = streams(sizes, draw_tokens(rng, sizes, 60), stall=dict.fromkeys(PORTS, 0.3))
    done = run_regression(to_verilog(MeanKey(sizes), "mean_key"), "mean_key", vectors, simulator)
    assert done.passed, done.message


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("seed", range(SWEEP_POINTS))
def test_verilog_agrees_on_many_coordinates(simulator, seed):
    rng = np.random.default_rng(100 + seed)
    sizes = draw_sizes(rng)
    tokens = draw_tokens(rng, sizes, SWEEP_COORDINATES // sizes.coordinates)
    stall = {name: float(rng.choice([0, 0.1, 0.4])) for name in PORTS}
    vectors = streams(sizes, tokens, stall=stall)
    verilog = to_verilog(MeanKey(sizes), "mean_key")
    done = run_regression(verilog, "mean_key", vectors, simulator, seed)
    assert done.passed, done.message


@pytest.mark.parametrize(
    "sizes",
    [
        MeanKeySizes(lanes=3, coordinates=96),
        MeanKeySizes(lanes=1, coordinates=1, bits_per_stage=10),
    ],
)
def test_verilog_is_clean(sizes):
    unit = MeanKey(sizes)
    report = lint(to_verilog(unit, "mean_key"), "mean_key")
    assert report.findings == ()
    assert check_ports(report.ports, signature_ports(unit)) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 65}, "lanes = 65 is not allowed: 1 to 64"),
        ({"coordinates": 8}, "coordinates = 8 is not allowed: 16 to 65536"),
        ({"coordinates": 40}, "coordinates = 40 is not allowed: a multiple of 16"),
        ({"bits_per_stage": 11}, "bits_per_stage = 11 is not allowed: 1 to 10"),
    ],
)
def test_sizes_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        MeanKeySizes(**change)
