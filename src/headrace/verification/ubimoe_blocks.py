"""Work for UbiMoE's weight prefetch and for a whole encoder block, with what must come of it."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.block_resources import encoder_block_resources
from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.hls import ubimoe as hls
from headrace.models.kernels import fixed
from headrace.rtl.axi_memory import ReadPlan
from headrace.rtl.streams import StreamVectors
from headrace.rtl.ubimoe.encoder_block import EncoderBlock
from headrace.rtl.ubimoe.prefetch import Prefetch
from headrace.sim.ubimoe.encoder_block import encoder_block_graph
from headrace.sim.ubimoe.moe_block import MoeWork
from headrace.sim.ubimoe.prefetch import prefetch_graph
from headrace.verification.stream_case import Closed
from headrace.verification.ubimoe_cases import Case, Hls
from headrace.verification.ubimoe_words import (
    Ints,
    Rng,
    beats,
    natural,
    norm_beats,
    weight_image,
)

__all__ = ["encoder_block_case", "prefetch_case"]

_LATENCY = 40  # cycles of the memory; no value of a device
_IMAGES = 3  # of a job's table
_STRIDE_PLACE, _BEATS_PLACE, _BASES_PLACE, _ADDRESS_BITS = 8, 40, 72, 40
_FAR = 34  # each port's memory begins at a multiple of 2^34, to use all address bits


def prefetch_case(
    sizes: PrefetchSizes, half: str, loads: Sequence[tuple[int, int]], total: int, rng: Rng
) -> Case:
    """Draw jobs of `total` beats or more: more bursts than may be under way, one beat, any.

    Parameters
    ----------
    sizes : PrefetchSizes
    half : str
    loads : sequence of (int, int)
        Tiles of the images of a job; they matter only in HLS.
    total : int
    rng : numpy.random.Generator
    """
    burst, word_bytes = sizes.burst_beats, sizes.port_bits // 8
    counts = [(sizes.outstanding + 1) * burst + 1, 1]
    while sum(counts) < total:
        counts.append(int(rng.integers(1, 4 * burst)))
    words, placed = 0, []  # of every port's memory; where each job's image begins
    for count in counts:
        table = words + burst * int(rng.integers(1, 3))
        placed.append((table, int(rng.integers(_IMAGES))))
        words = table + _IMAGES * sizes.bursts(count) * burst
    memory = rng.integers(0, 256, (sizes.ports, words, word_bytes), np.uint8)

    jobs: dict[str, list[int]] = {"rtl": [], "hls": []}
    expected: list[int] = []
    for count, (table, image) in zip(counts, placed, strict=True):
        stride = int(sizes.stride(count))
        for where, far in (("rtl", 1), ("hls", 0)):
            bases = [(far * (p + 1) << _FAR) + table * word_bytes for p in range(sizes.ports)]
            job = image | stride << _STRIDE_PLACE | count << _BEATS_PLACE
            for port, base in enumerate(bases):
                job |= base << (_BASES_PLACE + _ADDRESS_BITS * port)
            jobs[where].append(job)
        first = table + image * stride // word_bytes
        for beat in memory[:, first : first + count].swapaxes(0, 1):
            expected.append(int.from_bytes(beat.tobytes(), "little"))
    plans = {
        f"port{port}_": ReadPlan(
            word_bytes=word_bytes,
            regions={(port + 1) << _FAR: held.tobytes().hex()},
            latency=[_LATENCY],
        )
        for port, held in enumerate(memory)
    }
    latencies = [[_LATENCY] * sum(int(sizes.bursts(n)) for n in counts)] * sizes.ports
    ports = {
        f"port{port}": [int.from_bytes(word.tobytes(), "little") for word in held]
        for port, held in enumerate(memory)
    }
    tiles = [ins | outs << 16 for ins, outs in loads] * len(counts)
    return Case(
        kernel="prefetch",
        half=half,
        component=lambda: Prefetch(sizes),
        vectors=StreamVectors({"jobs": jobs["rtl"]}, {"weights": expected}, memories=plans),
        graph=lambda arrivals: prefetch_graph(sizes, counts, latencies, arrivals),
        closed=(Closed("jobs", "weights", counts[0], int(sizes.cycles(counts[0], _LATENCY))),),
        hls=Hls(
            lambda: hls.prefetch(sizes, loads, memory_words=words),
            len(counts),
            {"jobs": jobs["hls"], **ports},
            {"weights": expected, "load": tiles},
        ),
    )


def encoder_block_case(sizes: EncoderBlockSizes, counts: Sequence[int], rng: Rng) -> Case:
    """Draw layers of so many tokens, by experts and dense in turn, features natural."""
    msa, moe, f = sizes.msa, sizes.moe, sizes.msa.formats
    formats = fixed.FORMATS[f.name]
    streams: dict[str, list[int]] = defaultdict(list)
    work = []
    for number, count in enumerate(counts):
        block = _draw_block(sizes, number % 2 == 0, rng)
        x = natural(rng, 2.0, f.feature_bits, f.feature_fraction, count, msa.width)
        jobs, loads = _jobs(x, block, formats, msa.dims)
        streams["command"].append(count | (loads is not None) << 16)
        streams["inputs"] += beats(x, msa.dims, f.feature_bits)
        streams["msa_norm"] += norm_beats(block.attention_norm, msa.dims)
        streams["moe_norm"] += norm_beats(block.ffn_norm, msa.dims)
        for layer in (block.attention.qkv, block.attention.projection):
            streams["msa_weights"] += weight_image(layer, msa.linear)
        if isinstance(block.ffn, fixed.Experts):
            streams["gate_weights"] += beats(block.ffn.gate, msa.dims, f.weight_bits)
        for name, ffn in jobs.items():
            streams["jobs"].append(name)
            for layer in (ffn.first, ffn.second):
                streams["moe_weights"] += weight_image(layer, moe.linear)
        results = fixed.encoder_block(x, block, formats, dims=msa.dims)
        streams["results"] += beats(results, msa.dims, f.feature_bits)
        work.append(MoeWork(tokens=count, loads=loads))
    outputs = {name: streams.pop(name) for name in ("jobs", "results")}
    return Case(
        kernel="encoder_block",
        component=lambda: EncoderBlock(sizes),
        vectors=StreamVectors(streams, outputs),
        graph=lambda arrivals: encoder_block_graph(sizes, work, arrivals),
        resources=lambda: sum(encoder_block_resources(sizes).values(), Resources()),
    )


def _draw_block(sizes: EncoderBlockSizes, by_experts: bool, rng: Rng) -> fixed.EncoderBlock:
    moe, f = sizes.moe, sizes.moe.formats
    width = moe.width

    def affine(outputs: int, inputs: int, bias_fraction: int) -> fixed.Affine:
        weights = natural(rng, inputs**-0.5, f.weight_bits, f.weight_fraction, outputs, inputs)
        return fixed.Affine(weights=weights, bias=natural(rng, 0.2, 16, bias_fraction, outputs))

    def norm() -> fixed.Affine:
        gains, offsets = natural(rng, 0.2, 16, f.norm_fraction, 2, width)
        return fixed.Affine(weights=gains + (1 << f.norm_fraction), bias=offsets)

    def feed_forward(hidden: int) -> fixed.FeedForward:
        return fixed.FeedForward(
            first=affine(hidden, width, f.bias_fraction),
            second=affine(width, hidden, f.bias_fraction),
        )

    attention = fixed.Attention(
        heads=sizes.msa.heads,
        qkv=affine(3 * width, width, f.attention_bias_fraction),
        projection=affine(width, width, f.attention_bias_fraction),
    )
    ffn: fixed.Experts | tuple[fixed.FeedForward, ...]
    if by_experts:
        experts = tuple(feed_forward(moe.hidden) for _ in range(moe.experts))
        gate = affine(moe.experts, width, f.bias_fraction).weights
        ffn = fixed.Experts(gate=gate, top_k=moe.top_k, experts=experts)
    else:
        ffn = feed_forward(moe.dense_parts * moe.hidden).parts(moe.dense_parts)
    return fixed.EncoderBlock(attention_norm=norm(), attention=attention, ffn_norm=norm(), ffn=ffn)


def _jobs(
    x: Ints, block: fixed.EncoderBlock, formats: fixed.Formats, dims: int
) -> tuple[dict[int, fixed.FeedForward], tuple[int, ...] | None]:
    """Return what is computed, by its number in `jobs`, and the rows of every expert."""
    ffn = block.ffn
    if not isinstance(ffn, fixed.Experts):
        assert isinstance(ffn, tuple)
        return dict(enumerate(ffn)), None
    norm, between = block.ffn_norm, fixed.msa_block(x, block, formats, dims=dims)
    normalised = fixed.layer_norm(between, norm.weights, norm.bias, formats)
    chosen = fixed.gate(normalised, ffn.gate, formats, top_k=ffn.top_k).experts
    loads = np.bincount(chosen.ravel(), minlength=len(ffn.experts)).tolist()
    return {e: ffn.experts[e] for e, load in enumerate(loads) if load}, tuple(loads)
