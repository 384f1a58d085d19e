"""Resources of the ternary matmul engine from its structure.

Every count is closed-form arithmetic on the sizes, so the same functions take Python numbers and
NumPy arrays of any shape. URAM, block RAM and DSP follow exactly from the memories; LUTs and
flip-flops are sums of structural terms, whose coefficients are fitted to netlists mapped by Yosys
(``lut_coefficients.toml``, written by bench/fit_resources.py). They are an open proxy for Vivado.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.resources import Resources
from headrace.arch.tellme.axes import index_bits
from headrace.arch.tellme.engine import NORM_BITS, EngineSizes
from headrace.arch.tree import TREE_LEVELS_PER_STAGE

__all__ = [
    "BUFFER_TERMS",
    "MAX_TABLES",
    "coefficients",
    "engine_bram36",
    "engine_dsp",
    "engine_ff",
    "engine_lut",
    "engine_resources",
    "engine_uram",
    "ff_terms",
    "lut_terms",
    "size_columns",
]

Columns = Mapping[str, Any]
Terms = dict[str, Any]

MAX_TABLES = 128
BUFFER_TERMS = (
    "buffer_lutram",
    "unpacker_select",
    "unpacker_words",
    "buffer_mux",
    "bank_vectors",
    "beat_control",
    "buffer_registers",
    "held",
)
_NAMES = (
    "group_size tables copies method table_buffers activation_lanes banks words slots packing "
    "beat_bits accumulator_bits max_groups"
)
_FIELDS = tuple(_NAMES.split())
_ACTIVATION_BITS = 8
_URAM_WORDS, _URAM_BITS = 4096, 72
_BLOCK_WORDS, _DISTRIBUTED_WORDS = 512, 64

# LUTs by group size of modules mapped alone (docs/resources.md): builder of one table, sign ROM of
# all builders, and decoder with sign stage (half) or selection (naive) of one lookup.
_FULL_BUILDER = np.asarray([0, 7, 32, 50, 76, 109])
_HALF_BUILDER = np.asarray([0, 0, 25, 50, 76, 106.5])
_FULL_SIGNS = np.asarray([0, 3, 4, 6, 23, 97])
_HALF_SIGNS = np.asarray([0, 1, 3, 6, 6, 27])
_HALF_LOOKUP = np.asarray([0, 8, 10, 15, 14, 20.5])
_NAIVE_LOOKUP = np.asarray([0, 10, 36, 56, 99, 200])


def size_columns(sizes: EngineSizes) -> dict[str, Any]:
    """Return the fields of `sizes` that the functions of this module take.

    For many points at once, make the same mapping with an array in every place; ``method`` and
    ``packing`` are then arrays of strings.
    """
    return {name: getattr(sizes, name) for name in _FIELDS}


def _ceil_div(a: Any, b: Any) -> Any:
    return -(-np.asarray(a) // b)


def _bits(value: Any) -> Any:
    """Return ceil(log2 value) of positive integers up to 2^20."""
    return _BIT_LENGTH[np.asarray(value) - 1] if np.ndim(value) else int(value - 1).bit_length()


_BIT_LENGTH = np.array([number.bit_length() for number in range(1 << 16)], np.int64)


def _derived(c: Columns) -> Terms:
    """Return the widths and depths that several terms share."""
    group, method = c["group_size"], np.asarray(c["method"])
    states = np.asarray(3) ** group
    naive, half = method == "naive", method == "half"
    build = np.where(naive, 0, np.where(half, (states - 1) // 2, states - 1))
    entry_width = _bits(build + 1)
    per_group = np.asarray(c["copies"]) // c["banks"]
    vector = c["tables"] * index_bits(group)
    return {
        "naive": naive,
        "half": half,
        "pairs": np.asarray(c["copies"]) * c["tables"],
        "entry": 8 + _bits(group),
        "entry_width": entry_width,
        "table_words": np.asarray(c["table_buffers"]) * (1 << entry_width),
        "per_group": per_group,
        "vector": vector,
        "vectors_per_beat": np.maximum(1, (np.asarray(c["beat_bits"]) - NORM_BITS) // vector),
        "beat_packing": np.asarray(c["packing"]) == "beat",
        "buffer_ports": np.minimum(2, per_group),
        "ultra": np.asarray(c["words"]) > _BLOCK_WORDS,
        "distributed": np.asarray(c["words"]) <= _DISTRIBUTED_WORDS,
        "small_accumulator": np.asarray(c["max_groups"]) <= _DISTRIBUTED_WORDS,
    }


def engine_uram(c: Columns) -> Any:
    """Return the URAM blocks, exact.

    A bank takes ceil(words / (4096 r)) x ceil(vector bits / (72 / r)) blocks, the least over
    r = 1, 2, 3, 4, 8 words side by side in one row of a block; r = 1 at the published sizes.
    """
    d = _derived(c)
    words = np.asarray(c["words"])
    per_bank = np.minimum.reduce(
        [
            _ceil_div(words, _URAM_WORDS * side) * _ceil_div(d["vector"], _URAM_BITS // side)
            for side in (1, 2, 3, 4, 8)
        ]
    )
    return np.where(d["ultra"], c["banks"] * per_bank, 0)


def engine_bram36(c: Columns, buffer: bool | None = None) -> Any:
    """Return the block RAMs in units of 36 Kb, exact; `buffer` as for `engine_lut`.

    A half block is 512 x 36 with a port each for reading and writing, 1024 x 18 with two ports
    that do both. The accumulators of more than 64 output groups are in block RAM too.
    """
    d = _derived(c)
    block = ~d["ultra"] & ~d["distributed"]
    per_bank = np.where(
        d["buffer_ports"] == 1, _ceil_div(d["vector"], 36), _ceil_div(d["vector"], 18)
    )
    weights = np.where(block, c["banks"] * per_bank, 0)
    width = np.asarray(c["copies"]) * c["accumulator_bits"]
    depth = _bits(np.maximum(_BLOCK_WORDS, c["max_groups"])) - _bits(_BLOCK_WORDS)
    column = np.asarray([36, 18, 9, 4, 2, 1])[np.minimum(depth, 5)]
    totals = np.where(d["small_accumulator"], 0, _ceil_div(width, column))
    return {None: weights + totals, True: weights, False: totals}[buffer] / 2


def engine_dsp(c: Columns) -> Any:
    """Return the DSPs, exact: the unpacker's two products with Q unless that is a shift."""
    copies = np.asarray(c["copies"])
    return np.where((_derived(c)["beat_packing"]) & ((copies & (copies - 1)) != 0), 2, 0)


