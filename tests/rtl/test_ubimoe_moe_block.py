"""UbiMoE's blocks against the fixed-point reference, bit by bit."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.rtl.lint import lint
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams, unpack
from headrace.rtl.ubimoe.moe_block import MoeBlock
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


@dataclass(frozen=True)
class Sequence:
    """One command: features and the parameters of a block."""

    x: Any
    block: fixed.EncoderBlock


MOE_BASE = MoeBlockSizes(
    formats=FORMATS["int16"],
    width=8,
    hidden=12,
    experts=3,
    top_k=2,
    max_tokens=8,
    dims=2,
    tile_in=2,
    tile_out=4,
    linear_lanes=3,
    beat_bits=64,
)

MOE_POINTS = {
    **{name: replace(MOE_BASE, formats=FORMATS[name]) for name in PRECISIONS},
    "parts": replace(MOE_BASE, dense_parts=3),
    "wide": replace(MOE_BASE, dims=4),
    "narrow": replace(MOE_BASE, tile_in=4, tile_out=1, experts=4, top_k=1, linear_lanes=1),
}


def draw_ffn(sizes: MoeBlockSizes, tokens: int, experts: bool, rng: Any) -> Sequence:
    reference = fixed.FORMATS[sizes.formats.name]
    width, hidden = sizes.width, sizes.hidden

    def feed_forward(hidden: int = hidden) -> fixed.FeedForward:
        return fixed.FeedForward(
            first=affine(hidden, width, reference, 0.7, rng),
            second=affine(width, hidden, reference, 0.7, rng),
        )

    ffn: Any = feed_forward(sizes.dense_parts * hidden).parts(sizes.dense_parts)
    if experts:
        every = tuple(feed_forward() for _ in range(sizes.experts))
        gate = affine(sizes.experts, width, reference, 0.5, rng).weights
        ffn = fixed.Experts(gate=gate, top_k=sizes.top_k, experts=every)
    unused = fixed.Attention(
        heads=1,
        qkv=affine(3 * width, width, reference, 1, rng),
        projection=affine(width, width, reference, 1, rng),
    )
    norms = [norm_of(width, rng) for _ in range(2)]
    block = fixed.EncoderBlock(
        attention_norm=norms[0], attention=unused, ffn_norm=norms[1], ffn=ffn
    )
    x = fixed.from_real(
        rng.normal(0.2, 2.0, (tokens, width)), reference.feature_bits, reference.feature_fraction
    )
    return Sequence(x, block)


def ffn_vectors(sizes: MoeBlockSizes, sequences: list[Sequence], **more: Any) -> StreamVectors:
    reference = fixed.FORMATS[sizes.formats.name]
    names = ("command", "norm", "gate_weights", "weights", "inputs", "jobs", "results")
    streams: dict[str, list[int]] = {name: [] for name in names}
    for one in sequences:
        norm, ffn = one.block.ffn_norm, one.block.ffn
        work = list(enumerate(ffn)) if isinstance(ffn, tuple) else []
        if isinstance(ffn, fixed.Experts):
            rows = fixed.layer_norm(one.x, norm.weights, norm.bias, reference)
            choices = fixed.gate(rows, ffn.gate, reference, top_k=ffn.top_k)
            work = [(e, ffn.experts[e]) for e in sorted(set(choices.experts.ravel().tolist()))]
            streams["gate_weights"] += beats_of(ffn.gate, sizes.dims, reference.weight_bits)
        streams["command"].append(len(one.x) | isinstance(ffn, fixed.Experts) << 16)
        streams["norm"] += norm_beats(norm, sizes.dims)
        for number, expert in work:
            streams["jobs"].append(number)
            for layer in (expert.first, expert.second):
                streams["weights"] += image(
                    layer, sizes.tile_in, sizes.tile_out, reference.weight_bits, sizes.beat_bits
                )
        streams["inputs"] += beats_of(one.x, sizes.dims, reference.feature_bits)
        result = fixed.ffn_block(one.x, one.block, reference)
        streams["results"] += beats_of(result, sizes.dims, reference.feature_bits)
    results = {name: streams.pop(name) for name in ("jobs", "results")}
    return StreamVectors(streams, results, **more)


def drawn_ffn(
    sizes: MoeBlockSizes, passes: list[tuple[int, bool]], seed: int, **more: Any
) -> StreamVectors:
    rng = np.random.default_rng(seed)
    sequences = [draw_ffn(sizes, tokens, experts, rng) for tokens, experts in passes]
    return ffn_vectors(sizes, sequences, **more)


def check_ffn(sizes: MoeBlockSizes, work: StreamVectors) -> None:
    run = simulate_streams(MoeBlock(sizes), work, limit_cycles=20_000)
    bits, dims = sizes.formats.feature_bits, sizes.dims
    assert run.results["jobs"] == work.results["jobs"]
    expected = unpack(work.results["results"], bits, dims)
    assert unpack(run.results["results"], bits, dims).tolist() == expected.tolist()


@pytest.mark.parametrize("point", MOE_POINTS)
def test_moe_block_is_the_reference(point: str) -> None:
    """Experts, dense, experts again: each with parameters of its own."""
    sizes = MOE_POINTS[point]
    check_ffn(sizes, drawn_ffn(sizes, [(8, True), (5, False), (1, True)], 1))


@pytest.mark.parametrize("point", PRECISIONS)
def test_stalls_change_no_bit_of_the_moe_block(point: str) -> None:
    sizes = MOE_POINTS[point]
    work = drawn_ffn(sizes, [(4, False), (6, True), (8, True)], 2)
    check_ffn(sizes, with_arrivals(work, 2))


REGRESSIONS = [
    *(("icarus", point) for point in PRECISIONS),
    pytest.param("verilator", "int16", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("simulator", "point"), REGRESSIONS)
def test_verilog_of_the_moe_block(simulator: str, point: str) -> None:
    sizes = MOE_POINTS[point]
    stall = {"jobs": 0.5, "norm": 0.5, "weights": 0.2, "inputs": 0.3, "results": 0.4}
    work = drawn_ffn(sizes, [(7, True), (3, False)], 3, stall=stall)
    done = run_regression(to_verilog(MoeBlock(sizes), "moe_block"), "moe_block", work, simulator, 4)
    assert done.passed, done.message


def test_verilog_of_the_moe_block_is_clean() -> None:
    verilog = to_verilog(MoeBlock(MOE_POINTS["int8"]), "moe_block")
    assert lint(verilog, "moe_block").findings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dims": 3}, "dims = 3 is not allowed"),
        ({"tile_in": 3}, "tile_in = 3 is not allowed: a divisor of width and hidden"),
        ({"tile_out": 8}, "tile_out = 8 is not allowed: a divisor of width and hidden"),
        ({"width": 12, "tile_in": 6}, "tile_out = 4 is not allowed: .* of \\[2, 6\\]"),
        ({"top_k": 4}, "top_k = 4 is not allowed: 1 to 3"),
        ({"linear_lanes": 0}, "lanes = 0 is not allowed"),
    ],
)
def test_sizes_of_the_moe_block_are_checked(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        replace(MOE_BASE, **change)
