"""The graph of V-Rex's threshold unit against its RTL, transfer by transfer."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.vrex.threshold import ThresholdSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import select_bucketed
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.threshold import ThresholdUnit
from headrace.sim.cycle import simulate
from headrace.sim.vrex.threshold import ThresholdWork, threshold_graph

PORTS = ("command", "counts", "scores", "results")
PACES = (1, 2, 4, 12, 40)  # each transfer is delayed by fewer cycles more than the one before
BURSTS = (1, 1, 4, 9)  # transfers that come no sooner than the last of them


def draw_sizes(rng):
    lanes = int(rng.choice([2, 2, 4, 8, 16]))
    return ThresholdSizes(
        lanes=lanes,
        max_clusters=lanes * int(rng.integers(2, 10)),
        buckets=int(rng.choice([1, 2, 5, 8, 16, 20])),
    )


def draw_scores(rng, shape):
    """Draw scores of many widths, some clusters far above the others, which leaves words empty."""
    scores = rng.integers(-32768, 32768, shape) >> int(rng.integers(1, 15))
    high = rng.random(shape[1]) < rng.choice([0, 0.1, 0.5])
    return np.where(high, scores // 2 + 16000, scores).clip(-32768, 32767).astype(np.int16)


def draw(rng, commands=None):
    """Return sizes, the works of some commands and their streams."""
    sizes = draw_sizes(rng)
    streams, work = {name: [] for name in PORTS}, []
    for _ in range(commands or rng.integers(1, 4)):
        rows, clusters = int(rng.integers(1, 5)), int(rng.integers(1, sizes.max_clusters + 1))
        counts = rng.integers(0, 65536, clusters, np.uint16) >> int(rng.integers(16))
        scores = draw_scores(rng, (rows, clusters))
        ratio = float(rng.choice([0, 0.3, 1, rng.uniform()]))
        selection = select_bucketed(scores, counts, ratio, sizes.buckets)
        chosen = np.flatnonzero(selection.mask.any(axis=0)).tolist()
        share = round(ratio * 2**sizes.ratio_bits)
        streams["command"].append(clusters | rows << 16 | share << 32)
        streams["counts"] += beats(counts[None], sizes.lanes)
        streams["scores"] += beats(scores, sizes.lanes)
        streams["results"] += [*chosen[:-1], chosen[-1] | 1 << 16]
        walked = tuple(selection.visited.tolist())
        work.append(ThresholdWork(clusters=clusters, walked=walked, chosen=tuple(chosen)))
    return sizes, work, streams


def beats(values, lanes):
    """Return rows as beats of 16 bits; lanes without a cluster hold ones."""
    more = np.pad(values.astype(int), ((0, 0), (0, -values.shape[1] % lanes)), constant_values=-1)
    return pack(more.reshape(-1, lanes), 16)


def vectors(streams):
    inputs = {name: streams[name] for name in PORTS[:-1]}
    return StreamVectors(inputs, {"results": streams["results"]})


def stalled(sizes, work, streams, rng):
    """Return vectors whose ports come later and later than they would, and some in bursts."""
    free, arrivals = vectors(streams), {}
    for name, times in predicted(sizes, work, free).items():
        count, burst = len(times), int(rng.choice(BURSTS))
        late = np.array(times, np.int64) + np.cumsum(rng.integers(0, rng.choice(PACES), count))
        last_of_burst = np.arange(count) // burst * burst + burst - 1
        arrivals[name] = late[np.minimum(last_of_burst, count - 1)]
    return replace(free, arrivals=arrivals)


def predicted(sizes, work, feed):
    graph = threshold_graph(sizes, work, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, work, streams = draw(rng)
    feed = stalled(sizes, work, streams, rng) if stalls else vectors(streams)
    run = simulate_streams(ThresholdUnit(sizes), feed)
    assert run.results["results"] == streams["results"]
    assert same(run.times) == predicted(sizes, work, feed)
    print(f"{sizes}: {run.cycles} cycles, each transfer as in the graph")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_the_points_reach_every_case():
    """Early exits, walks to the lowest bucket, rows of a beat, words without a cluster."""
    cases = np.zeros(4, int)
    for seed in range(100, 160):
        sizes, work, _ = draw(np.random.default_rng(seed))
        gaps = [np.diff(np.array((-1, *item.chosen)) // sizes.lanes) for item in work]
        cases += [
            any(min(item.walked) < sizes.buckets for item in work),
            sizes.buckets > 1 and any(max(item.walked) == sizes.buckets for item in work),
            any(item.clusters <= sizes.lanes for item in work),
            any(gap.max() > 1 for gap in gaps),
        ]
    assert cases.min() > 5


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_every_transfer_of_the_verilog(simulator):
    rng = np.random.default_rng(77)
    sizes, work, streams = draw(rng, 8)
    feed = stalled(sizes, work, streams, rng)
    verilog = to_verilog(ThresholdUnit(sizes), "threshold_unit")
    done = run_regression(verilog, "threshold_unit", feed, simulator)
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, work, feed)


@pytest.mark.parametrize("seed", range(40))
def test_formula_is_exact(seed):
    rng = np.random.default_rng(seed)
    sizes = ThresholdSizes(lanes=int(rng.choice([2, 16])))
    commands, rows, clusters = 3, int(rng.integers(1, 9)), int(rng.integers(1, 1300))
    walked = rng.integers(1, sizes.buckets + 1, (commands, rows))
    chosen = rng.random((commands, clusters)) < rng.choice([0.01, 0.2, 1])
    chosen[:, rng.integers(clusters)] = True
    work = [
        ThresholdWork(clusters=clusters, walked=tuple(w), chosen=tuple(np.flatnonzero(c).tolist()))
        for w, c in zip(walked.tolist(), chosen, strict=True)
    ]
    times = predicted(sizes, work, StreamVectors({}, {}))
    ends = np.array(times["results"])[np.cumsum(chosen.sum(axis=1)) - 1]
    assert (ends - times["command"] + 1).tolist() == sizes.cycles(walked, chosen).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "threshold: no work; at least one command"),
        ({"clusters": 9}, "work 0: clusters = 9 is not allowed: 1 to 8"),
        ({"walked": ()}, "work 0: 0 rows are not allowed"),
        ({"walked": (1, 17)}, r"work 0: walked = \[1, 17\] is not allowed: 1 to 16 each"),
        ({"chosen": ()}, r"work 0: chosen = \[\] is not allowed: ascending"),
        ({"chosen": (1, 1)}, r"work 0: chosen = \[1, 1\] is not"),
        ({"chosen": (0, 5)}, r"work 0: chosen = \[0, 5\] is not allowed: .* below 5"),
    ],
)
def test_work_is_checked(change, message):
    good = {"clusters": 5, "walked": (1, 16), "chosen": (0, 4)}
    work = [] if change is None else [ThresholdWork(**{**good, **change})]
    with pytest.raises(InputError, match=f"^{message}"):
        threshold_graph(ThresholdSizes(lanes=2, max_clusters=8), work)
