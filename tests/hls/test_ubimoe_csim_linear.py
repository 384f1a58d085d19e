"""UbiMoE's linear kernel as C++ against the fixed-point reference, rule 1."""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import (
    PRECISIONS,
    SAMPLE,
    SWEEP_VECTORS,
    beats_of,
    draw,
    expect_notice,
    pack,
    run,
    unpack,
    weight_image,
)

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.hls.ubimoe.linear import linear
from headrace.models.kernels import fixed

POINTS = range(15)
BEAT_BITS = (*(8, 32, 40, 64, 12, 256, 33) * 2, 256)


def linear_point(number: int) -> LinearSizes:
    rng = np.random.default_rng([6032, number])
    tile_in, tile_out, lanes, max_in, max_out = (int(v) for v in rng.integers(1, 5, 5))
    if number == 14:  # the tile and the beat of the release
        tile_in, tile_out, lanes, max_out = 16, 16, 3, 2
    formats = PRECISIONS[number % 3]
    return LinearSizes(
        formats=formats, tile_in=tile_in, tile_out=tile_out, lanes=lanes, max_in_tiles=max_in,
        max_out_tiles=max_out, max_tiles=max_in * max_out, slots=1 + number // 2 % 2,
        beat_bits=BEAT_BITS[number],
        bias_fraction=(formats.attention_bias_fraction, formats.bias_fraction)[number // 3 % 2],
        gelu=number % 2 == 0,
    )  # fmt: skip


def check_linear(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = linear_point(number), np.random.default_rng(number)
    f, tiles = sizes.formats, (sizes.tile_in, sizes.tile_out)
    words: dict[str, list[int]] = {n: [] for n in ("load", "compute", "weights", "inputs")}
    expected, count, commands = [], 0, 0
    while count < vectors:
        ins = int(rng.integers(1, sizes.max_in_tiles + 1))
        outs = int(rng.integers(1, sizes.max_out_tiles + 1))
        rows, gelu = int(rng.integers(1, 4 * sizes.lanes + 2)), sizes.gelu and rng.integers(2) == 1
        w = draw(rng, f.weight_bits, (outs * sizes.tile_out, ins * sizes.tile_in))
        b = draw(rng, 16, len(w))
        x = draw(rng, f.operand_bits, (rows, w.shape[1]))
        results = fixed.linear(
            x, w, b, fixed.FORMATS[f.name], bias_fraction=sizes.bias_fraction, gelu=bool(gelu)
        )
        words["load"].append(pack((ins, outs), 16))
        words["compute"].append(pack((rows, ins, outs, gelu), 16))
        words["weights"] += weight_image(w, b, tiles, f.weight_bits, sizes.beat_bits)
        words["inputs"] += beats_of(x, sizes.tile_in, f.operand_bits)
        for first in range(0, rows, sizes.lanes):
            group = results[first : first + sizes.lanes].reshape(-1, outs, sizes.tile_out)
            expected += group.swapaxes(0, 1).reshape(-1, sizes.tile_out).tolist()
        count, commands = count + rows, commands + 1
    found = run(linear(sizes), cache, commands, **words)["results"]
    assert [unpack(word, 32, sizes.tile_out) for word in found] == expected
    return count


@pytest.mark.parametrize("number", SAMPLE)
def test_linear(number, cache):
    assert check_linear(cache, number, 60) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("number", POINTS)
def test_linear_long(number, cache):
    assert check_linear(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


def test_the_points_cover_the_axes():
    points = [linear_point(number) for number in POINTS]
    kinds = {(s.formats.name, s.slots) for s in points}
    assert kinds == {(name, slots) for name in FORMATS for slots in (1, 2)}
    assert {s.formats.name for s in points[:3]} == set(FORMATS)
    assert {s.slots for s in points[:3]} == {1, 2}
    assert {s.gelu for s in points[:3]} == {False, True}
    assert any(s.max_in_tiles > 1 and s.max_out_tiles > 1 for s in points[:3])
    assert any(s.beat_bits < s.formats.weight_bits for s in points)
    assert any(s.beat_bits % s.formats.weight_bits for s in points)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/linear.cpp", "(in == 0 ? bias", "(step == 0 ? bias"),
        ("src/functions.h", "fraction) >> 17)", "fraction) >> 18)"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_linear, 2, (path, old, new), cache, monkeypatch)
