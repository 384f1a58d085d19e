"""The two numerics a BitNet can run in: float32, and half precision as the hardware rounds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.checkpoint import Checkpoint, LayerWeights, TernaryLinear
from headrace.models.kernels import (
    METHODS,
    attention,
    decode_attention_half,
    dequantise,
    dequantise_half,
    int_matmul,
    lookup_matmul,
    pair_permutation,
    prefill_attention_half,
    quantise_activations,
    quantise_activations_half,
    relu2_gate,
    relu2_gate_half,
    rms_norm,
    rms_norm_half,
    rope,
    rope_half,
    rope_table,
    swiglu,
    swiglu_half,
    ternary_matmul,
    weight_indices,
)

__all__ = [
    "MATMULS",
    "PRECISIONS",
    "Float32Numerics",
    "HardwareNumerics",
    "Numerics",
    "make_numerics",
]

Array = NDArray[Any]
Matmul = Callable[[NDArray[np.int8], TernaryLinear], NDArray[np.int32]]

PRECISIONS = ("float32", "hardware")
MATMULS = ("integer", *METHODS)
"""``integer`` is the fast exact product; the others go through TeLLMe's three methods."""


class Numerics(Protocol):
    """What a forward pass asks of its numerics; arrays are of `dtype` unless said otherwise."""

    dtype: type[np.generic]
    layers: tuple[LayerWeights, ...]

    def embed(self, ids: NDArray[np.int64]) -> Array:
        """Return the embeddings, shape (tokens, hidden_size)."""

    def norm(self, x: Array, weight: NDArray[np.float32]) -> Array:
        """Normalise each token."""

    def linears(self, x: Array, *linears: TernaryLinear) -> tuple[Array, ...]:
        """Quantise x once and multiply by each matrix."""

    def rotate(self, x: Array, positions: NDArray[np.int64]) -> Array:
        """Apply RoPE to x of shape (tokens, heads, head_dim)."""

    def attend(self, q: Array, k: Array, v: Array) -> Array:
        """Attend causally; the queries are the last of the context."""

    def gate(self, gate: Array, up: Array) -> Array:
        """Combine the two branches of the feed-forward network."""

    def add(self, x: Array, y: Array) -> Array:
        """Add the residual."""

    def logits(self, x: Array) -> NDArray[np.float32]:
        """Apply the LM head to normalised x."""


def make_numerics(
    checkpoint: Checkpoint, precision: str, matmul: str = "integer", group_size: int = 3
) -> Numerics:
    """Return the numerics of a name in `PRECISIONS`, with a matmul of a name in `MATMULS`.

    Raises
    ------
    InputError
        Unknown name, or a group size outside 1 to 5.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision = {precision!r}; one of {', '.join(PRECISIONS)} is needed")
    product = _make_matmul(matmul, group_size)
    if precision == "float32":
        return Float32Numerics(checkpoint, product)
    return HardwareNumerics(checkpoint, product)


def _make_matmul(matmul: str, group_size: int) -> Matmul:
    if matmul not in MATMULS:
        raise InputError(f"matmul = {matmul!r}; one of {', '.join(MATMULS)} is needed")
    if matmul == "integer":
        return lambda q, linear: int_matmul(q, linear.weights)
    if matmul == "naive":
        return lambda q, linear: ternary_matmul(q, linear.weights, "naive", group_size)
    # encoding is for weight loading, not for every token; linears live as long as the model
    encoded: dict[int, NDArray[np.uint8]] = {}

    def product(q: NDArray[np.int8], linear: TernaryLinear) -> NDArray[np.int32]:
        key = id(linear)
        if key not in encoded:
            encoded[key] = weight_indices(linear.weights, group_size)
        return lookup_matmul(q, encoded[key], matmul, group_size)

    return product


class Float32Numerics:
    """BitNet's maths in float32: integers inside the linears, float32 everywhere else."""

    dtype: type[np.generic] = np.float32

    def __init__(self, checkpoint: Checkpoint, matmul: Matmul) -> None:
        self._checkpoint = checkpoint
        self._network = checkpoint.network
        self._matmul = matmul
        self.layers = checkpoint.layers

    def embed(self, ids: NDArray[np.int64]) -> Array:
        """Look up float32 rows."""
        return self._checkpoint.embedding[ids]

    def norm(self, x: Array, weight: NDArray[np.float32]) -> Array:
        """Normalise with `rms_norm`."""
        return rms_norm(x, weight, self._network.rms_eps)

    def linears(self, x: Array, *linears: TernaryLinear) -> tuple[Array, ...]:
        """Quantise, multiply and dequantise in float32."""
        q, a = quantise_activations(x)
        return tuple(dequantise(self._matmul(q, w), a, w.scale) for w in linears)

    def rotate(self, x: Array, positions: NDArray[np.int64]) -> Array:
        """Rotate in half-split order."""
        return rope(x, *rope_table(positions, self._network.head_dim, self._network.rope_theta))

    def attend(self, q: Array, k: Array, v: Array) -> Array:
        """Attend with an exact softmax."""
        return attention(q, k, v)

    def gate(self, gate: Array, up: Array) -> Array:
        """Apply the network's activation."""
        return swiglu(gate, up) if self._network.activation == "silu" else relu2_gate(gate, up)

    def add(self, x: Array, y: Array) -> Array:
        """Add in float32."""
        return x + y

    def logits(self, x: Array) -> NDArray[np.float32]:
        """Multiply by the float32 LM head."""
        # einsum's own loops: the threads of a BLAS cost more than they bring at these sizes
        product = np.einsum("td,vd->tv", x, self._checkpoint.lm_head)
        return np.asarray(product, dtype=np.float32)


