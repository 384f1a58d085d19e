"""Small vectors for the test bench of every kernel, at its real sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.hls.ubimoe import rules
from headrace.hls.ubimoe.gate import CHOICE_BITS
from headrace.hls.ubimoe.patch_embedding import (
    PATCH_WEIGHT_BITS,
    PIXEL_BITS,
    PatchEmbeddingSizes,
)
from headrace.hls.ubimoe.prefetch import ADDRESS_BITS
from headrace.hls.ubimoe.rules import Ints
from headrace.hls.ubimoe.words import beats_of, draw, draw_real, image_of, pack, thin

__all__ = [
    "Sample",
    "combine_sample",
    "dispatch_sample",
    "gate_sample",
    "layer_norm_sample",
    "linear_sample",
    "patch_embedding_sample",
    "prefetch_sample",
    "streaming_attention_sample",
]

_ONE = 1 << WIDE_FRACTION


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Work for a kernel and what comes of it.

    Parameters
    ----------
    commands : int
    words : dict of str to list of int
        The words of every port, those of the outputs as the rules say.
    """

    commands: int
    words: dict[str, list[int]]


def linear_sample(sizes: LinearSizes, rng: np.random.Generator) -> Sample:
    """Return two commands of up to 2 x 2 tiles, the second one with GELU if there is any."""
    f, tiles = sizes.formats, (sizes.tile_in, sizes.tile_out)
    ins, outs = min(2, sizes.max_in_tiles), min(2, sizes.max_tiles, sizes.max_out_tiles)
    if ins * outs > sizes.max_tiles:
        outs = 1
    words: dict[str, list[int]] = {
        name: [] for name in ("load", "compute", "weights", "inputs", "results")
    }
    for gelu in (False, sizes.gelu):
        rows = sizes.lanes + 1
        x = draw(rng, f.operand_bits, rows, ins * sizes.tile_in)
        w = draw(rng, f.weight_bits, outs * sizes.tile_out, ins * sizes.tile_in)
        b = draw(rng, BIAS_BITS, len(w))
        y = rules.linear(x, w, b, f, sizes.bias_fraction)
        y = (rules.gelu(y) if gelu else y).reshape(rows, outs, sizes.tile_out)
        words["load"].append(pack([ins, outs], 16))
        words["compute"].append(pack([rows, ins, outs, int(gelu)], 16))
        words["weights"] += image_of(w, b, tiles, f.weight_bits, sizes.beat_bits)
        words["inputs"] += beats_of(x, sizes.tile_in, f.operand_bits)
        for group in (y[: sizes.lanes], y[sizes.lanes :]):
            words["results"] += beats_of(group.swapaxes(0, 1), sizes.tile_out, WIDE_BITS)
    return Sample(commands=2, words=words)


def streaming_attention_sample(sizes: StreamingAttentionSizes, rng: np.random.Generator) -> Sample:
    """Return one command of a token more than there are lanes, if there is room for it."""
    f, tokens = sizes.formats, min(sizes.lanes + 1, sizes.max_tokens)
    width, dims = sizes.heads * sizes.head_dim, sizes.dims
    q, k, v = (draw_real(rng, 1.5, f.operand_fraction, tokens, width) for _ in range(3))
    if not f.saturates:
        q[0], k[1 % tokens] = (draw(rng, f.operand_bits, width) for _ in range(2))
    q, k, v = (rules.wrap(rows, f.operand_bits) for rows in (q, k, v))
    heads = [slice(at, at + sizes.head_dim) for at in range(0, width, sizes.head_dim)]
    rows = [rules.attend(q[:, head], k[:, head], v[:, head], f, dims) for head in heads]
    passes, more = divmod(tokens + sizes.lanes - 1, sizes.lanes)
    order = [step % tokens for step in range(passes * tokens + more)]
    given = {
        "queries": q,
        "keys": k[order],
        "values": v[order],
        "results": np.concatenate(rows, axis=1),
    }
    words = {name: beats_of(data, dims, f.operand_bits) for name, data in given.items()}
    return Sample(commands=1, words={"command": [tokens], **words})


