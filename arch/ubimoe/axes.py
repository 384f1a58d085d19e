"""Parameter axes of UbiMoE.

The release's defaults (section 3.3 of docs/ubimoe.md's sources) are the defaults here; the points
behind the paper's tables are not published. Section numbers refer to arXiv 2502.05602.
"""

from collections.abc import Mapping
from typing import Any

from headrace.arch.axis import Axis, Constraint

__all__ = ["AXES", "CONSTRAINTS"]

AXES = (
    Axis(
        name="clock_mhz",
        default=300,
        low=50,
        high=400,
        choices=(200, 300),
        summary="Clock of the fabric: 300 on ZCU102, 200 on U280 (table 2).",
    ),
    Axis(
        name="numerics",
        default="w16a32",
        choices=("int8", "int16", "w16a32"),
        summary="Widths of weights and operands (q): W16A32 as in table 2, INT16 as in the public "
        "demonstration, INT8 our own.",
    ),
    Axis(
        name="attention_modules",
        default=1,
        low=1,
        high=16,
        choices=(1, 3),
        summary="Streaming attention kernels side by side (num); each has its share of the heads.",
    ),
    Axis(
        name="attention_lanes",
        default=4,
        low=1,
        high=64,
        choices=(1, 2, 3, 4, 5, 6, 8, 10, 12, 16),
        summary="Query rows in flight (N_a).",
    ),
    Axis(
        name="attention_dims",
        default=8,
        low=1,
        high=64,
        choices=(2, 4, 8, 16),
        summary="Values of a head in a beat of the attention and of the layer norms (T_a).",
    ),
    Axis(
        name="exp_units",
        default="head",
        choices=("lane", "head"),
        summary="Exponentials of an attention lane: one for each head (published) or one in all.",
    ),
    Axis(
        name="attention",
        default="fused",
        choices=("rows", "reordered", "fused"),
        summary="fused: QK, softmax and PV in one pass over K and V (published). reordered: QK, "
        "then PV, K and V each once per group of lanes (Edge-MoE). rows: the same, K and V once "
        "per query row (Edge-MoE without its reordering).",
    ),
    Axis(
        name="keys",
        default="ports",
        choices=("ports", "chip"),
        summary="Where Q, K and V wait: behind the memory ports (published) or in block RAM.",
    ),
    Axis(
        name="softmax",
        default="online",
        choices=("passes", "online"),
        summary="online: running maximum and sum (published). passes: three passes over the "
        "scores, value by value (Edge-MoE without single-pass softmax).",
    ),
    Axis(
        name="gelu",
        default="table",
        choices=("erf", "table"),
        summary="table: interpolated, in the linear's stream (published). erf: computed, value by "
        "value (Edge-MoE without its table).",
    ),
    Axis(
        name="linear",
        default="unified",
        choices=("separate", "unified"),
        summary="unified: one array of T_in x T_out for all linears of a block (published). "
        "separate: a unit for each, T_in multipliers wide (Edge-MoE without unified linears).",
    ),
    Axis(
        name="tile_in",
        default=16,
        low=1,
        high=256,
        choices=(4, 8, 16, 32),
        summary="Inputs of a weight tile (T_in).",
    ),
    Axis(
        name="tile_out",
        default=16,
        low=1,
        high=256,
        choices=(4, 8, 16, 32),
        summary="Outputs of a weight tile (T_out).",
    ),
    Axis(
        name="linear_lanes",
        default=2,
        low=1,
        high=64,
        choices=(1, 2, 3, 4, 5, 6, 8),
        summary="Rows that share a weight tile in the FFN and the experts (N_L). 3 in the release, "
        "which the DSP slices of a ZCU102 do not hold.",
    ),
    Axis(
        name="msa_linear_lanes",
        default=1,
        low=1,
        high=64,
        choices=(1, 2, 3, 4),
        summary="The same in QKV and projection; 1 in the release.",
    ),
    Axis(
        name="expert_order",
        default="expert",
        choices=("token", "expert"),
        summary="expert: each expert's weights once for all its rows (published). token: again "
        "for every row (Edge-MoE without its order).",
    ),
    Axis(
        name="weight_slots",
        default=2,
        low=1,
        high=2,
        choices=(1, 2),
        summary="Weight sets of a linear: with 2 one is loaded while the other computes "
        "(published).",
    ),
    Axis(
        name="weight_ports",
        default=1,
        low=1,
        high=32,
        choices=(1, 2, 4, 8),
        summary="Memory ports (HBM channels) over which the weights of FFN and experts are "
        "striped; 1 in the release.",
    ),
    Axis(
        name="msa_weight_ports",
        default=0,
        low=0,
        high=32,
        choices=(0, 1),
        summary="Ports for the weights of QKV and projection; 0: those of the FFN, in turn.",
    ),
    Axis(
        name="key_ports",
        default=2,
        low=1,
        high=32,
        choices=(1, 2),
        summary="Ports that stream keys and values where keys = ports: one for each, or 1 in turn.",
    ),
    Axis(
        name="port_bits",
        default=256,
        choices=(128, 256, 512),
        summary="Bits of a beat of a port on the kernel's side; 256 in the release.",
    ),
    Axis(
        name="ultra",
        default=False,
        choices=(False, True),
        summary="Deep weight memories in URAM, which the ZCU102 lacks.",
    ),
    Axis(
        name="overlap",
        default="none",
        choices=("none", "images"),
        summary="images: MSA of one image beside FFN or experts of the one before; two sets of "
        "features in memory. The latency of a single image is the same.",
    ),
    Axis(
        name="max_tokens",
        default=129,
        low=2,
        high=511,
        choices=(129,),
        summary="Tokens for which the memories have room; 128 patches and the class token.",
    ),
    Axis(
        name="heads",
        default=3,
        low=1,
        high=64,
        choices=(3,),
        summary="Attention heads of the network (h).",
    ),
    Axis(
        name="head_dim",
        default=64,
        low=4,
        high=1024,
        choices=(64,),
        summary="Values of a head, a power of 4 (the scores' scale is a shift); D = heads x "
        "head_dim.",
    ),
    Axis(
        name="hidden",
        default=768,
        low=1,
        high=8192,
        choices=(768,),
        summary="Hidden values of a dense FFN.",
    ),
    Axis(
        name="expert_hidden",
        default=384,
        low=1,
        high=8192,
        choices=(384,),
        summary="Hidden values of an expert. A dense FFN is computed in parts of this size.",
    ),
    Axis(
        name="experts",
        default=16,
        low=1,
        high=64,
        choices=(16,),
        summary="Experts of a layer.",
    ),
    Axis(
        name="top_k",
        default=2,
        low=1,
        high=8,
        choices=(2,),
        summary="Experts of a token.",
    ),
)


