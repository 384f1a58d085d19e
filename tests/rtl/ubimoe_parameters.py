"""What the tests of UbiMoE's blocks share: parameters, their beats, and pauses."""

from dataclasses import replace
from typing import Any

import numpy as np

from headrace.models.kernels import fixed
from headrace.rtl.streams import StreamVectors, pack


def norm_of(width: int, rng: Any) -> fixed.Affine:
    """Draw gains of about 1, and offsets."""
    return fixed.Affine(
        weights=rng.integers(1500, 2600, width), bias=rng.integers(-400, 400, width)
    )


def affine(outputs: int, inputs: int, formats: Any, spread: float, rng: Any) -> fixed.Affine:
    """Draw weights of about `spread`, and biases: large ones with large weights, as 8-bit weights
    alone, below 1/8, would never make an operand saturate.
    """
    most = 14_000 if spread > 1 else 300
    real = rng.normal(0, spread, (outputs, inputs))
    weights = fixed.from_real(real, formats.weight_bits, formats.weight_fraction)
    return fixed.Affine(weights=weights, bias=rng.integers(-most, most, outputs))


def cut(number: int, count: int, bits: int) -> list[int]:
    return [number >> (bits * i) & ((1 << bits) - 1) for i in range(count)]


def image(layer: fixed.Affine, t_in: int, t_out: int, weight_bits: int, beat: int) -> list[int]:
    """Return the beats of a load: biases per output tile, then the tiles, low bits first."""
    outputs, inputs = layer.weights.shape
    beats = []
    for o in range(0, outputs, t_out):
        beats += cut(pack([layer.bias[o : o + t_out]], 16)[0], -(-16 * t_out // beat), beat)
    for o in range(0, outputs, t_out):
        for i in range(0, inputs, t_in):
            tile = layer.weights[o : o + t_out, i : i + t_in].ravel()
            bits = weight_bits * t_in * t_out
            beats += cut(pack([tile], weight_bits)[0], -(-bits // beat), beat)
    return beats


def beats_of(rows: Any, dims: int, bits: int) -> list[int]:
    return pack(np.reshape(rows, (-1, dims)), bits)


def norm_beats(norm: fixed.Affine, dims: int) -> list[int]:
    pairs = np.stack([norm.weights, norm.bias], axis=1)
    return pack(pairs.reshape(-1, 2 * dims), 16)


def with_arrivals(work: StreamVectors, seed: int, cycles: int = 1500) -> StreamVectors:
    """Every stream pauses at random, in half of its beats, and would alone take about `cycles`
    or a fraction of them; results are taken from a quarter of them on.
    """
    rng = np.random.default_rng(seed)
    arrivals = {}
    for name, items in {**work.inputs, **work.results}.items():
        longest = int(rng.choice([0.2, 1, 4]) * cycles / max(1, len(items)))
        pauses = rng.integers(0, 2 + longest, len(items)) * (rng.random(len(items)) < 0.5)
        arrivals[name] = np.cumsum(pauses) + cycles // 4 * (name == "results")
    return replace(work, arrivals=arrivals)
