"""Parameters of a ViT under their names in transformers, stored for the fixed-point encoder."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import InputError
from headrace.models.config import NetworkConfig
from headrace.models.kernels.fixed.encoder import Encoder
from headrace.models.kernels.fixed.encoder_block import (
    Affine,
    Attention,
    EncoderBlock,
    Experts,
    FeedForward,
)
from headrace.models.kernels.fixed.formats import Formats
from headrace.models.kernels.fixed.integers import Integers, from_real, to_real
from headrace.models.kernels.fixed.layer_norm import NORM_BITS
from headrace.models.kernels.fixed.linear import BIAS_BITS
from headrace.models.kernels.fixed.patch_embedding import PATCH_WEIGHT_BITS, PIXEL_BITS

__all__ = ["patch_rows", "stored_encoder", "tensor_shapes"]

_PATCH = "embeddings.patch_embeddings.projection"
_POSITIONS = "embeddings.position_embeddings"
_CLASS = "embeddings.cls_token"

# Names in files and in transformers 4, and what transformers 5 calls the same in memory; in order.
_RENAMED = (
    ("encoder.layer.", "layers."),
    (".attention.attention.query.", ".attention.q_proj."),
    (".attention.attention.key.", ".attention.k_proj."),
    (".attention.attention.value.", ".attention.v_proj."),
    (".attention.output.dense.", ".attention.o_proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
)


def tensor_shapes(network: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a ViT's encoder by name, as `ViTModel` of transformers 5 has them.

    A layer with experts, which transformers has none of, has ``mlp.gates.T.weight`` for every
    task T and ``mlp.experts.E.fc1`` and ``.fc2`` for every expert E where a dense one has
    ``mlp.fc1`` and ``mlp.fc2``.

    Parameters
    ----------
    network : NetworkConfig
        Of the family ``vit``.

    Returns
    -------
    dict of str to tuple of int

    Raises
    ------
    InputError
        The network is no ViT.
    """
    if network.family != "vit":
        raise InputError(f"{network.name} is of family {network.family}; a vit is needed")
    if network.embedding_norm:
        raise InputError(f"{network.name} has a norm before its first layer; none is needed")
    width, side = network.hidden_size, network.patch_size
    shapes: dict[str, tuple[int, ...]] = {
        _CLASS: (1, 1, width),
        _POSITIONS: (1, network.max_positions, width),
        f"{_PATCH}.weight": (width, network.channels, side, side),
        f"{_PATCH}.bias": (width,),
    }
    for layer in range(network.layers):
        for name, shape in _layer_shapes(network, layer).items():
            shapes[f"layers.{layer}.{name}"] = shape
    return shapes | _norm_shapes("layernorm", width)


def _layer_shapes(network: NetworkConfig, layer: int) -> dict[str, tuple[int, ...]]:
    width, size = network.hidden_size, network.heads * network.head_dim
    shapes = _norm_shapes("layernorm_before", width) | _norm_shapes("layernorm_after", width)
    for name in "qkv":
        shapes[f"attention.{name}_proj.weight"] = (size, width)
        if network.attention_bias:
            shapes[f"attention.{name}_proj.bias"] = (size,)
    shapes |= _linear_shapes("attention.o_proj", width, size)
    if not network.has_experts(layer):
        return shapes | _ffn_shapes("mlp", width, network.intermediate_size)
    for task in range(network.tasks):
        shapes[f"mlp.gates.{task}.weight"] = (network.experts, width)
    for expert in range(network.experts):
        shapes |= _ffn_shapes(f"mlp.experts.{expert}", width, network.expert_size)
    return shapes