class HardwareNumerics:
    """TeLLMe's numerics: half precision, every operation rounded (docs/models.md).

    The scales, norms and embedding are rounded to half; Wq and Wk are permuted for RoPE on
    adjacent pairs; the LM head has INT8 rows with one FP32 scale each.
    """

    dtype: type[np.generic] = np.float16

    def __init__(self, checkpoint: Checkpoint, matmul: Matmul) -> None:
        net = self._network = checkpoint.network
        self._matmul = matmul
        self._embedding = checkpoint.embedding.astype(np.float16)
        self._head, a = quantise_activations(checkpoint.lm_head)
        self._head_scale = (np.float32(1) / a)[:, 0]
        q_order = pair_permutation(net.heads, net.head_dim)
        k_order = pair_permutation(net.kv_heads, net.head_dim)
        self.layers = tuple(
            replace(
                layer,
                q_proj=TernaryLinear(layer.q_proj.weights[q_order], layer.q_proj.scale),
                k_proj=TernaryLinear(layer.k_proj.weights[k_order], layer.k_proj.scale),
            )
            for layer in checkpoint.layers
        )

    def embed(self, ids: NDArray[np.int64]) -> Array:
        """Look up FP16 rows."""
        return self._embedding[ids]

    def norm(self, x: Array, weight: NDArray[np.float32]) -> Array:
        """Normalise with `rms_norm_half`."""
        return rms_norm_half(x, weight.astype(np.float16), self._network.rms_eps)

    def linears(self, x: Array, *linears: TernaryLinear) -> tuple[Array, ...]:
        """Quantise, multiply and dequantise with half-precision scales."""
        q, largest = quantise_activations_half(x)
        return tuple(
            dequantise_half(self._matmul(q, w), largest, np.float16(w.scale)) for w in linears
        )

    def rotate(self, x: Array, positions: NDArray[np.int64]) -> Array:
        """Rotate adjacent pairs with the FP16 table."""
        cos, sin = rope_table(positions, self._network.head_dim, self._network.rope_theta)
        return rope_half(x, cos.astype(np.float16), sin.astype(np.float16))

    def attend(self, q: Array, k: Array, v: Array) -> Array:
        """Use reversed prefill on an empty cache, else decode attention token by token."""
        if len(q) == len(k):
            return prefill_attention_half(q, k, v)
        ends = range(len(k) - len(q) + 1, len(k) + 1)
        return np.stack(
            [decode_attention_half(one, k[:end], v[:end]) for one, end in zip(q, ends, strict=True)]
        )

    def gate(self, gate: Array, up: Array) -> Array:
        """Apply the network's activation in half."""
        if self._network.activation == "silu":
            return swiglu_half(gate, up)
        return relu2_gate_half(gate, up)

    def add(self, x: Array, y: Array) -> Array:
        """Add in half."""
        return x + y

    def logits(self, x: Array) -> NDArray[np.float32]:
        """Quantise to INT8 per token and multiply by the INT8 rows."""
        q, a = quantise_activations(x.astype(np.float32))
        product = int_matmul(q, self._head).astype(np.float32)
        scaled = product * (np.float32(1) / a) * self._head_scale
        return np.asarray(scaled, dtype=np.float32)
