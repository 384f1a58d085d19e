"""Layers for UbiMoE's machine: register writes, memories behind its ports, features in and out."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.arch.ubimoe.shell import ShellSizes
from headrace.models.kernels import fixed
from headrace.rtl.axi_memory import ReadPlan
from headrace.rtl.streams import StreamVectors

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_parameters", Path(__file__).parent / "ubimoe_parameters.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)

# Offsets as the driver's header has them.
TOKENS, MODE, STRIDE, START, FIRST = 0x20, 0x24, 0x28, 0x2C, 0x40
CONTROL = "s_axi_control_"


def sizes_of(name: str, ports: int, attention: int, dense_parts: int = 1) -> ShellSizes:
    """Return a machine of 8 features with so many ports; `attention` 0 shares them."""
    width = {1: 64, 2: 32}[ports]
    burst = {"burst_beats": 4, "outstanding": 2, "buffer_beats": 8}
    shared: Any = {"formats": FORMATS[name], "max_tokens": 6, "dims": 2, "tile_in": 4}
    msa = MsaBlockSizes(
        heads=2,
        head_dim=4,
        attention_lanes=2,
        tile_out=4,
        beat_bits=32 * attention or 64,
        **shared,
    )
    moe = MoeBlockSizes(
        width=8,
        hidden=8,
        experts=3,
        top_k=2,
        tile_out=2,
        linear_lanes=2,
        beat_bits=64,
        dense_parts=dense_parts,
        **shared,
    )
    return ShellSizes(
        block=EncoderBlockSizes(msa=msa, moe=moe),
        weights=PrefetchSizes(ports=ports, port_bits=width, **burst),
        attention=PrefetchSizes(ports=attention, port_bits=32, **burst) if attention else None,
    )


def draw_layer(sizes: ShellSizes, experts: bool, rng: Any) -> fixed.EncoderBlock:
    moe, heads = sizes.block.moe, sizes.block.msa.heads
    width, hidden = moe.width, moe.hidden
    formats = fixed.FORMATS[moe.formats.name]

    def affine(outputs: int, inputs: int) -> fixed.Affine:
        return _shared.affine(outputs, inputs, formats, 0.6, rng)

    def feed_forward(values: int) -> fixed.FeedForward:
        return fixed.FeedForward(first=affine(values, width), second=affine(width, values))

    attention = fixed.Attention(
        heads=heads, qkv=affine(3 * width, width), projection=affine(width, width)
    )
    ffn: Any = feed_forward(moe.dense_parts * hidden).parts(moe.dense_parts)
    if experts:
        every = tuple(feed_forward(hidden) for _ in range(moe.experts))
        gate = affine(moe.experts, width).weights
        ffn = fixed.Experts(gate=gate, top_k=moe.top_k, experts=every)
    norms = [_shared.norm_of(width, rng) for _ in range(2)]
    return fixed.EncoderBlock(
        attention_norm=norms[0], attention=attention, ffn_norm=norms[1], ffn=ffn
    )


class Memories:
    """What the memories behind all masters hold, filled image by image."""

    def __init__(self, sizes: ShellSizes, rng: Any) -> None:
        self.sizes, self.rng = sizes, rng
        self.regions: dict[str, dict[int, str]] = {}
        self.bits: dict[str, int] = {}

    def place(self, prefix: str, ports: PrefetchSizes, images: list[list[int]]) -> tuple[Any, int]:
        """Place images of equal length behind ports; return their bases and the stride."""
        bursts = -(-len(images[0]) // ports.burst_beats) + int(self.rng.integers(2))
        stride, word = bursts * ports.burst_bytes, ports.port_bits
        bases = []
        for port in range(ports.ports):
            name = f"{prefix}{port}" if prefix != "m_axi_parameters" else prefix
            self.bits[name] = word
            base = int(self.rng.integers(1 << 36)) * ports.burst_bytes % (1 << 39)
            bases.append(base)
            for number, image in enumerate(images):
                words = [beat >> port * word & (1 << word) - 1 for beat in image]
                text = b"".join(w.to_bytes(word // 8, "little") for w in words).hex()
                self.regions.setdefault(name, {})[base + number * stride] = text
        return bases, stride

    def plans(self, **more: Any) -> dict[str, ReadPlan]:
        return {
            f"{name}_": ReadPlan(word_bytes=self.bits[name] // 8, regions=held, seed=n, **more)
            for n, (name, held) in enumerate(self.regions.items())
        }


def layer_images(sizes: ShellSizes, block: fixed.EncoderBlock) -> tuple[Any, Any, list[int]]:
    """Return the images of experts or parts, of the MSA block, and of the parameters."""
    msa, moe = sizes.block.msa, sizes.block.moe
    bits = moe.formats.weight_bits

    def image(layer: fixed.Affine, tile_out: int, beat: int) -> list[int]:
        return _shared.image(layer, 4, tile_out, bits, beat)

    by_experts = isinstance(block.ffn, fixed.Experts)
    parts = block.ffn.experts if by_experts else block.ffn
    parts = parts if isinstance(parts, tuple) else (parts,)
    experts = [image(p.first, 2, moe.beat_bits) + image(p.second, 2, moe.beat_bits) for p in parts]
    attention = image(block.attention.qkv, 4, msa.beat_bits)
    attention += image(block.attention.projection, 4, msa.beat_bits)
    word = max(32, bits * moe.dims)
    parameters = []
    for norm in (block.attention_norm, block.ffn_norm):
        for beat in _shared.norm_beats(norm, moe.dims):
            parameters += _shared.cut(beat, 32 * moe.dims // word, word)
    if by_experts:
        parameters += _shared.beats_of(block.ffn.gate, moe.dims, bits)
    return experts, attention, parameters


def machine_vectors(
    sizes: ShellSizes, layers: list[tuple[int, bool]], seed: int, plan: dict[str, Any], **more: Any
) -> StreamVectors:
    """Return layers of so many tokens, dense or by experts, one started behind the other."""
    rng = np.random.default_rng(seed)
    formats = fixed.FORMATS[sizes.block.moe.formats.name]
    memories, writes, streams = Memories(sizes, rng), [], {"in": [], "out": []}
    bits, dims = formats.feature_bits, sizes.block.moe.dims
    for tokens, experts in layers:
        block = draw_layer(sizes, experts, rng)
        images, attention, parameters = layer_images(sizes, block)
        assert len(images[0]) == sizes.expert_beats
        assert len(attention) == sizes.attention_beats
        assert len(parameters) == sizes.parameter_words(experts)
        bases, stride = memories.place("m_axi_weight", sizes.weights, images)
        other = ("m_axi_attention", sizes.attention) if sizes.attention else None
        attention_bases, _ = memories.place(
            *(other or ("m_axi_weight", sizes.weights)), [attention]
        )
        (small,), _ = memories.place("m_axi_parameters", sizes.parameters, [parameters])
        writes += [(TOKENS, tokens), (MODE, int(experts)), (STRIDE, stride)]
        for number, address in enumerate([small, *bases, *attention_bases]):
            writes.append((FIRST + 8 * number, address & 0xFFFFFFFF))
            writes.append((FIRST + 8 * number + 4, address >> 32))
        writes.append((START, 1))
        x = fixed.from_real(
            rng.normal(0.2, 2.0, (tokens, sizes.block.moe.width)), bits, formats.feature_fraction
        )
        streams["in"] += _shared.beats_of(x, dims, bits)
        beats = _shared.beats_of(fixed.encoder_block(x, block, formats, dims=dims), dims, bits)
        streams["out"] += [*beats[:-1], beats[-1] | 1 << dims * bits]  # TLAST
    inputs = {
        f"{CONTROL}aw": [offset for offset, _ in writes],
        f"{CONTROL}w": [value for _, value in writes],
        "s_axis_features": streams["in"],
    }
    results = {f"{CONTROL}b": [0] * len(writes), "m_axis_features": streams["out"]}
    levels = {f"{CONTROL}{name}": 0 for name in ("awprot", "arprot", "araddr", "arvalid", "rready")}
    more.setdefault("levels", {**levels, f"{CONTROL}wstrb": 15})
    return StreamVectors(inputs, results, memories=memories.plans(**plan), **more)
