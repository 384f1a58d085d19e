"""V-Rex's threshold unit: the reference's choice under stalls, and its cycles without any.

A vector is a row of scores. What must come out is `select_bucketed` of the reference, united over
the rows of a command.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from headrace.arch.vrex.threshold import ThresholdSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import align_scores, select_bucketed, select_exact
from headrace.rtl.lint import lint
from headrace.rtl.ports import check_ports, signature_ports
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.threshold import ThresholdUnit

LIMIT = 20_000  # cycles; what hangs is found soon
SWEEP_POINTS, SWEEP_ROWS = 4, 2600  # 10,400 rows per simulator


@dataclass(frozen=True)
class Work:
    """The rows of a KV head."""

    scores: Any  # rows, clusters
    counts: Any  # clusters
    ratio: float


def draw_sizes(rng, **more):
    lanes = int(rng.choice([2, 4, 8]))
    drawn = {
        "lanes": lanes,
        "max_clusters": lanes * int(rng.integers(2, 7)),
        "buckets": int(rng.integers(1, 12)),
    }
    return ThresholdSizes(**{**drawn, **more})


def draw_scores(rng, rows, clusters):
    """Draw rows of the kinds that matter: exponentials, both signs, few values, extremes."""
    kind = rng.integers(5)
    if kind == 0:
        logits = rng.normal(0, rng.uniform(0.3, 4), (rows, clusters)).astype(np.float32)
        return align_scores(np.exp(logits - logits.max(axis=1, keepdims=True)))
    if kind == 1:
        return rng.choice([-32768, -1, 0, 1, 32767], (rows, clusters)).astype(np.int16)
    scores = rng.integers(-32768, 32768, (rows, clusters)) >> rng.integers(0, 15)
    if kind == 2:
        scores = np.abs(scores) >> 1
    if kind == 3:
        scores = np.broadcast_to(scores[:, :1], scores.shape)
    return scores.astype(np.int16)


def draw_work(rng, sizes, rows=None):
    clusters = int(rng.integers(1, sizes.max_clusters + 1))
    rows = int(rng.integers(1, 5)) if rows is None else rows
    counts = rng.integers(0, 65536, clusters) >> rng.integers(0, 16)
    ratio = float(rng.choice([0.0, 0.3, 1.0, rng.uniform()]))
    return Work(draw_scores(rng, rows, clusters), counts.astype(np.uint16), ratio)


def reference(sizes, work):
    return select_bucketed(work.scores, work.counts, work.ratio, sizes.buckets)


def numbers(chosen):
    """Return the payloads of chosen clusters."""
    found = [int(number) for number in np.flatnonzero(chosen)]
    return [*found[:-1], found[-1] | 1 << 16]


def beats(values, lanes, bits, rng):
    """Return rows as beats; lanes without a cluster hold anything."""
    rows, clusters = values.shape
    more = rng.integers(-32768, 32768, (rows, -clusters % lanes))
    return pack(np.concatenate([values.astype(int), more], axis=1).reshape(-1, lanes), bits)


def streams(sizes, works, rng, results=None, **more):
    """Return the streams of commands; the results are the reference's if none are given."""
    inputs = {"command": [], "counts": [], "scores": []}
    for work in works:
        rows, clusters = work.scores.shape
        share = round(work.ratio * 2**sizes.ratio_bits)
        inputs["command"].append(clusters | rows << 16 | share << 32)
        inputs["counts"] += beats(work.counts[None], sizes.lanes, sizes.count_bits, rng)
        inputs["scores"] += beats(work.scores, sizes.lanes, sizes.score_bits, rng)
    if results is None:
        results = [n for w in works for n in numbers(reference(sizes, w).mask.any(axis=0))]
    return StreamVectors(inputs, {"results": results}, **more)


def expected_cycles(sizes, work):
    chosen = reference(sizes, work)
    return sizes.cycles(chosen.visited, chosen.mask.any(axis=0))


def late(vectors, rng):
    """Let every stream be late now and then, each at a pace of its own."""
    ports = {**vectors.inputs, **vectors.results}
    return {
        name: np.cumsum(rng.integers(0, rng.integers(2, 9), len(items)))
        for name, items in ports.items()
    }


