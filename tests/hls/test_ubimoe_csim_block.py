"""UbiMoE's emitted kernels one behind the other are the reference's encoder block.

Words go from kernel to kernel as they are wherever the widths of beats agree; the test narrows
results and repacks beats, which is what the row memories between the kernels do.
"""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import ONE, beats_of, run, unpack, weight_image

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.hls.ubimoe.encoder import encoder_kernels
from headrace.models.kernels import fixed

READER = PrefetchSizes(ports=2, port_bits=32, burst_beats=2)


def block_sizes(precision: str) -> EncoderBlockSizes:
    shared = {
        "formats": FORMATS[precision], "max_tokens": 7, "dims": 2, "tile_in": 8, "tile_out": 4,
        "beat_bits": READER.beat_bits,
    }  # fmt: skip
    return EncoderBlockSizes(
        msa=MsaBlockSizes(**shared, heads=2, head_dim=16, attention_lanes=3, linear_lanes=2),
        moe=MoeBlockSizes(**shared, width=32, hidden=16, experts=5, top_k=2, linear_lanes=3),
    )


def affine(rng, f, outputs: int, inputs: int) -> fixed.Affine:
    weights = fixed.from_real(rng.normal(0, 0.4, (outputs, inputs)), f.weight_bits,
                              f.weight_fraction)  # fmt: skip
    return fixed.Affine(weights=weights, bias=rng.integers(-300, 300, outputs))


def draw_block(rng, f, sizes: EncoderBlockSizes) -> fixed.EncoderBlock:
    width, moe = sizes.msa.width, sizes.moe
    norms = [
        fixed.Affine(weights=rng.integers(1500, 2600, width), bias=rng.integers(-400, 400, width))
        for _ in range(2)
    ]
    experts = [
        fixed.FeedForward(
            first=affine(rng, f, moe.hidden, width), second=affine(rng, f, width, moe.hidden)
        )
        for _ in range(moe.experts)
    ]
    return fixed.EncoderBlock(
        attention_norm=norms[0],
        ffn_norm=norms[1],
        attention=fixed.Attention(
            heads=sizes.msa.heads, qkv=affine(rng, f, 3 * width, width),
            projection=affine(rng, f, width, width),
        ),
        ffn=fixed.Experts(
            gate=affine(rng, f, moe.experts, width).weights, top_k=moe.top_k,
            experts=tuple(experts),
        ),
    )  # fmt: skip


class Chain:
    """The kernels of a block; every method runs one of them on rows or words."""

    def __init__(self, sizes: EncoderBlockSizes, cache: Path) -> None:
        self.sizes, self.f, self.cache = sizes, sizes.msa.formats, cache
        made = encoder_kernels(sizes, (READER, READER))
        self.kernels = {kernel.name: kernel for kernel, _ in made}

    def run(self, name: str, commands: int = 1, **words) -> dict[str, list[int]]:
        return run(self.kernels[name], self.cache, commands, **words)

    def rows(self, words: list[int], dims: int, bits: int):
        return np.array([unpack(word, bits, dims) for word in words]).reshape(-1, 32)

    def norm(self, x, norm: fixed.Affine):
        dims, f = self.sizes.msa.dims, self.f
        pairs = np.stack([norm.weights, norm.bias], axis=1)
        found = self.run(
            "layer_norm", command=[len(x)], parameters=beats_of(pairs, 2 * dims, 16),
            inputs=beats_of(x, dims, f.feature_bits),
        )  # fmt: skip
        return self.rows(found["results"], dims, f.operand_bits)

    def linear(self, half: str, x, load: int, weights: list[int], gelu: bool = False) -> list[int]:
        sizes = getattr(self.sizes, half).linear
        return self.run(
            f"{half}_linear", load=[load], weights=weights,
            compute=[len(x) | load << 16 | gelu << 48],
            inputs=beats_of(x, sizes.tile_in, self.f.operand_bits),
        )["results"]  # fmt: skip

    def operands(self, half: str, words: list[int], rows: int):
        """Return the operands of results that come by groups of lanes, output tile by tile."""
        sizes = getattr(self.sizes, half).linear
        values = np.array([unpack(word, 32, sizes.tile_out) for word in words])
        tiles, groups, at = len(values) // rows, [], 0
        for first in range(0, rows, sizes.lanes):
            lanes = min(sizes.lanes, rows - first)
            group = values[at : at + lanes * tiles].reshape(tiles, lanes, -1)
            groups.append(group.swapaxes(0, 1).reshape(lanes, -1))
            at += lanes * tiles
        return fixed.to_operand(np.concatenate(groups), fixed.FORMATS[self.f.name])

    def attend(self, q, k, v):
        sizes, tokens = self.sizes.msa.attention, len(q)
        passes, more = divmod(tokens + sizes.lanes - 1, sizes.lanes)
        order = [step % tokens for step in range(passes * tokens + more)]
        bits = self.f.operand_bits
        given = {"queries": q, "keys": k[order], "values": v[order]}
        words = {name: beats_of(rows, sizes.dims, bits) for name, rows in given.items()}
        found = self.run("streaming_attention", command=[tokens], **words)
        return self.rows(found["results"], sizes.dims, bits)

    def combine(self, half: str, x, choices: int, jobs, rows, values):
        dims, bits = self.sizes.msa.tile_out, self.f.feature_bits
        found = self.run(
            f"{half}_combine", command=[len(x) | choices << 16], jobs=jobs, rows=rows,
            values=values, residual=beats_of(x, dims, bits),
        )  # fmt: skip
        return self.rows(found["results"], dims, bits)

    def image(self, layer: fixed.Affine) -> list[int]:
        tiles = (self.sizes.msa.tile_in, self.sizes.msa.tile_out)
        return weight_image(layer.weights, layer.bias, tiles, self.f.weight_bits, READER.beat_bits)

    def fetch(self, half: str, images: list[list[int]], order: list[int]):
        """Return loads and weight images as the prefetch gives them from two memories."""
        memories: list[list[int]] = [[], []]
        stride = READER.stride(len(images[0]))
        for beats in images:
            for port, memory in enumerate(memories):
                memory += [beat >> 32 * port & 0xFFFFFFFF for beat in beats]
                memory += [0] * (-len(memory) % READER.burst_beats)
        jobs = [expert | stride << 8 | len(images[0]) << 40 for expert in order]
        found = self.run(f"{half}_prefetch", len(jobs), jobs=jobs, port0=memories[0],
                         port1=memories[1])  # fmt: skip
        return iter(found["load"]), iter(found["weights"])


