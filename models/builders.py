"""Operator graphs of the network families, one function per kind of layer."""

from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from headrace.models.config import NetworkConfig
from headrace.models.operators import Operator

__all__ = ["build_graph"]

_HALF_BYTES, _FLOAT_BYTES = 2, 4


def build_graph(config: NetworkConfig) -> nx.DiGraph:
    """Build the operator graph of a network.

    Parameters
    ----------
    config : NetworkConfig
        Checked facts. A BitNet has TeLLMe's formats (paper section 2 and the authors' release):
        ternary weights with one FP16 scale per matrix, INT8 activations into every linear,
        FP16 elsewhere, LM head with INT8 rows and one FP32 scale each.

    Returns
    -------
    networkx.DiGraph
        Nodes named after operators, inserted in an order that respects the edges.
    """
    builder = _Builder(config)
    if config.family == "vit":
        _vit(builder)
    else:
        _decoder(builder)
    return builder.graph


@dataclass
class _Builder:
    """Adds operators to a graph with the formats of one network."""

    config: NetworkConfig
    graph: nx.DiGraph = field(default_factory=nx.DiGraph)

    @property
    def ternary(self) -> bool:
        return self.config.weight_format == "ternary"

    @property
    def activation(self) -> str:
        return "float16" if self.ternary else self.config.weight_format

    def add(self, name: str, kind: str, sources: tuple[str, ...], **shape: Any) -> str:
        shape.setdefault("activation_format", self.activation)
        shape.setdefault("output_format", self.activation)
        shape.setdefault("layer", None)
        self.graph.add_node(name, operator=Operator(name=name, kind=kind, **shape))
        self.graph.add_edges_from((source, name) for source in sources)
        return name

    def elementwise(
        self, name: str, kind: str, sources: tuple[str, ...], size: int, layer: int | None
    ) -> str:
        return self.add(
            name,
            kind,
            sources,
            layer=layer,
            in_features=size,
            out_features=size,
            inputs=len(sources),
        )

    def norm(self, name: str, source: str, size: int, layer: int | None) -> str:
        vit = self.config.family == "vit"
        return self.add(
            name,
            "layer_norm" if vit else "rms_norm",
            (source,),
            layer=layer,
            in_features=size,
            out_features=size,
            weight_shape=(size,),
            weight_format=self.activation,
            bias=vit,
        )

    def quantise(self, name: str, source: str, size: int, layer: int | None) -> str:
        """Add the activation quantiser before a ternary linear; nothing for float weights."""
        if not self.ternary:
            return source
        return self.add(
            name,
            "quantise",
            (source,),
            layer=layer,
            in_features=size,
            out_features=size,
            output_format="int8",
        )

    def linear(
        self, name: str, source: str, shape: tuple[int, int], layer: int, bias: bool = False
    ) -> str:
        formats: dict[str, Any] = {}
        if self.ternary:
            formats = {"activation_format": "int8", "scale_bytes": _HALF_BYTES}
        return self.add(
            name,
            "ternary_matmul" if self.ternary else "matmul",
            (source,),
            layer=layer,
            in_features=shape[1],
            out_features=shape[0],
            weight_shape=shape,
            weight_format=self.config.weight_format,
            bias=bias,
            **formats,
        )

    def attention(self, name: str, sources: tuple[str, ...], layer: int, causal: bool) -> str:
        c = self.config
        size = c.heads * c.head_dim
        return self.add(
            name,
            "attention",
            sources,
            layer=layer,
            in_features=size,
            out_features=size,
            heads=c.heads,
            kv_heads=c.kv_heads,
            head_dim=c.head_dim,
            causal=causal,
        )


def _decoder(b: _Builder) -> None:
    c = b.config
    x = b.add(
        "embedding",
        "embedding",
        (),
        in_features=1,
        out_features=c.hidden_size,
        weight_shape=(c.vocab_size, c.hidden_size),
        weight_format=b.activation,
        activation_format="int32",
    )
    for layer in range(c.layers):
        x = _decoder_attention(b, x, layer)
        x = _decoder_ffn(b, x, layer)
    x = b.norm("final_norm", x, c.hidden_size, None)
    x = b.quantise("lm_head.quantise", x, c.hidden_size, None)
    b.add(
        "lm_head",
        "lm_head",
        (x,),
        in_features=c.hidden_size,
        out_features=c.vocab_size,
        weight_shape=(c.vocab_size, c.hidden_size),
        weight_format="int8" if b.ternary else b.activation,
        activation_format="int8" if b.ternary else b.activation,
        output_format="float32",
        scale_bytes=_FLOAT_BYTES * c.vocab_size if b.ternary else 0,
    )


def _decoder_attention(b: _Builder, x: str, layer: int) -> str:
    c, p = b.config, f"layers.{layer}."
    q_size, kv_size = c.heads * c.head_dim, c.kv_heads * c.head_dim
    h = b.norm(p + "input_norm", x, c.hidden_size, layer)
    h = b.quantise(p + "qkv_quantise", h, c.hidden_size, layer)
    q = b.linear(p + "q_proj", h, (q_size, c.hidden_size), layer, c.attention_bias)
    q = b.add(
        p + "q_rope",
        "rope",
        (q,),
        layer=layer,
        in_features=q_size,
        out_features=q_size,
        heads=c.heads,
        head_dim=c.head_dim,
    )
    k = b.linear(p + "k_proj", h, (kv_size, c.hidden_size), layer, c.attention_bias)
    k = b.add(
        p + "k_rope",
        "rope",
        (k,),
        layer=layer,
        in_features=kv_size,
        out_features=kv_size,
        heads=c.kv_heads,
        head_dim=c.head_dim,
    )
    v = b.linear(p + "v_proj", h, (kv_size, c.hidden_size), layer, c.attention_bias)
    a = b.attention(p + "attention", (q, k, v), layer, causal=True)
    if c.norms_per_layer == 4:
        a = b.norm(p + "attention_sub_norm", a, q_size, layer)
    a = b.quantise(p + "o_quantise", a, q_size, layer)
    o = b.linear(p + "o_proj", a, (c.hidden_size, q_size), layer, c.attention_bias)
    return b.elementwise(p + "attention_residual", "residual_add", (x, o), c.hidden_size, layer)


