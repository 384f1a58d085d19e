"""Map random UbiMoE kernels with Yosys and keep their counts as golden data.

    python bench/ubimoe_netlists.py map [KERNEL ...]    # map the points that the data lacks
    python bench/ubimoe_netlists.py map --update-golden # map all of them again
    python bench/ubimoe_netlists.py errors              # points where the model is not exact

The sizes are drawn from one seed per kernel. Mapping takes 10 to 60 s per point; an interrupted run
is taken up where it stopped.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.layer_norm_resources import layer_norm_blocks
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.linear_resources import linear_blocks
from headrace.arch.ubimoe.moe_resources import combine_blocks, dispatch_blocks, gate_blocks
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.arch.ubimoe.streaming_attention_resources import streaming_attention_blocks
from headrace.errors import InputError
from headrace.files import write_atomic

GOLDEN = Path(__file__).parents[1] / "tests/arch/golden"
BLOCKS = ("dsp", "bram36", "uram")
Axes = dict[str, Any]


def _linear(rng: np.random.Generator) -> Axes:
    in_tiles, out_tiles = (int(n) for n in rng.choice([1, 3, 8, 24, 48, 200, 300], 2))
    slot = in_tiles * out_tiles
    gelu = bool(rng.integers(2))
    return {
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
    heads = int(rng.choice([1, 2, 3, 6]))
    return {
        "heads": heads,
        "head_dim": int(rng.choice([4, 16, 64])),
        "lanes": int(rng.choice([1, 2, 3, 4])),
        "dims": int(rng.choice([1, 2, 4])),
        "max_tokens": int(rng.choice([5, 17, 65, 129, 197, 320, 511])),
        "exp_units": int(rng.choice([1, heads])),
    }


def _layer_norm(rng: np.random.Generator) -> Axes:
    return {
        "width": int(rng.choice([12, 48, 64, 96, 192, 384, 768, 1024, 1536])),
        "dims": int(rng.choice([1, 2, 3])),
    }


def _combine(rng: np.random.Generator) -> Axes:
    return {
        "dims": int(rng.choice([1, 2, 4])),
        "row_beats": int(rng.choice([1, 4, 24, 48])),
        "lanes": int(rng.choice([1, 4, 6])),
        "max_tokens": int(rng.choice([5, 65, 129, 197])),
    }


def _gate(rng: np.random.Generator) -> Axes:
    return {
        "experts": int(rng.choice([2, 4, 8, 16])),
        "top_k": int(rng.choice([1, 2])),
        "dims": int(rng.choice([1, 2, 4, 8])),
        "row_beats": int(rng.choice([4, 24, 48, 96])),
        "max_tokens": int(rng.choice([65, 197])),
    }


def _dispatch(rng: np.random.Generator) -> Axes:
    return {
        "max_tokens": int(rng.choice([5, 17, 65, 129, 197, 577])),
        "experts": int(rng.choice([2, 3, 5, 8, 16])),
        "top_k": int(rng.choice([1, 2])),
    }


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """How to draw, model and build a kernel; `small` refuses what takes long to map."""

    seed: int
    points: int
    sizes: Callable[..., Any]
    axes: Callable[[np.random.Generator], Axes]
    blocks: Callable[[Any], Resources]
    component: tuple[str, str]
    small: Callable[[Any], bool]


KERNELS = {
    "linear": Kernel(
        seed=20261125,
        points=8,
        sizes=LinearSizes,
        axes=_linear,
        blocks=linear_blocks,
        component=("headrace.rtl.ubimoe.linear", "Linear"),
        small=lambda s: s.multipliers <= 24 and s.tile_bits <= 512,
    ),
    "streaming_attention": Kernel(
        seed=20261126,
        points=7,
        sizes=StreamingAttentionSizes,
        axes=_streaming_attention,
        blocks=streaming_attention_blocks,
        component=("headrace.rtl.ubimoe.streaming_attention", "StreamingAttention"),
        small=lambda s: s.lanes * s.dims <= 4 and s.lanes * s.exp_units <= 3,
    ),
    "layer_norm": Kernel(
        seed=20261127,
        points=4,
        sizes=LayerNormSizes,
        axes=_layer_norm,
        blocks=layer_norm_blocks,
        component=("headrace.rtl.ubimoe.layer_norm", "LayerNorm"),
        small=lambda s: True,
    ),
    "gate": Kernel(
        seed=20261130,
        points=6,
        sizes=GateSizes,
        axes=_gate,
        blocks=gate_blocks,
        component=("headrace.rtl.ubimoe.gate", "Gate"),
        small=lambda s: s.dims <= 4,
    ),
    "combine": Kernel(
        seed=20261128,
        points=6,
        sizes=CombineSizes,
        axes=_combine,
        blocks=combine_blocks,
        component=("headrace.rtl.ubimoe.combine", "Combine"),
        small=lambda s: True,
    ),
    "dispatch": Kernel(
        seed=20261129,
        points=6,
        sizes=DispatchSizes,
        axes=_dispatch,
        blocks=dispatch_blocks,
        component=("headrace.rtl.ubimoe.dispatch", "Dispatch"),
        small=lambda s: s.experts <= 8,
    ),
}


def sizes_of(kernel: Kernel, axes: Axes) -> Any:
    """Return the sizes of stored axes, whose formats, if any, are a name."""
    if "formats" in axes:
        axes = {**axes, "formats": FORMATS[axes["formats"]]}
    return kernel.sizes(**axes)


def planned(kernel: Kernel) -> list[Axes]:
    """Return the axes of every point."""
    rng = np.random.Generator(np.random.PCG64(kernel.seed))
    names = [field.name for field in fields(kernel.sizes)]
    points: list[Axes] = []
    while len(points) < kernel.points:
        drawn = {"formats": str(rng.choice(list(FORMATS))), **kernel.axes(rng)}
        axes = {name: drawn[name] for name in names}
        try:
            fits = kernel.small(sizes_of(kernel, axes))
        except InputError:
            continue
        if fits and axes not in points:
            points.append(axes)
    return points


def golden_path(name: str) -> Path:
    return GOLDEN / f"ubimoe_{name}.json"


def counts_of(kernel: Kernel, name: str, axes: Axes) -> Axes:
    """Map one point."""
    from importlib import import_module

    from headrace.rtl.netlist import map_netlist
    from headrace.rtl.verilog import to_verilog

    module, component = kernel.component
    made = getattr(import_module(module), component)(sizes_of(kernel, axes))
    return dict(vars(map_netlist(to_verilog(made, name), name, timeout_s=900.0)))


def map_points(name: str, update: bool, limit: int) -> None:
    """Map what the golden data of a kernel lacks."""
    kernel, path = KERNELS[name], golden_path(name)
    stored = json.loads(path.read_text("utf-8")) if path.exists() and not update else {}
    known = {json.dumps(entry["axes"]): entry for entry in stored.get("points", [])}
    entries = []
    for axes in planned(kernel):
        entry = known.get(json.dumps(axes))
        if entry is None and limit > 0:
            limit -= 1
            counts = counts_of(kernel, name, axes)
            stored["yosys_version"] = counts.pop("yosys_version")
            stored["date"] = datetime.now(UTC).date().isoformat()
            entry = {"axes": axes, "counts": counts}
            print(f"{name} {len(entries) + 1}/{kernel.points} {counts}", flush=True)
        if entry is None:
            continue
        entries.append(entry)
        golden = {
            "schema": "headrace/golden-netlists/1",
            "mapper": "Yosys synth_xilinx -family xcup, pyosys " + stored["yosys_version"],
            "yosys_version": stored["yosys_version"],
            "seed": kernel.seed,
            "date": stored["date"],
            "points": entries,
        }
        write_atomic(path, json.dumps(golden, indent=1) + "\n")


def errors(name: str) -> None:
    """Print where model and netlist differ."""
    kernel = KERNELS[name]
    points = json.loads(golden_path(name).read_text("utf-8"))["points"]
    exact = 0
    for entry in points:
        model = kernel.blocks(sizes_of(kernel, entry["axes"])).as_dict()
        different = {
            block: (model[block], entry["counts"][block])
            for block in BLOCKS
            if model[block] != entry["counts"][block]
        }
        exact += not different
        if different:
            print(f"{name} {entry['axes']}: model, netlist {different}")
    print(f"{name}: {', '.join(BLOCKS)} equal at {exact} of {len(points)} points")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["map", "errors"])
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=", ".join(KERNELS))
    parser.add_argument("--update-golden", action="store_true", help="map known points again")
    parser.add_argument("--limit", type=int, default=1000, help="map at most so many points")
    options = parser.parse_args()
    unknown = sorted(set(options.kernels) - set(KERNELS))
    if unknown:
        raise InputError(f"no such kernel: {', '.join(unknown)}; there are {', '.join(KERNELS)}")
    for name in options.kernels or KERNELS:
        if options.action == "map":
            map_points(name, options.update_golden, options.limit)
        elif golden_path(name).exists():
            errors(name)


if __name__ == "__main__":
    main()
