"""Frames for V-Rex's retrieval engine, and what the reference says of them.

The reference is three of `headrace.models` one after another: table, selection, placement.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.vrex.retrieval_engine import RetrievalEngineSizes
from headrace.models.kernels.retrieval import (
    HashClusterTable,
    KvPlacement,
    TokenWrite,
    select_bucketed,
)
from headrace.rtl.streams import StreamVectors
from headrace.verification.vrex_words import assignment_words, read_words, row_beats, write_words

__all__ = ["INPUTS", "RESULTS", "Command", "Dialogue", "Layer", "engine_vectors", "timed"]

INPUTS, RESULTS = ("command", "table", "codes", "scores"), ("assignments", "writes", "reads")

_BEGIN = 20  # cycles that are enough to end a command without a choice, besides what is counted


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command, and what the reference says of it.

    Parameters
    ----------
    layer : int
    clear : bool
    rows : sequence of (code, count)
        Of the table that is loaded.
    codes : sequence of int
        Of the tokens.
    scores : int16 array, shape (rows, clusters), optional
    ratio : float
        Share of a row's weight that is chosen.
    assignments : sequence of (cluster, new, forced, count)
        Of every token.
    writes : sequence of TokenWrite
    reads : sequence of (place, tokens, staging, last)
    chosen : bool array, shape (clusters,), optional
    walked : int array, shape (rows,), optional
        Buckets of every row.
    offloaded : sequence of int
        Tokens of every chosen cluster.
    """

    layer: int
    clear: bool
    rows: Sequence[tuple[int, int]] = ()
    codes: Sequence[int] = ()
    scores: NDArray[np.int16] | None = None
    ratio: float = 0.0
    assignments: Sequence[tuple[int, int, int, int]] = ()
    writes: Sequence[TokenWrite] = ()
    reads: Sequence[tuple[int, int, int, int]] = ()
    chosen: NDArray[np.bool_] | None = None
    walked: NDArray[np.int64] | None = None
    offloaded: Sequence[int] = ()


class Layer:
    """The reference of one layer: its table and its places.

    Parameters
    ----------
    sizes : RetrievalEngineSizes
    layer : int
    """

    def __init__(self, sizes: RetrievalEngineSizes, layer: int) -> None:
        kv, hashing = sizes.kv_management, sizes.hash_cluster
        planes = np.zeros((1, hashing.code_bits), np.float32)
        self.sizes = sizes
        self.table = HashClusterTable(1, 1, planes, distance=hashing.threshold)
        self.placement = KvPlacement(
            resident=kv.resident, extent_tokens=kv.extent_tokens, extents=kv.extents, layer=layer
        )

    def rows(self) -> list[tuple[int, int]]:
        """Return code and count of every cluster."""
        return list(zip(self.table.codes.tolist(), self.table.counts.tolist(), strict=True))

    def sort(self, codes: Sequence[int]) -> list[tuple[int, int, int, int]]:
        """Return the assignments of tokens; a full table is the caller's fault."""
        counts = self.table.counts.tolist()
        keys = np.zeros((len(codes), 1, 1), np.float32)
        given = []
        for cluster in self.table.append_hashed(keys, np.array(codes, np.uint32)).tolist():
            new = cluster == len(counts)
            counts += [0] * new
            counts[cluster] += 1
            given.append((cluster, int(new), 0, counts[cluster]))
        return given

    def append(
        self, codes: Sequence[int]
    ) -> tuple[list[tuple[int, int, int, int]], list[TokenWrite]]:
        """Return the assignments of tokens, and what moves for them."""
        given = self.sort(codes)
        return given, self.placement.append(cluster for cluster, *_ in given)

    def select(self, scores: NDArray[np.int16], ratio: float) -> dict[str, Any]:
        """Return what is chosen, and the reads; the last one may have no tokens."""
        found = select_bucketed(scores, self.table.counts, ratio, self.sizes.threshold.buckets)
        chosen = found.mask.any(axis=0)
        reads, offloaded = fetched(self.placement, np.flatnonzero(chosen).tolist())
        return {
            "reads": reads,
            "chosen": chosen,
            "walked": found.visited,
            "offloaded": offloaded,
        }


def fetched(
    placement: KvPlacement, clusters: Sequence[int]
) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """Return the reads of a fetch, and the offloaded tokens of each of its clusters.

    Parameters
    ----------
    placement : KvPlacement
    clusters : sequence of int
        At least one.
    """
    offloaded = [len(placement.places(cluster)) for cluster in clusters]
    reads = [(r.place, r.tokens, r.staging, 0) for r in placement.fetch(clusters)]
    if offloaded[-1]:
        reads[-1] = (*reads[-1][:3], 1)
    else:
        reads.append((0, 0, sum(offloaded), 1))
    return reads, offloaded