def _width(p: Mapping[str, Any]) -> Any:
    return p["heads"] * p["head_dim"]


def _power_of_four(n: Any) -> Any:
    return (n == 4) | (n == 16) | (n == 64) | (n == 256) | (n == 1024)


def _fits(a: Any, b: Any) -> Any:
    return (a % b == 0) | (b % a == 0)


CONSTRAINTS = (
    Constraint(
        name="modules",
        rule="heads = a multiple of attention_modules",
        holds=lambda p: p["heads"] % p["attention_modules"] == 0,
        knobs=("attention_modules", "heads"),
    ),
    Constraint(
        name="head",
        rule="head_dim = 4, 16, 64, 256 or 1024",
        holds=lambda p: _power_of_four(p["head_dim"]),
        knobs=("head_dim",),
    ),
    Constraint(
        name="dims",
        rule="head_dim = a multiple of attention_dims",
        holds=lambda p: p["head_dim"] % p["attention_dims"] == 0,
        knobs=("attention_dims", "head_dim"),
    ),
    Constraint(
        name="lanes",
        rule="attention_lanes <= max_tokens",
        holds=lambda p: p["attention_lanes"] <= p["max_tokens"],
        knobs=("attention_lanes", "max_tokens"),
    ),
    Constraint(
        name="input tile",
        rule="heads x head_dim and expert_hidden = multiples of tile_in, and one of tile_in and "
        "attention_dims of the other,",
        holds=lambda p: (
            (_width(p) % p["tile_in"] == 0)
            & (p["expert_hidden"] % p["tile_in"] == 0)
            & _fits(p["tile_in"], p["attention_dims"])
        ),
        knobs=("tile_in", "attention_dims", "heads", "head_dim", "expert_hidden"),
    ),
    Constraint(
        name="output tile",
        rule="heads x head_dim and expert_hidden = multiples of tile_out, tile_out one of "
        "attention_dims, and one of tile_in and tile_out of the other,",
        holds=lambda p: (
            (_width(p) % p["tile_out"] == 0)
            & (p["expert_hidden"] % p["tile_out"] == 0)
            & (p["tile_out"] % p["attention_dims"] == 0)
            & _fits(p["tile_in"], p["tile_out"])
        ),
        knobs=("tile_out", "tile_in", "attention_dims", "heads", "head_dim", "expert_hidden"),
    ),
    Constraint(
        name="dense parts",
        rule="hidden = a multiple of expert_hidden, up to 255 times,",
        holds=lambda p: (
            (p["hidden"] % p["expert_hidden"] == 0) & (p["hidden"] <= 255 * p["expert_hidden"])
        ),
        knobs=("hidden", "expert_hidden"),
    ),
    Constraint(
        name="experts per token",
        rule="top_k <= experts",
        holds=lambda p: p["top_k"] <= p["experts"],
        knobs=("top_k", "experts"),
    ),
    Constraint(
        name="keys on chip",
        rule="attention_modules = 1, attention = fused, softmax = online, linear = unified, gelu = "
        "table, expert_order = expert and weight_slots = 2, as in the RTL, when keys = chip",
        holds=lambda p: (
            (p["keys"] != "chip")
            | (
                (p["attention_modules"] == 1)
                & (p["attention"] == "fused")
                & (p["softmax"] == "online")
                & (p["linear"] == "unified")
                & (p["gelu"] == "table")
                & (p["expert_order"] == "expert")
                & (p["weight_slots"] == 2)
            )
        ),
        knobs=(
            "keys",
            "attention_modules",
            "attention",
            "softmax",
            "linear",
            "gelu",
            "expert_order",
            "weight_slots",
        ),
    ),
    Constraint(
        name="fused softmax",
        rule="softmax = online when attention = fused",
        holds=lambda p: (p["attention"] != "fused") | (p["softmax"] == "online"),
        knobs=("attention", "softmax"),
    ),
)
