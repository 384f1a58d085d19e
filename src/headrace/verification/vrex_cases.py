"""Work for V-Rex's units, with the reference's results and what the models say of it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.point import Point
from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.arch.vrex.units import UnitSizes, unit_sizes
from headrace.models.kernels.retrieval import (
    KvPlacement,
    align_scores,
    select_bucketed,
    transform_scores,
)
from headrace.models.kernels.retrieval.mean_key import move_means
from headrace.rtl.streams import StreamVectors
from headrace.rtl.vrex.emission import unit
from headrace.sim.vrex.hash_cluster import HashClusterWork, hash_cluster_graph
from headrace.sim.vrex.kv_management import KvManagementWork, kv_management_graph
from headrace.sim.vrex.mean_key import mean_key_graph
from headrace.sim.vrex.score_align import ScoreAlignWork, score_align_graph
from headrace.sim.vrex.threshold import ThresholdWork, threshold_graph
from headrace.verification.stream_case import Closed, StreamCase
from headrace.verification.vrex_frames import Dialogue, Layer, engine_vectors, fetched, timed
from headrace.verification.vrex_words import (
    assignment_words,
    bfloat16_values,
    cluster_words,
    read_words,
    row_beats,
    write_words,
)

__all__ = ["DRAWN", "draw_cases"]

Rng = np.random.Generator
Streams = defaultdict[str, list[int]]

_SOME = 8  # beats of the longest rows, unless rows may be of all clusters
_ROWS = 4  # of a command, at most
_FRAME = 12  # tokens, at most
_BEGUN = 48  # clusters of a layer before its first frame, unless tables may be nearly full
_MARGIN = 15  # cycles in which an engine that has given its last read becomes idle


def draw_cases(
    point: Point, kernel: str, total: int, seed: int, *, whole: bool
) -> list[StreamCase]:
    """Draw the same work for a unit of a point every time.

    Parameters
    ----------
    point : Point
        A point of ``vrex``.
    kernel : str
        One of `DRAWN`.
    total : int
        Rows of scores, or tokens, in all commands.
    seed : int
    whole : bool
        Let rows be as long, and tables as full, as the unit allows.
    """
    sizes, rng = unit_sizes(point), np.random.Generator(np.random.PCG64(seed))
    component = partial(unit, kernel, sizes)
    return DRAWN[kernel](component, sizes, total, rng, whole)


def _vectors(streams: Streams, *outputs: str) -> StreamVectors:
    results = {name: streams[name] for name in outputs}
    return StreamVectors({n: s for n, s in streams.items() if n not in results}, results)


def _shares(total: int, most: int, rng: Rng) -> list[int]:
    """Return numbers from 1 to `most` that add up to `total`, the largest one first."""
    shares = [min(most, total)]
    while left := total - sum(shares):
        shares.append(min(left, int(rng.integers(1, most + 1))))
    return shares


def _hash_cluster(
    component: Callable[[], Any], sizes: UnitSizes, total: int, rng: Rng, whole: bool
) -> list[StreamCase]:
    """Draw frames of two layers that take turns; codes are near others, or about as far as Th."""
    own = sizes.hash_cluster
    begun = own.clusters * 3 // 4 if whole else min(_BEGUN, own.clusters // 2)
    streams: Streams = defaultdict(list, table=[])
    work, layers, held = [], [_layer(sizes, begun, rng), _layer(sizes, 1, rng)], -1
    for number, tokens in enumerate(_shares(total, _FRAME, rng)):
        which = int(rng.integers(2)) if number else 0
        if own.clusters - layers[which].table.clusters < tokens:
            layers[which], held = _layer(sizes, 1, rng), -1
        rows = layers[which].rows() if which != held else []
        held = which
        codes = [_near(own, layers[which].table.codes, rng) for _ in range(tokens)]
        given = layers[which].sort(codes)
        streams["command"].append(tokens | len(rows) << 16 | bool(rows) << 32)
        streams["table"] += [code | count << own.code_bits for code, count in rows]
        streams["codes"] += codes
        streams["assignments"] += assignment_words(given)
        opens = tuple(bool(new) for _, new, *_ in given)
        work.append(HashClusterWork(opens=opens, rows=len(rows), clear=bool(rows)))
    first = work[0]
    cycles = int(own.cycles(first.opens, rows=first.rows))
    return [
        StreamCase(
            kernel="hash_cluster",
            component=component,
            vectors=_vectors(streams, "assignments"),
            graph=lambda arrivals: hash_cluster_graph(own, work, arrivals),
            closed=(Closed("command", "assignments", len(first.opens), cycles),),
        )
    ]


def _layer(sizes: UnitSizes, clusters: int, rng: Rng) -> Layer:
    """Return a layer that has so many clusters, of codes that are no neighbours."""
    layer = Layer(sizes.retrieval_engine, 0)
    while layer.table.clusters < clusters:
        layer.sort([int(rng.integers(2**sizes.hash_cluster.code_bits))])
    return layer


def _near(sizes: HashClusterSizes, codes: NDArray[np.uint32], rng: Rng) -> int:
    code = int(rng.choice(codes))
    flips = rng.choice([0, 1, sizes.threshold - 1, sizes.threshold, sizes.code_bits // 2])
    for bit in rng.permutation(sizes.code_bits)[:flips]:
        code ^= 1 << int(bit)
    return code


def _mean_key(
    component: Callable[[], Any], sizes: UnitSizes, total: int, rng: Rng, whole: bool
) -> list[StreamCase]:
    """Draw keys and means, and counts of all lengths."""
    del whole  # a key has all coordinates
    own = sizes.mean_key
    counts = np.maximum(1, rng.integers(0, 65536, total) >> rng.integers(0, 17, total))
    keys, means = _bfloat16_pairs(rng, (total, own.coordinates))
    pairs = bfloat16_values(means), bfloat16_values(keys), np.maximum(counts, 2)[:, None]
    moved = move_means(*pairs).view(np.uint32) >> np.uint32(16)
    moved = np.where(counts[:, None] == 1, keys, moved)  # the first key is the mean
    beats = partial(row_beats, lanes=own.lanes, fill=0)
    streams: Streams = defaultdict(
        list,
        counts=counts.tolist(),
        keys=beats(keys),
        means=beats(means[counts > 1]),
        moved=beats(moved),
    )
    moves = np.flatnonzero(np.repeat(counts > 1, own.beats))
    return [
        StreamCase(
            kernel="mean_key",
            component=component,
            vectors=_vectors(streams, "moved"),
            graph=lambda arrivals: mean_key_graph(own, counts.tolist(), arrivals),
            closed=(Closed("counts", "moved", total * own.beats, own.cycles(total)),),
            beside={"means": ("keys", moves)},
        )
    ]


def _bfloat16_pairs(rng: Rng, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw the bits of finite numbers whose exponents are near or far; some pairs cancel."""
    reach = rng.choice([0, 1, 3, 12, 30, 255], shape)
    first = np.clip(rng.choice([0, 20, 100, 254], shape) + rng.integers(0, 30, shape), 0, 254)
    second = np.clip(first + rng.integers(-255, 256, shape) % (2 * reach + 1) - reach, 0, 254)
    keys, means = (
        exponent << 7
        | rng.integers(128, size=shape) & rng.choice([0, 64, 127], shape)
        | rng.integers(2, size=shape) << 15
        for exponent in (first, second)
    )
    return keys, np.where(rng.integers(8, size=shape) == 0, keys ^ 0x8000, means)


