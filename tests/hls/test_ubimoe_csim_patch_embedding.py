"""UbiMoE's patch embedding as C++ against the fixed-point reference, rule 7."""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import (
    PRECISIONS,
    SAMPLE,
    SWEEP,
    SWEEP_VECTORS,
    beats_of,
    draw,
    expect_notice,
    run,
    unpack,
    weight_image,
)

from headrace.arch.ubimoe.formats import FORMATS
from headrace.errors import InputError
from headrace.hls.ubimoe.patch_embedding import PatchEmbeddingSizes, patch_embedding
from headrace.models.kernels import fixed

PORTS = ("command", "weights", "pixels", "positions")


def patch_point(number: int) -> PatchEmbeddingSizes:
    rng = np.random.default_rng([6037, number])
    tile_in, tile_out, in_tiles, out_tiles = (int(v) for v in rng.integers(1, 5, 4))
    return PatchEmbeddingSizes(
        formats=PRECISIONS[number % 3], width=tile_out * out_tiles,
        pixels=tile_in * in_tiles - int(rng.integers(tile_in)), tile_in=tile_in,
        tile_out=tile_out, max_tokens=10 + number, beat_bits=(40, 16, 64, 8, 256)[number % 5],
    )  # fmt: skip


def check_patches(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = patch_point(number), np.random.default_rng(number)
    f, tiles = sizes.formats, (sizes.tile_in, sizes.tile_out)
    words: dict[str, list[int]] = {name: [] for name in PORTS}
    expected, count, commands = [], 0, 0
    while count < vectors:
        patches = int(rng.integers(1, sizes.max_tokens))
        pixels = rng.integers(0, 256, (patches, sizes.pixels))
        weights, bias = draw(rng, 16, (sizes.width, sizes.pixels)), draw(rng, 16, sizes.width)
        positions = draw(rng, f.feature_bits, (patches + 1, sizes.width))
        # Weights of the pixels that no patch has would be noticed.
        spare = sizes.in_tiles * sizes.tile_in - sizes.pixels
        padded = np.pad(weights, ((0, 0), (0, spare)), constant_values=85)
        words["command"].append(patches)
        words["weights"] += weight_image(padded, bias, tiles, 16, sizes.beat_bits)
        words["pixels"] += beats_of(np.pad(pixels, ((0, 0), (0, spare))), sizes.tile_in, 8)
        words["positions"] += beats_of(positions, sizes.tile_out, f.feature_bits)
        rows = fixed.patch_embedding(pixels, weights, bias, positions, fixed.FORMATS[f.name])
        expected += rows.reshape(-1, sizes.tile_out).tolist()
        count, commands = count + patches + 1, commands + 1
    found = run(patch_embedding(sizes), cache, commands, **words)["results"]
    assert [unpack(word, f.feature_bits, sizes.tile_out) for word in found] == expected
    return count


@pytest.mark.parametrize("number", SAMPLE)
def test_patch_embedding(number, cache):
    assert check_patches(cache, number, 60) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEP)
def test_patch_embedding_long(number, cache):
    assert check_patches(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


def test_the_points_cover_the_axes():
    points = [patch_point(number) for number in SWEEP]
    assert {s.formats.name for s in points[:3]} == set(FORMATS)
    assert any(s.pixels % s.tile_in for s in points)
    assert any(s.in_tiles > 1 and s.out_tiles > 1 for s in points[:3])


def test_bad_sizes_are_refused(cache):
    sizes = {"formats": FORMATS["int8"], "width": 4, "pixels": 3, "tile_in": 3, "max_tokens": 2}
    with pytest.raises(InputError, match="tile_out = 3 is not allowed: a divisor of width = 4"):
        PatchEmbeddingSizes(**sizes, tile_out=3)
    with pytest.raises(InputError, match="max_tokens = 1 is not allowed: 2 to 65535"):
        PatchEmbeddingSizes(**{**sizes, "max_tokens": 1}, tile_out=2)
    made = patch_embedding(PatchEmbeddingSizes(**sizes, tile_out=2))
    with pytest.raises(RuntimeError, match="command: too many patches"):
        run(made, cache, 1, command=[2], weights=[], pixels=[], positions=[])


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/patch_embedding.cpp", "if (row != 0) beat", "if (row != patches) beat"),
        ("src/sizes.h", "PATCH_SHIFT = 2", "PATCH_SHIFT = 1"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_patches, 0, (path, old, new), cache, monkeypatch)
