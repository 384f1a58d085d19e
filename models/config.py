"""The facts of a network: every value of a Hugging Face config checked before it is used."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import InputError

__all__ = ["NetworkConfig", "parse_config"]

_LIMITS: dict[str, tuple[int, int]] = {
    "hidden_size": (1, 65_536),
    "intermediate_size": (1, 1_048_576),
    "num_hidden_layers": (1, 1_024),
    "num_attention_heads": (1, 1_024),
    "num_key_value_heads": (1, 1_024),
    "head_dim": (1, 4_096),
    "vocab_size": (1, 10_000_000),
    "max_position_embeddings": (1, 16_777_216),
    "image_size": (1, 16_384),
    "patch_size": (1, 1_024),
    "num_channels": (1, 1_024),
    "num_labels": (0, 1_000_000),
    "num_experts": (0, 4_096),
    "num_experts_per_tok": (1, 4_096),
    "moe_intermediate_size": (1, 1_048_576),
    "decoder_sparse_step": (1, 1_024),
    "num_tasks": (1, 1_024),
}
_DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The checked facts of a network.

    Attributes
    ----------
    name, summary : str
        Name of the preset or folder; one line for listings.
    family : str
        ``bitnet``, ``llama`` or ``vit``.
    hidden_size, intermediate_size, layers, heads, kv_heads, head_dim : int
        Shapes of the transformer layers.
    vocab_size : int
        Entries of the vocabulary; the number of classes for a ViT, 0 if it has no classifier.
    max_positions : int
        Longest sequence; patches plus the class token for a ViT.
    norms_per_layer : int
        4 for BitNet (with the sub-norms before o_proj and down_proj), else 2.
    activation : str
        ``silu``, ``relu2`` (both gated) or ``gelu``.
    rope_theta : float
        Base of the rotary embedding; 0 where there is none.
    rms_eps : float
        Epsilon inside the root of a norm.
    tied_embedding : bool
        Whether the LM head uses the embedding's weights.
    weight_format : str
        Format of the linear layers' weights: ``ternary`` or the checkpoint's float type.
    attention_bias : bool
        Whether q, k, v (and for ViT every linear) have a bias.
    patch_size, channels : int
        ViT only, else 0.
    experts, top_k, expert_size, sparse_step, tasks : int
        ViT with experts only, else 0: experts of a layer and those that a token is sent to, their
        hidden size, the period of layers with experts (the last of every period; 2: the odd
        ones), and tasks, each with a gate of its own.
    """

    name: str
    summary: str
    family: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    norms_per_layer: int
    activation: str
    rope_theta: float
    rms_eps: float
    tied_embedding: bool
    weight_format: str
    attention_bias: bool = False
    patch_size: int = 0
    channels: int = 0
    experts: int = 0
    top_k: int = 0
    expert_size: int = 0
    sparse_step: int = 0
    tasks: int = 0

    def has_experts(self, layer: int) -> bool:
        """Tell whether the FFN of a layer is a mixture of experts."""
        return self.experts > 0 and (layer + 1) % self.sparse_step == 0


def parse_config(raw: Mapping[str, Any], *, name: str, where: str) -> NetworkConfig:
    """Check a config dictionary and return its facts.

    Parameters
    ----------
    raw : Mapping
        Keys as in Hugging Face's config.json. Unknown keys are ignored.
    name : str
        Name of the network.
    where : str
        File name for messages.

    Raises
    ------
    InputError
        A key is missing, of the wrong type or out of range, or two keys disagree.
    """
    keys = _Keys(raw, where)
    family = _family(keys)
    return _vit(keys, name) if family == "vit" else _decoder(keys, name, family)


class _Keys:
    """Typed access to a config; every refusal names file, key, value and range."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.raw = raw
        self.where = where

    def refuse(self, key: str, value: object, needed: str) -> InputError:
        shown = repr(value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        return InputError(f"{self.where}: {key} = {shown}; {needed}")

    def integer(self, key: str, default: int | None = None) -> int:
        low, high = _LIMITS[key]
        value = self.raw.get(key)
        if value is None:
            if default is None:
                raise InputError(
                    f"{self.where}: key {key} is missing; an integer from {low} to {high} is needed"
                )
            return default
        # JSON's true is Python's bool, which is an int
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(key, value, f"an integer from {low} to {high} is needed")
        return value

    def sides(self, key: str) -> tuple[int, int]:
        """Read height and width: a pair, or one integer for both."""
        value = self.raw.get(key)
        if not isinstance(value, list):
            side = self.integer(key)
            return side, side
        low, high = _LIMITS[key]
        if len(value) != 2 or any(type(v) is not int or not low <= v <= high for v in value):
            raise self.refuse(key, value, f"one or two integers from {low} to {high} are needed")
        return value[0], value[1]

    def real(self, key: str, low: float, high: float, default: float) -> float:
        value = self.raw.get(key)
        if value is None:
            return default
        needed = f"a number from {low:g} to {high:g} is needed"
        if type(value) not in (int, float):
            raise self.refuse(key, value, needed)
        if not low <= value <= high or not math.isfinite(value):
            raise self.refuse(key, value, needed)
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.raw.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise self.refuse(key, value, "true or false is needed")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.raw.get(key)
        if value is None:
            return default
        if type(value) is not str or value not in allowed:
            raise self.refuse(key, value, f"one of {', '.join(allowed)} is needed")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.raw.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(key, value, "an object is needed")
        return value

    def summary(self, default: str) -> str:
        value = self.raw.get("headrace_summary", default)
        return value if isinstance(value, str) and value.isprintable() else default


def _family(keys: _Keys) -> str:
    """Tell the family; 1bitLLM's checkpoints call themselves llama but are BitNet."""
    architectures = keys.raw.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(a, str) for a in architectures):
        raise keys.refuse("architectures", architectures, "a list of names is needed")
    if any(a.lower() == "bitnetforcausallm" for a in architectures):
        return "bitnet"
    if keys.raw.get("model_type") is None:
        raise InputError(
            f"{keys.where}: key model_type is missing; one of bitnet, llama, vit is needed"
        )
    return keys.choice("model_type", ("bitnet", "llama", "vit"), "")


