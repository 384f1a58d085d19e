"""Frames for the retrieval engine, and what the reference says of them.

The reference is three of `headrace.models` one after another: table, selection, placement.
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.arch.vrex.retrieval_engine import RetrievalEngineSizes
from headrace.arch.vrex.threshold import ThresholdSizes
from headrace.models.kernels.retrieval import HashClusterTable, KvPlacement, select_bucketed
from headrace.rtl.streams import StreamVectors, pack

INPUTS, RESULTS = ("command", "table", "codes", "scores"), ("assignments", "writes", "reads")


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
