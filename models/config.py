"""The facts of a network: every value of a Hugging Face config checked before it is used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import InputError
from headrace.models.config_keys import ConfigKeys

__all__ = ["NetworkConfig", "parse_config"]

_DTYPES = ("float16", "bfloat16", "float32")
_GELUS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu")
_OTHER_NAMES = {
    "falcon": {
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "num_key_value_heads": "num_kv_heads",
        "intermediate_size": "ffn_hidden_size",
        "hidden_act": "activation",
    },
    "bloom": {
        "hidden_size": "n_embed",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "seq_length",
    },
    "gpt2": {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions",
        "hidden_act": "activation_function",
    },
}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The checked facts of a network.

    Attributes
    ----------
    name, summary : str
        Name of the preset or folder; one line for listings.
    family : str
        ``bitnet``, ``llama``, ``mistral``, ``falcon``, ``bloom``, ``gpt2`` or ``vit``.
    hidden_size, intermediate_size, layers, heads, kv_heads, head_dim : int
        Shapes of the transformer layers.
    vocab_size : int
        Entries of the vocabulary; the number of classes for a ViT, 0 if it has no classifier.
    max_positions : int
        Longest sequence; patches plus the class token for a ViT. With RoPE or ALiBi it is the
        length of training and bounds nothing here.
    norm : str
        ``rms_norm``, or ``layer_norm`` with an offset.
    norms_per_layer : int
        4 for BitNet (with the sub-norms before o_proj and down_proj); 2; 1 for a parallel block
        whose halves share one.
    activation : str
        ``silu``, ``relu2`` (both gated), or a form of GELU, not gated.
    positions : str
        ``rope``, ``alibi`` (a bias of every head inside attention) or ``learned`` (added to the
        embedding).
    rope_theta : float
        Base of the rotary embedding; 0 where there is none.
    rms_eps : float
        Epsilon inside the root of a norm.
    tied_embedding : bool
        Whether the LM head uses the embedding's weights.
    weight_format : str
        Format of the linear layers' weights: ``ternary`` or the checkpoint's float type.
    attention_bias, output_bias, ffn_bias : bool
        Whether q, k and v, whether o, and whether the FFN's linears have a bias.
    parallel : bool
        Whether attention and FFN read the same input and are added in one sum.
    embedding_norm : bool
        Whether a norm stands before the first layer.
    sliding_window : int
        Keys that a token sees at most, its own included; 0 for all.
    patch_bias : bool
        ViT only: whether the patch embedding has a bias.
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
    norm: str
    norms_per_layer: int
    activation: str
    positions: str
    rope_theta: float
    rms_eps: float
    tied_embedding: bool
    weight_format: str
    attention_bias: bool = False
    output_bias: bool = False
    ffn_bias: bool = False
    parallel: bool = False
    embedding_norm: bool = False
    sliding_window: int = 0
    patch_bias: bool = False
    patch_size: int = 0
    channels: int = 0
    experts: int = 0
    top_k: int = 0
    expert_size: int = 0
    sparse_step: int = 0
    tasks: int = 0

    @property
    def gated(self) -> bool:
        """Whether the FFN multiplies by a gate."""
        return self.activation in ("silu", "relu2")

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
    family = _family(ConfigKeys(raw, where))
    keys = ConfigKeys(raw, where, _OTHER_NAMES.get(family))
    if family in _DECODERS:
        return _decoder(keys, name, family)
    return _vit(keys, name, clip=family != "vit")


def _family(keys: ConfigKeys) -> str:
    """Tell the family; 1bitLLM's checkpoints call themselves llama but are BitNet."""
    architectures = keys.raw.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(a, str) for a in architectures):
        raise keys.refuse("architectures", architectures, "a list of names is needed")
    if any(a.lower() == "bitnetforcausallm" for a in architectures):
        return "bitnet"
    known = (*_DECODERS, "vit", "clip_vision_model")
    if keys.raw.get("model_type") is None:
        raise InputError(
            f"{keys.where}: key model_type is missing; one of {', '.join(known)} is needed"
        )
    return keys.choice("model_type", known, "")


def _decoder(keys: ConfigKeys, name: str, family: str) -> NetworkConfig:
    hidden, heads, head_dim = _head_shape(keys)
    kv_heads = _kv_heads(keys, family, heads)
    facts = _DECODERS[family](keys)
    if facts["positions"] == "rope" and head_dim % 2:
        raise keys.refuse("head_dim", head_dim, "an even number is needed, RoPE rotates pairs")
    layers = keys.integer("num_hidden_layers")
    gated = facts["activation"] in ("silu", "relu2")
    return NetworkConfig(
        name=name,
        summary=keys.summary(f"{family}, {layers} layers of {hidden}"),
        family=family,
        hidden_size=hidden,
        intermediate_size=keys.integer("intermediate_size", None if gated else 4 * hidden),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=keys.integer("vocab_size"),
        rope_theta=_rope_theta(keys) if facts["positions"] == "rope" else 0.0,
        **facts,
    )


def _kv_heads(keys: ConfigKeys, family: str, heads: int) -> int:
    """Read the number of KV heads; Falcon's old decoders have one, its others say how many."""
    if family in ("bloom", "gpt2"):
        return heads
    if family == "falcon" and not keys.boolean("new_decoder_architecture", False):
        return 1 if keys.boolean("multi_query", True) else heads
    kv_heads = keys.integer("num_key_value_heads", heads)
    if kv_heads > heads or heads % kv_heads:
        raise keys.refuse(
            "num_key_value_heads", kv_heads, f"a divisor of num_attention_heads = {heads} is needed"
        )
    return kv_heads


