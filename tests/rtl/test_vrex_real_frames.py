"""V-Rex's units on the frames of a real clip: every result, and the cycle of every transfer.

`golden/vrex_frames.npz` holds what a layer made of 250 frames: hash codes, and scores of some
rows against the clusters of that time. The reference sorts and chooses anew here.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.arch.vrex.threshold import ThresholdSizes
from headrace.models.kernels.retrieval import HashClusterTable, select_bucketed, select_exact
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.streams import StreamVectors, pack, run_regression
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.hash_cluster import HashCluster
from headrace.rtl.vrex.threshold import ThresholdUnit
from headrace.sim.cycle import simulate
from headrace.sim.vrex.hash_cluster import HashClusterWork, hash_cluster_graph
from headrace.sim.vrex.threshold import ThresholdWork, threshold_graph

GOLDEN = Path(__file__).parent / "golden" / "vrex_frames.npz"
FRAMES, TOKENS, ROWS, RATIO = 250, 10, 4, 0.3
RELOAD = 5  # frames after which the table is loaded anew, as when another layer had its turn


@dataclass(frozen=True)
class Frame:
    """A frame, and the table of the reference before it."""

    codes: Any  # tokens
    table_codes: Any  # clusters
    counts: Any  # clusters
    joined: Any  # tokens: the reference's clusters
    scores: Any  # rows, clusters; none for the first frame


@cache
def clip():
    stored = np.load(GOLDEN)
    table = HashClusterTable(1, 1, np.zeros((1, 32), np.float32))
    keys, frames, first = np.zeros((TOKENS, 1, 1), np.float32), [], 0
    for codes, clusters in zip(stored["codes"], stored["clusters"], strict=True):
        last = first + ROWS * table.clusters
        before = table.codes.copy(), table.counts.copy()
        scores = stored["scores"][first:last].reshape(ROWS, -1)
        joined = table.append_hashed(keys, codes)
        assert (joined == clusters).all()
        frames.append(Frame(codes, *before, joined, scores))
        first = last
    assert first == len(stored["scores"])
    return frames


def hash_streams(sizes, frames):
    """Return the streams of the frames, the cycles of each one's command, and their work."""
    streams: Any = {name: [] for name in ("command", "table", "codes", "assignments")}
    cycles, work = [], []
    for number, frame in enumerate(frames):
        clear, held = number % RELOAD == 0, len(frame.counts)
        rows = held if clear else 0
        streams["command"].append(TOKENS | rows << 16 | int(clear) << 32)
        pairs = zip(frame.table_codes.tolist(), frame.counts.tolist(), strict=True)
        streams["table"] += [code | count << sizes.code_bits for code, count in pairs if clear]
        streams["codes"] += frame.codes.tolist()
        counts, opens = dict(enumerate(frame.counts.tolist())), []
        for token, cluster in enumerate(frame.joined.tolist()):
            opens.append(cluster not in counts)
            counts[cluster] = counts.get(cluster, 0) + 1
            beat = token | cluster << 16 | int(opens[-1]) << 32 | counts[cluster] << 34
            streams["assignments"].append(beat)
        cycles.append(sizes.cycles(opens, clusters=held - rows, rows=rows))
        work.append(HashClusterWork(opens=tuple(opens), rows=rows, clear=clear))
    results = {"assignments": streams.pop("assignments")}
    return StreamVectors(streams, results), cycles, [TOKENS] * len(frames), work


def threshold_streams(sizes, frames):
    """Return the streams of the frames, each one's cycles, its results, and their work."""
    streams: Any = {name: [] for name in ("command", "counts", "scores", "results")}
    cycles, lengths, work = [], [], []
    for frame in frames:
        clusters = len(frame.counts)
        chosen = select_bucketed(frame.scores, frame.counts, RATIO, sizes.buckets)
        union = chosen.mask.any(axis=0)
        share = round(RATIO * 2**sizes.ratio_bits)
        streams["command"].append(clusters | ROWS << 16 | share << 32)
        for name, rows, bits in (
            ("counts", frame.counts[None], sizes.count_bits),
            ("scores", frame.scores, sizes.score_bits),
        ):
            beats = np.pad(rows.astype(int), ((0, 0), (0, -clusters % sizes.lanes)))
            streams[name] += pack(beats.reshape(-1, sizes.lanes), bits)
        numbers = np.flatnonzero(union).tolist()
        streams["results"] += [*numbers[:-1], numbers[-1] | 1 << 16]
        cycles.append(sizes.cycles(chosen.visited, union))
        lengths.append(len(numbers))
        walked = tuple(chosen.visited.tolist())
        work.append(ThresholdWork(clusters=clusters, walked=walked, chosen=tuple(numbers)))
    results = {"results": streams.pop("results")}
    return StreamVectors(streams, results), cycles, lengths, work


