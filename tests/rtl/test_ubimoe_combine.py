"""Combine: bits against sums of Python integers, cycles against the formula."""

import random

import numpy as np
import pytest

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.ubimoe.combine import Combine
from headrace.rtl.verilog import to_verilog

ONE = 1 << 22
FEATURES = {"w16a32": (32, 22), "int16": (16, 10), "int8": (16, 10)}  # bits, fraction bits
PORTS = ("command", "jobs", "rows", "values", "residual", "results")


def signed(rng, bits):
    """Draw a signed number, often at the ends of its range."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return rng.choice([low, high, -1, rng.randint(low, high), rng.randint(low, high)])


def jobs_of(rng, tokens, choices, experts):
    """Return for every expert in use its tokens, ascending; a token has `choices` of them."""
    queues = {}
    for token in range(tokens):
        for expert in rng.sample(range(experts), choices):
            queues.setdefault(expert, []).append(token)
    return [queues[expert] for expert in sorted(queues)]


def work(sizes, rng, commands, dense=False, **more):
    """Return the streams of commands (tokens, choices, experts), and the jobs of each."""
    bits, fraction = FEATURES[sizes.formats.name]
    width, streams = sizes.dims * sizes.row_beats, {name: [] for name in PORTS}
    for tokens, choices, experts in commands:
        x = [[signed(rng, bits) for _ in range(width)] for _ in range(tokens)]
        streams["residual"] += beats(x, sizes, bits)
        total = [row.copy() for row in x]
        for queue in jobs_of(rng, tokens, choices, experts):
            results = []
            for token in queue:
                p = ONE if dense else rng.choice([0, 1, ONE, rng.randint(0, ONE)])
                y = [signed(rng, 32) for _ in range(width)]
                results.append(y)
                streams["rows"].append(token | p << 16)
                for d in range(width):
                    total[token][d] += y[d] * p // 2 ** (44 - fraction)
            streams["jobs"].append(len(queue))
            for first in range(0, len(queue), sizes.lanes):
                group = [beats([y], sizes, 32) for y in results[first : first + sizes.lanes]]
                streams["values"] += [y[b] for b in range(sizes.row_beats) for y in group]
        streams["results"] += beats(total, sizes, bits)
        streams["command"].append(tokens | choices << 16)
    results = {"results": streams.pop("results")}
    return StreamVectors(streams, results, **more)


def beats(rows, sizes, bits):
    """Return rows as payloads; what does not fit the bits wraps."""
    return pack(np.array(rows, object).reshape(-1, sizes.dims).tolist(), bits)


def later(times, seed):
    """Return arrivals that stall every stream, whatever the others do."""
    rng = np.random.default_rng(seed)
    return {name: t + np.cumsum(rng.integers(0, 4, len(t))) for name, t in times.items()}


def drawn(seed):
    rng = random.Random(seed)
    sizes = CombineSizes(
        formats=FORMATS[list(FORMATS)[seed % 3]],
        dims=rng.randint(1, 3),
        row_beats=rng.choice([1, 1, 2, 3, 5]),
        lanes=rng.choice([1, 2, 3, 4, 8]),
        max_tokens=rng.randint(1, 9),
    )
    commands = []
    for _ in range(3):
        experts = rng.randint(1, 5)
        commands.append(
            (rng.randint(1, sizes.max_tokens), rng.randint(1, min(3, experts)), experts)
        )
    return sizes, commands


@pytest.mark.parametrize("seed", range(24))
def test_bits_with_stalls(seed):
    sizes, commands = drawn(seed)
    free = work(sizes, random.Random(seed), commands)
    times = simulate_streams(Combine(sizes), free, 20_000).times
    vectors = StreamVectors(free.inputs, free.results, later(times, seed))
    run = simulate_streams(Combine(sizes), vectors, 20_000)
    assert run.results == vectors.results
    assert run.cycles > max(t[-1] for t in times.values()) + 1


@pytest.mark.parametrize("seed", range(24))
def test_bits_and_cycles_without_stalls(seed):
    sizes, commands = drawn(seed)
    vectors = work(sizes, random.Random(seed), commands)
    run = simulate_streams(Combine(sizes), vectors, 20_000)
    assert run.results == vectors.results
    ends = run.times["results"][np.cumsum([n * sizes.row_beats for n, _, _ in commands]) - 1]
    for (tokens, choices, _), begin, end in zip(commands, run.times["command"], ends, strict=True):
        assert end - begin + 1 == sizes.cycles(tokens, choices)
    assert (run.times["command"][1:] == ends[:-1]).all()


@pytest.mark.parametrize("precision", FORMATS)
def test_one_word_hit_again_and_again(precision):
    """One token, one beat: every contribution needs the sum of the one just before."""
    sizes = CombineSizes(formats=FORMATS[precision], dims=2, row_beats=1, lanes=4, max_tokens=1)
    vectors = work(sizes, random.Random(1), [(1, 9, 9), (1, 1, 1), (1, 4, 6)])
    assert simulate_streams(Combine(sizes), vectors, 500).results == vectors.results


def test_score_one_is_the_dense_residual():
    """x + feature(y), the residual of a dense FFN and of MSA."""
    sizes = CombineSizes(formats=FORMATS["int16"], dims=2, row_beats=2, lanes=3, max_tokens=5)
    vectors = work(sizes, random.Random(2), [(5, 1, 1)], dense=True)
    x = [v for p in vectors.inputs["residual"] for v in (p & 0xFFFF, p >> 16)]
    y = [v for p in vectors.inputs["values"] for v in (p & 0xFFFFFFFF, p >> 32)]
    order = [0, 3, 1, 4, 2, 5, 6, 8, 7, 9]  # groups of rows 0 to 2 and 3 to 4: beat, then row
    y = [y[2 * place + d] for place in order for d in range(2)]
    expected = [(a + (b >> 12)) & 0xFFFF for a, b in zip(x, y, strict=True)]
    run = simulate_streams(Combine(sizes), vectors, 500)
    assert [v for p in run.results["results"] for v in (p & 0xFFFF, p >> 16)] == expected


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_verilog(simulator):
    sizes = CombineSizes(formats=FORMATS["w16a32"], dims=3, row_beats=3, lanes=4, max_tokens=17)
    stall = dict.fromkeys(PORTS, 0.25)
    vectors = work(sizes, random.Random(4), [(17, 2, 8), (9, 1, 1), (13, 2, 3)], stall=stall)
    done = run_regression(to_verilog(Combine(sizes), "combine"), "combine", vectors, simulator)
    assert done.passed, done.message


def test_wrong_sizes_are_refused():
    good = {"formats": FORMATS["int8"], "dims": 4, "row_beats": 3, "lanes": 2, "max_tokens": 9}
    for name, value in (("dims", 0), ("row_beats", 0), ("lanes", 257), ("max_tokens", 65536)):
        with pytest.raises(InputError, match=f"{name} = {value} is not allowed: 1 to"):
            CombineSizes(**{**good, name: value})
    with pytest.raises(InputError, match="choices = 0 is not allowed: 1 to 255"):
        CombineSizes(**good).check_command(9, 0)
    with pytest.raises(InputError, match="tokens = 10 is not allowed: 1 to 9"):
        CombineSizes(**good).check_command(10, 1)