def _lut_ram(bits: Any, words: Any) -> Any:
    """Return the LUTs of a LUT RAM with one write and one read port (RAM32M16, RAM64M8)."""
    deep = 8 * _ceil_div(bits, 7) * _ceil_div(words, 64)
    return np.where(np.asarray(words) <= 32, 8 * _ceil_div(bits, 14), deep)


def _buffer_lut_ram(c: Columns, d: Terms) -> Any:
    """Return the LUTs of a bank in LUT RAM; with two ports beyond 32 words RAM64X1D competes."""
    one_port = _lut_ram(d["vector"], c["words"])
    two_ports = np.where(
        np.asarray(c["words"]) <= 32, 2 * one_port, np.minimum(2 * one_port, 2 * d["vector"])
    )
    return np.where(d["buffer_ports"] == 1, one_port, two_ports)


def _mux(inputs: Any) -> Any:
    """Return the LUTs per bit of a multiplexer; one LUT6 takes four inputs."""
    return np.where(np.asarray(inputs) <= 1, 0, _ceil_div(np.asarray(inputs) - 1, 3))


@cache
def _tree_table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return adder bits and register bits of a tree by (tables, entry bits)."""
    adders = np.zeros((MAX_TABLES + 1, 12), np.int64)
    registers = np.zeros_like(adders)
    for tables in range(1, MAX_TABLES + 1):
        for width in range(8, 12):
            # Widths of the terms: a term without a partner keeps its width.
            terms = [width] * tables
            levels = (tables - 1).bit_length()
            for level in range(levels):
                pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
                terms = [max(pair) + (len(pair) == 2) for pair in pairs]
                adders[tables, width] += sum(
                    w for w, pair in zip(terms, pairs, strict=True) if len(pair) == 2
                )
                if level == levels - 1 or (level + 1) % TREE_LEVELS_PER_STAGE == 0:
                    registers[tables, width] += sum(terms)
    return adders, registers


def _wide_mux(inputs: Any) -> Any:
    """Return the LUTs per bit of a multiplexer whose select may point beyond its inputs.

    It is built as one of 2^n inputs, (2^n - 1) / 3 LUTs; the bound takes a second LUT for four.
    """
    return np.asarray([1, 1, 2, 3, 5, 11, 21, 43, 85, 171, 341])[_bits(inputs)]


def _array_terms(c: Columns, d: Terms) -> Terms:
    """Return the terms of builders and lookups."""
    group, half = c["group_size"], d["half"]
    table = ~d["naive"]
    reads = np.where(table, d["pairs"], 0)
    parts = _ceil_div(d["table_words"], 64)
    # The sign stage takes a multiplexer of two parts into its LUTs.
    joined = np.where(half & (parts == 2), 0.25, _mux(parts))
    builder = np.where(half, _HALF_BUILDER[group], _FULL_BUILDER[group])
    signs = np.where(half, _HALF_SIGNS[group], _FULL_SIGNS[group])
    two_sets = d["naive"] & (np.asarray(c["table_buffers"]) == 2)
    return {
        "table_lutram": reads * _lut_ram(d["entry"], d["table_words"]),
        "table_mux": reads * d["entry"] * joined,
        "half_lookup": np.where(half, d["pairs"] * _HALF_LOOKUP[group], 0),
        "naive_lookup": np.where(d["naive"], d["pairs"] * _NAIVE_LOOKUP[group], 0),
        "naive_sets": np.where(two_sets, _ACTIVATION_BITS * np.asarray(group) * c["tables"], 0),
        "builders": np.where(table, builder * c["tables"] + signs, 0),
    }


def lut_terms(c: Columns) -> Terms:
    """Return the structural terms of the LUT count by name; see docs/resources.md."""
    d = _derived(c)
    copies, beat, in_beat = np.asarray(c["copies"]), d["beat_packing"], d["vectors_per_beat"]
    bits = np.asarray(c["banks"]) * d["vector"]
    totals = copies * c["accumulator_bits"]
    deep = np.where(d["ultra"], _ceil_div(c["words"], _URAM_WORDS), 1)
    # As many vectors in a beat as banks: each has its own, and there is nothing to choose.
    choose = beat & (in_beat != c["banks"])
    accumulators = np.where(d["small_accumulator"], _lut_ram(totals, c["max_groups"]), 0)
    return _array_terms(c, d) | {
        "accumulator_lutram": accumulators,
        "buffer_lutram": np.where(d["distributed"], c["banks"] * _buffer_lut_ram(c, d), 0),
        "tree_adders": copies * _tree_table()[0][c["tables"], d["entry"]],
        "accumulators": totals,
        "unpacker_select": np.where(choose, bits * _wide_mux(in_beat), 0),
        "unpacker_words": np.where(beat, 0, bits * _mux(d["per_group"])),
        "buffer_mux": bits * d["buffer_ports"] * _mux(deep),
        "bank_vectors": np.where(choose, c["banks"] * in_beat, 0),
        "beat_control": np.where(beat, np.ones_like(copies), 0),
        "address": _bits(np.maximum(2, c["words"])) * np.ones_like(copies),
        "control": np.ones_like(copies),
    }


def ff_terms(c: Columns) -> Terms:
    """Return the structural terms of the flip-flop count by name; see docs/resources.md."""
    d = _derived(c)
    group, copies = np.asarray(c["group_size"]), np.asarray(c["copies"])
    table = ~d["naive"]
    inputs = group * c["tables"]
    lanes = np.asarray(c["activation_lanes"])
    bits = np.asarray(c["banks"]) * d["vector"]
    totals = copies * c["accumulator_bits"]
    select = np.where(d["half"], d["entry_width"] + 1, d["entry_width"])
    group_bits = copies * d["vector"]
    deep = np.where(d["ultra"], _ceil_div(c["words"], _URAM_WORDS), 1)
    return {
        "reader": _ACTIVATION_BITS
        * np.where(lanes >= inputs, inputs, _ceil_div(inputs, lanes) * lanes),
        "builder": np.where(table, c["tables"] * d["entry"], 0),
        "select": d["pairs"] * np.where(table, select, 2 * group),
        "values": d["pairs"] * d["entry"],
        "naive_sets": np.where(
            d["naive"], _ACTIVATION_BITS * inputs * np.asarray(c["table_buffers"]), 0
        ),
        "tree": copies * _tree_table()[1][c["tables"], d["entry"]],
        "latest": totals,
        "accumulator_read": np.where(d["small_accumulator"], totals, 0),
        "held": np.where(d["beat_packing"], d["vectors_per_beat"] * d["vector"], group_bits),
        "buffer_registers": np.where(d["distributed"], bits * d["buffer_ports"], 0),
        "first_half": np.where(d["per_group"] == 4, 2 * bits, 0),
        "buffer_mux": c["banks"] * (deep - 1),
        "address": _bits(np.maximum(2, c["words"])) * np.ones_like(copies),
        "control": np.ones_like(copies),
    }


@cache
def coefficients(resource: str) -> Mapping[str, float]:
    """Return the fitted factor of every term of `resource`, ``lut`` or ``ff``."""
    text = files("headrace.arch.tellme").joinpath("lut_coefficients.toml").read_text("utf-8")
    return {name: float(value) for name, value in tomllib.loads(text)[resource].items()}


def _weighted(terms: Terms, resource: str, buffer: bool | None) -> Any:
    factors = coefficients(resource)
    return sum(
        factors[name] * term
        for name, term in terms.items()
        if buffer is None or (name in BUFFER_TERMS) == buffer
    )


def engine_lut(c: Columns, buffer: bool | None = None) -> Any:
    """Return the LUTs; only those of the weight buffer, or all but those, if `buffer` says so."""
    return _weighted(lut_terms(c), "lut", buffer)


def engine_ff(c: Columns, buffer: bool | None = None) -> Any:
    """Return the flip-flops; `buffer` as for `engine_lut`."""
    return _weighted(ff_terms(c), "ff", buffer)


def engine_resources(sizes: EngineSizes) -> Resources:
    """Return the resources of the engine, weight buffer included."""
    c = size_columns(sizes)
    return Resources(
        lut=float(engine_lut(c)),
        ff=float(engine_ff(c)),
        dsp=float(engine_dsp(c)),
        bram36=float(engine_bram36(c)),
        uram=float(engine_uram(c)),
    )
