"""UbiMoE's layer norm as C++ against the fixed-point reference, rule 4."""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import (
    ONE,
    PRECISIONS,
    SAMPLE,
    SWEEP,
    SWEEP_VECTORS,
    beats_of,
    draw,
    expect_notice,
    pack,
    run,
    unpack,
)

from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.hls.ubimoe.layer_norm import layer_norm
from headrace.models.kernels import fixed


def layer_norm_point(number: int) -> LayerNormSizes:
    rng = np.random.default_rng([6034, number])
    dims = int(rng.integers(1, 6))
    width = dims * int(rng.integers(1, 9)) if number else 192  # of M3ViT-T
    return LayerNormSizes(formats=PRECISIONS[number % 3], width=width, dims=dims if number else 8)


def check_layer_norm(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = layer_norm_point(number), np.random.default_rng(number)
    f, dims = sizes.formats, sizes.dims
    words: dict[str, list[int]] = {n: [] for n in ("command", "parameters", "inputs")}
    expected, count, commands = [], 0, 0
    while count < vectors:
        tokens = int(rng.integers(1, 9))
        x = draw(rng, f.feature_bits, (tokens, sizes.width))
        gain, offset = (draw(rng, 16, sizes.width) for _ in range(2))
        if commands % 2 == 0:  # rows of a network
            x = rng.normal(0.3, 2, x.shape) * (1 << f.feature_fraction)
            x, gain = x.astype(np.int64), gain >> 3
        if commands % 4 == 1:
            x[0] = x[0, 0]  # no variance but epsilon
        words["command"].append(tokens)
        words["parameters"] += beats_of(np.stack([gain, offset], axis=1), 2 * dims, 16)
        words["inputs"] += beats_of(x, dims, f.feature_bits)
        rows = fixed.layer_norm(x, gain, offset, fixed.FORMATS[f.name])
        expected += rows.reshape(-1, dims).tolist()
        count, commands = count + tokens, commands + 1
    results = run(layer_norm(sizes), cache, commands, **words)["results"]
    assert [unpack(word, f.operand_bits, dims) for word in results] == expected
    return count


@pytest.mark.parametrize("number", SAMPLE)
def test_layer_norm(number, cache):
    assert check_layer_norm(cache, number, 40) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEP)
def test_layer_norm_long(number, cache):
    assert check_layer_norm(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


def test_layer_norm_is_one(cache):
    # A row of mean 0 and variance 1 comes out as it went in, times the gain, but for the floors.
    sizes = layer_norm_point(0)
    row = np.tile([1, -1, 1, -1, 1, -1, -1, 1], 24)
    words = {
        "command": [1], "parameters": [pack((2 << 11, 1 << 11) * 8, 16)] * 24,
        "inputs": beats_of(row * ONE, 8, 32),
    }  # fmt: skip
    results = run(layer_norm(sizes), cache, 1, **words)["results"]
    values = np.array([unpack(word, 32, 8) for word in results]).reshape(-1)
    assert abs(values - (2 * row + 1) * ONE).max() < 1e-4 * ONE


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/layer_norm.cpp", "+ EPSILON", "+ 5"),
        ("src/narrow.h", "return kept;", "return kept + 1;"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_layer_norm, 0, (path, old, new), cache, monkeypatch)
