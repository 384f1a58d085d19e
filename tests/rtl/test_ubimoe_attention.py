"""The streaming attention's RTL: bits against big integers, cycles against the formula."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.rtl.lint import lint
from headrace.rtl.streams import (
    StreamRun,
    StreamVectors,
    pack,
    run_regression,
    simulate_streams,
    unpack,
)
from headrace.rtl.ubimoe.attention_walker import StepWalker
from headrace.rtl.ubimoe.streaming_attention import StreamingAttention
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_kernels", Path(__file__).parent / "ubimoe_kernels.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
steps_by_hand = _shared.attention_steps

ONE = 1 << 22
INPUTS = ("command", "queries", "keys", "values")


def sizes_of(name: str = "w16a32", **changes: Any) -> StreamingAttentionSizes:
    given = {"heads": 2, "head_dim": 4, "lanes": 2, "dims": 2, "max_tokens": 9} | changes
    return StreamingAttentionSizes(formats=FORMATS[name], **given)


# The oracle: docs/ubimoe-numerics.md, rules 2 and 3, row by row in the order of the tokens.


def wrap(value: int, bits: int = 32) -> int:
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def shift(value: int, count: int) -> int:
    return value >> count if count >= 0 else value << -count


def exponential(d: int) -> int:
    x = -d
    if x >= 16 * ONE:
        return 0
    coarse = math.floor(ONE * math.exp(-(x >> 18) / 16) + 0.5)
    fine = math.floor(ONE * math.exp(-((x >> 10) & 255) / 4096) + 0.5)
    p = coarse * fine >> 22
    return p - (p * (x & 1023) >> 22)


def operand(value: int, bits: int, fraction: int, saturates: bool) -> int:
    shifted = value >> (22 - fraction)
    if saturates:
        return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, shifted))
    return wrap(shifted, bits)


def attention(sizes: StreamingAttentionSizes, q: Any, k: Any, v: Any) -> list[list[int]]:
    """Return the results of rows of Python integers, shape (tokens, heads * head_dim)."""
    bits, fraction = sizes.formats.operand_bits, sizes.formats.operand_fraction
    root = round(math.log2(math.sqrt(sizes.head_dim)))
    rows: list[list[int]] = []
    for query in q:
        row: list[int] = []
        for low in range(0, len(query), sizes.head_dim):
            scores = []
            for key in k:
                score = 0
                for block in range(low, low + sizes.head_dim, sizes.dims):
                    dims = range(block, block + sizes.dims)
                    t = wrap(sum(shift(query[i] * key[i], 2 * fraction - 22) for i in dims))
                    score = wrap(score + (t >> root))
                scores.append(score)
            e = [exponential(score - max(scores)) for score in scores]
            reciprocal = (1 << 44) // sum(e)
            for d in range(low, low + sizes.head_dim):
                total = wrap(sum(value[d] * w >> fraction for value, w in zip(v, e, strict=True)))
                quotient = wrap(total * reciprocal >> 22)
                row.append(operand(quotient, bits, fraction, sizes.formats.saturates))
        rows.append(row)
    return rows


def expect(sizes: StreamingAttentionSizes, operands: Any) -> list[list[int]]:
    return attention(sizes, *(matrix.tolist() for matrix in operands))


def work(
    sizes: StreamingAttentionSizes, passes: list[int], seed: int, spread: float, **more: Any
) -> StreamVectors:
    """Return the vectors of one command after the other, with the oracle's results."""
    rng = np.random.default_rng(seed)
    drawn = [_shared.attention_operands(sizes, tokens, rng, spread) for tokens in passes]
    vectors: StreamVectors = _shared.attention_vectors(sizes, drawn, expect, **more)
    return vectors


def slow_arrivals(free: StreamRun, seed: int) -> dict[str, Any]:
    """Return earliest cycles for every stream: those of a free run, ever later, in bursts.

    All streams are delayed alike and each a bit more at random, so that now this one and now that
    one is the slowest.
    """
    rng = np.random.default_rng(seed)
    common = np.cumsum(rng.random(1 + max(int(t[-1]) for t in free.times.values())) < 0.3)
    burst = int(rng.integers(2, 12))
    return {
        name: np.maximum.accumulate(times + common[times] + rng.integers(0, burst, len(times)))
        for name, times in free.times.items()
    }


def pauses(times: Any) -> int:
    return int((np.diff(times) > 1).sum())