UNITS = {
    "hash_cluster": (HashCluster, hash_streams, hash_cluster_graph, 0),
    "threshold_unit": (ThresholdUnit, threshold_streams, threshold_graph, 1),
}


def replay(name, sizes, simulator, frames=FRAMES, stalls=False):
    """Run the frames through a unit's Verilog; return their cycles.

    Every transfer comes in the cycle of the graph; without stalls every command takes what the
    closed form says.
    """
    unit, make, graph, first = UNITS[name]
    vectors, cycles, lengths, work = make(sizes, clip()[first:frames])
    times = simulate(graph(sizes, work), iterations=1, starts=True).starts
    if stalls:
        rng = np.random.default_rng(5)
        ports = [*vectors.inputs, *vectors.results]
        late = {p: np.cumsum(rng.integers(0, 5, len(times[p]))) for p in ports if p in times}
        vectors = replace(vectors, arrivals={p: times[p] + late[p] for p in late})
        delayed = graph(sizes, work, vectors.arrivals)
        times = simulate(delayed, iterations=1, starts=True).starts
    run = run_regression(to_verilog(unit(sizes), name), name, vectors, simulator)
    assert run.passed, run.message
    for port, measured in run.times.items():
        assert measured.tolist() == (times[port].tolist() if port in times else [])
    (port,) = vectors.results
    ends = run.times[port][np.cumsum(lengths) - 1]
    taken = ends - run.times["command"] + 1
    assert stalls or taken.tolist() == cycles
    return taken


def test_the_clip():
    """Clusters grow from frame to frame, and most rows end early, but not all."""
    frames = clip()
    assert len(frames) == FRAMES
    assert GOLDEN.stat().st_size < 400_000
    assert len(frames[-1].counts) > 400
    buckets = ThresholdSizes().buckets
    rows = frames[1:]
    walked = np.array([select_bucketed(f.scores, f.counts, RATIO, buckets).visited for f in rows])
    assert walked.shape == (FRAMES - 1, ROWS)
    early = (walked < buckets).mean()
    print(f"{len(frames[-1].counts)} clusters, {walked.mean():.2f} buckets, {early:.1%} early")
    exact = [select_exact(f.scores, f.counts, RATIO).mask for f in rows]
    tokens = [f.counts / f.counts.sum() for f in rows]
    alone = np.mean([(mask @ share).mean() for mask, share in zip(exact, tokens, strict=True)])
    union = np.mean([mask.any(axis=0) @ s for mask, s in zip(exact, tokens, strict=True)])
    print(f"exact: a row takes {alone:.1%} of the tokens, {ROWS} together {union:.1%}")
    assert 0 < alone < union < 1
    assert 0.5 < early < 1


@pytest.mark.parametrize("stalls", [False, True])
def test_all_frames_are_clustered(stalls):
    """Eight clusters at a time, else as published."""
    cycles = replay("hash_cluster", HashClusterSizes(accumulators=8), "verilator", stalls=stalls)
    assert len(cycles) == FRAMES


@pytest.mark.parametrize("stalls", [False, True])
def test_rows_of_all_frames_are_walked(stalls):
    cycles = replay("threshold_unit", ThresholdSizes(), "verilator", stalls=stalls)
    assert len(cycles) == FRAMES - 1


@pytest.mark.parametrize(
    "name, sizes", [("hash_cluster", HashClusterSizes()), ("threshold_unit", ThresholdSizes())]
)
def test_the_first_frames_in_icarus(name, sizes):
    replay(name, sizes, "icarus", frames=8)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    "name, sizes", [("hash_cluster", HashClusterSizes()), ("threshold_unit", ThresholdSizes())]
)
def test_published_sizes_on_all_frames(name, sizes, simulator):
    cycles = replay(name, sizes, simulator)
    print(f"{name} in {simulator}: {len(cycles)} frames, {cycles.sum()} cycles")