def _llama(keys: ConfigKeys, activations: tuple[str, ...] = ("silu",)) -> dict[str, Any]:
    return {
        "max_positions": keys.integer("max_position_embeddings"),
        "norm": "rms_norm",
        "norms_per_layer": 2,
        "activation": keys.choice("hidden_act", activations, "silu"),
        "positions": "rope",
        "rms_eps": keys.real("rms_norm_eps", 1e-12, 1.0, 1e-6),
        "tied_embedding": keys.boolean("tie_word_embeddings", False),
        "weight_format": _dtype(keys),
        "attention_bias": keys.boolean("attention_bias", False),
        "output_bias": keys.boolean("attention_bias", False),
        "ffn_bias": keys.boolean("mlp_bias", False),
    }


def _mistral(keys: ConfigKeys) -> dict[str, Any]:
    return _llama(keys) | {"sliding_window": keys.integer("sliding_window", 0)}


def _bitnet(keys: ConfigKeys) -> dict[str, Any]:
    facts = _llama(keys, ("silu", "relu2"))
    return facts | {"norms_per_layer": 4, "weight_format": "ternary"}


def _biased(keys: ConfigKeys, *, positions: str, bias: bool, length: int) -> dict[str, Any]:
    """Read the facts of a decoder with LayerNorm and GELU."""
    return {
        "max_positions": keys.integer("max_position_embeddings", length),
        "norm": "layer_norm",
        "norms_per_layer": 2,
        "activation": keys.choice("hidden_act", _GELUS, "gelu"),
        "positions": positions,
        "rms_eps": keys.real("layer_norm_epsilon", 1e-12, 1.0, 1e-5),
        "tied_embedding": keys.boolean("tie_word_embeddings", True),
        "weight_format": _dtype(keys),
        "attention_bias": bias,
        "output_bias": bias,
        "ffn_bias": bias,
    }


def _falcon(keys: ConfigKeys) -> dict[str, Any]:
    positions = "alibi" if keys.boolean("alibi", False) else "rope"
    facts = _biased(keys, positions=positions, bias=keys.boolean("bias", False), length=2048)
    renewed = keys.boolean("new_decoder_architecture", False)
    parallel = keys.boolean("parallel_attn", True) or renewed
    own = keys.integer("num_ln_in_parallel_attn", 2) if renewed else 1
    return facts | {"parallel": parallel, "norms_per_layer": own if parallel else 2}


def _bloom(keys: ConfigKeys) -> dict[str, Any]:
    key = "apply_residual_connection_post_layernorm"
    if keys.boolean(key, False):
        raise keys.refuse(key, True, "false is needed")
    facts = _biased(keys, positions="alibi", bias=True, length=2048)
    return facts | {"embedding_norm": True}


def _gpt2(keys: ConfigKeys) -> dict[str, Any]:
    return _biased(keys, positions="learned", bias=True, length=1024)


_DECODERS: dict[str, Callable[[ConfigKeys], dict[str, Any]]] = {
    "bitnet": _bitnet,
    "llama": _llama,
    "mistral": _mistral,
    "falcon": _falcon,
    "bloom": _bloom,
    "gpt2": _gpt2,
}


def _vit(keys: ConfigKeys, name: str, *, clip: bool) -> NetworkConfig:
    """Read a ViT, or the tower of CLIP: a norm first, no bias of patches, no classifier."""
    hidden, heads, head_dim = _head_shape(keys)
    image, patch = keys.sides("image_size"), keys.integer("patch_size")
    for side in image:
        if side % patch:
            raise keys.refuse("patch_size", patch, f"a divisor of image_size = {side} is needed")
    layers = keys.integer("num_hidden_layers")
    labels = 0 if clip else max(1, len(keys.mapping("id2label")) or 1000)
    activations = ("quick_gelu", "gelu") if clip else ("gelu",)
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
        vocab_size=keys.integer("num_labels", labels),
        max_positions=(image[0] // patch) * (image[1] // patch) + 1,
        norm="layer_norm",
        norms_per_layer=2,
        activation=keys.choice("hidden_act", activations, activations[0]),
        positions="learned",
        rope_theta=0.0,
        rms_eps=keys.real("layer_norm_eps", 1e-15, 1.0, 1e-5 if clip else 1e-12),
        tied_embedding=False,
        weight_format=_dtype(keys),
        attention_bias=keys.boolean("qkv_bias", True),
        output_bias=True,
        ffn_bias=True,
        embedding_norm=clip,
        patch_bias=not clip,
        patch_size=patch,
        channels=keys.integer("num_channels", 3),
        **_experts(keys),
    )


def _experts(keys: ConfigKeys) -> dict[str, Any]:
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


def _head_shape(keys: ConfigKeys) -> tuple[int, int, int]:
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    if keys.raw.get("head_dim") is not None:
        return hidden, heads, keys.integer("head_dim")
    if hidden % heads:
        raise keys.refuse(
            "num_attention_heads", heads, f"a divisor of hidden_size = {hidden} is needed"
        )
    return hidden, heads, hidden // heads


def _rope_theta(keys: ConfigKeys) -> float:
    """Read theta where transformers 4 and where transformers 5 keep it."""
    nested = ConfigKeys(keys.mapping("rope_parameters"), f"{keys.where}: rope_parameters")
    outer = keys.real("rope_theta", 1.0, 1e12, 10_000.0)
    return nested.real("rope_theta", 1.0, 1e12, outer)


def _dtype(keys: ConfigKeys) -> str:
    key = "dtype" if keys.raw.get("dtype") is not None else "torch_dtype"
    return keys.choice(key, _DTYPES, "float32")