class Dialogue:
    """Frames of layers that take turns; the engine holds the table of one of them.

    Parameters
    ----------
    sizes : RetrievalEngineSizes
    seed : int
    """

    def __init__(self, sizes: RetrievalEngineSizes, seed: int) -> None:
        self.sizes, self.rng, self.numbers = sizes, random.Random(seed), np.random.default_rng(seed)
        self.layers: dict[int, Layer] = {}
        self.held: int | None = None
        self.commands: list[Command] = []
        bits, threshold = sizes.hash_cluster.code_bits, sizes.hash_cluster.threshold
        self.centres = [self.rng.getrandbits(bits) for _ in range(self.rng.randint(2, 8))]
        self.flips = (0, 0, 1, threshold, bits // 2)

    def _code(self, flips: Sequence[int]) -> int:
        code, bits = self.rng.choice(self.centres), self.sizes.hash_cluster.code_bits
        for bit in self.rng.sample(range(bits), self.rng.choice(flips)):
            code ^= 1 << bit
        return code

    def _hold(self, layer: int, again: float = 0.1) -> dict[str, Any]:
        """Return what makes the engine hold a layer: its rows, if it does not hold it."""
        rows = self.layers[layer].rows() if layer in self.layers else []
        clear = layer != self.held or not rows or self.rng.random() < again
        if not rows:
            self.layers[layer] = Layer(self.sizes, layer)
        self.held = layer
        return {"layer": layer, "clear": clear, "rows": rows if clear else []}

    def _scores(self, clusters: int) -> NDArray[np.int16]:
        rows, kind = self.rng.randint(1, 3), self.rng.randrange(3)
        if kind == 0:
            logits = self.numbers.normal(0, 2, (rows, clusters))
            return np.asarray(16384 * np.exp(logits - logits.max())).astype(np.int16)
        if kind == 1:
            few = np.array([-32768, -1, 0, 1, 32767], np.int16)
            return self.numbers.choice(few, (rows, clusters))
        return self.numbers.integers(-32768, 32768, (rows, clusters)).astype(np.int16)

    def frame(
        self, layer: int, tokens: int, ahead: bool, flips: Sequence[int] | None = None
    ) -> None:
        """Append a frame and choose: with the clusters of the past if `ahead`, else with all.

        `flips` are the bits by which codes may differ from one of the centres.
        """
        if layer in self.layers:
            room = self.sizes.hash_cluster.clusters - self.layers[layer].table.clusters
            if room < tokens:
                del self.layers[layer]  # the next video
        codes = [self._code(flips or self.flips) for _ in range(tokens)]
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

    def frames(self, count: int, most: int = 8) -> list[Command]:
        """Draw so many frames of all layers, of at most `most` tokens."""
        for _ in range(count):
            layer = self.rng.randrange(self.sizes.kv_management.layers)
            self.frame(layer, self.rng.randint(1, most), self.rng.random() < 0.5)
        return self.commands


def engine_vectors(
    sizes: RetrievalEngineSizes, commands: Sequence[Command], **more: Any
) -> StreamVectors:
    """Return the streams of commands; lanes without a cluster hold ones.

    Parameters
    ----------
    sizes : RetrievalEngineSizes
    commands : sequence of Command
    **more
        Further fields of the vectors.
    """
    streams: dict[str, list[int]] = {name: [] for name in (*INPUTS, *RESULTS)}
    bits = sizes.hash_cluster.code_bits
    for one in commands:
        score_rows = 0 if one.scores is None else len(one.scores)
        share = round(one.ratio * 2**sizes.threshold.ratio_bits)
        streams["command"].append(
            len(one.codes) | len(one.rows) << 16 | one.layer << 32 | int(one.clear) << 40
            | score_rows << 41 | share << 57
        )  # fmt: skip
        streams["table"] += [code | count << bits for code, count in one.rows]
        streams["codes"] += one.codes
        if one.scores is not None:
            streams["scores"] += row_beats(one.scores, sizes.threshold.lanes, fill=-1)
        streams["assignments"] += assignment_words(one.assignments)
        streams["writes"] += write_words(one.writes, sizes.kv_management)
        streams["reads"] += read_words(one.reads, sizes.kv_management)
    results = {name: streams.pop(name) for name in RESULTS}
    return StreamVectors(streams, results, **more)


def timed(sizes: RetrievalEngineSizes, commands: Sequence[Command]) -> list[tuple[int, bool]]:
    """Return for each command its cycles, and whether they are those of the formula.

    Without a formula are commands that begin a layer, or choose nothing: a number that is enough.

    Parameters
    ----------
    sizes : RetrievalEngineSizes
    commands : sequence of Command
        The first one clears.
    """
    clusters, cycles = 0, []
    for one in commands:
        begins = one.clear and not one.rows
        clusters = 0 if one.clear else clusters
        sorting = len(one.rows) + 1
        if one.codes:
            opens = [bool(new) for _, new, *_ in one.assignments]
            sorting = int(sizes.hash_cluster.cycles(opens, clusters=clusters, rows=len(one.rows)))
        clusters += len(one.rows) + sum(new for _, new, *_ in one.assignments)
        total = sorting + len(one.codes) + _BEGIN
        if one.walked is not None and one.chosen is not None:
            total = int(sizes.cycles(sorting, one.walked, one.chosen, one.offloaded))
        total += begins * sizes.kv_management.clusters
        cycles.append((total, one.scores is not None and not begins))
    return cycles
