"""The UbiMoE kernels that bench/ubimoe_netlists.py maps, and which sizes it draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from headrace.arch.resources import Resources
from headrace.arch.ubimoe import block_resources as block_model
from headrace.arch.ubimoe import layer_norm_resources as norm_model
from headrace.arch.ubimoe import linear_resources as linear_model
from headrace.arch.ubimoe import moe_resources as moe_model
from headrace.arch.ubimoe import row_memory_resources as rows_model
from headrace.arch.ubimoe import streaming_attention_resources as attention_model
from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.fabric import Terms
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.row_memory import RowMemorySizes
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.errors import InputError

__all__ = ["KERNELS", "Axes", "Draw", "Kernel", "planned"]

Axes = dict[str, Any]


@dataclass(frozen=True)
class Draw:
    """Points of one role from one seed; `small` refuses what takes long to map."""

    role: str
    seed: int
    points: int
    small: Callable[[Any], bool] = lambda sizes: True


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """How to draw, model and build a kernel.

    `sizes` makes its sizes from axes; `fitted` are the LUT terms whose factors are fitted, in
    `section` of the coefficients. Points of `large` are not drawn.
    """

    draws: tuple[Draw, ...] = ()
    axes: Callable[[np.random.Generator], Axes] = lambda rng: {}
    sizes: Callable[[Axes], Any]
    blocks: Callable[[Any], Resources] = lambda sizes: Resources()
    terms: Callable[[Any], Terms] = lambda sizes: {}
    resources: Callable[[Any], Resources]
    build: Callable[[Any], Any]
    section: str = ""
    fitted: tuple[str, ...] = ()
    large: tuple[Axes, ...] = ()


def planned(kernel: Kernel) -> list[tuple[Draw, Axes]]:
    """Return the axes of every point with the draw they are from, without those of `large`."""
    points: list[tuple[Draw, Axes]] = []
    for draw in kernel.draws:
        rng = np.random.Generator(np.random.PCG64(draw.seed))
        found = 0
        while found < draw.points:
            axes = kernel.axes(rng)
            try:
                fits = draw.small(kernel.sizes(axes))
            except InputError:
                continue
            if fits and axes not in [known for _, known in points]:
                points.append((draw, axes))
                found += 1
    return points


def _formats(rng: np.random.Generator) -> Axes:
    return {"formats": str(rng.choice(list(FORMATS)))}


def _linear(rng: np.random.Generator) -> Axes:
    formats = _formats(rng)
    in_tiles, out_tiles = (int(n) for n in rng.choice([1, 3, 8, 24, 48, 200, 300], 2))
    slot = in_tiles * out_tiles
    gelu = bool(rng.integers(2))
    return formats | {
        "tile_in": int(rng.choice([1, 2, 3, 4, 8])),
        "tile_out": int(rng.choice([1, 2]) if gelu else rng.choice([1, 2, 3, 4])),
        "lanes": int(rng.choice([1, 2, 3, 4])),
        "max_in_tiles": in_tiles,
        "max_out_tiles": out_tiles,
        "max_tiles": int(rng.choice([slot, max(1, slot // 2)])),
        "slots": int(rng.integers(1, 3)),
        "beat_bits": int(rng.choice([32, 64, 128, 256])),
        "bias_fraction": int(rng.choice([9, 10, 11])),
        "gelu": gelu,
    }


def _streaming_attention(rng: np.random.Generator) -> Axes:
    formats = _formats(rng)
    heads = int(rng.choice([1, 2, 3, 6]))
    return formats | {
        "heads": heads,
        "head_dim": int(rng.choice([4, 16, 64])),
        "lanes": int(rng.choice([1, 2, 3, 4])),
        "dims": int(rng.choice([1, 2, 4])),
        "max_tokens": int(rng.choice([5, 17, 65, 129, 197, 320, 511])),
        "exp_units": int(rng.choice([1, heads])),
    }


def _layer_norm(rng: np.random.Generator) -> Axes:
    return _formats(rng) | {
        "width": int(rng.choice([12, 48, 64, 96, 192, 384, 768, 1024, 1536])),
        "dims": int(rng.choice([1, 2, 3])),
    }


def _gate(rng: np.random.Generator) -> Axes:
    return _formats(rng) | {
        "experts": int(rng.choice([2, 4, 8, 16])),
        "top_k": int(rng.choice([1, 2])),
        "dims": int(rng.choice([1, 2, 4, 8])),
        "row_beats": int(rng.choice([4, 24, 48, 96])),
        "max_tokens": int(rng.choice([65, 197])),
    }


def _combine(rng: np.random.Generator) -> Axes:
    return _formats(rng) | {
        "dims": int(rng.choice([1, 2, 4])),
        "row_beats": int(rng.choice([1, 4, 24, 48])),
        "lanes": int(rng.choice([1, 4, 6])),
        "max_tokens": int(rng.choice([5, 65, 129, 197])),
    }


def _dispatch(rng: np.random.Generator) -> Axes:
    _formats(rng)  # none, but the seeds were drawn with them
    return {
        "max_tokens": int(rng.choice([5, 17, 65, 129, 197, 577])),
        "experts": int(rng.choice([2, 3, 5, 8, 16])),
        "top_k": int(rng.choice([1, 2])),
    }


def _rows(rng: np.random.Generator) -> Axes:
    return {
        "rows": int(rng.choice([17, 65, 129, 197, 511])),
        "tiles": int(rng.choice([3, 4, 12, 24, 48])),
        "word_bits": int(rng.choice([16, 32, 64, 128])),
        "lanes": int(rng.choice([1, 2, 3, 4])),
    }


def _row_reader(rng: np.random.Generator) -> Axes:
    lanes = rng.choice([0, 1, 2, 3, 4])
    return _rows(rng) | {"attention_lanes": int(lanes) or None}


def _group_walker(rng: np.random.Generator) -> Axes:
    return _rows(rng) | {"parts": int(rng.choice([1, 3]))}


def _repack(rng: np.random.Generator) -> Axes:
    narrow, parts = int(rng.choice([8, 32, 64, 128])), int(rng.choice([2, 3, 4, 8, 16]))
    pair = [narrow, narrow * parts]
    source, sink = pair[:: int(rng.choice([1, -1]))]
    return {"source_bits": source, "sink_bits": sink}


def _sizes(cls: Any) -> Callable[[Axes], Any]:
    """Return what makes sizes of axes, whose formats, if any, are a name."""

    def made(axes: Axes) -> Any:
        formats = {"formats": FORMATS[axes["formats"]]} if "formats" in axes else {}
        return cls(**{**axes, **formats})

    return made


def _with_rows(name: str) -> Callable[[Axes], tuple[RowMemorySizes, Any]]:
    return lambda axes: (
        RowMemorySizes(**{key: value for key, value in axes.items() if key != name}),
        axes[name],
    )


def _sum_of(parts: Callable[[Any], Mapping[str, Resources]]) -> Callable[[Any], Resources]:
    return lambda sizes: sum(parts(sizes).values(), start=Resources())


def _component(module: str, name: str, spread: bool = False) -> Callable[[Any], Any]:
    """Return what builds a component of its sizes; Amaranth is imported only then."""

    def built(sizes: Any) -> Any:
        component = getattr(import_module(f"headrace.rtl.ubimoe.{module}"), name)
        return component(*sizes) if spread else component(sizes)

    return built


# As in the release: larger than anything that was fitted.
_LINEAR_OF_MSA: Axes = {
    "formats": "w16a32",
    "tile_in": 16,
    "tile_out": 16,
    "lanes": 1,
    "max_in_tiles": 12,
    "max_out_tiles": 36,
    "max_tiles": 432,
    "slots": 2,
    "beat_bits": 256,
    "bias_fraction": 9,
    "gelu": False,
    "ultra": False,
}
_ATTENTION: Axes = {
    "formats": "int16",
    "heads": 3,
    "head_dim": 64,
    "lanes": 4,
    "dims": 8,
    "max_tokens": 129,
    "exp_units": 1,
}

_SMALL_BLOCK: Axes = {
    "formats": "int16",
    "max_tokens": 65,
    "dims": 1,
    "tile_in": 2,
    "tile_out": 2,
    "linear_lanes": 2,
    "beat_bits": 64,
}

KERNELS = {
    "linear": Kernel(
        draws=(
            Draw("fit", 20261125, 8, lambda s: s.multipliers <= 24 and s.tile_bits <= 512),
            Draw("blind", 20261201, 3, lambda s: s.multipliers <= 24 and s.tile_bits <= 512),
        ),
        axes=_linear,
        sizes=_sizes(LinearSizes),
        blocks=linear_model.linear_blocks,
        terms=linear_model.linear_terms,
        resources=linear_model.linear_resources,
        build=_component("linear", "Linear"),
        section="linear",
        fitted=("control", "lanes", "accumulators", "trees"),
        large=(_LINEAR_OF_MSA,),
    ),
    "streaming_attention": Kernel(
        draws=(
            Draw(
                "fit", 20261126, 7, lambda s: s.lanes * s.dims <= 4 and s.lanes * s.exp_units <= 3
            ),
            Draw("fit", 20261147, 1, lambda s: s.exp_units == s.heads == 2 and s.lanes == 1),
            Draw("blind", 20261202, 3, lambda s: s.lanes * max(s.dims, s.exp_units) <= 3),
        ),
        axes=_streaming_attention,
        sizes=_sizes(StreamingAttentionSizes),
        blocks=attention_model.streaming_attention_blocks,
        terms=attention_model.streaming_attention_terms,
        resources=attention_model.streaming_attention_resources,
        build=_component("streaming_attention", "StreamingAttention"),
        section="streaming_attention",
        fitted=("lanes", "rows", "exponential_choice"),
        large=(_ATTENTION,),
    ),
    "layer_norm": Kernel(
        draws=(
            Draw("fit", 20261127, 4),
            Draw("fit", 20261203, 3),  # blind once, and one of them wrong: docs/resources.md
            Draw("blind", 20261212, 3),
        ),
        axes=_layer_norm,
        sizes=_sizes(LayerNormSizes),
        blocks=norm_model.layer_norm_blocks,
        terms=norm_model.layer_norm_terms,
        resources=norm_model.layer_norm_resources,
        build=_component("layer_norm", "LayerNorm"),
        section="layer_norm",
        fitted=("control", "normaliser_products"),
    ),
    "gate": Kernel(
        draws=(
            Draw("fit", 20261130, 6, lambda s: s.dims <= 4),
            Draw("blind", 20261204, 3),
        ),
        axes=_gate,
        sizes=_sizes(GateSizes),
        blocks=moe_model.gate_blocks,
        terms=moe_model.gate_terms,
        resources=moe_model.gate_resources,
        build=_component("gate", "Gate"),
        section="gate",
        fitted=("control", "choices"),
    ),
    "combine": Kernel(
        draws=(
            Draw("fit", 20261128, 6),
            Draw("fit", 20261141, 3, lambda s: s.dims <= 2),
            Draw("blind", 20261205, 3),
        ),
        axes=_combine,
        sizes=_sizes(CombineSizes),
        blocks=moe_model.combine_blocks,
        terms=moe_model.combine_terms,
        resources=moe_model.combine_resources,
        build=_component("combine", "Combine"),
        section="combine",
        fitted=("control", "entries", "values"),
    ),
    "dispatch": Kernel(
        draws=(
            Draw("fit", 20261129, 6, lambda s: s.experts <= 8),
            Draw("fit", 20261142, 6),
            Draw("blind", 20261206, 3),
        ),
        axes=_dispatch,
        sizes=_sizes(DispatchSizes),
        blocks=moe_model.dispatch_blocks,
        terms=moe_model.dispatch_terms,
        resources=moe_model.dispatch_resources,
        build=_component("dispatch", "Dispatch"),
        section="dispatch",
        fitted=("control", "counts", "orders"),
    ),
    "row_reader": Kernel(
        draws=(
            Draw("fit", 20261143, 5),
            Draw("fit", 20261146, 2, lambda pair: pair[1] is None),
            Draw("fit", 20261207, 2),  # blind once, and 19 % off: docs/resources.md
            Draw("blind", 20261211, 3),
        ),
        axes=_row_reader,
        sizes=_with_rows("attention_lanes"),
        blocks=lambda pair: rows_model.row_memory_blocks(pair[0]),
        terms=lambda pair: rows_model.row_reader_terms(*pair),
        resources=lambda pair: rows_model.row_reader_resources(*pair),
        build=_component("row_memory", "RowReader", spread=True),
        section="rows",
        fitted=("reader_control", "steps", "other_lanes"),
    ),
    "group_walker": Kernel(
        draws=(Draw("fit", 20261144, 4), Draw("blind", 20261208, 2)),
        axes=_group_walker,
        sizes=_with_rows("parts"),
        terms=lambda pair: rows_model.group_walker_terms(*pair),
        resources=lambda pair: rows_model.group_walker_resources(*pair),
        build=_component("row_memory", "GroupWalker", spread=True),
        section="rows",
        fitted=("walker_control",),
    ),
    "repack": Kernel(
        draws=(Draw("fit", 20261145, 4), Draw("blind", 20261209, 2)),
        axes=_repack,
        sizes=lambda axes: (axes["source_bits"], axes["sink_bits"]),
        terms=lambda pair: rows_model.repack_terms(*pair),
        resources=lambda pair: rows_model.repack_resources(*pair),
        build=_component("repack", "Repack", spread=True),
    ),
    "msa_block": Kernel(
        sizes=_sizes(MsaBlockSizes),
        resources=_sum_of(block_model.msa_block_resources),
        build=_component("msa_block", "MsaBlock"),
        large=(_SMALL_BLOCK | {"heads": 2, "head_dim": 16, "attention_lanes": 2},),
    ),
    "moe_block": Kernel(
        sizes=_sizes(MoeBlockSizes),
        resources=_sum_of(block_model.moe_block_resources),
        build=_component("moe_block", "MoeBlock"),
        large=(_SMALL_BLOCK | {"width": 32, "hidden": 64, "experts": 4, "top_k": 2},),
    ),
}