def layer_norm_sample(sizes: LayerNormSizes, rng: np.random.Generator) -> Sample:
    """Return one command of three rows: of a network, of any values, and all of them equal."""
    f, dims = sizes.formats, sizes.dims
    x = rules.wrap(draw_real(rng, 2, f.feature_fraction, 3, sizes.width), f.feature_bits)
    x[1] = draw(rng, f.feature_bits, sizes.width)
    x[2] = x[2, 0]
    gain, offset = draw(rng, 14, sizes.width), draw(rng, 16, sizes.width)
    words = {
        "command": [3],
        "parameters": beats_of(np.stack([gain, offset], axis=1), 2 * dims, 16),
        "inputs": beats_of(x, dims, f.feature_bits),
        "results": beats_of(rules.normalise(x, gain, offset, f), dims, f.operand_bits),
    }
    return Sample(commands=1, words=words)


def gate_sample(sizes: GateSizes, rng: np.random.Generator) -> Sample:
    """Return one command of up to three tokens; the last expert is like the first one."""
    f, tokens, width = sizes.formats, min(3, sizes.max_tokens), sizes.dims * sizes.row_beats
    x = rules.wrap(draw_real(rng, 1, f.operand_fraction, tokens, width), f.operand_bits)
    w = draw_real(rng, 0.1, min(f.weight_fraction, f.weight_bits), sizes.experts, width)
    w = rules.wrap(w, f.weight_bits)
    w[-1] = w[0]
    scores = rules.linear(x, w, np.zeros(len(w), np.int64), f, 0)
    experts, scored = rules.choose(scores, sizes.top_k)
    words = {
        "command": [tokens],
        "weights": beats_of(w, sizes.dims, f.weight_bits),
        "inputs": beats_of(x, sizes.dims, f.operand_bits),
        "choices": beats_of(experts | scored << 8, sizes.top_k, CHOICE_BITS),
    }
    return Sample(commands=1, words=words)


def _draw_choices(
    rng: np.random.Generator, tokens: int, experts: int, top_k: int
) -> tuple[Ints, Ints]:
    chosen = np.array([rng.permutation(experts)[:top_k] for _ in range(tokens)])
    return chosen, rng.integers(0, _ONE + 1, chosen.shape)


def _queues(experts: Ints, scores: Ints) -> dict[int, list[tuple[int, int]]]:
    """Return (token, score) of every expert that is chosen, both in ascending order."""
    queues: dict[int, list[tuple[int, int]]] = {int(e): [] for e in np.unique(experts)}
    for (token, rank), expert in np.ndenumerate(experts):
        queues[int(expert)].append((token, int(scores[token, rank])))
    return queues


def dispatch_sample(sizes: DispatchSizes, rng: np.random.Generator) -> Sample:
    """Return two commands of up to five tokens."""
    words: dict[str, list[int]] = {n: [] for n in ("command", "choices", "jobs", "rows")}
    tokens = min(5, sizes.max_tokens)
    for _ in range(2):
        experts, scores = _draw_choices(rng, tokens, sizes.experts, sizes.top_k)
        words["command"].append(tokens)
        words["choices"] += beats_of(experts | scores << 8, sizes.top_k, CHOICE_BITS)
        for expert, rows in _queues(experts, scores).items():
            words["jobs"].append(expert | len(rows) << 8)
            words["rows"] += [token | score << 16 for token, score in rows]
    return Sample(commands=2, words=words)


