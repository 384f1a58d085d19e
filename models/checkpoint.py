"""Load the weights of a BitNet from safetensors: float master weights or packed 2-bit form."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.json_file import read_json_object
from headrace.models.network import Network, network_from_config
from headrace.models.tensors import TensorFolder

__all__ = [
    "Checkpoint",
    "LayerWeights",
    "TernaryLinear",
    "example_checkpoint",
    "load_checkpoint",
    "pack_ternary",
    "ternarise",
    "unpack_ternary",
]


@dataclass(frozen=True)
class TernaryLinear:
    """One linear layer.

    Attributes
    ----------
    weights : ndarray of int8, shape (out, in)
        -1, 0 or 1.
    scale : float32
        Multiplies the output; positive.
    """

    weights: NDArray[np.int8]
    scale: np.float32


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """Weights of one transformer layer; norms are float32 vectors."""

    q_proj: TernaryLinear
    k_proj: TernaryLinear
    v_proj: TernaryLinear
    o_proj: TernaryLinear
    up_proj: TernaryLinear
    gate_proj: TernaryLinear
    down_proj: TernaryLinear
    input_norm: NDArray[np.float32]
    attention_sub_norm: NDArray[np.float32]
    post_attention_norm: NDArray[np.float32]
    ffn_sub_norm: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network and its weights.

    Attributes
    ----------
    network : Network
    embedding : ndarray of float32, shape (vocab_size, hidden_size)
    layers : tuple of LayerWeights
    final_norm : ndarray of float32, shape (hidden_size,)
    lm_head : ndarray of float32, shape (vocab_size, hidden_size)
        The embedding itself where the two are tied.
    """

    network: Network
    embedding: NDArray[np.float32]
    layers: tuple[LayerWeights, ...]
    final_norm: NDArray[np.float32]
    lm_head: NDArray[np.float32]


def example_checkpoint() -> Path:
    """Return the folder of tiny-bitnet, the trained checkpoint that comes with headrace."""
    return Path(str(files("headrace.models") / "data" / "tiny-bitnet"))


def ternarise(weights: NDArray[np.float32]) -> TernaryLinear:
    """Turn float master weights into ternary ones, as BitNet b1.58 does.

    ``s = 1 / max(mean|W|, 1e-5)``, ``T = clamp(round_half_even(W s), -1, 1)``, scale ``1 / s``;
    float32, the mean formed in float64.

    Parameters
    ----------
    weights : ndarray of float32, shape (out, in)
        Finite.
    """
    mean = np.float32(np.mean(np.abs(weights), dtype=np.float64))
    s = np.float32(1) / np.maximum(mean, np.float32(1e-5))
    ternary = np.clip(np.rint(weights * s), -1, 1).astype(np.int8)
    return TernaryLinear(ternary, np.float32(1) / s)


