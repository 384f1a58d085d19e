"""Images of UbiMoE's memory: read back by hand, bit by bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.images import (
    attention_image,
    expert_image,
    linear_image,
    parameter_image,
)
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.arch.ubimoe.shell import ShellSizes
from headrace.errors import InputError


def sizes_of(name: str, beat_bits: int = 64) -> ShellSizes:
    shared: Any = {
        "formats": FORMATS[name],
        "max_tokens": 6,
        "dims": 2,
        "tile_in": 4,
        "beat_bits": beat_bits,
    }
    msa = MsaBlockSizes(heads=2, head_dim=4, attention_lanes=2, tile_out=4, **shared)
    moe = MoeBlockSizes(width=8, hidden=12, experts=3, top_k=2, tile_out=2, **shared)
    block = EncoderBlockSizes(msa=msa, moe=moe)
    return ShellSizes(block=block, weights=PrefetchSizes(port_bits=beat_bits))


def number(image: Any, beat: int, low: int, bits: int) -> int:
    """Return the signed number at a bit of a beat."""
    value = int.from_bytes(bytes(image[beat].tolist()), "little") >> low & (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


@pytest.mark.parametrize("name, bits", [("w16a32", 16), ("int16", 16), ("int8", 8)])
@pytest.mark.parametrize("beat_bits", [32, 64, 256])
def test_every_weight_is_where_the_contract_says(name: str, bits: int, beat_bits: int) -> None:
    sizes = sizes_of(name, beat_bits).block.moe.linear
    rng = np.random.default_rng(1)
    outputs, inputs, t_out, t_in = 6, 8, 2, 4
    weights = rng.integers(-(1 << bits - 1), 1 << bits - 1, (outputs, inputs))
    biases = rng.integers(-(1 << 15), 1 << 15, outputs)
    image = linear_image((weights, biases), sizes)
    bias_beats = -(-16 * t_out // beat_bits)
    tile_beats = -(-bits * t_out * t_in // beat_bits)
    assert len(image) == outputs // t_out * (bias_beats + inputs // t_in * tile_beats)
    for o in range(outputs):
        tile, p = divmod(o, t_out)
        beat, low = divmod(16 * p, beat_bits)
        assert number(image, tile * bias_beats + beat, low, 16) == biases[o]
        for i in range(inputs):
            column, q = divmod(i, t_in)
            beat, low = divmod(bits * (p * t_in + q), beat_bits)
            first = outputs // t_out * bias_beats
            first += (tile * (inputs // t_in) + column) * tile_beats
            assert number(image, first + beat, low, bits) == weights[o, i]


def test_images_are_as_long_as_the_machine_reads() -> None:
    sizes = sizes_of("int8")
    zeros = np.zeros

    def layer(outputs: int, inputs: int) -> Any:
        return zeros((outputs, inputs), int), zeros(outputs, int)

    expert = expert_image(layer(12, 8), layer(8, 12), sizes)
    assert expert.shape == (sizes.expert_beats, 8)
    attention = attention_image(layer(24, 8), layer(8, 8), sizes)
    assert attention.shape == (sizes.attention_beats, 8)
    norms = [zeros((2, 8), int)] * 2
    small = parameter_image(norms, zeros((3, 8), int), sizes)
    assert small.shape == (sizes.parameter_words(True), sizes.parameter_bits // 8)
    assert len(parameter_image(norms, None, sizes)) == sizes.parameter_words(False)


@pytest.mark.parametrize("name, bits", [("w16a32", 16), ("int8", 8)])
def test_parameters_are_pairs_and_then_gates(name: str, bits: int) -> None:
    sizes = sizes_of(name)
    rng = np.random.default_rng(2)
    norms = [rng.integers(-(1 << 15), 1 << 15, (2, 8)) for _ in range(2)]
    gate = rng.integers(-(1 << bits - 1), 1 << bits - 1, (3, 8))
    image = parameter_image(norms, gate, sizes)
    for norm in range(2):
        for d in range(8):
            for part in range(2):
                beat = 8 * norm + d
                assert number(image, beat, 16 * part, 16) == norms[norm][part, d]
    for e in range(3):
        for d in range(8):
            beat, place = divmod(8 * e + d, 2)
            assert number(image, 16 + beat, bits * place, bits) == gate[e, d]


@pytest.mark.parametrize(
    "shapes, message",
    [
        (((3, 8), (3,)), "weights \\[3, 8\\] and biases \\[3\\] are not allowed"),
        (((4, 8), (3,)), "weights \\[4, 8\\] and biases \\[3\\] are not allowed"),
        (((4, 6), (4,)), "weights \\[4, 6\\] and biases \\[4\\] are not allowed"),
    ],
)
def test_shapes_are_checked(shapes: Any, message: str) -> None:
    layer = tuple(np.zeros(shape, int) for shape in shapes)
    with pytest.raises(InputError, match=f"^{message}"):
        linear_image(layer, sizes_of("int8").block.moe.linear)


def test_values_and_places_are_checked() -> None:
    sizes = sizes_of("int8")
    ok = (np.zeros((12, 8), int), np.zeros(12, int))
    large = (np.full((12, 8), 128), np.zeros(12, int))
    with pytest.raises(InputError, match="^a value is not allowed: -128 to 127 needed"):
        linear_image(large, sizes.block.moe.linear)
    with pytest.raises(InputError, match="^values \\[12, 8\\] are not allowed: \\[8, 12\\] needed"):
        expert_image(ok, ok, sizes)
    odd = replace(sizes.block.moe.linear, beat_bits=20)
    with pytest.raises(InputError, match="whole bytes"):
        linear_image(ok, odd)
