"""The retrieval engine against the reference: table, then selection, then placement."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.arch.vrex.retrieval_engine import RetrievalEngineSizes
from headrace.arch.vrex.threshold import ThresholdSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import HashClusterTable, KvPlacement, select_bucketed
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.retrieval_engine import RetrievalEngine

INPUTS, RESULTS = ("command", "table", "codes", "scores"), ("assignments", "writes", "reads")
LIMIT = 200_000


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command, and what the reference says of it."""

    layer: int
    clear: bool
    rows: Any = ()  # (code, count) of the table that is loaded
    codes: Any = ()
    scores: Any = None  # rows, clusters
    ratio: float = 0.0
    assignments: Any = ()  # (cluster, new, count) of every token
    writes: Any = ()  # TokenWrite of every token
    reads: Any = ()  # (place, tokens, staging, last)
    chosen: Any = None  # bool, clusters
    walked: Any = None  # buckets of every row
    offloaded: Any = ()  # tokens of every chosen cluster


class Layer:
    """The reference of one layer: its table and its places."""

    def __init__(self, sizes, layer):
        kv, hashing = sizes.kv_management, sizes.hash_cluster
        planes = np.zeros((1, hashing.code_bits), np.float32)
        self.sizes = sizes
        self.table = HashClusterTable(1, 1, planes, distance=hashing.threshold)
        self.placement = KvPlacement(
            resident=kv.resident, extent_tokens=kv.extent_tokens, extents=kv.extents, layer=layer
        )

    def rows(self):
        return list(zip(self.table.codes.tolist(), self.table.counts.tolist(), strict=True))

    def append(self, codes):
        """Return the assignments of tokens, and what moves for them."""
        counts = self.table.counts.tolist()
        keys = np.zeros((len(codes), 1, 1), np.float32)
        clusters = self.table.append_hashed(keys, np.array(codes, np.uint32)).tolist()
        given = []
        for cluster in clusters:
            new = cluster == len(counts)
            counts += [0] * new
            counts[cluster] += 1
            given.append((cluster, int(new), counts[cluster]))
        return given, self.placement.append(clusters)

    def select(self, scores, ratio):
        """Return what is chosen, and the reads; the last one may have no tokens."""
        found = select_bucketed(scores, self.table.counts, ratio, self.sizes.threshold.buckets)
        chosen = found.mask.any(axis=0)
        clusters = np.flatnonzero(chosen).tolist()
        reads = [(r.place, r.tokens, r.staging, 0) for r in self.placement.fetch(clusters)]
        offloaded = [len(self.placement.places(cluster)) for cluster in clusters]
        if offloaded[-1]:
            reads[-1] = (*reads[-1][:3], 1)
        else:
            reads.append((0, 0, sum(offloaded), 1))
        return {
            "reads": reads,
            "chosen": chosen,
            "walked": found.visited,
            "offloaded": offloaded,
        }


