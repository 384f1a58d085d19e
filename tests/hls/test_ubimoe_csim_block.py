"""UbiMoE's MSA and MoE blocks as C++ against the reference, and so their kernels in line."""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import (
    PRECISIONS,
    SWEEP,
    SWEEP_VECTORS,
    beats_of,
    expect_notice,
    run,
    unpack,
    weight_image,
)

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.hls.ubimoe.block import moe_block, msa_block
from headrace.models.kernels import fixed

# dims, T_in, T_out: each a multiple of another one or a part of it
TILES = [(2, 4, 4), (4, 2, 8), (4, 8, 4), (1, 4, 2), (2, 8, 2), (4, 4, 16)]


def block_point(number: int) -> dict:
    dims, tile_in, tile_out = TILES[number % 6]
    return {
        "formats": PRECISIONS[number % 3], "max_tokens": 8 + number % 4, "dims": dims,
        "tile_in": tile_in, "tile_out": tile_out, "linear_lanes": (2, 1, 3, 4)[number % 4],
        "beat_bits": (64, 32, 40, 256, 16)[number % 5],
    }  # fmt: skip


def msa_point(number: int) -> MsaBlockSizes:
    heads, head_dim = [(1, 16), (2, 16), (4, 4), (3, 16)][number // 3 % 4]
    return MsaBlockSizes(
        **block_point(number), heads=heads, head_dim=head_dim,
        attention_lanes=(2, 3, 1, 4)[number % 4],
    )  # fmt: skip


def moe_point(number: int) -> MoeBlockSizes:
    return MoeBlockSizes(
        **block_point(number), width=(16, 32)[number // 2 % 2], hidden=(32, 16)[number // 3 % 2],
        experts=(4, 1, 3, 6)[number % 4], top_k=(2, 1, 3)[number % 3] if number % 4 != 1 else 1,
        dense_parts=1 + number % 3,
    )  # fmt: skip


class Drawer:
    """Draws parameters of a block: of a network, or so large that operands wrap or saturate."""

    def __init__(self, rng, sizes: MsaBlockSizes | MoeBlockSizes) -> None:
        self.rng, self.sizes, self.f = rng, sizes, fixed.FORMATS[sizes.formats.name]
        self.spread = float(rng.choice([0.1, 0.4, 1.5]))

    def layer(self, outputs: int, inputs: int) -> fixed.Affine:
        real = self.rng.normal(0, self.spread, (outputs, inputs))
        most = 12_000 if self.spread > 1 else 300
        return fixed.Affine(
            weights=fixed.from_real(real, self.f.weight_bits, self.f.weight_fraction),
            bias=self.rng.integers(-most, most, outputs),
        )

    def norm(self) -> fixed.Affine:
        width = self.sizes.width
        return fixed.Affine(
            weights=self.rng.integers(1500, 2600, width), bias=self.rng.integers(-400, 400, width)
        )

    def ffn(self, hidden: int) -> fixed.FeedForward:
        width = self.sizes.width
        return fixed.FeedForward(first=self.layer(hidden, width), second=self.layer(width, hidden))

    def rows(self, tokens: int):
        real = self.rng.normal(0, self.rng.choice([0.5, 4]), (tokens, self.sizes.width))
        return fixed.from_real(real, self.f.feature_bits, self.f.feature_fraction)

    def image(self, layer: fixed.Affine) -> list[int]:
        tiles = (self.sizes.tile_in, self.sizes.tile_out)
        return weight_image(
            layer.weights, layer.bias, tiles, self.f.weight_bits, self.sizes.beat_bits
        )

    def words(self, x, norm: fixed.Affine) -> dict[str, list[int]]:
        dims = self.sizes.dims
        pairs = np.stack([norm.weights, norm.bias], axis=1)
        return {
            "norm": beats_of(pairs, 2 * dims, 16), "inputs": beats_of(x, dims, self.f.feature_bits)
        }  # fmt: skip

    def unpacked(self, words: list[int]) -> list[list[int]]:
        return [unpack(word, self.f.feature_bits, self.sizes.dims) for word in words]


def check_msa(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = msa_point(number), np.random.default_rng(number)
    words: dict[str, list[int]] = {n: [] for n in ("command", "norm", "weights", "inputs")}
    expected, count, commands = [], 0, 0
    while count < vectors:
        drawer = Drawer(rng, sizes)
        tokens = int(rng.integers(sizes.attention_lanes, sizes.max_tokens + 1))
        qkv, projection = (drawer.layer(n * sizes.width, sizes.width) for n in (3, 1))
        block = fixed.EncoderBlock(
            attention_norm=drawer.norm(),
            attention=fixed.Attention(heads=sizes.heads, qkv=qkv, projection=projection),
            ffn_norm=drawer.norm(),
            ffn=(),
        )
        x = drawer.rows(tokens)
        words["command"].append(tokens)
        words["weights"] += drawer.image(qkv) + drawer.image(projection)
        for name, more in drawer.words(x, block.attention_norm).items():
            words[name] += more
        rows = fixed.msa_block(x, block, drawer.f, dims=sizes.dims)
        expected += rows.reshape(-1, sizes.dims).tolist()
        count, commands = count + tokens, commands + 1
    found = run(msa_block(sizes), cache, commands, **words)["results"]
    assert drawer.unpacked(found) == expected
    return count


def draw_experts(drawer: Drawer, x, norm: fixed.Affine):
    """Return a gate with its experts, and the experts that these rows need, ascending."""
    sizes, f = drawer.sizes, drawer.f
    gate = drawer.layer(sizes.experts, sizes.width).weights
    experts = tuple(drawer.ffn(sizes.hidden) for _ in range(sizes.experts))
    normal = fixed.layer_norm(x, norm.weights, norm.bias, f)
    choices = fixed.gate(normal, gate, f, top_k=sizes.top_k)
    jobs = [job.expert for job in fixed.dispatch(choices, sizes.experts)]
    return fixed.Experts(gate=gate, top_k=sizes.top_k, experts=experts), jobs


def check_moe(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = moe_point(number), np.random.default_rng(number)
    names = ("command", "norm", "gate_weights", "weights", "inputs")
    words: dict[str, list[int]] = {name: [] for name in names}
    results, ordered, count, commands = [], [], 0, 0
    while count < vectors:
        drawer, by_experts = Drawer(rng, sizes), commands % 2 == 0
        tokens = int(rng.integers(1, sizes.max_tokens + 1))
        x, norm = drawer.rows(tokens), drawer.norm()
        if by_experts:
            ffn, jobs = draw_experts(drawer, x, norm)
            halves = ffn.experts
            words["gate_weights"] += beats_of(ffn.gate, sizes.dims, drawer.f.weight_bits)
        else:
            halves = ffn = drawer.ffn(sizes.hidden * sizes.dense_parts).parts(sizes.dense_parts)
            jobs = list(range(sizes.dense_parts))
        words["command"].append(tokens | by_experts << 16)
        for job in jobs:
            words["weights"] += drawer.image(halves[job].first) + drawer.image(halves[job].second)
        for name, more in drawer.words(x, norm).items():
            words[name] += more
        block = fixed.EncoderBlock(attention_norm=norm, attention=None, ffn_norm=norm, ffn=ffn)
        rows = fixed.ffn_block(x, block, drawer.f)
        results += rows.reshape(-1, sizes.dims).tolist()
        ordered += jobs
        count, commands = count + tokens, commands + 1
    found = run(moe_block(sizes), cache, commands, **words)
    assert found["jobs"] == ordered
    assert drawer.unpacked(found["results"]) == results
    return count


@pytest.mark.parametrize("check", [check_msa, check_moe])
def test_a_block(check, cache):
    assert check(cache, 2, 30) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_msa, check_moe])
@pytest.mark.parametrize("number", SWEEP)
def test_blocks_long(number, check, cache):
    assert check(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


def test_the_points_cover_the_axes():
    for point in (msa_point, moe_point):
        points = [point(number) for number in SWEEP]
        kinds = {(s.formats.name, s.dims < s.tile_in, s.dims < s.tile_out) for s in points}
        assert {name for name, *_ in kinds} == set(FORMATS)
        assert len(kinds) >= 5
        assert {s.linear_lanes for s in points} == {1, 2, 3, 4}
    assert {s.dense_parts for s in points} == {1, 2, 3}
    assert any(s.width < s.hidden for s in points)
    assert any(s.width > s.hidden for s in points)


def test_wrong_numbers_of_tokens_are_refused(cache):
    msa, moe = msa_point(2), moe_point(2)
    empty = {"norm": [], "weights": [], "inputs": []}
    for tokens in (msa.attention_lanes - 1, msa.max_tokens + 1):
        with pytest.raises(RuntimeError, match="command: tokens below lanes or too many"):
            run(msa_block(msa), cache, 1, command=[tokens], **empty)
    for tokens in (0, moe.max_tokens + 1):
        with pytest.raises(RuntimeError, match="command: no tokens or too many"):
            run(moe_block(moe), cache, 1, command=[tokens], gate_weights=[], **empty)


@pytest.mark.slow
@pytest.mark.parametrize(
    "check, path, old, new",
    [
        (check_msa, "src/msa_block.cpp", "2 * UNITS + unit", "UNITS + unit"),
        (check_msa, "src/block.h", "out * (TILE_OUT / UNIT)", "(TILE_OUT / UNIT)"),
        (check_moe, "src/moe_block.cpp", "run_layer(true, true", "run_layer(true, false"),
        (check_moe, "src/moe_block.cpp", "by_experts ? TOP_K : DENSE_PARTS);", "TOP_K);"),
    ],
)
def test_a_wrong_block_is_noticed(check, path, old, new, cache, monkeypatch):
    expect_notice(check, 2, (path, old, new), cache, monkeypatch)