def msa(chain: Chain, x, block: fixed.EncoderBlock):
    layers = (block.attention.qkv, block.attention.projection)
    images = [chain.image(layer) for layer in layers]
    loads, weights = chain.fetch("msa", [images[0] + images[1]], [0])
    normal = chain.norm(x, block.attention_norm)
    made = chain.linear("msa", normal, next(loads), [next(weights) for _ in images[0]])
    q, k, v = np.split(chain.operands("msa", made, len(x)), 3, axis=1)
    attended = chain.attend(q, k, v)
    values = chain.linear("msa", attended, next(loads), list(weights))
    rows = [token | ONE << 16 for token in range(len(x))]
    return chain.combine("msa", x, 1, [len(x)], rows, values)


def moe(chain: Chain, x, block: fixed.EncoderBlock) -> tuple[np.ndarray, int]:
    dims, f, experts = chain.sizes.moe.dims, chain.f, block.ffn
    normal = chain.norm(x, block.ffn_norm)
    choices = chain.run(
        "gate", command=[len(x)], weights=beats_of(experts.gate, dims, f.weight_bits),
        inputs=beats_of(normal, dims, f.operand_bits),
    )["choices"]  # fmt: skip
    sent = chain.run("dispatch", command=[len(x)], choices=choices)
    images = [[chain.image(e.first), chain.image(e.second)] for e in experts.experts]
    order = [job & 255 for job in sent["jobs"]]
    loads, weights = chain.fetch("moe", [first + second for first, second in images], order)
    values: list[int] = []
    rows = iter(sent["rows"])
    for job in sent["jobs"]:
        first, second = images[job & 255]
        taken = [next(rows) & 65535 for _ in range(job >> 8)]
        hidden = chain.linear("moe", normal[taken], next(loads), [next(weights) for _ in first],
                              gelu=True)  # fmt: skip
        operands = chain.operands("moe", hidden, len(taken))
        values += chain.linear("moe", operands, next(loads), [next(weights) for _ in second])
    counts = [job >> 8 for job in sent["jobs"]]
    done = chain.combine("moe", x, experts.top_k, counts, sent["rows"], values)
    return done, len(order)


@pytest.mark.slow
@pytest.mark.parametrize("precision", FORMATS)
def test_the_kernels_make_an_encoder_block(precision, cache):
    sizes, rng = block_sizes(precision), np.random.default_rng(7)
    f = fixed.FORMATS[precision]
    block, chain = draw_block(rng, f, sizes), Chain(sizes, cache)
    for tokens in (7, 3):
        x = fixed.from_real(rng.normal(0, 1, (tokens, 32)), f.feature_bits, f.feature_fraction)
        between = msa(chain, x, block)
        assert (between == fixed.msa_block(x, block, f, dims=sizes.msa.dims)).all()
        result, jobs = moe(chain, between, block)
        assert (result == fixed.encoder_block(x, block, f, dims=sizes.msa.dims)).all()
        assert jobs >= 3
        assert (between != x).mean() > 0.9
        assert (result != between).mean() > 0.9
