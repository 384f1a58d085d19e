"""UbiMoE's blocks against the fixed-point reference, bit by bit."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.rtl.lint import lint
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams, unpack
from headrace.rtl.ubimoe.msa_block import MsaBlock
from headrace.rtl.ubimoe.repack import Repack
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_parameters", Path(__file__).parent / "ubimoe_parameters.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
affine = _shared.affine
beats_of = _shared.beats_of
image = _shared.image
norm_beats = _shared.norm_beats
norm_of = _shared.norm_of
with_arrivals = _shared.with_arrivals

PRECISIONS = ("w16a32", "int16", "int8")

BASE = MsaBlockSizes(
    formats=FORMATS["int16"],
    heads=2,
    head_dim=4,
    max_tokens=8,
    dims=2,
    attention_lanes=2,
    tile_in=4,
    tile_out=4,
    beat_bits=64,
)

POINTS = {
    **{name: replace(BASE, formats=FORMATS[name]) for name in PRECISIONS},
    "narrow tiles": replace(BASE, tile_in=1, tile_out=2, attention_lanes=3),
    "one tile": replace(BASE, dims=4, tile_in=8, tile_out=8, attention_lanes=1, beat_bits=40),
    "groups": replace(BASE, tile_in=2, tile_out=8, linear_lanes=3, attention_lanes=4),
    "four heads": replace(BASE, heads=4, dims=1, tile_in=2, tile_out=4, linear_lanes=2),
}


@dataclass(frozen=True)
class Sequence:
    """One command: features and the parameters of a block."""

    x: Any
    block: fixed.EncoderBlock


def draw(sizes: MsaBlockSizes, tokens: int, rng: Any, spread: float) -> Sequence:
    reference = fixed.FORMATS[sizes.formats.name]
    width = sizes.width
    real = rng.normal(0.2, 2.0, (tokens, width))
    x = fixed.from_real(real, reference.feature_bits, reference.feature_fraction)
    attention = fixed.Attention(
        heads=sizes.heads,
        qkv=affine(3 * width, width, reference, spread, rng),
        projection=affine(width, width, reference, spread, rng),
    )
    unused = fixed.FeedForward(
        first=affine(1, width, reference, 1, rng), second=affine(width, 1, reference, 1, rng)
    )
    norms = [norm_of(width, rng) for _ in range(2)]
    block = fixed.EncoderBlock(
        attention_norm=norms[0], attention=attention, ffn_norm=norms[1], ffn=unused
    )
    return Sequence(x, block)


def vectors(sizes: MsaBlockSizes, sequences: list[Sequence], **more: Any) -> StreamVectors:
    reference = fixed.FORMATS[sizes.formats.name]
    streams: dict[str, list[int]] = {
        name: [] for name in ("command", "norm", "weights", "inputs", "results")
    }
    for one in sequences:
        attention = one.block.attention
        result = fixed.msa_block(one.x, one.block, reference, dims=sizes.dims)
        streams["command"].append(len(one.x))
        streams["norm"] += norm_beats(one.block.attention_norm, sizes.dims)
        for layer in (attention.qkv, attention.projection):
            streams["weights"] += image(
                layer, sizes.tile_in, sizes.tile_out, reference.weight_bits, sizes.beat_bits
            )
        streams["inputs"] += beats_of(one.x, sizes.dims, reference.feature_bits)
        streams["results"] += beats_of(result, sizes.dims, reference.feature_bits)
    results = {"results": streams.pop("results")}
    return StreamVectors(streams, results, **more)


def drawn(
    sizes: MsaBlockSizes, passes: list[int], seed: int, spread: float = 0.5, **more: Any
) -> StreamVectors:
    rng = np.random.default_rng(seed)
    return vectors(sizes, [draw(sizes, tokens, rng, spread) for tokens in passes], **more)


def check(sizes: MsaBlockSizes, work: StreamVectors) -> Any:
    run = simulate_streams(MsaBlock(sizes), work, limit_cycles=20_000)
    bits, dims = sizes.formats.feature_bits, sizes.dims
    expected = unpack(work.results["results"], bits, dims)
    assert unpack(run.results["results"], bits, dims).tolist() == expected.tolist()
    return run


SLOW = ("four heads", "one tile")


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=[pytest.mark.slow] * (p in SLOW)) for p in POINTS]
)
def test_msa_block_is_the_reference(point: str) -> None:
    """Three sequences of different lengths, each with parameters of its own."""
    sizes = POINTS[point]
    check(sizes, drawn(sizes, [5, sizes.attention_lanes, 8], 1))


@pytest.mark.parametrize("point", PRECISIONS)
@pytest.mark.parametrize("seed", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_stalls_change_no_bit(point: str, seed: int) -> None:
    sizes = POINTS[point]
    check(sizes, with_arrivals(drawn(sizes, [7, 2, 4], seed, spread=1.5), seed))


@pytest.mark.parametrize("point", [*PRECISIONS, "groups"])
def test_verilog_in_icarus(point: str) -> None:
    sizes = POINTS[point]
    stall = {"command": 0.5, "norm": 0.5, "weights": 0.2, "inputs": 0.3, "results": 0.4}
    work = drawn(sizes, [6, 8], 4, stall=stall)
    done = run_regression(to_verilog(MsaBlock(sizes), "msa_block"), "msa_block", work, "icarus", 5)
    assert done.passed, done.message


@pytest.mark.slow
def test_verilog_in_verilator() -> None:
    sizes = POINTS["int8"]
    work = drawn(sizes, [6, 8], 6, stall={"weights": 0.2, "inputs": 0.3, "results": 0.4})
    verilog = to_verilog(MsaBlock(sizes), "msa_block")
    done = run_regression(verilog, "msa_block", work, "verilator", 7)
    assert done.passed, done.message


def test_verilog_is_clean() -> None:
    sizes = replace(POINTS["int8"], tile_in=1, tile_out=4)
    verilog = to_verilog(MsaBlock(sizes), "msa_block")
    assert lint(verilog, "msa_block").findings == ()


@pytest.mark.parametrize("point", PRECISIONS)
def test_results_depend_on_every_part(point: str) -> None:
    """What is compared is no flat attention, no vanished projection, and int8 does saturate."""
    sizes, reference = POINTS[point], fixed.FORMATS[point]
    one = draw(sizes, 8, np.random.default_rng(1), 0.5)
    norm, attention = one.block.attention_norm, one.block.attention
    rows = fixed.layer_norm(one.x, norm.weights, norm.bias, reference)
    qkv = fixed.linear(
        rows,
        attention.qkv.weights,
        attention.qkv.bias,
        reference,
        bias_fraction=reference.attention_bias_fraction,
    )
    operands = fixed.to_operand(qkv, reference)
    q, k, _ = operands.reshape(8, 3, sizes.heads, -1).swapaxes(0, 1)
    scores = fixed.attention_scores(q[:, 0], k[:, 0], reference, dims=sizes.dims)
    assert np.ptp(scores, axis=1).min() > fixed.ONE // 16
    large = draw(sizes, 8, np.random.default_rng(1), 1.5).block.attention.qkv
    fraction = reference.attention_bias_fraction
    wide = fixed.linear(rows, large.weights, large.bias, reference, bias_fraction=fraction)
    if reference.saturates:
        assert (np.abs(wide) > 8 * fixed.ONE).mean() > 0.1
    moved = fixed.msa_block(one.x, one.block, reference, dims=sizes.dims) - one.x
    assert (np.abs(moved) > 1).mean() > 0.9


@pytest.mark.parametrize(("source", "sink"), [(6, 2), (2, 6), (4, 4), (12, 3), (3, 12)])
def test_repack_keeps_the_order(source: int, sink: int) -> None:
    rng = np.random.default_rng(source)
    bits = rng.integers(0, 2, 60)
    inputs, results = (pack_bits(bits, width) for width in (source, sink))
    arrivals = {
        "inputs": np.cumsum(rng.integers(0, 3, len(inputs))),
        "results": np.cumsum(rng.integers(0, 3, len(results))),
    }
    for given in ({}, arrivals):
        work = StreamVectors({"inputs": inputs}, {"results": results}, given)
        run = simulate_streams(Repack(source, sink), work, limit_cycles=500)
        assert run.results["results"] == results
        if not given:
            assert run.cycles == max(len(inputs), len(results))


def pack_bits(bits: Any, width: int) -> list[int]:
    return [sum(int(b) << i for i, b in enumerate(row)) for row in bits.reshape(-1, width)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "heads = 0 is not allowed"),
        ({"dims": 3}, "dims = 3 is not allowed"),
        ({"tile_in": 3}, "tile_in = 3 is not allowed: a divisor of the width 8, and a multiple or"),
        ({"tile_out": 1}, "tile_out = 1 is not allowed: a divisor of the width 8, and a multiple"),
        ({"tile_out": 16}, "tile_out = 16 is not allowed"),
        ({"attention_lanes": 9}, "lanes = 9 is not allowed"),
        ({"linear_lanes": 0}, "lanes = 0 is not allowed"),
        ({"beat_bits": 7}, "beat_bits = 7 is not allowed"),
    ],
)
def test_sizes_are_checked(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        replace(BASE, **change)


def test_weight_beats() -> None:
    """Width 8 in tiles of 4 x 4 at 16 bits in beats of 64: 4 for a tile, 1 for its biases."""
    assert BASE.weight_beats == (6 + 2) * (1 + 2 * 4)
    assert len(drawn(BASE, [2], 0).inputs["weights"]) == BASE.weight_beats
