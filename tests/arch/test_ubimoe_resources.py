"""Resources of UbiMoE's kernels against stored counts of mapped netlists."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.block_resources import (
    encoder_block_resources,
    moe_block_resources,
    msa_block_resources,
)
from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.fabric import adder_tree, shift_register
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.layer_norm_resources import layer_norm_resources
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.linear_resources import linear_blocks, linear_resources
from headrace.arch.ubimoe.memory_blocks import block_ram_halves, memory_blocks, ultra_rams
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.moe_resources import (
    combine_resources,
    dispatch_resources,
    gate_resources,
)
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.row_memory import RowMemorySizes
from headrace.arch.ubimoe.row_memory_resources import (
    group_walker_resources,
    repack_resources,
    row_reader_resources,
)
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.arch.ubimoe.streaming_attention_resources import streaming_attention_resources
from headrace.errors import InputError

SIZES = {
    "linear": (LinearSizes, linear_resources, "Linear"),
    "streaming_attention": (
        StreamingAttentionSizes,
        streaming_attention_resources,
        "StreamingAttention",
    ),
    "layer_norm": (LayerNormSizes, layer_norm_resources, "LayerNorm"),
    "gate": (GateSizes, gate_resources, "Gate"),
    "combine": (CombineSizes, combine_resources, "Combine"),
    "dispatch": (DispatchSizes, dispatch_resources, "Dispatch"),
}
ROWS = {
    "row_reader": ("attention_lanes", row_reader_resources),
    "group_walker": ("parts", group_walker_resources),
}
WHOLE = {
    "msa_block": (MsaBlockSizes, msa_block_resources),
    "moe_block": (MoeBlockSizes, moe_block_resources),
}
KERNELS = (*SIZES, *ROWS, "repack")
GOLDEN = {
    name: json.loads((Path(__file__).parent / f"golden/ubimoe_{name}.json").read_text("utf-8"))
    for name in (*KERNELS, *WHOLE)
}
POINTS = [(name, number) for name in GOLDEN for number in range(len(GOLDEN[name]["points"]))]
BLOCKS = ("dsp", "bram36", "uram")
ROLES = ("fit", "blind")


def sizes_of(name, axes):
    if "formats" in axes:
        axes = {**axes, "formats": FORMATS[axes["formats"]]}
    return SIZES[name][0](**axes)


def total(parts):
    return sum(parts.values(), start=Resources())


def modelled(name, axes):
    if name in WHOLE:
        cls, parts = WHOLE[name]
        return total(parts(cls(**{**axes, "formats": FORMATS[axes["formats"]]})))
    if name == "repack":
        return repack_resources(axes["source_bits"], axes["sink_bits"])
    if name in ROWS:
        other, resources = ROWS[name]
        rest = {key: value for key, value in axes.items() if key != other}
        return resources(RowMemorySizes(**rest), axes[other])
    return SIZES[name][1](sizes_of(name, axes))


@pytest.mark.parametrize("name", KERNELS)
def test_golden_data_is_what_the_models_need(name):
    golden = GOLDEN[name]
    axes = [entry["axes"] for entry in golden["points"]]
    assert len({json.dumps(a) for a in axes}) == len(axes) >= 4
    varied = {field for field in axes[0] if len({a[field] for a in axes}) >= 2}
    assert len(varied) >= 2
    assert name not in SIZES or name == "dispatch" or "formats" in varied
    assert golden["yosys_version"] in golden["mapper"]
    assert golden["date"]
    seeds = {role: {e["seed"] for e in golden["points"] if e["role"] == role} for role in ROLES}
    assert seeds["fit"]
    assert seeds["blind"]
    assert not seeds["fit"] & seeds["blind"]


@pytest.mark.parametrize("name, number", POINTS)
def test_blocks_are_those_of_the_netlist(name, number):
    entry = GOLDEN[name]["points"][number]
    model = modelled(name, entry["axes"])
    for block in BLOCKS:
        assert getattr(model, block) == entry["counts"][block], (block, entry["axes"])


def relative_errors(role, kind):
    entries = [(n, e) for n in KERNELS for e in GOLDEN[n]["points"] if e["role"] == role]
    return [
        abs(getattr(modelled(name, entry["axes"]), kind) / entry["counts"][kind] - 1)
        for name, entry in entries
    ]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["lut", "ff"])
def test_luts_and_flip_flops_are_near_the_netlist(role, kind):
    found = relative_errors(role, kind)
    assert len(found) >= 20
    assert np.median(found) <= 0.05
    assert max(found) <= 0.15


@pytest.mark.parametrize("name, number", POINTS)
def test_flip_flops_are_counted(name, number):
    """Registers are structure: nothing is fitted, so hardly one may be missing.

    In whole blocks the mapper finds registers of commands that are constant there.
    """
    entry = GOLDEN[name]["points"][number]
    counted, found = modelled(name, entry["axes"]).ff, entry["counts"]["ff"]
    allowed = 0.025 if name in WHOLE else 0.005
    assert abs(counted - found) <= max(1, allowed * found), entry["axes"]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_largest_netlists_are_met_too(name):
    for entry in GOLDEN[name]["points"]:
        if entry["role"] == "large":
            assert modelled(name, entry["axes"]).lut == pytest.approx(
                entry["counts"]["lut"], rel=0.05
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_stored_counts_are_what_yosys_says(name):
    pytest.importorskip("pyosys")
    from headrace.rtl.netlist import map_netlist
    from headrace.rtl.verilog import to_verilog

    points = sorted(GOLDEN[name]["points"], key=lambda entry: entry["counts"]["lut"])
    rng = np.random.Generator(np.random.PCG64(11))
    for place in sorted(rng.choice(4, 2, replace=False)):
        entry = points[place]
        component = getattr(import_module(f"headrace.rtl.ubimoe.{name}"), SIZES[name][2])
        counts = map_netlist(to_verilog(component(sizes_of(name, entry["axes"])), name), name)
        for block in BLOCKS:
            assert getattr(counts, block) == entry["counts"][block], (block, entry["axes"])


def encoder_block(lanes=4, tile=16):
    formats = FORMATS["w16a32"]
    shared = {"formats": formats, "max_tokens": 129, "dims": 8, "tile_in": tile, "tile_out": 16}
    msa = MsaBlockSizes(**shared, heads=3, head_dim=64, attention_lanes=lanes, ultra=False)
    moe = MoeBlockSizes(**shared, width=192, hidden=384, experts=16, top_k=2, ultra=False)
    return EncoderBlockSizes(msa=msa, moe=moe)


def test_blocks_are_the_sums_of_their_parts():
    sizes = encoder_block()
    whole = total(encoder_block_resources(sizes))
    msa, moe = msa_block_resources(sizes.msa), moe_block_resources(sizes.moe)
    commands = encoder_block_resources(sizes)["commands"]
    assert whole.lut == pytest.approx((total(msa) + total(moe) + commands).lut)
    # By hand: 512 multipliers in 256 places; QK 32 x 4, V and results (32 + 8) x 2, 4
    # exponentials of 3; of the norm 8 x (2 + 2 + 4 + 2) and 4.
    assert msa["linear"].dsp == 512
    assert msa["attention"].dsp == 128 + 80 + 12
    assert msa["layer_norm"].dsp == 84
    assert whole.uram == 0


def test_more_parallel_blocks_take_more():
    base = total(encoder_block_resources(encoder_block()))
    for sizes in (encoder_block(lanes=6), encoder_block(tile=32)):
        more = total(encoder_block_resources(sizes))
        assert more.lut > base.lut
        assert more.ff > base.ff
        assert more.dsp > base.dsp


@pytest.mark.parametrize(
    "stages, luts, flip_flops",
    # What Yosys made of registers in a row mapped alone: SRL16E, SRLC32E, and a stage left over.
    [(1, 0, 1), (2, 0, 2), (3, 1, 0), (16, 1, 0), (17, 1, 1), (32, 1, 0), (33, 1, 1), (64, 2, 0)],
)
def test_shift_registers(stages, luts, flip_flops):
    register = shift_register(5, stages)
    assert (register.lut, register.ff) == (5 * luts, 5 * flip_flops)


def test_adder_trees():
    # Seven numbers of 30 bits: sums of four and of three, 32 bits each, then one of the two.
    tree = adder_tree(7, 30, 32)
    assert tree.ff == 32 * 2 + 32
    assert tree.lut == pytest.approx(32 * (3.2 + 2) + 32)
    assert adder_tree(1, 30, 32) == Resources()


@pytest.mark.parametrize(
    "width, depth, halves",
    [
        (36, 512, 1),  # the widest shape of an 18 Kb half
        (37, 512, 2),
        (72, 512, 2),
        (73, 512, 3),
        (32, 1024, 2),
        (18, 1024, 1),
        # What yosys made of memories mapped alone, where its costs decide.
        (19, 2049, 4),  # five rows of 27 bits in 72
        (41, 3118, 10),
        (37, 4097, 12),
        (37, 5000, 13),
        (128, 2048, 15),
        (128, 4096, 30),
        (160, 1025, 14),
        (160, 4097, 41),
        (32, 9216, 18),
        (128, 2304, 19),
        (256, 576, 15),
        (256, 1152, 22),
        (256, 4608, 66),
        (512, 520, 29),
    ],
)
def test_block_ram_halves(width, depth, halves):
    assert block_ram_halves(width, depth) == halves


@pytest.mark.parametrize(
    "width, depth, blocks",
    [(72, 4096, 1), (73, 4096, 2), (72, 4097, 2), (36, 8192, 1), (24, 12288, 1), (288, 16384, 16)],
)
def test_ultra_rams(width, depth, blocks):
    assert ultra_rams(width, depth) == blocks


def test_without_uram_deep_memories_of_the_linear_are_block_ram():
    axes = {**GOLDEN["linear"]["points"][4]["axes"], "ultra": False}
    blocks = linear_blocks(sizes_of("linear", axes))
    # By hand: 8 banks of 32 bits by 800 words, 2 halves each; biases, 32 bits by 200 words.
    assert blocks.uram == 0
    assert blocks.bram36 == 8 * 1.0 + 0.5


# Where LUT RAM ends in auto style; every row is what yosys made of such a memory mapped alone.
@pytest.mark.parametrize(
    "width, depth, block",
    [
        (1, 1500, False),
        (2, 1408, True),
        (3, 946, True),
        (4, 700, False),
        (4, 768, True),
        (8, 257, False),
        (8, 400, True),
        (16, 192, False),
        (16, 256, True),
        (18, 128, False),
        (18, 129, True),
        (28, 96, False),
        (28, 97, True),
        (36, 64, False),
        (36, 65, True),
        (250, 64, False),
    ],
)
def test_auto_style_changes_with_depth(width, depth, block):
    expected = block_ram_halves(width, depth) / 2 if block else 0
    assert memory_blocks(width, depth, "auto").bram36 == expected


def test_no_memory_takes_less_than_its_bits():
    rng = np.random.Generator(np.random.PCG64(5))
    for width, depth in rng.integers(1, [400, 20000], (200, 2)):
        bits = int(width) * int(depth)
        assert block_ram_halves(int(width), int(depth)) * 18 * 1024 >= bits
        assert ultra_rams(int(width), int(depth)) * 288 * 1024 >= bits


@pytest.mark.parametrize(
    "width, depth, style, named",
    [(0, 8, "block", "width"), (8, 0, "ultra", "depth"), (8, 8, "registers", "style")],
)
def test_refusals(width, depth, style, named):
    with pytest.raises(InputError, match=f"^{named} = "):
        memory_blocks(width, depth, style)
