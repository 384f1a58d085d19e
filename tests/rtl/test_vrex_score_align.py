"""V-Rex's score alignment: the reference's integers under stalls, and its cycles without any.

A vector is a row of bfloat16 scores; `align_scores` of the reference says what must come out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from headrace.arch.vrex.exponential import lines
from headrace.arch.vrex.score_align import TRANSFORMS, ScoreAlignSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import align_scores, round_to_bfloat16, transform_scores
from headrace.rtl.lint import lint
from headrace.rtl.ports import check_ports, signature_ports
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.score_align import ScoreAlign

LIMIT = 20_000  # cycles; what hangs is found soon
SWEEP_POINTS, SWEEP_ROWS = 4, 2600  # 10,400 rows per simulator
PORTS = ("command", "scores", "aligned")


@dataclass(frozen=True)
class Work:
    """Rows of one command, as bits of bfloat16."""

    bits: Any  # rows, clusters
    transform: str = "raw"


def draw_sizes(rng, **more):
    drawn = {"lanes": int(rng.choice([2, 4, 8])), "exp": bool(rng.integers(2)), **more}
    most = int(rng.integers(drawn["lanes"], 9 * drawn["lanes"]))
    return ScoreAlignSizes(max_clusters=most, **drawn)


def draw_row(rng, clusters):
    """Draw a row of the kinds that matter: scores, any bits, narrow ranges, subnormals, zeros."""
    kind = rng.integers(6)
    if kind == 0:
        scores = rng.normal(0, rng.choice([1e-30, 1, 1e30]), clusters)
        return round_to_bfloat16(scores).view(np.uint32) >> 16
    sign = rng.integers(2, size=clusters) << 15
    mantissa = rng.integers(128, size=clusters)
    if kind == 1:
        return sign | rng.integers(255, size=clusters) << 7 | mantissa
    if kind == 2:
        return sign | mantissa >> rng.integers(8)
    if kind == 3:
        return sign | np.minimum(rng.integers(4, size=clusters) << 7 | mantissa, 0x1FF)
    if kind == 4:
        return sign | rng.choice([0, 0x0001, 0x0080, 0x3F80, 0x7F7F], clusters)
    lowest = rng.integers(1, 230)
    return sign | (lowest + rng.integers(0, 24, clusters)) << 7 | mantissa


def draw_work(rng, sizes, rows=None):
    clusters = int(rng.integers(1, sizes.max_clusters + 1))
    rows = int(rng.integers(1, 6)) if rows is None else rows
    bits = np.stack([draw_row(rng, clusters) for _ in range(rows)])
    return Work(bits, str(rng.choice(TRANSFORMS if sizes.exp else TRANSFORMS[:2])))


def values(bits):
    return (np.asarray(bits, np.uint32) << np.uint32(16)).view(np.float32)


def reference(work):
    with np.errstate(over="ignore"):  # of a difference, whose exponential is 0
        return align_scores(transform_scores(values(work.bits), work.transform))


def beats(rows, lanes, fill):
    """Return rows as beats; lanes without a cluster hold `fill`, drawn if it is a generator."""
    shape = (len(rows), -rows.shape[1] % lanes)
    more = np.zeros(shape, int) if fill is None else fill.integers(0, 2**16, shape)
    return pack(np.concatenate([rows.astype(int), more], axis=1).reshape(-1, lanes), 16)


def streams(sizes, works, rng, results=None, **more):
    """Return the streams of commands; the results are the reference's if none are given."""
    inputs = {"command": [], "scores": []}
    for work in works:
        rows, clusters = work.bits.shape
        inputs["command"].append(clusters | rows << 16 | TRANSFORMS.index(work.transform) << 32)
        inputs["scores"] += beats(work.bits, sizes.lanes, rng)
    if results is None:
        results = [beat for w in works for beat in beats(reference(w), sizes.lanes, None)]
    return StreamVectors(inputs, {"aligned": results}, **more)


def late(vectors, rng):
    """Let every stream be late now and then, each at a pace of its own."""
    ports = {**vectors.inputs, **vectors.results}
    return {
        name: np.cumsum(rng.integers(0, rng.integers(2, 9), len(items)))
        for name, items in ports.items()
    }


def run_free(sizes, works, rng):
    vectors = streams(sizes, works, rng)
    run = simulate_streams(ScoreAlign(sizes), vectors, LIMIT)
    assert run.results == vectors.results
    return run