class Dialogue:
    """Frames of layers that take turns; the engine holds the table of one of them."""

    def __init__(self, sizes, seed):
        self.sizes, self.rng, self.numbers = sizes, random.Random(seed), np.random.default_rng(seed)
        self.layers: dict[int, Layer] = {}
        self.held: int | None = None
        self.commands: list[Command] = []
        bits = sizes.hash_cluster.code_bits
        self.centres = [self.rng.getrandbits(bits) for _ in range(self.rng.randint(2, 8))]

    def _code(self):
        code, bits = self.rng.choice(self.centres), self.sizes.hash_cluster.code_bits
        flips = self.rng.choice([0, 0, 1, self.sizes.hash_cluster.threshold, bits // 2])
        for bit in self.rng.sample(range(bits), flips):
            code ^= 1 << bit
        return code

    def _hold(self, layer, again=0.1):
        """Return what makes the engine hold a layer: its rows, if it does not hold it."""
        rows = self.layers[layer].rows() if layer in self.layers else []
        clear = layer != self.held or not rows or self.rng.random() < again
        if not rows:
            self.layers[layer] = Layer(self.sizes, layer)
        self.held = layer
        return {"layer": layer, "clear": clear, "rows": rows if clear else []}

    def _scores(self, clusters):
        rows, kind = self.rng.randint(1, 3), self.rng.randrange(3)
        if kind == 0:
            logits = self.numbers.normal(0, 2, (rows, clusters))
            return (16384 * np.exp(logits - logits.max())).astype(np.int16)
        if kind == 1:
            return self.numbers.choice([-32768, -1, 0, 1, 32767], (rows, clusters)).astype(np.int16)
        return self.numbers.integers(-32768, 32768, (rows, clusters)).astype(np.int16)

    def frame(self, layer, tokens, ahead):
        """Append a frame and choose: with the clusters of the past if `ahead`, else with all."""
        if layer in self.layers:
            room = self.sizes.hash_cluster.clusters - self.layers[layer].table.clusters
            if room < tokens:
                del self.layers[layer]  # the next video
        codes = [self._code() for _ in range(tokens)]
        ratio = self.rng.choice([0.0, 0.3, 0.3, 1.0, self.rng.random()])
        held, state = self._hold(layer), self.layers[layer]
        if ahead and state.table.clusters:
            scores = self._scores(state.table.clusters)
            chosen = state.select(scores, ratio)
            self.commands.append(Command(**held, scores=scores, ratio=ratio, **chosen))
            held = {"layer": layer, "clear": False}
        assigned, writes = state.append(codes)
        done: dict[str, Any] = {"codes": codes, "assignments": assigned, "writes": writes}
        if not ahead:
            scores = self._scores(state.table.clusters)
            done |= {"scores": scores, "ratio": ratio, **state.select(scores, ratio)}
        self.commands.append(Command(**held, **done))

    def frames(self, count, most=8):
        """Draw so many frames of all layers."""
        for _ in range(count):
            layer = self.rng.randrange(self.sizes.kv_management.layers)
            self.frame(layer, self.rng.randint(1, most), self.rng.random() < 0.5)
        return self.commands


def vectors(sizes, commands, **more):
    """Return the streams of commands; lanes without a cluster hold ones."""
    streams: Any = {name: [] for name in (*INPUTS, *RESULTS)}
    lanes, bits = sizes.threshold.lanes, sizes.hash_cluster.code_bits
    slot, place = sizes.kv_management.slot_bits, sizes.kv_management.place_bits
    for one in commands:
        score_rows = 0 if one.scores is None else len(one.scores)
        share = round(one.ratio * 2**sizes.threshold.ratio_bits)
        streams["command"].append(
            len(one.codes) | len(one.rows) << 16 | one.layer << 32 | int(one.clear) << 40
            | score_rows << 41 | share << 57
        )  # fmt: skip
        streams["table"] += [code | count << bits for code, count in one.rows]
        streams["codes"] += one.codes
        if score_rows:
            filler = np.full((score_rows, -one.scores.shape[1] % lanes), -1)
            beats = np.concatenate([one.scores.astype(int), filler], axis=1)
            streams["scores"] += pack(beats.reshape(-1, lanes), 16)
        streams["assignments"] += [
            token | cluster << 16 | new << 32 | count << 34
            for token, (cluster, new, count) in enumerate(one.assignments)
        ]
        streams["writes"] += [
            w.slot | (w.place is not None) << slot | w.lost << slot + 1 | (w.place or 0) << slot + 2
            for w in one.writes
        ]
        streams["reads"] += [
            r[0] | r[1] << place | r[2] << place + 16 | r[3] << place + 32 for r in one.reads
        ]
    results = {name: streams.pop(name) for name in RESULTS}
    return StreamVectors(streams, results, **more)


def drawn_sizes(rng):
    clusters, lanes = rng.randint(16, 40), rng.choice([4, 8])
    return RetrievalEngineSizes(
        hash_cluster=HashClusterSizes(
            accumulators=rng.choice([1, 4]), clusters=clusters, frame_tokens=rng.choice([2, 8])
        ),
        threshold=ThresholdSizes(
            lanes=lanes, max_clusters=-(-clusters // lanes) * lanes, buckets=rng.choice([3, 8])
        ),
        kv_management=KvManagementSizes(
            layers=rng.randint(2, 4),
            resident=rng.choice([1, 5, 16]),
            clusters=clusters + rng.randint(0, 5),
            extent_tokens=rng.choice([1, 4, 8]),
            extents=rng.randint(4, 40),
        ),
    )


@pytest.mark.parametrize("seed", range(4))
def test_frames_with_and_without_stalls(seed):
    sizes = drawn_sizes(random.Random(seed))
    streams = vectors(sizes, Dialogue(sizes, seed).frames(6))
    free = simulate_streams(RetrievalEngine(sizes), streams, LIMIT)
    assert free.results == streams.results
    rng = np.random.default_rng(seed)
    late = {name: t + np.cumsum(rng.integers(0, 6, len(t))) for name, t in free.times.items()}
    stalling = replace(streams, arrivals=late)
    stalled = simulate_streams(RetrievalEngine(sizes), stalling, LIMIT)
    assert stalled.results == streams.results
    assert stalled.cycles > free.cycles


def sorting_cycles(sizes, one, clusters):
    """Return the cycles of a command's tokens, with so many clusters before it."""
    if not one.codes:
        return len(one.rows) + 1
    held = 0 if one.clear else clusters
    opens = [bool(new) for _, new, _ in one.assignments]
    return sizes.hash_cluster.cycles(opens, clusters=held, rows=len(one.rows))


def timed(sizes, commands):
    """Return for each command its cycles, and whether they are the formula's.

    Without a formula are commands that begin a layer, or choose nothing: a number that is enough.
    """
    clusters, cycles = 0, []
    for one in commands:
        sorting = sorting_cycles(sizes, one, clusters)
        clusters = 0 if one.clear else clusters
        clusters += len(one.rows) + sum(new for _, new, _ in one.assignments)
        exact = one.scores is not None and (one.rows or not one.clear)
        if one.scores is None:
            cycles.append((sorting + sizes.kv_management.clusters + 20, False))
        else:
            total = sizes.cycles(sorting, one.walked, one.chosen, one.offloaded)
            cycles.append((total + (not exact) * sizes.kv_management.clusters, bool(exact)))
    return cycles


def check_cycles(seed, frames):
    """Compare the cycles of commands, each given some time after the one before is done."""
    sizes = drawn_sizes(random.Random(seed))
    commands = Dialogue(sizes, seed).frames(frames)
    expected = timed(sizes, commands)
    begins = np.cumsum([0] + [cycles + 15 for cycles, _ in expected[:-1]])
    streams = vectors(sizes, commands, arrivals={"command": begins})
    run = simulate_streams(RetrievalEngine(sizes), streams, LIMIT)
    assert run.results == streams.results
    assert run.times["command"].tolist() == begins.tolist()
    reads, compared = iter(run.times["reads"].tolist()), 0
    for one, begin, (cycles, exact) in zip(commands, begins.tolist(), expected, strict=True):
        ends = [next(reads) for _ in one.reads]
        if exact:
            assert ends[-1] - begin + 1 == cycles
            compared += 1
    return compared


@pytest.mark.parametrize("seed", range(3))
def test_cycles_are_those_of_the_formula(seed):
    assert check_cycles(seed, 6) > 1


@pytest.mark.slow
def test_cycles_of_many_frames():
    assert sum(check_cycles(seed, 10) for seed in range(10, 20)) >= 50


def test_two_layers_take_turns():
    """Each command loads the table of its layer; the other layer's places stay."""
    sizes = RetrievalEngineSizes(
        hash_cluster=HashClusterSizes(clusters=64),
        threshold=ThresholdSizes(lanes=4, max_clusters=64),
        kv_management=KvManagementSizes(resident=6, clusters=64, extent_tokens=4, extents=64),
    )
    dialogue = Dialogue(sizes, 3)
    for frame in range(12):
        dialogue.frame(frame % 2, 5, ahead=False)
    commands = dialogue.commands
    assert all(one.clear and one.rows for one in commands[2:])
    assert {one.layer for one in commands if any(one.offloaded)} == {0, 1}
    streams = vectors(sizes, commands)
    run = simulate_streams(RetrievalEngine(sizes), streams, LIMIT)
    assert run.results == streams.results


@pytest.mark.parametrize("slow", ["assignments", "writes"])
def test_either_sink_of_assignments_may_be_the_later_one(slow):
    sizes = drawn_sizes(random.Random(1))
    streams = vectors(sizes, Dialogue(sizes, 1).frames(3))
    arrivals = {slow: 900 + 40 * np.arange(len(streams.results[slow]))}
    run = simulate_streams(RetrievalEngine(sizes), replace(streams, arrivals=arrivals), LIMIT)
    assert run.results == streams.results
    other = {"assignments": "writes", "writes": "assignments"}[slow]
    assert run.times[other][0] < 900


def stalled(sizes, commands, seed):
    ports = (*INPUTS, *RESULTS)
    chances = np.random.default_rng(seed).uniform(0.05, 0.6, len(ports))
    return vectors(sizes, commands, stall=dict(zip(ports, chances, strict=True)))


def test_verilog_in_icarus():
    sizes = drawn_sizes(random.Random(4))
    streams = stalled(sizes, Dialogue(sizes, 4).frames(6), 4)
    verilog = to_verilog(RetrievalEngine(sizes), "retrieval_engine")
    done = run_regression(verilog, "retrieval_engine", streams, "icarus")
    assert done.passed, done.message
    wrong = {**streams.results, "reads": [*streams.results["reads"][:-1], 5]}
    wrong_streams = replace(streams, results=wrong)
    done = run_regression(verilog, "retrieval_engine", wrong_streams, "icarus")
    assert "instead of 5" in done.message


POINTS, FRAMES = 5, 50


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    """250 frames in all; with the same stalls every transfer in the same cycle."""
    sizes = drawn_sizes(random.Random(100 + point))
    commands = Dialogue(sizes, 100 + point).frames(FRAMES)
    assert sum(one.clear and bool(one.rows) for one in commands) > FRAMES // 3
    streams = stalled(sizes, commands, point)
    verilog = to_verilog(RetrievalEngine(sizes), "retrieval_engine")
    done = [run_regression(verilog, "retrieval_engine", streams, s, point) for s in SIMULATORS]
    for run in done:
        assert run.passed, f"{sizes}\n{run.message}"
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in done)
    assert one == two
    tokens, fetched = sum(len(c.codes) for c in commands), sum(sum(c.offloaded) for c in commands)
    print(f"{sizes}: {tokens} tokens, {fetched} fetched, {done[0].cycles} cycles")


def small(**kv_management):
    return RetrievalEngineSizes(
        hash_cluster=HashClusterSizes(clusters=16),
        threshold=ThresholdSizes(lanes=2, max_clusters=16),
        kv_management=KvManagementSizes(resident=8, clusters=16, extents=16, **kv_management),
    )


@pytest.mark.parametrize("sizes", [small(), small(layers=1, extent_tokens=1)])
def test_verilog_is_clean(sizes):
    verilog = to_verilog(RetrievalEngine(sizes), "retrieval_engine")
    assert lint(verilog, "retrieval_engine").findings == ()


@pytest.mark.slow
def test_netlist():
    counts = map_netlist(
        to_verilog(RetrievalEngine(small()), "retrieval_engine"), "retrieval_engine"
    )
    print(counts)
    assert counts.dsp >= 2  # a product per lane
    assert counts.lut > 0


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"threshold": ThresholdSizes(max_clusters=512)},
            "threshold.max_clusters = 512 is not allowed: at least 1024",
        ),
        (
            {"kv_management": KvManagementSizes(clusters=512)},
            "kv_management.clusters = 512 is not allowed: at least 1024",
        ),
        (
            {"threshold": ThresholdSizes(count_bits=12)},
            "threshold.count_bits = 12 is not allowed: 16",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        RetrievalEngineSizes(**change)