def _decoder_ffn(b: _Builder, x: str, layer: int) -> str:
    c, p = b.config, f"layers.{layer}."
    shape = (c.intermediate_size, c.hidden_size)
    h = b.norm(p + "post_attention_norm", x, c.hidden_size, layer)
    h = b.quantise(p + "ffn_quantise", h, c.hidden_size, layer)
    up = b.linear(p + "up_proj", h, shape, layer)
    gate = b.linear(p + "gate_proj", h, shape, layer)
    kind = "swiglu" if c.activation == "silu" else "relu2_gate"
    g = b.elementwise(p + kind, kind, (gate, up), c.intermediate_size, layer)
    if c.norms_per_layer == 4:
        g = b.norm(p + "ffn_sub_norm", g, c.intermediate_size, layer)
    g = b.quantise(p + "down_quantise", g, c.intermediate_size, layer)
    d = b.linear(p + "down_proj", g, (c.hidden_size, c.intermediate_size), layer)
    return b.elementwise(p + "ffn_residual", "residual_add", (x, d), c.hidden_size, layer)


def _vit(b: _Builder) -> None:
    c = b.config
    patch = c.channels * c.patch_size**2
    x = b.add(
        "patch_embedding",
        "patch_embedding",
        (),
        in_features=patch,
        out_features=c.hidden_size,
        weight_shape=(c.hidden_size, patch),
        weight_format=b.activation,
        bias=True,
    )
    # one row per position and the class token, which takes the place of a patch
    x = b.add(
        "position_add",
        "position_add",
        (x,),
        in_features=c.hidden_size,
        out_features=c.hidden_size,
        weight_shape=(c.max_positions + 1, c.hidden_size),
        weight_format=b.activation,
    )
    for layer in range(c.layers):
        x = _vit_layer(b, x, layer)
    x = b.norm("final_norm", x, c.hidden_size, None)
    if not c.vocab_size:
        return
    b.add(
        "classifier",
        "classifier",
        (x,),
        in_features=c.hidden_size,
        out_features=c.vocab_size,
        weight_shape=(c.vocab_size, c.hidden_size),
        weight_format=b.activation,
        bias=True,
    )


def _vit_layer(b: _Builder, x: str, layer: int) -> str:
    c, p = b.config, f"layers.{layer}."
    size = c.heads * c.head_dim
    h = b.norm(p + "input_norm", x, c.hidden_size, layer)
    qkv = tuple(
        b.linear(p + name, h, (size, c.hidden_size), layer, c.attention_bias)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    a = b.attention(p + "attention", qkv, layer, causal=False)
    o = b.linear(p + "o_proj", a, (c.hidden_size, size), layer, bias=True)
    x = b.elementwise(p + "attention_residual", "residual_add", (x, o), c.hidden_size, layer)
    h = b.norm(p + "post_attention_norm", x, c.hidden_size, layer)
    if c.has_experts(layer):
        d = _experts(b, h, layer)
    else:
        h = b.linear(p + "up_proj", h, (c.intermediate_size, c.hidden_size), layer, bias=True)
        h = b.elementwise(p + "gelu", "gelu", (h,), c.intermediate_size, layer)
        d = b.linear(p + "down_proj", h, (c.hidden_size, c.intermediate_size), layer, bias=True)
    return b.elementwise(p + "ffn_residual", "residual_add", (x, d), c.hidden_size, layer)


def _experts(b: _Builder, h: str, layer: int) -> str:
    """Add gate, experts and the weighted sum of their results (M3ViT, UbiMoE section 3)."""
    c, p = b.config, f"layers.{layer}."
    gate = b.add(
        p + "gate",
        "gate",
        (h,),
        layer=layer,
        in_features=c.hidden_size,
        out_features=c.experts,
        weight_shape=(c.tasks, c.experts, c.hidden_size),
        weight_format=c.weight_format,
    )
    up = _expert_matmul(b, p + "experts.up_proj", (h, gate), c.expert_size, c.hidden_size, layer)
    hidden = b.add(
        p + "experts.gelu",
        "gelu",
        (up,),
        layer=layer,
        in_features=c.expert_size,
        out_features=c.expert_size,
        rows_per_token=c.top_k,
    )
    down = _expert_matmul(
        b, p + "experts.down_proj", (hidden, gate), c.hidden_size, c.expert_size, layer
    )
    return b.add(
        p + "combine",
        "combine",
        (down, gate),
        layer=layer,
        in_features=c.hidden_size,
        out_features=c.hidden_size,
        inputs=c.top_k,
    )


def _expert_matmul(
    b: _Builder, name: str, sources: tuple[str, ...], out: int, size: int, layer: int
) -> str:
    return b.add(
        name,
        "expert_matmul",
        sources,
        layer=layer,
        in_features=size,
        out_features=out,
        weight_shape=(b.config.experts, out, size),
        weight_format=b.config.weight_format,
        bias=True,
        rows_per_token=b.config.top_k,
    )