@pytest.mark.parametrize("seed", range(6))
def test_integers_do_not_depend_on_stalls(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    works = [draw_work(rng, sizes) for _ in range(12)]
    free = streams(sizes, works, rng)
    vectors = StreamVectors(free.inputs, free.results, arrivals=late(free, rng))
    run = simulate_streams(ScoreAlign(sizes), vectors, LIMIT)
    assert run.results == vectors.results


@pytest.mark.parametrize(
    ("row", "transform", "aligned"),
    [
        ([1.5, -1.0, 2**-7, 129 / 128 * 2**-9], "raw", [24576, -16384, 128, 32]),
        ([1.5, -1.0, 2**-7, -(129 / 128) * 2**-14], "relu", [24576, 0, 128, 0]),
        ([0.0, -0.0, 0.0], "raw", [0, 0, 0]),
        ([-1.0, -3.0, -0.0], "relu", [0, 0, 0]),
        # 2^-14 of the largest is 1, anything less 0, on both sides
        ([1.0, -(2**-14), 255 / 128 * 2**-14, -255 / 128 * 2**-15], "raw", [16384, -1, 1, 0]),
        ([2.0**127 * 255 / 128, -(2.0**113), 2.0**112], "raw", [32640, -1, 0]),
        # subnormal numbers are aligned to a subnormal one
        ([2.0**-133, -(2.0**-133)], "raw", [16384, -16384]),
        ([2.0**-127, -(2.0**-133), 3 * 2.0**-133], "raw", [16384, -256, 768]),
        # and to the least normal one: no bit is lost
        ([2.0**-126, 127 * 2.0**-133, -(2.0**-133)], "raw", [16384, 16256, -128]),
        # e^-3 = 204 / 2^12, e^-6 = 162 / 2^16, e^-3.5 = 247 / 2^13 as bfloat16
        ([1.0, -2.0, 0.5 - 3, 4.0], "exp", [816, 40, 24, 16384]),
        ([-0.0, 0.0, -3.5, -3.0], "exp", [16384, 16384, 494, 816]),
        ([2.0**127 * 255 / 128, -(2.0**127), 2.0**127], "exp", [16384, 0, 0]),
        ([-(2.0**127) * 255 / 128] * 3, "exp", [16384] * 3),
        ([2.0**-133, -(2.0**-133), 0.0], "exp", [16384] * 3),
    ],
)
def test_rows_at_the_edges(row, transform, aligned):
    sizes = ScoreAlignSizes(lanes=4, max_clusters=4, exp=True)
    bits = np.array([row], np.float32).view(np.uint32) >> 16
    assert values(bits).tolist() == [row]
    results = beats(np.array([aligned]), 4, None)
    vectors = streams(sizes, [Work(bits, transform)], np.random.default_rng(0), results=results)
    assert simulate_streams(ScoreAlign(sizes), vectors, LIMIT).results["aligned"] == results


def test_what_the_reference_refuses_has_an_exponent_of_its_own():
    """Infinity and NaN count as mantissas of the exponent above that of the largest numbers."""
    sizes = ScoreAlignSizes(lanes=4, max_clusters=4)
    work = Work(np.array([[0x7F80, 0xFFC0, 0x7F7F, 0x7E80]]))
    with pytest.raises(InputError, match="finite"):
        reference(work)
    results = beats(np.array([[16384, -24576, 16320, 4096]]), 4, None)
    vectors = streams(sizes, [work], np.random.default_rng(0), results=results)
    assert simulate_streams(ScoreAlign(sizes), vectors, LIMIT).results["aligned"] == results


def test_every_score_below_every_distance():
    """All mantissas, signs and distances 0 to 24 below three exponents."""
    sizes = ScoreAlignSizes(lanes=16, max_clusters=8192)
    grid = np.arange(25)[:, None] << 7 | np.arange(128)
    grid = np.concatenate([grid.ravel(), 0x8000 | grid.ravel()])
    for shift in (0, 100, 230):
        run_free(sizes, [Work((grid + (shift << 7))[None])], np.random.default_rng(shift))


def exponentials(numbers, largest):
    """Return a row of numbers and the largest one; numbers above are cut."""
    row = np.maximum(numbers, largest) if largest >> 15 else numbers
    work = Work(np.append(row, largest)[None], "exp")
    assert reference(work)[0, -1] == 16384
    return work


EXPONENTIALS = ScoreAlignSizes(lanes=8, max_clusters=32768, exp=True)


def test_exponentials_that_are_not_1_or_0():
    """From -2^-10 to -16; and of differences that are rounded, from 4 down to 2^-9."""
    below_zero, below_four = np.arange(0xBA80, 0xC181), np.arange(0x3B00, 0x4081)
    works = [exponentials(below_zero, 0), exponentials(below_four, 0x4080)]
    assert [reference(work).min() for work in works] == [0, 300]  # e^-4 = 300.1 * 2^-14
    run_free(EXPONENTIALS, works, np.random.default_rng(0))


def test_lines_are_small():
    starts, slopes = zip(*lines(), strict=True)
    assert (len(starts), max(starts).bit_length(), max(slopes).bit_length()) == (64, 23, 7)


@pytest.mark.slow
def test_every_exponential_in_verilator():
    """Of all numbers that are not positive, below several largest ones."""
    numbers = 0x8000 | np.arange(0x7F80)
    largest = (0x0000, 0x0001, 0x3D33, 0x3F80, 0x4049, 0x42FF, 0x8001, 0xBD33, 0xBFC3)
    works = [exponentials(numbers, bits) for bits in largest]
    vectors = streams(EXPONENTIALS, works, np.random.default_rng(0))
    verilog = to_verilog(ScoreAlign(EXPONENTIALS), "unit")
    done = run_regression(verilog, "unit", vectors, "verilator")
    assert done.passed, done.message


def test_cycles_are_exact():
    rng = np.random.default_rng(7)
    for _ in range(50):
        sizes = draw_sizes(rng)
        work = draw_work(rng, sizes)
        run = run_free(sizes, [work], rng)
        rows, clusters = work.bits.shape
        assert run.cycles == sizes.cycles(clusters, rows), (sizes, work)


@pytest.mark.parametrize("lanes", [2, 32])
@pytest.mark.parametrize(("beat_count", "exp"), [(1, False), (1, True), (2, False), (9, True)])
def test_a_beat_comes_and_goes_in_every_cycle(lanes, beat_count, exp):
    """Also with rows of one beat, and the largest rows."""
    rng = np.random.default_rng(beat_count)
    sizes = ScoreAlignSizes(lanes=lanes, max_clusters=beat_count * lanes, exp=exp)
    bits = np.stack([draw_row(rng, sizes.max_clusters) for _ in range(40)])
    run = run_free(sizes, [Work(bits)] * 2, rng)
    taken = run.times["scores"].reshape(2, -1)
    assert taken.tolist() == [list(range(s, s + 40 * beat_count)) for s in (1, 2 + taken[0, -1])]
    assert run.cycles == sizes.cycles(sizes.max_clusters, 80) + 1


@pytest.mark.parametrize("beat_count", [1, 8])
def test_scores_wait_for_a_sink_that_takes_none(beat_count):
    rng = np.random.default_rng(3)
    sizes = ScoreAlignSizes(lanes=2, max_clusters=16)
    work = Work(np.stack([draw_row(rng, 2 * beat_count) for _ in range(80)]))
    free = streams(sizes, [work], rng)
    arrivals = {"aligned": np.full(len(free.results["aligned"]), 200)}
    vectors = StreamVectors(free.inputs, free.results, arrivals=arrivals)
    run = simulate_streams(ScoreAlign(sizes), vectors, LIMIT)
    assert run.results == vectors.results
    waiting = int((run.times["scores"] < 200).sum())
    assert waiting == (16 if beat_count == 1 else sizes.memory_words + 3)  # 3 behind the memory


def test_sizes_of_the_paper():
    """16 lanes, 1250 clusters in 79 beats: two rows leave 79 + 7 cycles after they came."""
    rng = np.random.default_rng(9)
    sizes = ScoreAlignSizes()
    work = Work(np.stack([draw_row(rng, 1250) for _ in range(2)]))
    assert run_free(sizes, [work], rng).cycles == 3 * 79 + 7
    assert sizes.memory_words * sizes.lanes * 2 == 16384


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_verilog_agrees_under_stalls(simulator):
    rng = np.random.default_rng(11)
    sizes = ScoreAlignSizes(lanes=4, max_clusters=22, exp=True)
    works = [draw_work(rng, sizes) for _ in range(40)]
    stall = dict.fromkeys(PORTS, 0.3)
    vectors = streams(sizes, works, rng, stall=stall)
    done = run_regression(to_verilog(ScoreAlign(sizes), "unit"), "unit", vectors, simulator)
    assert done.passed, done.message


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("seed", range(SWEEP_POINTS))
def test_verilog_agrees_on_many_rows(simulator, seed):
    rng = np.random.default_rng(100 + seed)
    sizes = draw_sizes(rng)
    works = [draw_work(rng, sizes, rows=5) for _ in range(SWEEP_ROWS // 5)]
    stall = {name: float(rng.choice([0, 0.1, 0.4])) for name in PORTS}
    vectors = streams(sizes, works, rng, stall=stall)
    done = run_regression(to_verilog(ScoreAlign(sizes), "unit"), "unit", vectors, simulator, seed)
    assert done.passed, done.message


@pytest.mark.parametrize(
    "sizes", [ScoreAlignSizes(), ScoreAlignSizes(lanes=2, max_clusters=2, exp=True)]
)
def test_verilog_is_clean(sizes):
    unit = ScoreAlign(sizes)
    report = lint(to_verilog(unit, "score_align"), "score_align")
    assert report.findings == ()
    assert check_ports(report.ports, signature_ports(unit)) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 1}, "lanes = 1 is not allowed: 2 to 256"),
        ({"lanes": 12}, "lanes = 12 is not allowed: a power of two"),
        ({"max_clusters": 15}, "max_clusters = 15 is not allowed: 16 to 65535"),
    ],
)
def test_sizes_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        ScoreAlignSizes(**change)
