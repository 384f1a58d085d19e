"""The gate: bits against rule 5 in Python integers, cycles against the formula."""

import importlib.util
import math
import random
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.ubimoe.gate import Gate
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_kernels", Path(__file__).parent / "ubimoe_kernels.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
choices_beats = _shared.choices_beats

ONE = 1 << 22
# Bits and fraction bits of operands and of weights.
WIDTHS = {"w16a32": (32, 22, 16, 14), "int16": (16, 10, 16, 13), "int8": (8, 4, 8, 10)}
PORTS = ("command", "weights", "inputs", "choices")
COARSE = [math.floor(ONE * math.exp(-i / 16) + 0.5) for i in range(256)]
FINE = [math.floor(ONE * math.exp(-i / 4096) + 0.5) for i in range(256)]


def exponential(x):
    """EXP(-x)."""
    if x >= 16 * ONE:
        return 0
    p = COARSE[x >> 18] * FINE[x >> 10 & 255] >> 22
    return p - (p * (x & 1023) >> 22)


def scores_of(row, weights, name):
    _, operand_fraction, _, weight_fraction = WIDTHS[name]
    below = 2 ** (operand_fraction + weight_fraction)
    sums = [sum(x * w * ONE // below for x, w in zip(row, ws, strict=True)) for ws in weights]
    return [(total + 2**31) % 2**32 - 2**31 for total in sums]


def choose(scores, top_k):
    """Return the best experts and their probabilities, by sorting."""
    best, total = -(2**31), 0
    for s in scores:
        if s > best:
            total = (total * exponential(s - best) >> 22) + ONE
            best = s
        else:
            total += exponential(best - s)
    order = sorted(range(len(scores)), key=lambda e: (-scores[e], e))[:top_k]
    return [(e, exponential(best - scores[e]) * (2**44 // total) >> 22) for e in order]


def work(sizes, rng, commands, **more):
    """Return the streams of commands of so many tokens, and all scores."""
    seen = []

    def expect(sizes, command):
        weights, rows = (values.tolist() for values in command)
        scores = [scores_of(row, weights, sizes.formats.name) for row in rows]
        seen.extend(scores)
        return [choose(one, sizes.top_k) for one in scores]

    drawn = [_shared.gate_operands(sizes, tokens, rng) for tokens in commands]
    return _shared.gate_vectors(sizes, drawn, expect, **more), seen


def later(times, seed):
    """Return arrivals that stall every stream, whatever the others do."""
    rng = np.random.default_rng(seed)
    return {name: t + np.cumsum(rng.integers(0, 4, len(t))) for name, t in times.items()}


def drawn(seed):
    return _shared.gate_sizes(FORMATS[list(FORMATS)[seed % 3]], random.Random(seed))


@pytest.mark.parametrize("seed", range(9))
def test_bits_with_and_without_stalls(seed):
    """Commands one after the other, the next one's weights beside the softmax."""
    sizes = drawn(seed)
    vectors, _ = work(sizes, random.Random(seed), [3, 1, 4])
    free = simulate_streams(Gate(sizes), vectors, 20_000)
    assert free.results == vectors.results
    stalled = StreamVectors(vectors.inputs, vectors.results, later(free.times, seed))
    run = simulate_streams(Gate(sizes), stalled, 20_000)
    assert run.results == vectors.results
    assert run.cycles > free.cycles


@pytest.mark.parametrize("seed", range(108, 118))
def test_cycles_are_those_of_the_formula(seed):
    sizes = drawn(seed)
    for tokens in (1, 5):
        vectors, _ = work(sizes, random.Random(seed), [tokens])
        run = simulate_streams(Gate(sizes), vectors, 20_000)
        assert run.results == vectors.results
        assert run.cycles == sizes.cycles(tokens)


def test_the_sizes_of_the_cycles_test_have_both_limits():
    limits = [drawn(seed).weight_words > drawn(seed).softmax_cycles for seed in range(108, 118)]
    assert any(limits)
    assert not all(limits)


@pytest.mark.parametrize("precision", FORMATS)
def test_ties_go_to_the_lower_expert(precision):
    """Twins at every rank, and rows of zeros, where all experts are equal."""
    sizes = GateSizes(
        formats=FORMATS[precision], experts=6, top_k=3, dims=2, row_beats=1, max_tokens=9
    )
    one = 1 << WIDTHS[precision][1]
    rows = [[one, 0], [0, one], [-one, 0], [0, 0], [one, one]]
    weights = [[5, 1], [90, 0], [5, 9], [90, 1], [-8, 9], [90, -7]]
    # By hand: 90 thrice; 9 twice and 1; -8 and the 5s; all equal; 91, 90, 83.
    ranks = [[1, 3, 5], [2, 4, 0], [4, 0, 2], [0, 1, 2], [3, 1, 5]]
    bits, _, weight_bits, _ = WIDTHS[precision]
    choices = [choose(scores_of(row, weights, precision), 3) for row in rows]
    assert [[e for e, _ in token] for token in choices] == ranks
    vectors = StreamVectors(
        {"command": [5], "weights": pack(weights, weight_bits), "inputs": pack(rows, bits)},
        {"choices": choices_beats(choices)},
    )
    assert simulate_streams(Gate(sizes), vectors, 5_000).results == vectors.results


@pytest.mark.parametrize("lowest", [0, 1, 3])
def test_scores_at_the_ends_of_the_range(lowest):
    """-2^31 is a score, not a mark of an empty place; differences need 33 bits."""
    sizes = GateSizes(
        formats=FORMATS["int16"], experts=4, top_k=4, dims=8, row_beats=1, max_tokens=1
    )
    low, high = [-32768] * 8, [32767] * 8
    weights = [high, high, [0] * 8, [*low[:7], 0]]
    weights[lowest] = low
    row = [16384] * 8
    scores = scores_of(row, weights, "int16")
    assert scores[lowest] == -(2**31)
    assert max(scores) == 2**31 - 2**16
    vectors = StreamVectors(
        {"command": [1], "weights": pack(weights, 16), "inputs": pack([row], 16)},
        {"choices": choices_beats([choose(scores, 4)])},
    )
    assert simulate_streams(Gate(sizes), vectors, 5_000).results == vectors.results


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_verilog(simulator):
    sizes = GateSizes(
        formats=FORMATS["w16a32"], experts=8, top_k=2, dims=4, row_beats=6, max_tokens=20
    )
    stall = dict.fromkeys(PORTS, 0.3)
    vectors, seen = work(sizes, random.Random(4), [9, 4, 20], stall=stall)
    assert len({tuple(scores) for scores in seen}) > 20
    done = run_regression(to_verilog(Gate(sizes), "gate"), "gate", vectors, simulator)
    assert done.passed, done.message


@pytest.mark.parametrize(("experts", "top_k", "dims", "row_beats"), [(8, 2, 4, 6), (1, 1, 1, 1)])
def test_verilog_is_clean(experts, top_k, dims, row_beats):
    sizes = GateSizes(
        formats=FORMATS["int8"],
        experts=experts,
        top_k=top_k,
        dims=dims,
        row_beats=row_beats,
        max_tokens=20,
    )
    assert lint(to_verilog(Gate(sizes), "gate"), "gate").findings == ()


def test_wrong_sizes_are_refused():
    good = {
        "formats": FORMATS["int8"],
        "experts": 4,
        "top_k": 2,
        "dims": 4,
        "row_beats": 3,
        "max_tokens": 9,
    }
    for name, value in (("experts", 257), ("top_k", 5), ("dims", 0), ("row_beats", 0)):
        with pytest.raises(InputError, match=f"{name} = {value} is not allowed: 1 to"):
            GateSizes(**{**good, name: value})
    with pytest.raises(InputError, match="tokens = 10 is not allowed: 1 to 9"):
        GateSizes(**good).check_tokens(10)
