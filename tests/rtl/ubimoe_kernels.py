"""Random sizes and random work of UbiMoE's kernels, and its streams.

What must come out is the caller's: every `*_vectors` takes it as a function of what was drawn.
"""

import importlib.util
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.models.kernels import fixed
from headrace.rtl.streams import StreamVectors, pack

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_parameters", Path(__file__).parent / "ubimoe_parameters.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
beats_of = _shared.beats_of
image = _shared.image
norm_beats = _shared.norm_beats

ONE = 1 << 22


def _vectors(streams: Any, more: Any, *outputs: str) -> StreamVectors:
    results = {port: streams.pop(port) for port in outputs or ("results",)}
    return StreamVectors(streams, results, **more)


def _edges(bits: int) -> tuple[int, int]:
    return -(1 << bits - 1), (1 << bits - 1) - 1


# linear


@dataclass(frozen=True)
class Job:
    """One load and its computation."""

    x: Any  # rows, in_tiles T_in
    w: Any  # out_tiles T_out, in_tiles T_in
    b: Any  # out_tiles T_out
    gelu: bool = False


def linear_sizes(formats: Any, rng: Any) -> LinearSizes:
    most_in, most_out = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    return LinearSizes(
        formats=formats,
        tile_in=int(rng.integers(1, 6)),
        tile_out=int(rng.integers(1, 4)),
        lanes=int(rng.integers(1, 5)),
        max_in_tiles=most_in,
        max_out_tiles=most_out,
        max_tiles=int(rng.integers(1, most_in * most_out + 1)),
        slots=int(rng.integers(1, 3)),
        beat_bits=int(rng.integers(8, 100)),
        bias_fraction=int(rng.integers(8, 13)),
        gelu=bool(rng.integers(2)),
    )


def linear_shape(sizes: LinearSizes, rng: Any) -> tuple[int, int, int]:
    """Draw rows, input tiles and output tiles."""
    shapes = [
        (i, o)
        for i, o in product(range(1, sizes.max_in_tiles + 1), range(1, sizes.max_out_tiles + 1))
        if i * o <= sizes.max_tiles
    ]
    return (int(rng.integers(1, 3 * sizes.lanes + 1)), *shapes[rng.integers(len(shapes))])


def linear_job(
    sizes: LinearSizes, shape: tuple[int, int, int], rng: Any, extreme: bool = False
) -> Job:
    """Draw numbers of the whole range, or of its ends alone."""
    rows, in_tiles, out_tiles = shape
    inputs, outputs = in_tiles * sizes.tile_in, out_tiles * sizes.tile_out

    def numbers(bits: int, *shape: int) -> Any:
        low, high = _edges(bits)
        if extreme:
            return rng.choice([low, high, -1, 0, 1], shape)
        return rng.integers(low, high + 1, shape)

    return Job(
        numbers(sizes.formats.operand_bits, rows, inputs),
        numbers(sizes.formats.weight_bits, outputs, inputs),
        numbers(16, outputs),
    )


def gelu_job(sizes: LinearSizes, rng: Any, gelu: bool = True) -> Job:
    """Draw a job with many results in the curved part of GELU, some beyond."""
    drop = {"w16a32": 8, "int16": 6, "int8": 0}[sizes.formats.name]
    job = linear_job(sizes, linear_shape(sizes, rng), rng)
    bias = job.b >> rng.choice([1, 6, 6], job.b.shape)
    return replace(job, w=job.w >> drop, b=bias, gelu=gelu)


def linear_vectors(sizes: LinearSizes, jobs: Any, expect: Any, **more: Any) -> StreamVectors:
    """Return the streams of jobs; `expect(sizes, job)` gives wide rows."""
    t_in, t_out, formats = sizes.tile_in, sizes.tile_out, sizes.formats
    streams: Any = defaultdict(list)
    for job in jobs:
        rows, in_tiles, out_tiles = len(job.x), job.x.shape[1] // t_in, len(job.b) // t_out
        streams["load"].append(in_tiles | out_tiles << 16)
        streams["compute"].append(rows | in_tiles << 16 | out_tiles << 32 | job.gelu << 48)
        layer = fixed.Affine(weights=job.w, bias=job.b)
        streams["weights"] += image(layer, t_in, t_out, formats.weight_bits, sizes.beat_bits)
        streams["inputs"] += beats_of(job.x, t_in, formats.operand_bits)
        wide = expect(sizes, job)
        for group in range(0, rows, sizes.lanes):
            for o in range(0, out_tiles * t_out, t_out):
                streams["results"] += pack(wide[group : group + sizes.lanes, o : o + t_out], 32)
    return _vectors(streams, more)


