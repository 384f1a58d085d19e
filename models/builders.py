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
    x = _patches(builder) if config.family == "vit" else _embedding(builder)
    if config.embedding_norm:
        x = builder.norm("embedding_norm", x, config.hidden_size, None)
    for layer in range(config.layers):
        x = _layer(builder, x, layer)
    x = builder.norm("final_norm", x, config.hidden_size, None)
    if config.family != "vit":
        _lm_head(builder, x)
    elif config.vocab_size:
        _classifier(builder, x)
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
        return self.add(
            name,
            self.config.norm,
            (source,),
            layer=layer,
            in_features=size,
            out_features=size,
            weight_shape=(size,),
            weight_format=self.activation,
            bias=self.config.norm == "layer_norm",
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

    def residual(self, name: str, sources: tuple[str, ...], layer: int) -> str:
        return self.elementwise(name, "residual_add", sources, self.config.hidden_size, layer)

    def positions(self, x: str, rows: int) -> str:
        return self.add(
            "position_add",
            "position_add",
            (x,),
            in_features=self.config.hidden_size,
            out_features=self.config.hidden_size,
            weight_shape=(rows, self.config.hidden_size),
            weight_format=self.activation,
        )

    def rope(self, name: str, source: str, heads: int, layer: int) -> str:
        """Add the rotation of a projection's heads; nothing where positions enter elsewhere."""
        c = self.config
        if c.positions != "rope":
            return source
        return self.add(
            name,
            "rope",
            (source,),
            layer=layer,
            in_features=heads * c.head_dim,
            out_features=heads * c.head_dim,
            heads=heads,
            head_dim=c.head_dim,
        )

    def attention(self, name: str, sources: tuple[str, ...], layer: int) -> str:
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
            causal=c.family != "vit",
            window=c.sliding_window,
        )


def _embedding(b: _Builder) -> str:
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
    return b.positions(x, c.max_positions) if c.positions == "learned" else x


def _patches(b: _Builder) -> str:
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
        bias=c.patch_bias,
    )
    # one row per position and the class token, which takes the place of a patch
    return b.positions(x, c.max_positions + 1)


def _lm_head(b: _Builder, x: str) -> None:
    c = b.config
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


def _classifier(b: _Builder, x: str) -> None:
    c = b.config
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


def _layer(b: _Builder, x: str, layer: int) -> str:
    """Add a layer: attention, then the FFN on its sum, or both side by side."""
    c, p = b.config, f"layers.{layer}."
    h = b.norm(p + "input_norm", x, c.hidden_size, layer)
    o = _attention(b, h, layer)
    if c.parallel:
        if c.norms_per_layer == 2:
            h = b.norm(p + "ffn_norm", x, c.hidden_size, layer)
        return b.residual(p + "residual", (x, o, _ffn(b, h, layer)), layer)
    x = b.residual(p + "attention_residual", (x, o), layer)
    h = b.norm(p + "post_attention_norm", x, c.hidden_size, layer)
    d = _experts(b, h, layer) if c.has_experts(layer) else _ffn(b, h, layer)
    return b.residual(p + "ffn_residual", (x, d), layer)


def _attention(b: _Builder, h: str, layer: int) -> str:
    c, p = b.config, f"layers.{layer}."
    q_size, kv_size = c.heads * c.head_dim, c.kv_heads * c.head_dim
    h = b.quantise(p + "qkv_quantise", h, c.hidden_size, layer)
    q = b.linear(p + "q_proj", h, (q_size, c.hidden_size), layer, c.attention_bias)
    q = b.rope(p + "q_rope", q, c.heads, layer)
    k = b.linear(p + "k_proj", h, (kv_size, c.hidden_size), layer, c.attention_bias)
    k = b.rope(p + "k_rope", k, c.kv_heads, layer)
    v = b.linear(p + "v_proj", h, (kv_size, c.hidden_size), layer, c.attention_bias)
    a = b.attention(p + "attention", (q, k, v), layer)
    if c.norms_per_layer == 4:
        a = b.norm(p + "attention_sub_norm", a, q_size, layer)
    a = b.quantise(p + "o_quantise", a, q_size, layer)
    return b.linear(p + "o_proj", a, (c.hidden_size, q_size), layer, c.output_bias)


def _ffn(b: _Builder, h: str, layer: int) -> str:
    c, p = b.config, f"layers.{layer}."
    shape = (c.intermediate_size, c.hidden_size)
    h = b.quantise(p + "ffn_quantise", h, c.hidden_size, layer)
    inputs: tuple[str, ...] = (b.linear(p + "up_proj", h, shape, layer, c.ffn_bias),)
    if c.gated:
        inputs = (b.linear(p + "gate_proj", h, shape, layer, c.ffn_bias), *inputs)
    kind = {"silu": "swiglu", "relu2": "relu2_gate"}.get(c.activation, "gelu")
    g = b.elementwise(p + kind, kind, inputs, c.intermediate_size, layer)
    if c.norms_per_layer == 4:
        g = b.norm(p + "ffn_sub_norm", g, c.intermediate_size, layer)
    g = b.quantise(p + "down_quantise", g, c.intermediate_size, layer)
    return b.linear(p + "down_proj", g, (c.hidden_size, c.intermediate_size), layer, c.ffn_bias)


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
