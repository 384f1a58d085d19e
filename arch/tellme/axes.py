"""Parameter axes of TeLLMe; every default is the published setting."""

from collections.abc import Mapping
from typing import Any

from headrace.arch.axis import Axis, Constraint
from headrace.arch.calibration import constant

__all__ = ["AXES", "CONSTRAINTS", "index_bits"]

_PUBLISHED_GAP = int(constant("tellme.block_gap_cycles"))

AXES = (
    Axis(
        name="clock_mhz",
        default=250,
        low=50,
        high=400,
        choices=(150, 200, 250),
        summary="Clock of the fabric. No point is searched above the published 250 MHz, since "
        "no open tool can say whether it would close timing.",
    ),
    Axis(
        name="group_size",
        default=3,
        low=1,
        high=5,
        choices=(1, 2, 3, 4, 5),
        summary="Ternary weights per index, G (section 3.1).",
    ),
    Axis(
        name="tables",
        default=28,
        low=1,
        high=128,
        choices=tuple(range(4, 65)),
        summary="Tables built per row block, T; a row block is G x T inputs (section 3.1).",
    ),
    Axis(
        name="copies",
        default=16,
        low=1,
        high=64,
        choices=(2, 4, 8, 16, 32, 64),
        summary="Copies of each table, Q = outputs per lookup (section 3.1).",
    ),
    Axis(
        name="lookup_method",
        default="full",
        choices=("naive", "half", "full"),
        summary="M1 select and add, M2 half table with a sign stage, M3 full table.",
    ),
    Axis(
        name="table_buffers",
        default=1,
        low=1,
        high=2,
        choices=(1, 2),
        summary="Sets of tables: 1 builds and looks up in turn (published), 2 builds the next "
        "row block while this one is looked up.",
    ),
    Axis(
        name="activation_lanes",
        default=1,
        low=1,
        high=128,
        choices=(1, 2, 4, 8, 16, 32, 64),
        summary="INT8 activations read per cycle; 1 is the published serial read.",
    ),
    Axis(
        name="block_gap_cycles",
        default=_PUBLISHED_GAP,
        low=0,
        high=1023,
        choices=(0, _PUBLISHED_GAP),
        summary="Idle cycles of the sequencer before each row block. 0 for an engine that is "
        "sequenced in RTL; the default stands for the loop control of the published HLS "
        "release and is fitted (see the calibration table).",
    ),
    Axis(
        name="weight_banks",
        default=8,
        low=1,
        high=64,
        choices=(1, 2, 4, 8, 16, 32, 64),
        summary="Banks of the weight buffer, cyclic over the outputs, two ports each.",
    ),
    Axis(
        name="weight_words",
        default=10944,
        low=2,
        high=65536,
        choices=(4096, 8192, 10944, 12288, 16384),
        summary="Words of each bank over all slots; 3 x 19 x 1536 / 8 in the release.",
    ),
    Axis(
        name="weight_slots",
        default=1,
        low=1,
        high=4,
        choices=(1, 2, 3),
        summary="Tiles of weights held at once: 1 loads and computes in turn (published), more "
        "stream the next tile while this one computes.",
    ),
    Axis(
        name="weight_layout",
        default="region",
        choices=("region", "exact"),
        summary="region: every load fills whole [19][1536] regions (published); exact: only the "
        "rows and columns that the matrix has.",
    ),
    Axis(
        name="weight_packing",
        default="beat",
        choices=("beat", "group"),
        summary="beat: as many whole vectors per beat as fit beside a 16-bit norm weight "
        "(published); group: the Q vectors of one lookup over as few beats as hold them.",
    ),
    Axis(
        name="weight_ports",
        default=3,
        low=1,
        high=4,
        choices=(1, 2, 3, 4),
        summary="AXI ports that stream weights side by side; a beat is port_bits from each.",
    ),
    Axis(
        name="port_bits",
        default=256,
        choices=(128, 256),
        summary="Width of a port on the kernel's side; the processor's ports are 128 bits wide.",
    ),
    Axis(
        name="accumulator_bits",
        default=24,
        low=16,
        high=32,
        choices=(20, 24, 32),
        summary="Width of the signed accumulators; 24 in the release.",
    ),
    Axis(
        name="max_outputs",
        default=4096,
        low=2,
        high=16384,
        choices=(4096,),
        summary="Outputs of the widest tile, sizes the accumulator memory.",
    ),
    Axis(
        name="prefill_lanes",
        default=8,
        low=1,
        high=32,
        choices=(1, 2, 4, 8, 16, 32),
        summary="Query lanes of the prefill attention, N_pe (section 3.3).",
    ),
    Axis(
        name="prefill_adders",
        default=32,
        low=1,
        high=512,
        choices=(16, 32, 64, 128),
        summary="FP16 adders of the query-key loop of the prefill attention.",
    ),
    Axis(
        name="prefill_pv_units",
        default=1,
        low=1,
        high=16,
        choices=(1, 2, 4),
        summary="Softmax and value units that share the lanes and heads of a key step.",
    ),
    Axis(
        name="prefill_order",
        default="reversed",
        choices=("forward", "reversed"),
        summary="reversed: queries from the last token backwards skip masked keys (published).",
    ),
    Axis(
        name="decode_lanes",
        default=16,
        low=1,
        high=64,
        choices=(8, 16, 32),
        summary="FP16 lanes of the decode attention; 16 are one 256-bit vector per cycle.",
    ),
    Axis(
        name="kv_ports",
        default=1,
        low=1,
        high=2,
        choices=(1, 2),
        summary="AXI ports that stream the keys (then the values) in decode attention.",
    ),
    Axis(
        name="max_context",
        default=1024,
        low=16,
        high=65536,
        choices=(1024, 2048),
        summary="Tokens of context the decode attention's score FIFO holds.",
    ),
)