def check(sizes: StreamingAttentionSizes, vectors: StreamVectors) -> StreamRun:
    run = simulate_streams(StreamingAttention(sizes), vectors, limit_cycles=20_000)
    bits, dims = sizes.formats.operand_bits, sizes.dims
    expected = unpack(vectors.results["results"], bits, dims)
    assert unpack(run.results["results"], bits, dims).tolist() == expected.tolist()
    return run


@pytest.mark.parametrize("spread", [0.3, 3.0, 300.0])
@pytest.mark.parametrize("name", ["w16a32", "int16", "int8"])
def test_bits(name: str, spread: float) -> None:
    """Flat, peaked and overflowing scores, two passes of different lengths."""
    sizes = sizes_of(name)
    vectors = work(sizes, [5, 8], 1, spread)
    assert len(set(vectors.results["results"])) > 8
    check(sizes, vectors)


@pytest.mark.parametrize(("tokens", "lanes"), [(1, 1), (5, 1), (4, 4), (9, 4), (10, 3)])
def test_walker_follows_the_schedule(tokens: int, lanes: int) -> None:
    """Twice in a row, beat by beat, with pauses."""
    sizes = sizes_of(heads=3, head_dim=4, dims=2, lanes=lanes, max_tokens=10)
    walker = StepWalker(sizes)
    rng = np.random.default_rng(tokens)
    steps = steps_by_hand(tokens, lanes)
    begins = {(r // lanes) * tokens + r % lanes: 1 << r % lanes for r in range(tokens)}
    expected = [
        (1, beat == 0, beat == 1, head, begins.get(step, 0), begins.get(step - tokens + 1, 0))
        for step in range(steps)
        for head in range(3)
        for beat in range(2)
    ]
    names = ("running", "first", "last", "head", "starts", "ends")

    async def bench(context: Any) -> None:
        for _ in range(2):
            context.set(walker.tokens, tokens)
            context.set(walker.begin, 1)
            await context.tick()
            context.set(walker.begin, 0)
            for place in expected:
                for advance in (*[0] * int(rng.integers(0, 2)), 1):
                    context.set(walker.advance, advance)
                    assert tuple(context.get(getattr(walker, name)) for name in names) == place
                    await context.tick()
            assert not context.get(walker.running)

    simulator = Simulator(walker)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_one_exponential_per_head() -> None:
    sizes = sizes_of("int16", heads=3, exp_units=3, lanes=3)
    check(sizes, work(sizes, [7], 2, 1.0))


def test_sums_of_int8_that_wrap_stay_in_range() -> None:
    """More than 64 keys of equal score and the largest values of either sign."""
    sizes = sizes_of("int8", heads=1, head_dim=4, dims=4, lanes=8, max_tokens=70)
    q = [[0] * 4] * 70
    v = [[-128, 127, -128, 127]] * 64 + [[-128, 127, 127, -1]] * 6
    expected = attention(sizes, q, q, v)
    assert wrap(sum(row[1] for row in v) << 18) < 0  # it does wrap
    keys = pack([q[0]] * steps_by_hand(70, 8), 8)
    values = pack([v[s % 70] for s in range(len(keys))], 8)
    inputs = {"command": [70], "queries": pack(q, 8), "keys": keys, "values": values}
    check(sizes, StreamVectors(inputs, {"results": pack(expected, 8)}))


def random_sizes(seed: int) -> tuple[StreamingAttentionSizes, int]:
    """Draw sizes and tokens, in some cases fewer than there is room for."""
    rng = np.random.default_rng(seed)
    sizes = _shared.attention_sizes(FORMATS[list(FORMATS)[seed % 3]], rng)
    tokens = sizes.max_tokens
    return replace(sizes, max_tokens=tokens + 5 * int(rng.integers(0, 2))), tokens


def hold_cycles(seed: int) -> None:
    sizes, tokens = random_sizes(seed)
    run = check(sizes, work(sizes, [tokens], seed, 1.0))
    assert run.cycles == sizes.cycles(tokens)
    beats = steps_by_hand(tokens, sizes.lanes) * sizes.row_beats
    keys, values = run.times["keys"], run.times["values"]
    assert keys.tolist() == list(range(1, beats + 1))
    behind = (tokens - 1) * sizes.row_beats + sizes.head_beats - 1 + sizes.score_cycles
    assert (values - keys == behind).all()
    assert run.times["results"][-1] == values[-1] + sizes.result_cycles


@pytest.mark.parametrize("seed", range(8))
def test_cycles_of_random_sizes(seed: int) -> None:
    """No stream ever waits: bits, the total, and the distance of the parts."""
    hold_cycles(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_cycles_of_more_random_sizes(seed: int) -> None:
    hold_cycles(seed)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_shortest_sequences(tokens: int) -> None:
    sizes = sizes_of("int16", heads=1, dims=4, lanes=tokens, max_tokens=tokens)
    assert check(sizes, work(sizes, [tokens], 5, 1.0)).cycles == sizes.cycles(tokens)


def stalled(seed: int) -> None:
    sizes, tokens = random_sizes(seed)
    vectors = work(sizes, [tokens, sizes.lanes, sizes.max_tokens], seed, 2.0)
    free = check(sizes, vectors)
    arrivals = slow_arrivals(free, seed)
    run = check(sizes, StreamVectors(vectors.inputs, vectors.results, arrivals))
    for name in ("keys", "values"):
        assert pauses(run.times[name]) > pauses(free.times[name]) + 5


@pytest.mark.parametrize("seed", range(20, 24))
def test_stalls_change_no_bit(seed: int) -> None:
    """All streams pause at random, three passes behind each other."""
    stalled(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 220))
def test_more_stalls_change_no_bit(seed: int) -> None:
    stalled(seed)


@pytest.mark.parametrize("late", ["values", "results"])
def test_keys_wait_for_room(late: str) -> None:
    """Part 1 stops when the scores' FIFO is full, and goes on when it empties."""
    sizes = sizes_of(max_tokens=9)
    vectors = work(sizes, [9], 3, 1.0)
    items = {**vectors.inputs, **vectors.results}[late]
    arrivals = {late: np.full(len(items), 400)}
    run = check(sizes, StreamVectors(vectors.inputs, vectors.results, arrivals))
    before = int((run.times["keys"] < 400).sum())
    assert before < len(vectors.inputs["keys"])
    if late == "values":
        assert before == sizes.scores_depth * sizes.head_beats


def test_keys_wait_for_room_of_maxima() -> None:
    """A short sequence in a large kernel: scores have room, the fourth row's maxima have not."""
    sizes = sizes_of(max_tokens=20)
    assert sizes.maxima_depth == 6
    vectors = work(sizes, [6], 3, 1.0)
    arrivals = {"values": np.full(len(vectors.inputs["values"]), 400)}
    run = check(sizes, StreamVectors(vectors.inputs, vectors.results, arrivals))
    row_3_ends = 6 + 1 + 5  # it would bring the seventh maximum; two heads each
    assert (run.times["keys"] < 400).sum() == row_3_ends * sizes.row_beats


def test_passes_overlap() -> None:
    """A command is taken while results of the pass before are on their way."""
    sizes = sizes_of("int16")
    run = check(sizes, work(sizes, [4, 5], 4, 1.0))
    value = run.times["values"][steps_by_hand(4, 2) * sizes.row_beats - 1]
    result = run.times["results"][4 * sizes.row_beats - 1]
    assert run.times["command"][1] == value + 1 < result
    assert run.times["results"][-1] - run.times["command"][1] + 1 == sizes.cycles(5)


REGRESSIONS = [
    ("icarus", "w16a32", 11),
    ("icarus", "int16", 12),
    ("icarus", "int8", 13),
    pytest.param("verilator", "w16a32", 11, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("simulator", "name", "seed"), REGRESSIONS)
def test_verilog(simulator: str, name: str, seed: int, tmp_path: Any) -> None:
    """The same cycles as in Amaranth's simulator with given arrivals; any bits with stalls."""
    sizes = sizes_of(name, heads=2, head_dim=4, dims=2, lanes=3, max_tokens=9)
    vectors = work(sizes, [7, 9], seed, 2.0)
    verilog = to_verilog(StreamingAttention(sizes), "attention")
    arrivals = slow_arrivals(check(sizes, vectors), seed)
    slow = StreamVectors(vectors.inputs, vectors.results, arrivals)
    done = run_regression(verilog, "attention", slow, simulator, folder=tmp_path)
    assert done.passed, done.message
    times = check(sizes, slow).times
    assert {k: v.tolist() for k, v in done.times.items()} == {
        k: v.tolist() for k, v in times.items()
    }
    stall = dict.fromkeys((*INPUTS, "results"), 0.3)
    random = StreamVectors(vectors.inputs, vectors.results, stall=stall)
    done = run_regression(verilog, "attention", random, simulator, seed, tmp_path)
    assert done.passed, done.message


def test_verilog_is_clean() -> None:
    """Also where a head or its beat needs no number."""
    sizes = sizes_of("int8", heads=1, dims=4, lanes=1)
    assert lint(to_verilog(StreamingAttention(sizes), "attention"), "attention").findings == ()