def _clusters(lanes: int, most: int, first: bool, rng: Rng, whole: bool) -> int:
    """Draw the clusters of a row; the first row is the longest."""
    longest = most if whole else min(most, _SOME * lanes)
    return longest if first else int(rng.integers(1, longest + 1))


def _score_align(
    component: Callable[[], Any], sizes: UnitSizes, total: int, rng: Rng, whole: bool
) -> list[StreamCase]:
    """Draw rows of all magnitudes, of a narrow range, or of subnormal numbers."""
    own = sizes.score_align
    transforms = ("raw", "relu", "exp") if own.exp else ("raw", "relu")
    streams: Streams = defaultdict(list)
    work = []
    for number, rows in enumerate(_shares(total, _ROWS, rng)):
        clusters = _clusters(own.lanes, own.max_clusters, not number, rng, whole)
        transform = int(rng.integers(len(transforms)))
        bits = np.stack([_score_bits(rng, clusters) for _ in range(rows)])
        scores = transform_scores(bfloat16_values(bits), transforms[transform])
        streams["command"].append(clusters | rows << 16 | transform << 32)
        streams["scores"] += row_beats(bits, own.lanes, fill=int(rng.integers(2**16)))
        streams["aligned"] += row_beats(align_scores(scores), own.lanes, fill=0)
        work.append(ScoreAlignWork(clusters=clusters, rows=rows))
    first = work[0]
    beats = first.rows * own.beats(first.clusters)
    return [
        StreamCase(
            kernel="score_align",
            component=component,
            vectors=_vectors(streams, "aligned"),
            graph=lambda arrivals: score_align_graph(own, work, arrivals),
            closed=(Closed("command", "aligned", beats, own.cycles(first.clusters, first.rows)),),
        )
    ]


