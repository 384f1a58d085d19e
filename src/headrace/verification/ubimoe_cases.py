"""Work for UbiMoE's kernels, with the reference's results and what the models say of it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.layer_norm_resources import layer_norm_resources
from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes
from headrace.arch.ubimoe.linear_resources import linear_resources
from headrace.arch.ubimoe.moe_resources import combine_resources, dispatch_resources, gate_resources
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes, attention_steps
from headrace.arch.ubimoe.streaming_attention_resources import streaming_attention_resources
from headrace.hls import ubimoe as hls
from headrace.models.kernels import fixed
from headrace.rtl.streams import StreamVectors
from headrace.rtl.ubimoe.combine import Combine
from headrace.rtl.ubimoe.dispatch import Dispatch
from headrace.rtl.ubimoe.gate import Gate
from headrace.rtl.ubimoe.layer_norm import LayerNorm
from headrace.rtl.ubimoe.linear import Linear
from headrace.rtl.ubimoe.streaming_attention import StreamingAttention
from headrace.sim.ubimoe.combine import CombineWork, combine_graph
from headrace.sim.ubimoe.dispatch import dispatch_graph
from headrace.sim.ubimoe.gate import gate_graph
from headrace.sim.ubimoe.layer_norm import layer_norm_graph
from headrace.sim.ubimoe.linear import LinearWork, linear_graph
from headrace.sim.ubimoe.streaming_attention import streaming_attention_graph
from headrace.verification.stream_case import Closed, StreamCase
from headrace.verification.ubimoe_words import (
    Rng,
    any_numbers,
    beats,
    choice_beats,
    natural,
    norm_beats,
    rows,
    weight_image,
)

__all__ = [
    "Case",
    "Hls",
    "attention_case",
    "combine_case",
    "dispatch_case",
    "draw_choices",
    "gate_case",
    "layer_norm_case",
    "linear_case",
]

_WIDE_BITS, _SCORE_PLACE, _CHOICES_PLACE = 32, 16, 16
_NORM_BITS = 16


@dataclass(frozen=True, eq=False)
class Hls:
    """A kernel in C++, its commands, and the words of its ports."""

    kernel: Callable[[], hls.Kernel]
    commands: int
    inputs: Mapping[str, Sequence[int]]
    results: Mapping[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case(StreamCase):
    """Work for one kernel; `half` is ``MSA`` or ``MoE`` where both have such a kernel.

    Parameters
    ----------
    hls : Hls, optional
    resources : callable, optional
        Returns them by the model.
    """

    hls: Hls | None = None
    resources: Callable[[], Resources] | None = None


def _streams(streams: Mapping[str, list[int]], *outputs: str) -> StreamVectors:
    results = {name: streams[name] for name in outputs}
    return StreamVectors({n: s for n, s in streams.items() if n not in results}, results)


def _hls(kernel: Callable[[], hls.Kernel], vectors: StreamVectors, start: str) -> Hls:
    return Hls(kernel, len(vectors.inputs[start]), vectors.inputs, vectors.results)


def linear_case(
    sizes: LinearSizes, half: str, tiles: Sequence[tuple[int, int]], counts: Sequence[int], rng: Rng
) -> Case:
    """Draw computations of so many rows, their input and output tiles in turn; GELU if even.

    Parameters
    ----------
    sizes : LinearSizes
    half : str
    tiles : sequence of (int, int)
    counts : sequence of int
        Rows of each.
    rng : numpy.random.Generator
    """
    f, formats = sizes.formats, fixed.FORMATS[sizes.formats.name]
    streams: dict[str, list[int]] = defaultdict(list)
    work = []
    for number, count in enumerate(counts):
        ins, outs = tiles[number % len(tiles)]
        gelu = sizes.gelu and number % 2 == 0
        inputs, outputs = ins * sizes.tile_in, outs * sizes.tile_out
        x = rows(rng, 1.0, f.operand_bits, f.operand_fraction, count, inputs)
        w = rows(rng, 1 / inputs**0.5, f.weight_bits, f.weight_fraction, outputs, inputs)
        b = natural(rng, 0.5, BIAS_BITS, sizes.bias_fraction, outputs)
        streams["load"].append(ins | outs << 16)
        streams["compute"].append(count | ins << 16 | outs << 32 | gelu << 48)
        streams["weights"] += weight_image(fixed.Affine(weights=w, bias=b), sizes)
        streams["inputs"] += beats(x, sizes.tile_in, f.operand_bits)
        wide = fixed.linear(x, w, b, formats, bias_fraction=sizes.bias_fraction, gelu=gelu)
        streams["results"] += _grouped(wide, sizes.lanes, sizes.tile_out)
        work.append(LinearWork(rows=count, in_tiles=ins, out_tiles=outs))
    vectors = _streams(streams, "results")
    first = work[0]
    exact = first.in_tiles >= sizes.lanes and first.out_tiles > sizes.lanes
    cycles = int(sizes.compute_cycles(first.rows, first.in_tiles, first.out_tiles))
    # the closed form is that of a computation whose weights are there
    there = np.full(len(work), sizes.load_beats(first.in_tiles, first.out_tiles) + 2)
    return Case(
        kernel="linear",
        half=half,
        component=lambda: Linear(sizes),
        vectors=StreamVectors(vectors.inputs, vectors.results, arrivals={"compute": there}),
        graph=lambda arrivals: linear_graph(sizes, work, arrivals),
        closed=(Closed("compute", "results", first.rows * first.out_tiles, cycles),)
        if exact
        else (),
        hls=_hls(lambda: hls.linear(sizes), vectors, "load"),
        resources=lambda: linear_resources(sizes),
    )


def _grouped(wide: Any, lanes: int, dims: int) -> list[int]:
    """Return wide rows as `linear` gives them: group of rows, output tile, row."""
    found = []
    for first in range(0, len(wide), lanes):
        group = wide[first : first + lanes]
        tiles = group.reshape(len(group), -1, dims).swapaxes(0, 1)
        found += beats(tiles, dims, _WIDE_BITS)
    return found


def attention_case(sizes: StreamingAttentionSizes, counts: Sequence[int], rng: Rng) -> Case:
    """Draw passes of so many tokens each; scores flat, peaked and beyond all bounds."""
    f, formats = sizes.formats, fixed.FORMATS[sizes.formats.name]
    streams: dict[str, list[int]] = defaultdict(list)
    for count in counts:
        shape = (count, sizes.heads, sizes.head_dim)
        spread = float(rng.choice([0.5, 1.5]))
        q, k, v = (rows(rng, spread, f.operand_bits, f.operand_fraction, *shape) for _ in "qkv")
        order = np.arange(attention_steps(count, sizes.lanes)) % count
        streams["command"].append(count)
        for port, found in {
            "queries": q,
            "keys": k[order],
            "values": v[order],
            "results": fixed.streaming_attention(q, k, v, formats, dims=sizes.dims),
        }.items():
            streams[port] += beats(found, sizes.dims, f.operand_bits)
    vectors = _streams(streams, "results")
    transfers, cycles = counts[0] * sizes.row_beats, int(sizes.cycles(counts[0]))
    return Case(
        kernel="streaming_attention",
        component=lambda: StreamingAttention(sizes),
        vectors=vectors,
        graph=lambda arrivals: streaming_attention_graph(sizes, counts, arrivals),
        closed=(Closed("command", "results", transfers, cycles),),
        hls=_hls(lambda: hls.streaming_attention(sizes), vectors, "command"),
        resources=lambda: streaming_attention_resources(sizes),
    )


def layer_norm_case(sizes: LayerNormSizes, counts: Sequence[int], rng: Rng) -> Case:
    """Draw commands of so many rows: any numbers, all equal, as a network has them."""
    f, formats = sizes.formats, fixed.FORMATS[sizes.formats.name]
    streams: dict[str, list[int]] = defaultdict(list)
    for count in counts:
        x = rows(rng, 1.5, f.feature_bits, f.feature_fraction, count, sizes.width)
        x[1:2] = x[1:2, :1]
        gains, offsets = natural(rng, 1.0, _NORM_BITS, f.norm_fraction, 2, sizes.width)
        gains[0], offsets[-1] = any_numbers(rng, _NORM_BITS, 2)
        streams["command"].append(count)
        streams["parameters"] += norm_beats(fixed.Affine(weights=gains, bias=offsets), sizes.dims)
        streams["inputs"] += beats(x, sizes.dims, f.feature_bits)
        results = fixed.layer_norm(x, gains, offsets, formats)
        streams["results"] += beats(results, sizes.dims, f.operand_bits)
    vectors = _streams(streams, "results")
    transfers, cycles = counts[0] * sizes.row_beats, int(sizes.cycles(counts[0]))
    return Case(
        kernel="layer_norm",
        component=lambda: LayerNorm(sizes),
        vectors=vectors,
        graph=lambda arrivals: layer_norm_graph(sizes, counts, arrivals),
        closed=(Closed("command", "results", transfers, cycles),),
        hls=_hls(lambda: hls.layer_norm(sizes), vectors, "command"),
        resources=lambda: layer_norm_resources(sizes),
    )


def gate_case(sizes: GateSizes, counts: Sequence[int], rng: Rng) -> Case:
    """Draw commands of so many rows; the last expert scores as the first one does."""
    f, formats = sizes.formats, fixed.FORMATS[sizes.formats.name]
    width = sizes.dims * sizes.row_beats
    streams: dict[str, list[int]] = defaultdict(list)
    for count in counts:
        x = rows(rng, 1.0, f.operand_bits, f.operand_fraction, count, width)
        w = natural(rng, 2 / width**0.5, f.weight_bits, f.weight_fraction, sizes.experts, width)
        w[-1] = w[0]
        streams["command"].append(count)
        streams["weights"] += beats(w, sizes.dims, f.weight_bits)
        streams["inputs"] += beats(x, sizes.dims, f.operand_bits)
        streams["choices"] += choice_beats(fixed.gate(x, w, formats, top_k=sizes.top_k))
    vectors = _streams(streams, "choices")
    return Case(
        kernel="gate",
        component=lambda: Gate(sizes),
        vectors=vectors,
        graph=lambda arrivals: gate_graph(sizes, counts, arrivals),
        closed=(Closed("command", "choices", counts[0], sizes.cycles(counts[0])),),
        hls=_hls(lambda: hls.gate(sizes), vectors, "command"),
        resources=lambda: gate_resources(sizes),
    )


def draw_choices(tokens: int, experts: int, top_k: int, rng: Rng) -> fixed.Choices:
    """Draw a routing in which some experts may be chosen by nobody."""
    allowed = rng.permutation(experts)[: rng.integers(top_k, experts + 1)]
    chosen = np.array([rng.permutation(allowed)[:top_k] for _ in range(tokens)])
    return fixed.Choices(chosen, rng.integers(0, fixed.ONE + 1, chosen.shape))


def dispatch_case(sizes: DispatchSizes, counts: Sequence[int], rng: Rng) -> Case:
    """Draw routings of so many tokens each."""
    streams: dict[str, list[int]] = defaultdict(list)
    loads = []
    for count in counts:
        choices = draw_choices(count, sizes.experts, sizes.top_k, rng)
        streams["command"].append(count)
        streams["choices"] += choice_beats(choices)
        for job in fixed.dispatch(choices, sizes.experts):
            streams["jobs"].append(job.expert | len(job.tokens) << 8)
            streams["rows"] += _row_words(job)
        loads.append(np.bincount(choices.experts.ravel(), minlength=sizes.experts).tolist())
    vectors = _streams(streams, "jobs", "rows")
    cycles = sizes.cycles(counts[0])
    return Case(
        kernel="dispatch",
        component=lambda: Dispatch(sizes),
        vectors=vectors,
        graph=lambda arrivals: dispatch_graph(sizes, loads, arrivals),
        closed=(Closed("command", "rows", counts[0] * sizes.top_k, cycles),),
        hls=_hls(lambda: hls.dispatch(sizes), vectors, "command"),
        resources=lambda: dispatch_resources(sizes),
    )


def _row_words(job: fixed.Job) -> list[int]:
    words: list[int] = (job.tokens | job.probabilities << _SCORE_PLACE).tolist()
    return words


def combine_case(
    sizes: CombineSizes, half: str, routing: tuple[int, int], counts: Sequence[int], rng: Rng
) -> Case:
    """Draw commands of so many tokens: by experts if there are any, every second one dense.

    Parameters
    ----------
    sizes : CombineSizes
    half : str
    routing : (int, int)
        Experts, and those of a token; (1, 1) if there are none.
    counts : sequence of int
    rng : numpy.random.Generator
    """
    f, formats = sizes.formats, fixed.FORMATS[sizes.formats.name]
    width = sizes.dims * sizes.row_beats
    streams: dict[str, list[int]] = defaultdict(list)
    work = []
    for number, count in enumerate(counts):
        experts, top_k = routing if number % 2 == 0 else (1, 1)
        choices = draw_choices(count, experts, top_k, rng)
        if experts == 1:
            choices.probabilities[:] = fixed.ONE
        jobs = fixed.dispatch(choices, experts)
        x = any_numbers(rng, f.feature_bits, count, width)
        given = [any_numbers(rng, _WIDE_BITS, len(job.tokens), width) for job in jobs]
        streams["command"].append(count | top_k << _CHOICES_PLACE)
        streams["residual"] += beats(x, sizes.dims, f.feature_bits)
        for job, values in zip(jobs, given, strict=True):
            streams["jobs"].append(len(job.tokens))
            streams["rows"] += _row_words(job)
            streams["values"] += _grouped(values, sizes.lanes, sizes.dims)
        results = fixed.combine(x, jobs, given, formats)
        streams["results"] += beats(results, sizes.dims, f.feature_bits)
        work.append(CombineWork(tokens=count, jobs=tuple(len(job.tokens) for job in jobs)))
    vectors = _streams(streams, "results")
    cycles = sizes.cycles(counts[0], routing[1])
    return Case(
        kernel="combine",
        half=half,
        component=lambda: Combine(sizes),
        vectors=vectors,
        graph=lambda arrivals: combine_graph(sizes, work, arrivals),
        closed=(Closed("command", "results", counts[0] * sizes.row_beats, cycles),),
        hls=_hls(lambda: hls.combine(sizes), vectors, "command"),
        resources=lambda: combine_resources(sizes),
    )
