"""The graph of V-Rex's score alignment against its RTL, transfer by transfer."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.vrex.score_align import ROWS_INSIDE, ScoreAlignSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import align_scores
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.score_align import ScoreAlign
from headrace.sim.cycle import simulate
from headrace.sim.vrex.score_align import ScoreAlignWork, score_align_graph

PORTS = ("command", "scores", "aligned")
PACES = (1, 2, 4, 12, 40)  # each transfer is delayed by fewer cycles more than the one before
BURSTS = (1, 1, 9, 64)  # transfers that come no sooner than the last of them


def draw(rng, commands=None):
    """Return sizes, the works of some commands and their vectors; rows are short or long."""
    lanes = int(rng.choice([2, 4, 16]))
    most = lanes * int(rng.integers(1, 24))
    sizes = ScoreAlignSizes(lanes=lanes, max_clusters=most, exp=bool(rng.integers(2)))
    inputs, aligned, work = {"command": [], "scores": []}, [], []
    for _ in range(commands or rng.integers(1, 5)):
        most = int(rng.choice([1, lanes, sizes.max_clusters]))
        clusters, rows = int(rng.integers(1, most + 1)), int(rng.integers(1, 25))
        bits = rng.integers(0x3000, 0x4800, (rows, clusters))
        inputs["command"].append(clusters | rows << 16)
        inputs["scores"] += beats(bits, lanes)
        scores = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
        aligned += beats(align_scores(scores), lanes)
        work.append(ScoreAlignWork(clusters=clusters, rows=rows))
    return sizes, work, StreamVectors(inputs, {"aligned": aligned})


def beats(values, lanes):
    """Return rows as beats of 16 bits; lanes without a cluster hold zeros."""
    more = np.pad(values.astype(int), ((0, 0), (0, -values.shape[1] % lanes)))
    return pack(more.reshape(-1, lanes), 16)


def stalled(sizes, work, free, rng):
    """Return vectors whose ports come later and later than they would, and some in bursts."""
    arrivals = {}
    for name, times in predicted(sizes, work, free).items():
        count, burst = len(times), int(rng.choice(BURSTS))
        late = np.array(times, np.int64) + np.cumsum(rng.integers(0, rng.choice(PACES), count))
        last_of_burst = np.arange(count) // burst * burst + burst - 1
        arrivals[name] = late[np.minimum(last_of_burst, count - 1)]
    return replace(free, arrivals=arrivals)


def predicted(sizes, work, feed):
    graph = score_align_graph(sizes, work, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


def check(rng, stalls):
    sizes, work, free = draw(rng)
    feed = stalled(sizes, work, free, rng) if stalls else free
    run = simulate_streams(ScoreAlign(sizes), feed)
    assert run.results == feed.results
    assert same(run.times) == predicted(sizes, work, feed)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    check(np.random.default_rng(seed), stalls)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    check(np.random.default_rng(seed), stalls)


@pytest.mark.parametrize(
    ("clusters", "held"), [(2, ROWS_INSIDE), (8, 4 * ROWS_INSIDE), (30, 64 + 3)]
)
def test_scores_behind_a_slow_sink(clusters, held):
    """Rows of 1, 4 and 15 beats, of which nothing leaves for 300 cycles."""
    sizes = ScoreAlignSizes(lanes=2, max_clusters=64)
    work = [ScoreAlignWork(clusters=clusters, rows=40)]
    count = 40 * sizes.beats(clusters)
    feed = StreamVectors(
        {"command": [clusters | 40 << 16], "scores": [0] * count},
        {"aligned": [0] * count},
        arrivals={"aligned": np.full(count, 300)},
    )
    times = predicted(sizes, work, feed)
    assert sum(time < 300 for time in times["scores"]) == held
    assert same(simulate_streams(ScoreAlign(sizes), feed).times) == times


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_every_transfer_of_the_verilog(simulator):
    rng = np.random.default_rng(77)
    sizes, work, free = draw(rng, 8)
    feed = stalled(sizes, work, free, rng)
    done = run_regression(to_verilog(ScoreAlign(sizes), "unit"), "unit", feed, simulator)
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, work, feed)


@pytest.mark.parametrize("seed", range(40))
def test_formula_is_exact(seed):
    rng = np.random.default_rng(seed)
    sizes = ScoreAlignSizes(lanes=int(rng.choice([2, 16, 256])), exp=bool(rng.integers(2)))
    clusters, rows = int(rng.integers(1, rng.choice([17, 4097]))), int(rng.integers(1, 40))
    work = [ScoreAlignWork(clusters=clusters, rows=rows)]
    times = predicted(sizes, work, StreamVectors({}, {}))
    assert times["aligned"][-1] - times["command"][0] + 1 == sizes.cycles(clusters, rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "score_align: no work; at least one command"),
        ({"clusters": 9}, "work 0: clusters = 9 is not allowed: 1 to 8"),
        ({"rows": 0}, "work 0: rows = 0 is not allowed: 1 to 65535"),
    ],
)
def test_work_is_checked(change, message):
    work = [] if change is None else [ScoreAlignWork(**{"clusters": 5, "rows": 1, **change})]
    with pytest.raises(InputError, match=f"^{message}"):
        score_align_graph(ScoreAlignSizes(lanes=2, max_clusters=8), work)
