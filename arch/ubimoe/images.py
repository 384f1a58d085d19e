"""What UbiMoE's machine reads from memory: images of weights and of parameters.

All values are integers in the formats of docs/ubimoe-numerics.md; the order is that of
docs/ubimoe-kernels.md.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.arch.ubimoe.linear import BIAS_BITS, LinearSizes
from headrace.arch.ubimoe.shell import ShellSizes
from headrace.errors import InputError

__all__ = [
    "attention_image",
    "expert_image",
    "linear_image",
    "parameter_image",
]

Bytes = NDArray[np.uint8]
Layer = tuple[ArrayLike, ArrayLike]
"""Weights [outputs, inputs] and biases [outputs] of a linear."""

_PARAMETER_BITS = 16


def linear_image(layer: Layer, sizes: LinearSizes) -> Bytes:
    """Return the weight image of a linear.

    Parameters
    ----------
    layer : (int array [outputs, inputs], int array [outputs])
        Weights and biases; whole tiles.
    sizes : LinearSizes

    Returns
    -------
    uint8 array, shape (beats, beat_bits / 8)

    Raises
    ------
    InputError
        The shapes are no whole tiles or do not fit each other, or a value its bits.
    """
    weights, biases = (np.asarray(values, np.int64) for values in layer)
    t_out, t_in = sizes.tile_out, sizes.tile_in
    whole = weights.ndim == 2 and weights.shape[0] % t_out == 0 and weights.shape[1] % t_in == 0
    if not whole or biases.shape != weights.shape[:1]:
        raise InputError(
            f"weights {list(weights.shape)} and biases {list(biases.shape)} are not allowed: "
            f"[outputs, inputs] and [outputs], in tiles of {t_out} x {t_in}"
        )
    if sizes.beat_bits % 8:
        raise InputError(f"beats of {sizes.beat_bits} bits are not allowed: whole bytes needed")
    outputs, inputs = (size // t for size, t in zip(weights.shape, (t_out, t_in), strict=True))
    tiles = weights.reshape(outputs, t_out, inputs, t_in).transpose(0, 2, 1, 3)
    parts = [
        _beats(biases.reshape(outputs, t_out), BIAS_BITS, sizes.beat_bits),
        _beats(tiles.reshape(-1, t_out * t_in), sizes.formats.weight_bits, sizes.beat_bits),
    ]
    return np.concatenate(parts)


def expert_image(first: Layer, second: Layer, sizes: ShellSizes) -> Bytes:
    """Return the image of an expert, or of a part of a dense FFN: both of its linears.

    Raises
    ------
    InputError
        As `linear_image`, or the shapes are not those of the machine.
    """
    moe = sizes.block.moe
    _check(first[0], (moe.hidden, moe.width))
    _check(second[0], (moe.width, moe.hidden))
    return np.concatenate([linear_image(layer, moe.linear) for layer in (first, second)])


def attention_image(qkv: Layer, projection: Layer, sizes: ShellSizes) -> Bytes:
    """Return the image of an MSA block: Q, K and V as one linear, then the projection.

    Raises
    ------
    InputError
        As `expert_image`.
    """
    msa = sizes.block.msa
    _check(qkv[0], (3 * msa.width, msa.width))
    _check(projection[0], (msa.width, msa.width))
    return np.concatenate([linear_image(layer, msa.linear) for layer in (qkv, projection)])


def parameter_image(norms: Sequence[ArrayLike], gate: ArrayLike | None, sizes: ShellSizes) -> Bytes:
    """Return the image of a layer's small parameters.

    Parameters
    ----------
    norms : two int arrays [2, width]
        Gains and offsets of the norm of MSA and of that of the FFN.
    gate : int array [experts, width] or None
        Weights of the gate; None for a dense layer.
    sizes : ShellSizes

    Returns
    -------
    uint8 array, shape (words, parameter_bits / 8)

    Raises
    ------
    InputError
        The shapes are not those of the machine, or a value does not fit its bits.
    """
    moe = sizes.block.moe
    parts = []
    for norm in norms:
        pairs = np.asarray(norm, np.int64)
        _check(pairs, (2, moe.width))
        row = sizes.parameter_bits // _PARAMETER_BITS
        parts.append(_beats(pairs.T.reshape(-1, row), _PARAMETER_BITS, sizes.parameter_bits))
    if gate is not None:
        weights = np.asarray(gate, np.int64)
        _check(weights, (moe.experts, moe.width))
        rows = weights.reshape(-1, moe.dims)
        parts.append(_beats(rows, moe.formats.weight_bits, sizes.parameter_bits))
    return np.concatenate(parts)


def _check(values: ArrayLike, shape: tuple[int, int]) -> None:
    found = np.shape(values)
    if found != shape:
        raise InputError(f"values {list(found)} are not allowed: {list(shape)} needed")


def _beats(rows: NDArray[np.int64], bits: int, beat_bits: int) -> Bytes:
    """Return each row of signed numbers of `bits` bits in whole beats, low bits first."""
    limit = 1 << bits - 1
    if rows.size and not (-limit <= rows.min() and rows.max() < limit):
        raise InputError(f"a value is not allowed: {-limit} to {limit - 1} needed")
    raw = np.ascontiguousarray(rows.astype(f"<i{bits // 8}")).view(np.uint8)
    raw = raw.reshape(len(rows), -1)
    width = beat_bits // 8
    beats = -(-raw.shape[1] // width)
    padded = np.zeros((len(rows), beats * width), np.uint8)
    padded[:, : raw.shape[1]] = raw
    return padded.reshape(-1, width)