def combine_sample(sizes: CombineSizes, rng: np.random.Generator) -> Sample:
    """Return two commands of up to four tokens: two experts of three each, then a dense FFN."""
    f, dims, tokens = sizes.formats, sizes.dims, min(4, sizes.max_tokens)
    names = ("command", "jobs", "rows", "values", "residual", "results")
    words: dict[str, list[int]] = {name: [] for name in names}
    for choices, experts in ((2, 3), (1, 1)):
        x = draw(rng, f.feature_bits, tokens, dims * sizes.row_beats)
        chosen, scores = _draw_choices(rng, tokens, experts, choices)
        words["command"].append(tokens | choices << 16)
        words["residual"] += beats_of(x, dims, f.feature_bits)
        for rows in _queues(chosen, scores if experts > 1 else np.full_like(scores, _ONE)).values():
            y = draw(rng, WIDE_BITS, len(rows), x.shape[1])
            words["jobs"].append(len(rows))
            words["rows"] += [token | score << 16 for token, score in rows]
            for first in range(0, len(rows), sizes.lanes):
                group = y[first : first + sizes.lanes].reshape(-1, sizes.row_beats, dims)
                words["values"] += beats_of(group.swapaxes(0, 1), dims, WIDE_BITS)
            for (token, score), result in zip(rows, y, strict=True):
                rules.contribute(x, token, result, score, f)
        words["results"] += beats_of(x, dims, f.feature_bits)
    return Sample(commands=2, words=words)


def patch_embedding_sample(sizes: PatchEmbeddingSizes, rng: np.random.Generator) -> Sample:
    """Return one command of up to two patches; most tiles of the weights are zero."""
    f, tiles = sizes.formats, (sizes.tile_in, sizes.tile_out)
    patches, inputs = min(2, sizes.max_tokens - 1), sizes.in_tiles * sizes.tile_in
    pixels = rng.integers(0, 1 << PIXEL_BITS, (patches, inputs))
    pixels[:, sizes.pixels :] = 0
    w = draw(rng, PATCH_WEIGHT_BITS, sizes.width, inputs)
    thin(rng, w, tiles)
    b, positions = draw(rng, BIAS_BITS, sizes.width), draw(rng, f.feature_bits, patches + 1,
                                                             sizes.width)  # fmt: skip
    rows = rules.embed(pixels, w, b, positions, f)
    words = {
        "command": [patches],
        "weights": image_of(w, b, tiles, PATCH_WEIGHT_BITS, sizes.beat_bits),
        "pixels": beats_of(pixels, sizes.tile_in, PIXEL_BITS),
        "positions": beats_of(positions, sizes.tile_out, f.feature_bits),
        "results": beats_of(rows, sizes.tile_out, f.feature_bits),
    }
    return Sample(commands=1, words=words)


def prefetch_sample(
    sizes: PrefetchSizes, loads: Sequence[tuple[int, int]], rng: np.random.Generator
) -> Sample:
    """Return three jobs of two experts, of a burst and a word more each."""
    beats, bits = sizes.burst_beats + 1, sizes.port_bits
    stride = sizes.stride(beats)
    images = rng.integers(0, 256, (2, beats, sizes.beat_bits // 8), np.uint8)
    stripes = [np.concatenate(parts) for parts in zip(*map(sizes.stripes, images), strict=True)]
    words: dict[str, list[int]] = {
        f"port{port}": [0] * sizes.burst_beats + _words(stripe, bits)
        for port, stripe in enumerate(stripes)
    }
    bases = sum(sizes.burst_bytes << (ADDRESS_BITS * port) for port in range(sizes.ports))
    order = (1, 0, 1)
    words["jobs"] = [e | stride << 8 | beats << 40 | bases << 72 for e in order]
    words["load"] = [ins | outs << 16 for ins, outs in loads] * len(order)
    words["weights"] = [w for e in order for w in _words(images[e].ravel(), sizes.beat_bits)]
    return Sample(commands=len(order), words=words)


def _words(data: np.ndarray, bits: int) -> list[int]:
    """Return bytes as words, the lowest byte first."""
    return [int.from_bytes(row.tobytes(), "little") for row in data.reshape(-1, bits // 8)]
