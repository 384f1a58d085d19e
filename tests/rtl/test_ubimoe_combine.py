"""Combine: bits against sums of Python integers, cycles against the formula."""

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.rtl.lint import lint
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.ubimoe.combine import Combine
from headrace.rtl.ubimoe.dispatch import Dispatch
from headrace.rtl.ubimoe.gate import Gate
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_kernels", Path(__file__).parent / "ubimoe_kernels.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)

FEATURES = {"w16a32": (32, 22), "int16": (16, 10), "int8": (16, 10)}  # bits, fraction bits
PORTS = ("command", "jobs", "rows", "values", "residual", "results")


def expect(sizes, mixture):
    """Return sums of unlimited integers; the payloads hold their low bits."""
    fraction = FEATURES[sizes.formats.name][1]
    total = mixture.x.astype(object)
    for tokens, scores, rows in mixture.jobs:
        for token, p, y in zip(tokens, scores, rows.tolist(), strict=True):
            total[token] += [v * p // 2 ** (44 - fraction) for v in y]
    return total


def work(sizes, rng, commands, dense=False, **more):
    """Return the streams of commands (tokens, choices, experts)."""
    mixtures = [_shared.mixture(sizes, command, rng, dense) for command in commands]
    return _shared.combine_vectors(sizes, mixtures, expect, **more)


def later(times, seed):
    """Return arrivals that stall every stream, whatever the others do."""
    rng = np.random.default_rng(seed)
    return {name: t + np.cumsum(rng.integers(0, 4, len(t))) for name, t in times.items()}


def drawn(seed):
    rng = random.Random(seed)
    sizes = _shared.combine_sizes(FORMATS[list(FORMATS)[seed % 3]], rng)
    return sizes, [_shared.combine_command(sizes, rng) for _ in range(3)]


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


@pytest.mark.parametrize("row_beats", [3, 1])
def test_verilog_is_clean(row_beats):
    sizes = CombineSizes(
        formats=FORMATS["int8"],
        dims=row_beats,
        row_beats=row_beats,
        lanes=row_beats,
        max_tokens=row_beats,
    )
    assert lint(to_verilog(Combine(sizes), "combine"), "combine").findings == ()


def normal(rng, shape, spread, fraction, bits):
    """Draw normal numbers, saturated to what the bits hold."""
    values = np.round(rng.normal(0, spread, shape) * 2**fraction).astype(int)
    return values.clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def routed(formats, x, w, top_k, dims):
    """Return the jobs and rows that the gate's choices give in dispatch."""
    tokens, experts = len(x), len(w)
    gate = GateSizes(
        formats=formats,
        experts=experts,
        top_k=top_k,
        dims=dims,
        row_beats=x.shape[1] // dims,
        max_tokens=tokens,
    )
    streams = {
        "command": [tokens],
        "weights": pack(w.reshape(-1, dims).tolist(), formats.weight_bits),
        "inputs": pack(x.reshape(-1, dims).tolist(), formats.operand_bits),
    }
    counted = {"choices": [0] * tokens}
    choices = simulate_streams(Gate(gate), StreamVectors(streams, counted), 5_000).results
    dispatch = DispatchSizes(max_tokens=tokens, experts=experts, top_k=top_k)
    # Jobs are as many as experts: the drawn routings use all of them.
    counted = {"jobs": [0] * experts, "rows": [0] * (tokens * top_k)}
    streams = {"command": [tokens], **choices}
    return simulate_streams(Dispatch(dispatch), StreamVectors(streams, counted), 5_000).results


@pytest.mark.parametrize("precision", FORMATS)
def test_gate_dispatch_and_combine_against_the_reference(precision):
    """One after the other, each fed with what the one before gave; linear's values are drawn."""
    tokens, experts, top_k, dims, lanes, row_beats = 12, 5, 2, 4, 4, 3
    formats, reference = FORMATS[precision], fixed.FORMATS[precision]
    rng, width = np.random.default_rng(6), dims * row_beats
    x = normal(rng, (tokens, width), 1, formats.operand_fraction, formats.operand_bits)
    w = normal(rng, (experts, width), 0.05, formats.weight_fraction, formats.weight_bits)
    w[3] = w[0]  # ties
    jobs = fixed.dispatch(fixed.gate(x, w, reference, top_k=top_k), experts)
    assert len(jobs) == experts
    wide = [rng.integers(-(2**31), 2**31, (len(job.tokens), width)) for job in jobs]
    limit = 2 ** (formats.feature_bits - 1)
    residual = rng.integers(-limit, limit, (tokens, width))
    route = routed(formats, x, w, top_k, dims)
    sizes = CombineSizes(
        formats=formats, dims=dims, row_beats=row_beats, lanes=lanes, max_tokens=tokens
    )
    queues = [(job.tokens.tolist(), job.probabilities.tolist()) for job in jobs]
    mixture = _shared.Mixture(
        residual, top_k, [(*queue, y) for queue, y in zip(queues, wide, strict=True)]
    )
    vectors = _shared.combine_vectors(
        sizes, [mixture], lambda *_: fixed.combine(residual, jobs, wide, reference)
    )
    assert [job >> 8 for job in route["jobs"]] == vectors.inputs["jobs"]
    assert route["rows"] == vectors.inputs["rows"]
    assert simulate_streams(Combine(sizes), vectors, 5_000).results == vectors.results


def test_wrong_sizes_are_refused():
    good = {"formats": FORMATS["int8"], "dims": 4, "row_beats": 3, "lanes": 2, "max_tokens": 9}
    for name, value in (("dims", 0), ("row_beats", 0), ("lanes", 257), ("max_tokens", 65536)):
        with pytest.raises(InputError, match=f"{name} = {value} is not allowed: 1 to"):
            CombineSizes(**{**good, name: value})
    with pytest.raises(InputError, match="choices = 0 is not allowed: 1 to 255"):
        CombineSizes(**good).check_command(9, 0)
    with pytest.raises(InputError, match="tokens = 10 is not allowed: 1 to 9"):
        CombineSizes(**good).check_command(10, 1)