def unpack_ternary(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Unpack four ternary weights from each byte.

    With R rows of bytes, bits 2i and 2i+1 of ``packed[r, c]`` hold ``T[i R + r, c] + 1``
    (transformers' layout, as in microsoft/bitnet-b1.58-2B-4T).

    Parameters
    ----------
    packed : ndarray of uint8, shape (out / 4, in)

    Returns
    -------
    ndarray of int8, shape (out, in)

    Raises
    ------
    InputError
        A two-bit field holds 3, which is no ternary weight.
    """
    fields = np.concatenate([(packed >> np.uint8(2 * i)) & np.uint8(3) for i in range(4)])
    if (fields == 3).any():
        row, column = np.argwhere(fields == 3)[0]
        raise InputError(f"packed weight [{row}, {column}] is 3; 0, 1 or 2 is needed")
    return fields.astype(np.int8) - np.int8(1)


def pack_ternary(weights: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack ternary weights four to a byte; the inverse of `unpack_ternary`.

    Parameters
    ----------
    weights : ndarray of int8, shape (out, in)
        -1, 0 or 1; `out` is a multiple of 4.

    Raises
    ------
    InputError
        `out` is not a multiple of 4 or a weight is not ternary.
    """
    if weights.ndim != 2 or len(weights) % 4 or (np.abs(weights) > 1).any():
        raise InputError("pack_ternary: ternary weights of shape (4 n, in) are needed")
    fields = (weights + 1).astype(np.uint8).reshape(4, -1, weights.shape[1])
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None, None]
    return np.asarray(np.bitwise_or.reduce(fields << shifts, axis=0), dtype=np.uint8)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Load a BitNet checkpoint.

    Parameters
    ----------
    folder : path
        ``config.json`` and ``model.safetensors``, or its shards with
        ``model.safetensors.index.json``. Linears are float master weights (F32, F16, BF16),
        which are ternarised, or packed uint8 with a ``weight_scale``. Pickles are never read.

    Raises
    ------
    InputError
        A file, key or tensor is missing, malformed, of the wrong type or shape, not finite or
        not ternary, or the network is not a BitNet this reference can run.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # Path.is_dir raises where a name is too long
        raise InputError(f"{folder}: a checkpoint folder with a config.json is needed")
    network = network_from_config(folder)
    raw = read_json_object(folder / "config.json")
    _check_runnable(network, raw, folder / "config.json")
    tensors = TensorFolder(folder)
    reader = _Reader(network, tensors, _scale_divides(raw, folder / "config.json"))
    table = (network.vocab_size, network.hidden_size)
    embedding = tensors.floats("model.embed_tokens.weight", table)
    return Checkpoint(
        network=network,
        embedding=embedding,
        layers=tuple(reader.layer(i) for i in range(network.layers)),
        final_norm=tensors.floats("model.norm.weight", (network.hidden_size,)),
        lm_head=embedding if network.tied_embedding else tensors.floats("lm_head.weight", table),
    )


def _check_runnable(network: Network, raw: Mapping[str, Any], path: Path) -> None:
    if network.family != "bitnet":
        raise InputError(f"{path}: a BitNet is needed to run a checkpoint, found {network.family}")
    if network.attention_bias:
        raise InputError(f"{path}: attention_bias = true; false is needed, BitNet has no biases")
    scaling = raw.get("rope_scaling") or {}
    parameters = raw.get("rope_parameters") or {}
    kind = parameters.get("rope_type", "default") if isinstance(parameters, dict) else parameters
    if scaling or kind != "default":
        raise InputError(f"{path}: scaled RoPE is not supported; rope_type = default is needed")


def _scale_divides(raw: Mapping[str, Any], path: Path) -> bool:
    """Tell whether a packed form's scale divides the output, as class ``bitlinear`` has it."""
    quantisation = raw.get("quantization_config")
    if quantisation is None:
        return False
    if not isinstance(quantisation, dict):
        raise InputError(f"{path}: quantization_config; an object is needed")
    if quantisation.get("use_rms_norm"):
        raise InputError(f"{path}: quantization_config.use_rms_norm = true is not supported")
    kind = quantisation.get("linear_class", "bitlinear")
    if kind not in ("bitlinear", "autobitlinear"):
        raise InputError(
            f"{path}: quantization_config.linear_class = {str(kind)[:40]!r}; one of bitlinear, "
            "autobitlinear is needed"
        )
    return bool(kind == "bitlinear")


@dataclass(frozen=True)
class _Reader:
    """Reads layers under either set of tensor names: transformers' or 1bitLLM's."""

    network: Network
    tensors: TensorFolder
    scale_divides: bool

    def layer(self, index: int) -> LayerWeights:
        net, prefix = self.network, f"model.layers.{index}."
        hidden, ffn = net.hidden_size, net.intermediate_size
        q_size, kv_size = net.heads * net.head_dim, net.kv_heads * net.head_dim
        return LayerWeights(
            q_proj=self.linear(prefix + "self_attn.q_proj", (q_size, hidden)),
            k_proj=self.linear(prefix + "self_attn.k_proj", (kv_size, hidden)),
            v_proj=self.linear(prefix + "self_attn.v_proj", (kv_size, hidden)),
            o_proj=self.linear(prefix + "self_attn.o_proj", (hidden, q_size)),
            up_proj=self.linear(prefix + "mlp.up_proj", (ffn, hidden)),
            gate_proj=self.linear(prefix + "mlp.gate_proj", (ffn, hidden)),
            down_proj=self.linear(prefix + "mlp.down_proj", (hidden, ffn)),
            input_norm=self.norm(hidden, prefix + "input_layernorm"),
            post_attention_norm=self.norm(hidden, prefix + "post_attention_layernorm"),
            attention_sub_norm=self.norm(
                q_size, prefix + "self_attn.attn_sub_norm", prefix + "self_attn.inner_attn_ln"
            ),
            ffn_sub_norm=self.norm(ffn, prefix + "mlp.ffn_sub_norm", prefix + "mlp.ffn_layernorm"),
        )

    def norm(self, size: int, *names: str) -> NDArray[np.float32]:
        return self.tensors.floats(self.tensors.find(*(f"{n}.weight" for n in names)), (size,))

    def linear(self, name: str, shape: tuple[int, int]) -> TernaryLinear:
        weight = self.tensors.find(f"{name}.weight")
        if self.tensors.dtype(weight) != "U8":
            return ternarise(self.tensors.floats(weight, shape))
        path = self.tensors.where(weight)
        if shape[0] % 4:
            raise InputError(f"{path}: {weight} is packed, but {shape[0]} is no multiple of 4")
        scale = self.tensors.floats(self.tensors.find(f"{name}.weight_scale"), (1,))[0]
        with np.errstate(divide="ignore", over="ignore"):
            scale = np.float32(1) / scale if self.scale_divides else scale
        if not 0 < scale < np.inf:
            raise InputError(f"{path}: {name}.weight_scale; a positive finite number is needed")
        packed = self.tensors.bytes(weight, (shape[0] // 4, shape[1]))
        try:
            return TernaryLinear(unpack_ternary(packed), scale)
        except InputError as error:
            raise InputError(f"{path}: {weight}: {error}") from error
