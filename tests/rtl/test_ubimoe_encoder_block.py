"""A whole encoder block of UbiMoE against the fixed-point reference, bit by bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.rtl.lint import lint
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams, unpack
from headrace.rtl.ubimoe.encoder_block import EncoderBlock
from headrace.rtl.verilog import to_verilog

WIDTH, HIDDEN, HEADS, EXPERTS, TOP_K, DIMS = 8, 8, 2, 3, 2, 2
NAMES = (
    "command",
    "msa_norm",
    "msa_weights",
    "moe_norm",
    "gate_weights",
    "moe_weights",
    "inputs",
    "jobs",
    "results",
)


def sizes_of(name: str) -> EncoderBlockSizes:
    shared: Any = {
        "formats": FORMATS[name],
        "max_tokens": 6,
        "dims": DIMS,
        "tile_in": 4,
        "beat_bits": 64,
    }
    msa = MsaBlockSizes(heads=HEADS, head_dim=4, attention_lanes=2, tile_out=4, **shared)
    moe = MoeBlockSizes(
        width=WIDTH,
        hidden=HIDDEN,
        experts=EXPERTS,
        top_k=TOP_K,
        tile_out=2,
        linear_lanes=2,
        **shared,
    )
    return EncoderBlockSizes(msa=msa, moe=moe)


def image(layer: fixed.Affine, t_in: int, t_out: int, weight_bits: int) -> list[int]:
    """Return the beats of a load of 64 bits: biases per output tile, then the tiles."""
    outputs, inputs = layer.weights.shape
    tiles = [(layer.bias[o : o + t_out], 16) for o in range(0, outputs, t_out)] + [
        (layer.weights[o : o + t_out, i : i + t_in].ravel(), weight_bits)
        for o in range(0, outputs, t_out)
        for i in range(0, inputs, t_in)
    ]
    beats = []
    for values, bits in tiles:
        number = pack([values], bits)[0]
        beats += [number >> low & (1 << 64) - 1 for low in range(0, bits * len(values), 64)]
    return beats


def draw(formats: Any, experts: bool, rng: Any) -> fixed.EncoderBlock:
    def affine(outputs: int, inputs: int) -> fixed.Affine:
        real = rng.normal(0, 0.6, (outputs, inputs))
        weights = fixed.from_real(real, formats.weight_bits, formats.weight_fraction)
        return fixed.Affine(weights=weights, bias=rng.integers(-2000, 2000, outputs))

    def norm() -> fixed.Affine:
        return fixed.Affine(
            weights=rng.integers(1500, 2600, WIDTH), bias=rng.integers(-400, 400, WIDTH)
        )

    def feed_forward() -> fixed.FeedForward:
        return fixed.FeedForward(first=affine(HIDDEN, WIDTH), second=affine(WIDTH, HIDDEN))

    attention = fixed.Attention(
        heads=HEADS, qkv=affine(3 * WIDTH, WIDTH), projection=affine(WIDTH, WIDTH)
    )
    ffn: Any = feed_forward()
    if experts:
        every = tuple(feed_forward() for _ in range(EXPERTS))
        ffn = fixed.Experts(gate=affine(EXPERTS, WIDTH).weights, top_k=TOP_K, experts=every)
    return fixed.EncoderBlock(attention_norm=norm(), attention=attention, ffn_norm=norm(), ffn=ffn)


def vectors(name: str, layers: list[bool], tokens: int, seed: int, **more: Any) -> StreamVectors:
    """Return the streams of layers, dense or by experts, each fed with the result before."""
    rng = np.random.default_rng(seed)
    formats = fixed.FORMATS[name]
    streams: dict[str, list[int]] = {port: [] for port in NAMES}
    x = fixed.from_real(
        rng.normal(0.2, 2.0, (tokens, WIDTH)), formats.feature_bits, formats.feature_fraction
    )
    for experts in layers:
        block = draw(formats, experts, rng)
        streams["command"].append(tokens | experts << 16)
        streams["inputs"] += pack(x.reshape(-1, DIMS), formats.feature_bits)
        for port, norm in (("msa_norm", block.attention_norm), ("moe_norm", block.ffn_norm)):
            pairs = np.stack([norm.weights, norm.bias], axis=1)
            streams[port] += pack(pairs.reshape(-1, 2 * DIMS), 16)
        for layer in (block.attention.qkv, block.attention.projection):
            streams["msa_weights"] += image(layer, 4, 4, formats.weight_bits)
        work = {0: block.ffn}
        if isinstance(block.ffn, fixed.Experts):
            between = fixed.msa_block(x, block, formats, dims=DIMS)
            norm = block.ffn_norm
            rows = fixed.layer_norm(between, norm.weights, norm.bias, formats)
            chosen = fixed.gate(rows, block.ffn.gate, formats, top_k=TOP_K).experts
            work = {e: block.ffn.experts[e] for e in sorted(set(chosen.ravel().tolist()))}
            gate = block.ffn.gate.reshape(-1, DIMS)
            streams["gate_weights"] += pack(gate, formats.weight_bits)
        for number, ffn in work.items():
            assert isinstance(ffn, fixed.FeedForward)
            streams["jobs"].append(number)
            for layer in (ffn.first, ffn.second):
                streams["moe_weights"] += image(layer, 4, 2, formats.weight_bits)
        x = fixed.encoder_block(x, block, formats, dims=DIMS)
        streams["results"] += pack(x.reshape(-1, DIMS), formats.feature_bits)
    results = {port: streams.pop(port) for port in ("jobs", "results")}
    return StreamVectors(streams, results, **more)


@pytest.mark.parametrize("name", ["w16a32", "int16", "int8"])
def test_two_layers_are_the_reference(name: str) -> None:
    """A dense layer and one with experts, all streams with pauses."""
    work = vectors(name, [False, True], 5, 1)
    rng = np.random.default_rng(2)
    arrivals = {
        port: np.cumsum(rng.integers(0, 4, len(items)))
        for port, items in {**work.inputs, **work.results}.items()
    }
    run = simulate_streams(
        EncoderBlock(sizes_of(name)), replace(work, arrivals=arrivals), limit_cycles=20_000
    )
    bits = FORMATS[name].feature_bits
    expected = unpack(work.results["results"], bits, DIMS)
    assert unpack(run.results["results"], bits, DIMS).tolist() == expected.tolist()
    assert run.results["jobs"] == work.results["jobs"]


REGRESSIONS = [
    ("icarus", "int8"),
    *(
        pytest.param(simulator, name, marks=pytest.mark.slow)
        for simulator, name in (("icarus", "w16a32"), ("icarus", "int16"), ("verilator", "int8"))
    ),
]


@pytest.mark.parametrize(("simulator", "name"), REGRESSIONS)
def test_verilog(simulator: str, name: str) -> None:
    work = vectors(name, [True, False], 6, 3, stall={"inputs": 0.3, "results": 0.4, "jobs": 0.5})
    verilog = to_verilog(EncoderBlock(sizes_of(name)), "encoder_block")
    done = run_regression(verilog, "encoder_block", work, simulator, 4)
    assert done.passed, done.message


@pytest.mark.slow
def test_verilog_is_clean() -> None:
    verilog = to_verilog(EncoderBlock(sizes_of("int8")), "encoder_block")
    assert lint(verilog, "encoder_block").findings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"max_tokens": 7},
            "max_tokens = 7 of the MoE block is not allowed: 6 as in MSA",
        ),
        ({"formats": FORMATS["int16"]}, "formats = int16 of the MoE block is not allowed: int8"),
        ({"dims": 1}, "dims = 1 of the MoE block is not allowed: 2"),
        ({"width": 16}, "width = 16 of the MoE block is not allowed: 8 as in MSA"),
    ],
)
def test_blocks_must_fit(change: dict[str, Any], message: str) -> None:
    sizes = sizes_of("int8")
    with pytest.raises(InputError, match=f"^{message}"):
        replace(sizes, moe=replace(sizes.moe, **change))