def _decoder(keys: _Keys, name: str, family: str) -> NetworkConfig:
    hidden, heads, head_dim = _head_shape(keys)
    kv_heads = keys.integer("num_key_value_heads", heads)
    if kv_heads > heads or heads % kv_heads:
        raise keys.refuse(
            "num_key_value_heads", kv_heads, f"a divisor of num_attention_heads = {heads} is needed"
        )
    if head_dim % 2:
        raise keys.refuse("head_dim", head_dim, "an even number is needed, RoPE rotates pairs")
    layers = keys.integer("num_hidden_layers")
    bitnet = family == "bitnet"
    activation = keys.choice("hidden_act", ("silu", "relu2") if bitnet else ("silu",), "silu")
    return NetworkConfig(
        name=name,
        summary=keys.summary(f"{family}, {layers} layers of {hidden}"),
        family=family,
        hidden_size=hidden,
        intermediate_size=keys.integer("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=keys.integer("vocab_size"),
        max_positions=keys.integer("max_position_embeddings"),
        norms_per_layer=4 if bitnet else 2,
        activation=activation,
        rope_theta=_rope_theta(keys),
        rms_eps=keys.real("rms_norm_eps", 1e-12, 1.0, 1e-6),
        tied_embedding=keys.boolean("tie_word_embeddings", False),
        weight_format="ternary" if bitnet else _dtype(keys),
        attention_bias=keys.boolean("attention_bias", False),
    )


def _vit(keys: _Keys, name: str) -> NetworkConfig:
    hidden, heads, head_dim = _head_shape(keys)
    image, patch = keys.sides("image_size"), keys.integer("patch_size")
    for side in image:
        if side % patch:
            raise keys.refuse("patch_size", patch, f"a divisor of image_size = {side} is needed")
    layers = keys.integer("num_hidden_layers")
    return NetworkConfig(
        name=name,
        summary=keys.summary(f"vit, {layers} layers of {hidden}"),
        family="vit",
        hidden_size=hidden,
        intermediate_size=keys.integer("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        vocab_size=keys.integer("num_labels", max(1, len(keys.mapping("id2label")) or 1000)),
        max_positions=(image[0] // patch) * (image[1] // patch) + 1,
        norms_per_layer=2,
        activation=keys.choice("hidden_act", ("gelu",), "gelu"),
        rope_theta=0.0,
        rms_eps=keys.real("layer_norm_eps", 1e-15, 1.0, 1e-12),
        tied_embedding=False,
        weight_format=_dtype(keys),
        attention_bias=keys.boolean("qkv_bias", True),
        patch_size=patch,
        channels=keys.integer("num_channels", 3),
        **_experts(keys),
    )


def _experts(keys: _Keys) -> dict[str, int]:
    """Read the mixture of experts, under the names that transformers gives Qwen2-MoE's."""
    experts = keys.integer("num_experts", 0)
    if not experts:
        return {}
    top_k = keys.integer("num_experts_per_tok")
    if top_k > experts:
        raise keys.refuse(
            "num_experts_per_tok", top_k, f"at most num_experts = {experts} is needed"
        )
    return {
        "experts": experts,
        "top_k": top_k,
        "expert_size": keys.integer("moe_intermediate_size"),
        "sparse_step": keys.integer("decoder_sparse_step", 1),
        "tasks": keys.integer("num_tasks", 1),
    }


def _head_shape(keys: _Keys) -> tuple[int, int, int]:
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    if keys.raw.get("head_dim") is not None:
        return hidden, heads, keys.integer("head_dim")
    if hidden % heads:
        raise keys.refuse(
            "num_attention_heads", heads, f"a divisor of hidden_size = {hidden} is needed"
        )
    return hidden, heads, hidden // heads


def _rope_theta(keys: _Keys) -> float:
    """Read theta where transformers 4 and where transformers 5 keep it."""
    nested = _Keys(keys.mapping("rope_parameters"), f"{keys.where}: rope_parameters")
    outer = keys.real("rope_theta", 1.0, 1e12, 10_000.0)
    return nested.real("rope_theta", 1.0, 1e12, outer)


def _dtype(keys: _Keys) -> str:
    key = "dtype" if keys.raw.get("dtype") is not None else "torch_dtype"
    return keys.choice(key, _DTYPES, "float32")