@pytest.mark.parametrize("seed", range(6))
def test_choice_does_not_depend_on_stalls(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    works = [draw_work(rng, sizes) for _ in range(4)]
    free = streams(sizes, works, rng)
    vectors = StreamVectors(free.inputs, free.results, arrivals=late(free, rng))
    run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
    assert run.results["results"] == vectors.results["results"]


def test_results_wait_for_their_sink():
    """Every cluster is chosen, none is taken for long, and nothing is lost."""
    rng = np.random.default_rng(1)
    sizes = ThresholdSizes(lanes=4, max_clusters=16, buckets=1)
    work = draw_work(rng, sizes)
    vectors = streams(sizes, [work, work], rng)
    results = vectors.results["results"]
    arrivals = {"results": 100 + 7 * np.arange(len(results))}
    vectors = StreamVectors(vectors.inputs, vectors.results, arrivals=arrivals)
    run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
    assert run.results["results"] == results
    assert len(results) == 2 * len(work.counts)


@pytest.mark.parametrize("seed", range(3))
def test_narrow_numbers(seed):
    """Scores of 7 bits, counts of 5, and ratios that 6 fraction bits hold."""
    rng = np.random.default_rng(20 + seed)
    sizes = draw_sizes(rng, score_bits=7, count_bits=5, ratio_bits=6)
    clusters = sizes.max_clusters - 1
    scores = rng.integers(-64, 64, (4, clusters)).astype(np.int16)
    counts = rng.integers(0, 32, clusters).astype(np.uint16)
    work = Work(scores, counts, int(rng.integers(65)) / 64)
    vectors = streams(sizes, [work], rng)
    run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
    assert run.results["results"] == vectors.results["results"]
    assert run.cycles == expected_cycles(sizes, work)


def test_weighted_cumulative_sum_of_the_paper():
    """Figure 9: sum 95, ratio 0.8; 36, 60, 81 > 76: the clusters of scores 9, 8 and 7."""
    sizes = ThresholdSizes(lanes=2, max_clusters=8, buckets=8)
    scores, counts = [4, 8, 2, 9, 7], [3, 3, 1, 4, 3]
    work = Work(np.array([scores], np.int16), np.array(counts, np.uint16), 0.8)
    vectors = streams(sizes, [work], np.random.default_rng(0), results=[1, 3, 4 | 1 << 16])
    run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
    assert run.results["results"] == vectors.results["results"]
    # The command, counts, preprocess pass and 3 buckets of 3 beats, 3 + 7 for the pipelines, 3
    # results.
    assert run.cycles == 1 + 3 + (1 + 3) * 3 + 3 + 7 + 3


def test_early_exit_of_the_paper():
    """Figure 11: sum 1000, threshold 800, 20 buckets of 0 to 40; the 15th one ends it with 802."""
    sizes = ThresholdSizes(lanes=4, max_clusters=16, buckets=20)
    pairs = [(0, 3), (40, 5), (18, 5), (37, 6), (27, 4), (34, 4), (32, 3), (30, 2), (31, 1)]
    pairs += [(28, 1), (29, 1)]
    scores, counts = np.array(pairs).T
    assert (scores * counts).sum() == 1000
    assert (scores * counts)[scores >= 28].sum() == 802
    work = Work(scores[None].astype(np.int16), counts.astype(np.uint16), 0.8)
    results = [1, 3, 5, 6, 7, 8, 9, 10 | 1 << 16]
    vectors = streams(sizes, [work], np.random.default_rng(0), results=results)
    run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
    assert run.results["results"] == results
    assert run.cycles == 1 + 3 + (1 + 6) * 3 + 3 + 7 + 8


@pytest.mark.parametrize(
    ("scores", "ratio", "chosen"),
    [
        ([5, 5, 5], 0.3, [0, 1, 2]),  # no range: one bucket
        ([-1, -2, -3], 0.3, [0]),  # -1 > -1.8
        ([0, 0, 1], 1.0, [0, 1, 2]),  # never more than all of it
        ([32767, -32768, 0], 0.0, [0]),
    ],
)
def test_rows_at_the_edges(scores, ratio, chosen):
    """All counts are 1."""
    sizes = ThresholdSizes(lanes=2, max_clusters=4, buckets=4)
    work = Work(np.array([scores], np.int16), np.ones(3, np.uint16), ratio)
    results = [*chosen[:-1], chosen[-1] | 1 << 16]
    vectors = streams(sizes, [work], np.random.default_rng(0), results=results)
    run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
    assert run.results["results"] == results


def test_union_holds_the_exact_choice():
    rng = np.random.default_rng(5)
    more = 0
    for _ in range(12):
        sizes = draw_sizes(rng)
        work = draw_work(rng, sizes)
        run = simulate_streams(ThresholdUnit(sizes), streams(sizes, [work], rng), LIMIT)
        chosen = {payload & 0xFFFF for payload in run.results["results"]}
        exact = select_exact(work.scores, work.counts, work.ratio).mask.any(axis=0)
        assert chosen >= set(np.flatnonzero(exact).tolist())
        more += len(chosen) > exact.sum()
    assert more  # whole buckets take more than needed, sometimes


def test_cycles_are_exact():
    rng = np.random.default_rng(7)
    early = whole = 0
    for _ in range(50):
        sizes = draw_sizes(rng)
        work = draw_work(rng, sizes)
        vectors = streams(sizes, [work], rng)
        run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
        assert run.results["results"] == vectors.results["results"]
        assert run.cycles == expected_cycles(sizes, work), (sizes, work)
        walked = reference(sizes, work).visited
        early += bool((walked < sizes.buckets).any())
        whole += bool((walked == sizes.buckets).any() and sizes.buckets > 1)
    assert early > 15
    assert whole > 5


def test_commands_follow_without_a_gap():
    rng = np.random.default_rng(8)
    sizes = draw_sizes(rng)
    works = [draw_work(rng, sizes) for _ in range(5)]
    run = simulate_streams(ThresholdUnit(sizes), streams(sizes, works, rng), LIMIT)
    assert run.cycles == sum(expected_cycles(sizes, work) for work in works)


def test_sizes_of_the_paper():
    """16 lanes, 1250 clusters of 32 tokens, 20 buckets: 79 beats per pass."""
    rng = np.random.default_rng(9)
    sizes = ThresholdSizes(buckets=20)
    logits = rng.normal(0, 1, (2, 1250)).astype(np.float32)
    scores = align_scores(np.exp(logits - logits.max(axis=1, keepdims=True)))
    work = Work(scores, rng.integers(1, 64, 1250).astype(np.uint16), 0.3)
    vectors = streams(sizes, [work], rng)
    run = simulate_streams(ThresholdUnit(sizes), vectors, LIMIT)
    assert run.results["results"] == vectors.results["results"]
    assert run.cycles == expected_cycles(sizes, work)
    assert sizes.row_cycles(1250, np.array([1, 10])).tolist() == [2 * 79 + 12, 11 * 79 + 12]
    assert {name: bits // 8 for name, bits in sizes.memory_bits.items()} == {
        "scores": 8192,
        "counts": 8192,
        "chosen": 512,
    }


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_verilog_agrees_under_stalls(simulator):
    rng = np.random.default_rng(11)
    sizes = draw_sizes(rng, lanes=4, max_clusters=20)
    works = [draw_work(rng, sizes) for _ in range(12)]
    stall = {"command": 0.3, "counts": 0.3, "scores": 0.3, "results": 0.4}
    vectors = streams(sizes, works, rng, stall=stall)
    verilog = to_verilog(ThresholdUnit(sizes), "threshold_unit")
    done = run_regression(verilog, "threshold_unit", vectors, simulator)
    assert done.passed, done.message


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("seed", range(SWEEP_POINTS))
def test_verilog_agrees_on_many_rows(simulator, seed):
    rng = np.random.default_rng(100 + seed)
    sizes = draw_sizes(rng)
    works = [draw_work(rng, sizes, rows=4) for _ in range(SWEEP_ROWS // 4)]
    ports = ("command", "counts", "scores", "results")
    stall = {name: float(rng.choice([0, 0.1, 0.4])) for name in ports}
    vectors = streams(sizes, works, rng, stall=stall)
    verilog = to_verilog(ThresholdUnit(sizes), "threshold_unit")
    done = run_regression(verilog, "threshold_unit", vectors, simulator, seed)
    assert done.passed, done.message


@pytest.mark.parametrize("sizes", [ThresholdSizes(), ThresholdSizes(lanes=2, max_clusters=6)])
def test_verilog_is_clean(sizes):
    unit = ThresholdUnit(sizes)
    report = lint(to_verilog(unit, "threshold_unit"), "threshold_unit")
    assert report.findings == ()
    assert check_ports(report.ports, signature_ports(unit)) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 1}, "lanes = 1 is not allowed: 2 to 256"),
        ({"lanes": 12, "max_clusters": 48}, "lanes = 12 is not allowed: a power of two"),
        ({"max_clusters": 16}, "max_clusters = 16 is not allowed: 32 to 65535"),
        ({"max_clusters": 40}, "max_clusters = 40 is not allowed: a multiple of 16"),
        ({"buckets": 0}, "buckets = 0 is not allowed: 1 to 32768"),
        ({"score_bits": 17}, "score_bits = 17 is not allowed: 2 to 16"),
    ],
)
def test_sizes_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        ThresholdSizes(**change)
