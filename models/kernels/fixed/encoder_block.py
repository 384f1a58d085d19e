"""A whole encoder block: attention, then a dense FFN or a mixture of experts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.fixed.attention import streaming_attention
from headrace.models.kernels.fixed.combine import add_residual, combine
from headrace.models.kernels.fixed.formats import Formats
from headrace.models.kernels.fixed.gate import dispatch, gate
from headrace.models.kernels.fixed.integers import Integers, checked, to_operand
from headrace.models.kernels.fixed.layer_norm import layer_norm
from headrace.models.kernels.fixed.linear import linear

__all__ = [
    "Affine",
    "Attention",
    "EncoderBlock",
    "Experts",
    "FeedForward",
    "encoder_block",
    "ffn_block",
    "msa_block",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """Weights and bias of a linear layer, or gain and offset of a norm.

    Parameters
    ----------
    weights : ndarray of integers, shape (N, K); of a norm (D,)
    bias : ndarray of integers, shape (N,) or (D,)
        16 bits.
    """

    weights: NDArray[np.integer]
    bias: NDArray[np.integer]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """Parameters of MSA; biases have `Formats.attention_bias_fraction` fraction bits.

    Parameters
    ----------
    heads : int
        Divides D; D / heads is a power of 4.
    qkv : Affine
        Weights (3 D, D): the rows of Q, then K, then V, each head after head.
    projection : Affine
        Weights (D, D).
    """

    heads: int
    qkv: Affine
    projection: Affine

    def __post_init__(self) -> None:
        width = self.qkv.weights.shape[-1]
        if self.heads < 1 or width % self.heads:
            raise InputError(f"heads = {self.heads} is not allowed: a divisor of the width {width}")
        if len(self.qkv.weights) != 3 * width or len(self.projection.weights) != width:
            raise InputError(
                f"qkv {self.qkv.weights.shape} and projection {self.projection.weights.shape} do "
                f"not fit; ({3 * width}, {width}) and ({width}, {width}) are needed"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class FeedForward:
    """Two linears with GELU between; biases have `Formats.bias_fraction` fraction bits.

    Parameters
    ----------
    first : Affine
        Weights (hidden, D).
    second : Affine
        Weights (D, hidden).
    """

    first: Affine
    second: Affine

    def parts(self, count: int) -> "tuple[FeedForward, ...]":
        """Cut the hidden values into `count` equal ranges; the first part has the second bias.

        Raises
        ------
        InputError
            `count` does not divide the hidden values.
        """
        hidden = len(self.first.bias)
        if count < 1 or hidden % count:
            raise InputError(f"parts = {count} is not allowed: a divisor of {hidden} hidden values")
        size, bias = hidden // count, self.second.bias
        ranges = [slice(begin, begin + size) for begin in range(0, hidden, size)]
        return tuple(
            FeedForward(
                first=Affine(weights=self.first.weights[r], bias=self.first.bias[r]),
                second=Affine(
                    weights=self.second.weights[:, r],
                    bias=np.zeros_like(bias) if r.start else bias,
                ),
            )
            for r in ranges
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Experts:
    """A gate and its experts.

    Parameters
    ----------
    gate : ndarray of integers, shape (experts, D)
        In the format of weights; no bias.
    top_k : int
        Experts per token.
    experts : tuple of FeedForward
    """

    gate: NDArray[np.integer]
    top_k: int
    experts: tuple[FeedForward, ...]

    def __post_init__(self) -> None:
        if len(self.gate) != len(self.experts):
            raise InputError(f"gate of {len(self.gate)} rows for {len(self.experts)} experts")


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderBlock:
    """All parameters of an encoder block.

    Parameters
    ----------
    attention_norm, ffn_norm : Affine
        Gain (D,) and offset (D,).
    attention : Attention
    ffn : FeedForward, tuple of FeedForward, or Experts
        Even layers of M3ViT are dense, odd ones have experts. Of a dense FFN in parts
        (`FeedForward.parts`) each is stored as a feature before it is added.
    """

    attention_norm: Affine
    attention: Attention
    ffn_norm: Affine
    ffn: FeedForward | tuple[FeedForward, ...] | Experts


def encoder_block(
    x: NDArray[np.integer], block: EncoderBlock, formats: Formats, *, dims: int
) -> Integers:
    """Run one encoder block: `msa_block`, then `ffn_block`.

    Parameters
    ----------
    x : ndarray of integers, shape (tokens, D)
        Features; at most 511 tokens.
    block : EncoderBlock
    formats : Formats
    dims : int
        T_a of the attention kernel, on which scores depend.

    Returns
    -------
    ndarray of int64, shape (tokens, D)
        Features.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    return ffn_block(msa_block(x, block, formats, dims=dims), block, formats)


def msa_block(
    x: NDArray[np.integer], block: EncoderBlock, formats: Formats, *, dims: int
) -> Integers:
    """Return ``x + feature(projection(attention(qkv(layer_norm(x)))))``.

    Q, K and V are stored as operands. Parameters, result and errors as in `encoder_block`.
    """
    features = checked("x", x, (None, None), formats.feature_bits)
    parameters, norm = block.attention, block.attention_norm
    rows = layer_norm(features, norm.weights, norm.bias, formats)
    qkv = to_operand(_msa_linear(rows, parameters.qkv, formats), formats)
    q, k, v = qkv.reshape(len(rows), 3, parameters.heads, -1).swapaxes(0, 1)
    attended = streaming_attention(q, k, v, formats, dims=dims)
    projected = _msa_linear(attended.reshape(rows.shape), parameters.projection, formats)
    return add_residual(features, projected, formats)


def ffn_block(x: NDArray[np.integer], block: EncoderBlock, formats: Formats) -> Integers:
    """Return ``x + ffn(layer_norm(x))``, by the dense FFN or by gate, experts and `combine`.

    Parameters, result and errors as in `encoder_block`.
    """
    features = checked("x", x, (None, None), formats.feature_bits)
    rows = layer_norm(features, block.ffn_norm.weights, block.ffn_norm.bias, formats)
    if not isinstance(block.ffn, Experts):
        for part in block.ffn if isinstance(block.ffn, tuple) else (block.ffn,):
            features = add_residual(features, _feed_forward(rows, part, formats), formats)
        return features
    experts = block.ffn.experts
    jobs = dispatch(gate(rows, block.ffn.gate, formats, top_k=block.ffn.top_k), len(experts))
    results = [_feed_forward(rows[job.tokens], experts[job.expert], formats) for job in jobs]
    return combine(features, jobs, results, formats)


def _msa_linear(x: Integers, affine: Affine, formats: Formats) -> Integers:
    fraction = formats.attention_bias_fraction
    return linear(x, affine.weights, affine.bias, formats, bias_fraction=fraction)


def _feed_forward(x: Integers, ffn: FeedForward, formats: Formats) -> Integers:
    """Return the second linear's result, wide."""
    hidden = linear(x, ffn.first.weights, ffn.first.bias, formats, gelu=True)
    return linear(to_operand(hidden, formats), ffn.second.weights, ffn.second.bias, formats)