def _banks_fit(p: Mapping[str, Any]) -> Any:
    quarter, half, whole = (
        p["weight_banks"] * 4 == p["copies"],
        p["weight_banks"] * 2 == p["copies"],
        p["weight_banks"] == p["copies"],
    )
    return quarter | half | whole


def index_bits(group_size: Any) -> Any:
    """Return the bits of one weight index, ceil(log2 3^G): 2, 4, 5, 7, 8 for G = 1..5.

    The closed form without a logarithm also works on integer arrays.
    """
    return (8 * group_size + 4) // 5


CONSTRAINTS = (
    Constraint(
        name="weight banks",
        rule="weight_banks = copies, copies / 2 or copies / 4",
        holds=_banks_fit,
        knobs=("weight_banks", "copies"),
    ),
    Constraint(
        name="beat",
        rule="weight_ports x port_bits - 16 >= tables x index bits, one vector per beat,",
        holds=lambda p: (
            (p["weight_packing"] == "group")
            | (p["weight_ports"] * p["port_bits"] - 16 >= p["tables"] * index_bits(p["group_size"]))
        ),
        knobs=("weight_ports", "port_bits", "tables", "group_size", "weight_packing"),
    ),
    Constraint(
        name="slot",
        rule="weight_words / weight_slots x weight_banks >= copies, one output group per slot,",
        holds=lambda p: p["weight_words"] // p["weight_slots"] * p["weight_banks"] >= p["copies"],
        knobs=("weight_words", "weight_slots", "weight_banks", "copies"),
    ),
    Constraint(
        name="overlap",
        rule="weight_layout = exact when weight_slots > 1",
        holds=lambda p: (p["weight_slots"] == 1) | (p["weight_layout"] == "exact"),
        knobs=("weight_slots", "weight_layout"),
    ),
    Constraint(
        name="activation lanes",
        rule="activation_lanes <= group_size x tables",
        holds=lambda p: p["activation_lanes"] <= p["group_size"] * p["tables"],
        knobs=("activation_lanes", "group_size", "tables"),
    ),
)