# streaming_attention


def attention_sizes(formats: Any, rng: Any) -> StreamingAttentionSizes:
    head_dim = int(rng.choice([4, 16]))
    heads, lanes = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    tokens = int(rng.integers(lanes, 21 if head_dim == 4 else 9))
    return StreamingAttentionSizes(
        formats=formats,
        heads=heads,
        head_dim=head_dim,
        dims=int(rng.choice([d for d in (1, 2, 4, 8, 16) if d <= head_dim])),
        lanes=lanes,
        max_tokens=tokens,
        exp_units=int(rng.choice([1, heads])),
    )


def attention_steps(tokens: int, lanes: int) -> int:
    """Return the first step in which no lane can hold a row any more."""
    return max((row // lanes) * tokens + row % lanes + tokens for row in range(tokens))


def attention_operands(
    sizes: StreamingAttentionSizes, tokens: int, rng: Any, spread: float
) -> list[Any]:
    """Draw q, k, v: numbers of about `spread`, cut to the operands' range."""
    low, high = _edges(sizes.formats.operand_bits)
    real = rng.normal(0, spread, (3, tokens, sizes.heads * sizes.head_dim))
    scaled = np.clip(real * 2.0**sizes.formats.operand_fraction, low, high)
    return list(scaled.astype(np.int64))


def attention_vectors(
    sizes: StreamingAttentionSizes, passes: Any, expect: Any, **more: Any
) -> StreamVectors:
    """Return the streams of passes (q, k, v); `expect(sizes, (q, k, v))` gives rows."""
    streams: Any = defaultdict(list)

    def add(port: str, rows: Any) -> None:
        streams[port] += beats_of(rows, sizes.dims, sizes.formats.operand_bits)

    for q, k, v in passes:
        tokens = len(q)
        order = np.arange(attention_steps(tokens, sizes.lanes)) % tokens
        streams["command"].append(tokens)
        add("queries", q)
        add("keys", k[order])
        add("values", v[order])
        add("results", expect(sizes, (q, k, v)))
    return _vectors(streams, more)


# layer_norm


def norm_sizes(formats: Any, rng: Any) -> LayerNormSizes:
    dims, row_beats = rng.randint(1, 9), rng.choice([1, 2, 3, 7, 20, 80])
    return LayerNormSizes(formats=formats, width=dims * row_beats, dims=dims)


def _norm_row(sizes: LayerNormSizes, kind: str, rng: Any) -> list[int]:
    one, width = 1 << sizes.formats.feature_fraction, sizes.width
    if kind == "ordinary":
        return [round(rng.gauss(0.3, 1.2) * one) for _ in range(width)]
    if kind == "equal":
        return [rng.randint(-2 * one, 2 * one)] * width
    low, high = _edges(sizes.formats.feature_bits)
    return [rng.choice([low, high, rng.randint(low, high)])] + [
        rng.randint(low, high) for _ in range(width - 1)
    ]


def norm_command(sizes: LayerNormSizes, tokens: int, rng: Any) -> tuple[Any, Any, Any]:
    """Draw gains, offsets, and rows in turn ordinary, of equal features, and of anything, where
    sums and products wrap.
    """
    gains, offsets = (
        [rng.randint(-(2**15), 2**15 - 1) if rng.random() < 0.3 else rng.randrange(6000)
         for _ in range(sizes.width)]
        for _ in range(2)
    )  # fmt: skip
    kinds = ("ordinary", "equal", "anything")
    rows = [_norm_row(sizes, kinds[i % 3], rng) for i in range(tokens)]
    return np.array(gains), np.array(offsets), np.array(rows)


def norm_vectors(sizes: LayerNormSizes, commands: Any, expect: Any, **more: Any) -> StreamVectors:
    """Return the streams of commands (gains, offsets, rows); `expect(sizes, command)`: rows."""
    streams: Any = defaultdict(list)
    formats = sizes.formats
    for gains, offsets, rows in commands:
        streams["command"].append(len(rows))
        streams["parameters"] += norm_beats(fixed.Affine(weights=gains, bias=offsets), sizes.dims)
        streams["inputs"] += beats_of(rows, sizes.dims, formats.feature_bits)
        results = expect(sizes, (gains, offsets, rows))
        streams["results"] += beats_of(results, sizes.dims, formats.operand_bits)
    return _vectors(streams, more)


# gate


def gate_sizes(formats: Any, rng: Any) -> GateSizes:
    experts = rng.choice([1, 2, 3, 4, 5, 8, 16])
    return GateSizes(
        formats=formats,
        experts=experts,
        top_k=rng.randint(1, experts),
        dims=rng.choice([1, 2, 3, 4, 5, 8]),
        row_beats=rng.choice([1, 2, 3, 8]),
        max_tokens=8,
    )


def _number(rng: Any, bits: int, fraction: int, spread: float | None) -> int:
    """Draw a normal number of a standard deviation, or any of the range."""
    low, high = _edges(bits)
    if spread is None:
        return int(rng.choice([low, high, rng.randint(low, high)]))
    return min(max(round(rng.gauss(0, spread) * 2**fraction), low), high)


def gate_operands(sizes: GateSizes, tokens: int, rng: Any) -> tuple[Any, Any]:
    """Draw weights and rows: natural, over the whole range, zero; some experts twins."""
    formats, width = sizes.formats, sizes.dims * sizes.row_beats
    spread = rng.choice([2 / math.sqrt(width), 2 / math.sqrt(width), None])
    weights = [
        [_number(rng, formats.weight_bits, formats.weight_fraction, spread) for _ in range(width)]
        for _ in range(sizes.experts)
    ]
    for _ in range(sizes.experts // 3):
        weights[rng.randrange(sizes.experts)] = rng.choice(weights)
    rows = []
    for _ in range(tokens):
        spread = rng.choice([1, 1, 0, 0.1, None])
        bits, fraction = formats.operand_bits, formats.operand_fraction
        rows.append([_number(rng, bits, fraction, spread) for _ in range(width)])
    return np.array(weights), np.array(rows)


def choices_beats(choices: Any) -> list[int]:
    """Return a beat for each token's choices (expert, probability), best first."""
    return [
        sum((int(e) | int(p) << 8) << 31 * rank for rank, (e, p) in enumerate(token))
        for token in choices
    ]


def gate_vectors(sizes: GateSizes, commands: Any, expect: Any, **more: Any) -> StreamVectors:
    """Return the streams of commands (weights, rows); `expect(sizes, command)`: choices."""
    streams: Any = defaultdict(list)
    formats = sizes.formats
    for weights, rows in commands:
        streams["command"].append(len(rows))
        streams["weights"] += beats_of(weights, sizes.dims, formats.weight_bits)
        streams["inputs"] += beats_of(rows, sizes.dims, formats.operand_bits)
        streams["choices"] += choices_beats(expect(sizes, (weights, rows)))
    return _vectors(streams, more, "choices")


# dispatch


def dispatch_sizes(rng: Any) -> DispatchSizes:
    experts = rng.choice([1, 2, 3, 5, 8, 16])
    top_k = rng.randint(1, min(experts, 4))
    return DispatchSizes(max_tokens=rng.randint(1, 12), experts=experts, top_k=top_k)


def routing(rng: Any, tokens: int, allowed: Any, top_k: int) -> Any:
    """Draw for each token different experts out of `allowed`, with scores up to one."""
    return [[(e, rng.randint(0, ONE)) for e in rng.sample(allowed, top_k)] for _ in range(tokens)]


def some_routing(sizes: DispatchSizes, rng: Any) -> Any:
    """Draw a routing in which some experts are chosen by nobody."""
    allowed = rng.sample(range(sizes.experts), rng.randint(sizes.top_k, sizes.experts))
    return routing(rng, rng.randint(1, sizes.max_tokens), allowed, sizes.top_k)


def dispatch_vectors(
    sizes: DispatchSizes, commands: Any, expect: Any, **more: Any
) -> StreamVectors:
    """Return the streams of routings; `expect(sizes, choices)` gives (expert, rows) of the jobs."""
    streams: Any = defaultdict(list)
    for choices in commands:
        streams["command"].append(len(choices))
        streams["choices"] += choices_beats(choices)
        for expert, rows in expect(sizes, choices):
            streams["jobs"].append(expert | len(rows) << 8)
            streams["rows"] += [int(token) | int(score) << 16 for token, score in rows]
    return _vectors(streams, more, "jobs", "rows")


# combine


@dataclass(frozen=True)
class Mixture:
    """One command: residual rows, and the jobs' tokens, scores and wide rows."""

    x: Any
    choices: int
    jobs: Any  # (tokens, scores, rows) of each


def combine_sizes(formats: Any, rng: Any) -> CombineSizes:
    return CombineSizes(
        formats=formats,
        dims=rng.randint(1, 3),
        row_beats=rng.choice([1, 1, 2, 3, 5]),
        lanes=rng.choice([1, 2, 3, 4, 8]),
        max_tokens=rng.randint(1, 9),
    )


def combine_command(sizes: CombineSizes, rng: Any) -> tuple[int, int, int]:
    """Draw tokens, choices of each, and experts."""
    experts = rng.randint(1, 5)
    return rng.randint(1, sizes.max_tokens), rng.randint(1, min(3, experts)), experts


def _signed(rng: Any, bits: int) -> int:
    """Draw a signed number, often at the ends of its range."""
    low, high = _edges(bits)
    return int(rng.choice([low, high, -1, rng.randint(low, high), rng.randint(low, high)]))


def mixture(
    sizes: CombineSizes, command: tuple[int, int, int], rng: Any, dense: bool = False
) -> Mixture:
    """Draw a command's features, its routing with scores (`dense`: one), and results."""
    tokens, choices, experts = command
    width = sizes.dims * sizes.row_beats

    def rows(count: int, bits: int) -> Any:
        return np.array([[_signed(rng, bits) for _ in range(width)] for _ in range(count)])

    x = rows(tokens, sizes.formats.feature_bits)
    queues: dict[int, list[int]] = {}
    for token in range(tokens):
        for expert in rng.sample(range(experts), choices):
            queues.setdefault(expert, []).append(token)
    jobs = []
    for expert in sorted(queues):
        queue = queues[expert]
        scores = [ONE if dense else rng.choice([0, 1, ONE, rng.randint(0, ONE)]) for _ in queue]
        jobs.append((queue, scores, rows(len(queue), 32)))
    return Mixture(x, choices, jobs)


def combine_vectors(sizes: CombineSizes, mixtures: Any, expect: Any, **more: Any) -> StreamVectors:
    """Return the streams of mixtures; `expect(sizes, mixture)` gives features, which may wrap."""
    streams: Any = defaultdict(list)
    bits = sizes.formats.feature_bits
    for one in mixtures:
        streams["command"].append(len(one.x) | one.choices << 16)
        streams["residual"] += beats_of(one.x, sizes.dims, bits)
        for tokens, scores, wide in one.jobs:
            streams["jobs"].append(len(tokens))
            streams["rows"] += [t | p << 16 for t, p in zip(tokens, scores, strict=True)]
            for first in range(0, len(tokens), sizes.lanes):
                group = wide[first : first + sizes.lanes].reshape(-1, sizes.row_beats, sizes.dims)
                streams["values"] += beats_of(group.swapaxes(0, 1), sizes.dims, 32)
        streams["results"] += beats_of(expect(sizes, one), sizes.dims, bits)
    return _vectors(streams, more)