def _norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear_shapes(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _ffn_shapes(name: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    first = _linear_shapes(f"{name}.fc1", hidden, width)
    return first | _linear_shapes(f"{name}.fc2", width, hidden)


def stored_encoder(
    tensors: Mapping[str, ArrayLike],
    network: NetworkConfig,
    formats: Formats,
    *,
    mean: ArrayLike = 0.5,
    deviation: ArrayLike = 0.5,
    task: int = 0,
    centred: bool = False,
) -> Encoder:
    """Round a ViT's real parameters to the formats; what is too large saturates.

    The image normalisation ``(pixel / 255 - mean) / deviation`` goes into the patch weights and
    their bias, since the kernel's pixels are ``pixel / 256``; the class token goes into row 0 of
    the positions.

    A kernel that stores an operand floors it, so operands lie half a unit low on average. With
    `centred` the parameters make up for that: half a unit more in the offsets of the norms and
    the biases of Q, K and V turns those floors into roundings to nearest, and what half a unit of
    attention output and of hidden values is worth in the linear after them goes into its bias.
    It needs biases with more fraction bits than operands: it is meant for INT8.

    Parameters
    ----------
    tensors : mapping of str to array
        The names of `tensor_shapes`; those of files and of transformers 4
        (``encoder.layer.0.attention.attention.query.weight``), and all with ``vit.`` before them,
        are taken too. Others, such as a pooler's, are not looked at, nor is the final norm.
    network : NetworkConfig
        Of the family ``vit``.
    formats : Formats
    mean, deviation : array_like of float, shape () or (channels,)
        Of the image normalisation; the defaults are those of transformers' ViTImageProcessor.
    task : int
        Whose gates are taken, where there are experts.
    centred : bool
        Make up for the floors.

    Returns
    -------
    Encoder

    Raises
    ------
    InputError
        A tensor is missing, has another shape or is not finite, or the network is no ViT.
    """
    if not 0 <= task < max(network.tasks, 1):
        raise InputError(f"task = {task} is not allowed: 0 to {max(network.tasks, 1) - 1}")
    source = _Source(tensors, network, formats, centred)
    positions = source.real(_POSITIONS)[0].copy()
    positions[0] += source.real(_CLASS)[0, 0]
    return Encoder(
        patch=_patch(source, mean, deviation),
        positions=from_real(positions, formats.feature_bits, formats.feature_fraction),
        blocks=tuple(_block(source, layer, task) for layer in range(network.layers)),
    )


class _Source:
    """Real parameters by name, and how they are stored."""

    def __init__(
        self,
        tensors: Mapping[str, ArrayLike],
        network: NetworkConfig,
        formats: Formats,
        centred: bool,
    ) -> None:
        self._tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
        self._shapes = tensor_shapes(network)
        self.network = network
        self.formats = formats
        self.half = np.ldexp(0.5, -formats.operand_fraction) if centred else 0.0

    def real(self, name: str) -> NDArray[np.float64]:
        if name not in self._tensors:
            raise InputError(f"tensor {name} is missing")
        values = np.asarray(self._tensors[name], np.float64)
        if values.shape != self._shapes[name]:
            raise InputError(f"{name} has shape {values.shape}; {self._shapes[name]} is needed")
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds NaN or infinity; finite values are needed")
        return values

    def weights(self, name: str) -> Integers:
        f = self.formats
        return from_real(self.real(f"{name}.weight"), f.weight_bits, f.weight_fraction)

    def norm(self, name: str) -> Affine:
        fraction = self.formats.norm_fraction
        gain, offset = self.real(f"{name}.weight"), self.real(f"{name}.bias") + self.half
        return Affine(
            weights=from_real(gain, NORM_BITS, fraction),
            bias=from_real(offset, NORM_BITS, fraction),
        )

    def after_operands(self, name: str, bias_fraction: int) -> Affine:
        """Store a linear whose inputs were floored to operands by something that has no bias."""
        weights = self.weights(name)
        shift = self.half * to_real(weights, self.formats.weight_fraction).sum(axis=1)
        bias = from_real(self.real(f"{name}.bias") + shift, BIAS_BITS, bias_fraction)
        return Affine(weights=weights, bias=bias)

    def ffn(self, name: str) -> FeedForward:
        fraction = self.formats.bias_fraction
        bias = from_real(self.real(f"{name}.fc1.bias"), BIAS_BITS, fraction)
        return FeedForward(
            first=Affine(weights=self.weights(f"{name}.fc1"), bias=bias),
            second=self.after_operands(f"{name}.fc2", fraction),
        )


def _renamed(name: str) -> str:
    name = name.removeprefix("vit.")
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name


def _patch(source: _Source, mean: ArrayLike, deviation: ArrayLike) -> Affine:
    channels, f = source.network.channels, source.formats
    try:
        means, scales = (np.broadcast_to(np.asarray(v, float), channels) for v in (mean, deviation))
    except ValueError as error:
        raise InputError(f"mean, deviation: one or {channels} numbers each are needed") from error
    if not (np.isfinite(means).all() and np.isfinite(scales).all() and (scales > 0).all()):
        raise InputError("mean, deviation: finite numbers, and deviations above 0, are needed")
    weights = source.real(f"{_PATCH}.weight") / scales[:, None, None]
    bias = source.real(f"{_PATCH}.bias") - (weights * means[:, None, None]).sum(axis=(1, 2, 3))
    weights = weights.reshape(len(weights), -1) * ((1 << PIXEL_BITS) / 255)
    return Affine(
        weights=from_real(weights, PATCH_WEIGHT_BITS, f.patch_fraction),
        bias=from_real(bias, BIAS_BITS, f.bias_fraction),
    )


def _block(source: _Source, layer: int, task: int) -> EncoderBlock:
    network, name = source.network, f"layers.{layer}"
    mlp = f"{name}.mlp"
    ffn: FeedForward | Experts = (
        Experts(
            gate=source.weights(f"{mlp}.gates.{task}"),
            top_k=network.top_k,
            experts=tuple(source.ffn(f"{mlp}.experts.{e}") for e in range(network.experts)),
        )
        if network.has_experts(layer)
        else source.ffn(mlp)
    )
    return EncoderBlock(
        attention_norm=source.norm(f"{name}.layernorm_before"),
        attention=_attention(source, f"{name}.attention"),
        ffn_norm=source.norm(f"{name}.layernorm_after"),
        ffn=ffn,
    )


def _attention(source: _Source, name: str) -> Attention:
    parts = [f"{name}.{part}_proj" for part in "qkv"]
    weights = np.vstack([source.weights(part) for part in parts])
    bias = np.zeros(len(weights))
    if source.network.attention_bias:
        bias = np.concatenate([source.real(f"{part}.bias") for part in parts])
    fraction = source.formats.attention_bias_fraction
    return Attention(
        heads=source.network.heads,
        qkv=Affine(weights=weights, bias=from_real(bias + source.half, BIAS_BITS, fraction)),
        projection=source.after_operands(f"{name}.o_proj", fraction),
    )


def patch_rows(image: NDArray[np.integer], side: int) -> NDArray[np.integer]:
    """Cut an image into the rows of `patch_embedding`.

    Parameters
    ----------
    image : ndarray of integers, shape (channels, height, width)
        Pixels from 0 to 255.
    side : int
        Of a patch, in pixels; divides height and width.

    Returns
    -------
    ndarray, shape (patches, channels * side * side)
        Patches row by row; a patch's pixels by channel, row, column, as the weights of a
        convolution lie in memory.

    Raises
    ------
    InputError
        The image is not of three axes, or does not divide into patches.
    """
    if image.ndim != 3 or side < 1 or image.shape[1] % side or image.shape[2] % side:
        raise InputError(
            f"image of shape {image.shape}: (channels, height, width) with patches of side {side} "
            "is needed"
        )
    channels, height, width = image.shape
    tiles = image.reshape(channels, height // side, side, width // side, side)
    return tiles.transpose(1, 3, 0, 2, 4).reshape(-1, channels * side * side)