def _score_bits(rng: Rng, clusters: int) -> NDArray[Any]:
    sign, mantissa = rng.integers(2, size=clusters) << 15, rng.integers(128, size=clusters)
    lowest, width = ((1, 254), (int(rng.integers(1, 230)), 24), (0, 3))[rng.integers(3)]
    exponent = lowest + rng.integers(0, width, clusters)
    bits: NDArray[Any] = sign | exponent << 7 | mantissa
    return bits


def _threshold(
    component: Callable[[], Any], sizes: UnitSizes, total: int, rng: Rng, whole: bool
) -> list[StreamCase]:
    """Draw exponentials, evenly spread scores, and scores of few values."""
    own = sizes.threshold
    streams: Streams = defaultdict(list)
    work = []
    for number, rows in enumerate(_shares(total, _ROWS, rng)):
        clusters = _clusters(own.lanes, own.max_clusters, not number, rng, whole)
        counts = (rng.integers(0, 65536, clusters) >> rng.integers(16)).astype(np.uint16)
        scores = _scores(rng, rows, clusters)
        ratio = float(rng.choice([0.0, 0.3, 0.3, 1.0, rng.uniform()]))
        found = select_bucketed(scores, counts, ratio, own.buckets)
        chosen = np.flatnonzero(found.mask.any(axis=0)).tolist()
        share = round(ratio * 2**own.ratio_bits)
        streams["command"].append(clusters | rows << 16 | share << 32)
        streams["counts"] += row_beats(counts[None], own.lanes, fill=-1)
        streams["scores"] += row_beats(scores, own.lanes, fill=int(rng.integers(2**16)))
        streams["results"] += cluster_words(chosen)
        walked = tuple(found.visited.tolist())
        work.append(ThresholdWork(clusters=clusters, walked=walked, chosen=tuple(chosen)))
    first = work[0]
    mask = np.zeros(first.clusters, np.bool_)
    mask[list(first.chosen)] = True
    cycles = int(own.cycles(np.array(first.walked), mask))
    return [
        StreamCase(
            kernel="threshold",
            component=component,
            vectors=_vectors(streams, "results"),
            graph=lambda arrivals: threshold_graph(own, work, arrivals),
            closed=(Closed("command", "results", len(first.chosen), cycles),),
        )
    ]


def _scores(rng: Rng, rows: int, clusters: int) -> NDArray[np.int16]:
    kind = rng.integers(4)
    if kind < 2:
        logits = rng.normal(0, rng.uniform(0.3, 4), (rows, clusters)).astype(np.float32)
        return align_scores(np.exp(logits - logits.max(axis=1, keepdims=True)))
    if kind == 2:
        few: NDArray[np.int64] = rng.choice([-32768, -1, 0, 1, 32767], (rows, clusters))
        return few.astype(np.int16)
    scores = rng.integers(-32768, 32768, (rows, clusters)) >> int(rng.integers(1, 15))
    return scores.astype(np.int16)


def _kv_management(
    component: Callable[[], Any], sizes: UnitSizes, total: int, rng: Rng, whole: bool
) -> list[StreamCase]:
    """Draw appends and fetches of all layers; each begins with more tokens than stay resident."""
    own = sizes.kv_management
    more = own.extents // 2 if whole else min(own.extents // 2, _SOME)
    begun = min(own.resident + more * own.extent_tokens, 2**16 - 1 - total)
    streams: Streams = defaultdict(list)
    layers = [_placement(own, layer) for layer in range(own.layers)]
    work = [_append(own, layers, layer, begun, True, streams, rng) for layer in range(own.layers)]
    for tokens in _shares(total, 3 * own.extent_tokens, rng):
        layer = int(rng.integers(own.layers))
        work.append(_append(own, layers, layer, tokens, False, streams, rng))
        chosen = np.flatnonzero(rng.random(own.clusters) < rng.choice([0.01, 0.1, 0.5]))
        layer = int(rng.integers(own.layers))
        work.append(_fetch(own, layers, layer, [0, *chosen[chosen > 0].tolist()], streams))
    cycles = own.append_cycles(begun, clear=True)
    return [
        StreamCase(
            kernel="kv_management",
            component=component,
            vectors=_vectors(streams, "writes", "reads"),
            graph=lambda arrivals: kv_management_graph(own, work, arrivals),
            closed=(Closed("command", "writes", begun, cycles),),
        )
    ]


