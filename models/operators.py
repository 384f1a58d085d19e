"""One operator of a network: its shapes, number formats and the work it stands for."""

from dataclasses import dataclass
from math import prod

from headrace.errors import InputError

__all__ = ["FORMAT_BITS", "KINDS", "Operator"]

FORMAT_BITS = {
    "ternary": 2,  # as checkpoints pack it; a design that packs tighter counts its own beats
    "int8": 8,
    "int32": 32,
    "float16": 16,
    "bfloat16": 16,
    "float32": 32,
    "none": 0,
}
"""Stored bits of one value in each number format."""

KINDS = frozenset(
    {
        "embedding",
        "patch_embedding",
        "position_add",
        "rms_norm",
        "layer_norm",
        "quantise",
        "ternary_matmul",
        "matmul",
        "gate",
        "expert_matmul",
        "combine",
        "rope",
        "attention",
        "residual_add",
        "swiglu",
        "relu2_gate",
        "gelu",
        "lm_head",
        "classifier",
    }
)
"""Every kind of operator a network can hold."""

_MATMUL_KINDS = frozenset({"ternary_matmul", "matmul", "lm_head"})


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of a network.

    Attributes
    ----------
    name : str
        Unique in its network, e.g. ``layers.3.q_proj``.
    kind : str
        One of `KINDS`.
    layer : int or None
        Index of the transformer layer; None before the first and after the last.
    in_features, out_features : int
        Values per token going in (per input) and coming out.
    inputs : int
        Number of activation inputs of `in_features` each (2 for a residual add or a gate).
    weight_shape : tuple of int
        Shape of the weights, ``(out, in)`` for a matmul, ``(tasks, experts, in)`` for a gate,
        ``(experts, out, in)`` for the same matmul of all experts; empty if there are none.
    weight_format, activation_format, output_format : str
        Keys of `FORMAT_BITS`: of the weights, of the inputs, of the result.
    bias : bool
        Whether a bias of `out_features` values (per expert), in the format of the output, is added.
    rows_per_token : int
        Rows that one token gives: with experts, the number that it is sent to, else 1.
    scale_bytes : int
        Bytes of the scales that go with quantised weights.
    heads, kv_heads, head_dim : int
        Attention and RoPE only: query heads, key/value heads, values per head.
    causal : bool
        Attention only: a token sees itself and earlier tokens, through a KV cache.
    window : int
        Causal attention only: keys that a token sees at most, its own included; 0 for all.

    Raises
    ------
    InputError
        The kind or a format is unknown.
    """

    name: str
    kind: str
    layer: int | None
    in_features: int
    out_features: int
    inputs: int = 1
    weight_shape: tuple[int, ...] = ()
    weight_format: str = "none"
    activation_format: str = "float16"
    output_format: str = "float16"
    bias: bool = False
    rows_per_token: int = 1
    scale_bytes: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    causal: bool = True
    window: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"operator {self.name}: kind = {self.kind!r}; one of {', '.join(sorted(KINDS))} "
                "is needed"
            )
        for value in (self.weight_format, self.activation_format, self.output_format):
            if value not in FORMAT_BITS:
                raise InputError(
                    f"operator {self.name}: format = {value!r}; one of {', '.join(FORMAT_BITS)} "
                    "is needed"
                )

    @property
    def weights(self) -> int:
        """Number of weights, without bias and scales."""
        return prod(self.weight_shape) if self.weight_shape else 0

    @property
    def parameters(self) -> int:
        """Number of trained parameters: weights and bias."""
        return self.weights + self.biases

    @property
    def biases(self) -> int:
        """Number of bias values."""
        if not self.bias:
            return 0
        return self.out_features * (self.weight_shape[0] if self.kind == "expert_matmul" else 1)

    def macs(self, tokens: int, context: int = 0) -> int:
        """Count multiply-accumulates for `tokens` new tokens after `context` cached ones.

        A ternary matmul counts one per weight and token. Causal attention counts the pairs
        it needs, not a full square; its two products (QK and PV) count one each. Pass
        ``tokens=1`` for an LM head of which only the last position is wanted. A gate works for
        one task at a time, a token is sent to `rows_per_token` experts.
        """
        if self.kind in _MATMUL_KINDS:
            return tokens * self.weights
        if self.kind in ("gate", "expert_matmul"):
            return tokens * self.rows_per_token * prod(self.weight_shape[1:])
        if self.kind == "patch_embedding":
            return (tokens - 1) * self.weights  # the class token is no patch
        if self.kind == "classifier":
            return self.weights  # of the class token alone
        if self.kind == "attention":
            return 2 * self.heads * self.head_dim * self.attention_pairs(tokens, context)
        return 0

    def attention_pairs(self, tokens: int, context: int = 0) -> int:
        """Count (query, key) pairs of one head; 0 for other kinds."""
        if self.kind != "attention":
            return 0
        if not self.causal:
            return tokens * (tokens + context)
        window = self.window or tokens + context
        growing = max(0, min(tokens, window - context))  # tokens that see all before them
        return growing * context + growing * (growing + 1) // 2 + (tokens - growing) * window

    def weight_bytes(self) -> int:
        """Bytes of weights, bias and scales as stored."""
        bits = self.weights * FORMAT_BITS[self.weight_format]
        bias = self.biases * FORMAT_BITS[self.output_format]
        return -(-bits // 8) + bias // 8 + self.scale_bytes

    def input_bytes(self, tokens: int) -> int:
        """Bytes of the activations read for `tokens` tokens, all inputs together."""
        values = tokens * self.rows_per_token * self.inputs * self.in_features
        return values * FORMAT_BITS[self.activation_format] // 8

    def output_bytes(self, tokens: int) -> int:
        """Bytes of the result for `tokens` tokens."""
        values = tokens * self.rows_per_token * self.out_features
        return values * FORMAT_BITS[self.output_format] // 8

    def kv_write_bytes(self, tokens: int) -> int:
        """Bytes of keys and values that `tokens` new tokens add to the cache."""
        if self.kind != "attention" or not self.causal:
            return 0
        return tokens * self._kv_bytes_per_token()

    def kv_read_bytes(self, tokens: int, context: int = 0) -> int:
        """Bytes of keys and values when each one is read once, the new tokens' included.

        With a window, only those that some new token sees.
        """
        if self.kind != "attention" or not self.causal:
            return 0
        seen = tokens + context
        if self.window:
            seen = min(seen, tokens + self.window - 1)
        return seen * self._kv_bytes_per_token()

    def _kv_bytes_per_token(self) -> int:
        return 2 * self.kv_heads * self.head_dim * FORMAT_BITS[self.activation_format] // 8
