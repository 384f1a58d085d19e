"""Small vectors for the test benches of both halves of an encoder block, at their real sizes."""

import numpy as np

from headrace.arch.ubimoe.formats import WIDE_FRACTION, Formats
from headrace.arch.ubimoe.linear import BIAS_BITS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.hls.ubimoe import rules
from headrace.hls.ubimoe.rules import Ints
from headrace.hls.ubimoe.samples import Sample
from headrace.hls.ubimoe.words import beats_of, draw, draw_real, image_of, thin

__all__ = ["moe_block_sample", "msa_block_sample"]

_ONE = 1 << WIDE_FRACTION


class _Layer:
    """A linear layer with a few tiles that are not zero."""

    def __init__(
        self,
        rng: np.random.Generator,
        sizes: MsaBlockSizes | MoeBlockSizes,
        inputs: int,
        outputs: int,
    ) -> None:
        self.formats = f = sizes.formats
        tiles = (sizes.tile_in, sizes.tile_out)
        w = rules.wrap(draw_real(rng, 0.5, f.weight_fraction, outputs, inputs), f.weight_bits)
        thin(rng, w, tiles)
        self.weights, self.bias = w, draw(rng, BIAS_BITS - 3, outputs)
        self.image = image_of(w, self.bias, tiles, f.weight_bits, sizes.beat_bits)

    def __call__(self, x: Ints, bias_fraction: int) -> Ints:
        return rules.linear(x, self.weights, self.bias, self.formats, bias_fraction)


def _rows(rng: np.random.Generator, f: Formats, tokens: int, width: int) -> tuple[Ints, Ints, Ints]:
    """Return features, and gain and offset of their norm."""
    x = rules.wrap(draw_real(rng, 1, f.feature_fraction, tokens, width), f.feature_bits)
    return x, draw(rng, 13, width), draw(rng, 12, width)


def msa_block_sample(sizes: MsaBlockSizes, rng: np.random.Generator) -> Sample:
    """Return one command of as many tokens as there are lanes."""
    f, width, dims = sizes.formats, sizes.width, sizes.dims
    tokens, fraction = sizes.attention_lanes, f.attention_bias_fraction
    x, gain, offset = _rows(rng, f, tokens, width)
    given = beats_of(x, dims, f.feature_bits)
    qkv, projection = (_Layer(rng, sizes, width, n * width) for n in (3, 1))
    made = rules.to_operand(qkv(rules.normalise(x, gain, offset, f), fraction), f)
    q, k, v = made.reshape(tokens, 3, sizes.heads, -1).swapaxes(0, 1)
    heads = [rules.attend(q[:, h], k[:, h], v[:, h], f, dims) for h in range(sizes.heads)]
    for token, y in enumerate(projection(np.concatenate(heads, axis=1), fraction)):
        rules.contribute(x, token, y, _ONE, f)
    words = {
        "command": [tokens],
        "norm": beats_of(np.stack([gain, offset], axis=1), 2 * dims, 16),
        "weights": qkv.image + projection.image,
        "inputs": given,
        "results": beats_of(x, dims, f.feature_bits),
    }
    return Sample(commands=1, words=words)


def moe_block_sample(sizes: MoeBlockSizes, rng: np.random.Generator) -> Sample:
    """Return one command by experts, of one token."""
    f, width, dims = sizes.formats, sizes.width, sizes.dims
    x, gain, offset = _rows(rng, f, 1, width)
    given = beats_of(x, dims, f.feature_bits)
    normal = rules.normalise(x, gain, offset, f)
    gate = rules.wrap(draw_real(rng, 0.1, f.weight_fraction, sizes.experts, width), f.weight_bits)
    scores = rules.linear(normal, gate, np.zeros(sizes.experts, np.int64), f, 0)
    experts, scored = (row[0] for row in rules.choose(scores, sizes.top_k))
    weights: list[int] = []
    for rank in np.argsort(experts):
        first, second = (
            _Layer(rng, sizes, width, sizes.hidden), _Layer(rng, sizes, sizes.hidden, width)
        )  # fmt: skip
        hidden = rules.to_operand(rules.gelu(first(normal, f.bias_fraction)), f)
        rules.contribute(x, 0, second(hidden, f.bias_fraction)[0], int(scored[rank]), f)
        weights += first.image + second.image
    words = {
        "command": [1 | 1 << 16],
        "norm": beats_of(np.stack([gain, offset], axis=1), 2 * dims, 16),
        "gate_weights": beats_of(gate, dims, f.weight_bits),
        "weights": weights,
        "inputs": given,
        "results": beats_of(x, dims, f.feature_bits),
        "jobs": sorted(experts.tolist()),
    }
    return Sample(commands=1, words=words)