def _placement(sizes: KvManagementSizes, layer: int) -> KvPlacement:
    return KvPlacement(
        resident=sizes.resident,
        extent_tokens=sizes.extent_tokens,
        extents=sizes.extents,
        layer=layer,
    )


def _append(
    sizes: KvManagementSizes,
    layers: Sequence[KvPlacement],
    layer: int,
    tokens: int,
    clear: bool,
    streams: Streams,
    rng: Rng,
) -> KvManagementWork:
    """Append tokens whose clusters come in bursts, so that some extents are adjacent."""
    bursts = rng.integers(1, 3 * sizes.extent_tokens, tokens)
    drawn = np.minimum(rng.geometric(0.1, tokens) - 1, sizes.clusters - 1)
    clusters = np.repeat(drawn, bursts)[:tokens].tolist()
    streams["command"].append(tokens | layer << 16 | clear << 24)
    streams["clusters"] += clusters
    streams["writes"] += write_words(layers[layer].append(clusters), sizes)
    return KvManagementWork(tokens=tokens, clear=clear)


def _fetch(
    sizes: KvManagementSizes,
    layers: Sequence[KvPlacement],
    layer: int,
    chosen: Sequence[int],
    streams: Streams,
) -> KvManagementWork:
    streams["command"].append(layer << 16 | 1 << 25)
    streams["chosen"] += cluster_words(chosen)
    streams["reads"] += read_words(fetched(layers[layer], chosen)[0], sizes)
    runs = [
        tuple(-(-read.tokens // sizes.extent_tokens) for read in layers[layer].fetch([cluster]))
        for cluster in chosen
    ]
    return KvManagementWork(chosen=tuple(runs))


def _retrieval_engine(
    component: Callable[[], Any], sizes: UnitSizes, total: int, rng: Rng, whole: bool
) -> list[StreamCase]:
    """Draw a dialogue; its commands follow each other at once, or each when all is done.

    The first layer begins with more tokens than stay resident, in a few clusters.
    """
    own = sizes.retrieval_engine
    dialogue = Dialogue(own, int(rng.integers(2**32)))
    begun = own.kv_management.resident + (_SOME if whole else 2) * own.kv_management.extent_tokens
    while begun > 0:
        tokens = min(begun, own.hash_cluster.clusters // 2)
        dialogue.frame(0, tokens, ahead=False, flips=(0, 1))
        begun -= tokens
    for tokens in _shares(total, _FRAME, rng):
        layer = int(rng.integers(own.kv_management.layers))
        dialogue.frame(layer, tokens, ahead=bool(rng.integers(2)))
    cycles = timed(own, dialogue.commands)
    begins = np.cumsum([0] + [taken + _MARGIN for taken, _ in cycles[:-1]])
    reads = np.cumsum([len(command.reads) for command in dialogue.commands]).tolist()
    closed = tuple(
        Closed("command", "reads", end, taken, first=number)
        for number, ((taken, exact), end) in enumerate(zip(cycles, reads, strict=True))
        if exact
    )
    case = partial(StreamCase, kernel="retrieval_engine", component=component, graph=None)
    at_once = engine_vectors(own, dialogue.commands)
    alone = engine_vectors(own, dialogue.commands, arrivals={"command": begins})
    return [case(half="at once", vectors=at_once), case(half="alone", vectors=alone, closed=closed)]


DRAWN = {
    "hash_cluster": _hash_cluster,
    "mean_key": _mean_key,
    "score_align": _score_align,
    "threshold": _threshold,
    "kv_management": _kv_management,
    "retrieval_engine": _retrieval_engine,
}
"""How the work for each unit is drawn, by its name."""
