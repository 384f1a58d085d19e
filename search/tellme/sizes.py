"""Rows of codes, read by the compiled evaluator.

`Engine` restates the sizes of `headrace.arch.tellme.engine.EngineSizes` in numbers alone, since
compiled code has neither its properties nor names of methods; a test holds the two together.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from headrace.arch.tellme.axes import AXES, index_bits
from headrace.arch.tellme.engine import NORM_BITS
from headrace.arch.tree import TREE_LEVELS_PER_STAGE
from headrace.search.compiled import compiled

__all__ = ["COLUMN", "Engine", "engine_of", "over", "up"]

COLUMN = {axis.name: i for i, axis in enumerate(AXES)}
"""Column of every axis in a row of codes."""

_GROUP_SIZE = COLUMN["group_size"]
_TABLES = COLUMN["tables"]
_COPIES = COLUMN["copies"]
_METHOD = COLUMN["lookup_method"]
_TABLE_BUFFERS = COLUMN["table_buffers"]
_LANES = COLUMN["activation_lanes"]
_GAP = COLUMN["block_gap_cycles"]
_BANKS = COLUMN["weight_banks"]
_WORDS = COLUMN["weight_words"]
_SLOTS = COLUMN["weight_slots"]
_PACKING = COLUMN["weight_packing"]
_PORTS = COLUMN["weight_ports"]
_PORT_BITS = COLUMN["port_bits"]
_MAX_OUTPUTS = COLUMN["max_outputs"]


def _choice(axis: str, name: str) -> int:
    return AXES[COLUMN[axis]].choices.index(name)


_NAIVE = _choice("lookup_method", "naive")
_HALF = _choice("lookup_method", "half")
_GROUP_PACKING = _choice("weight_packing", "group")

_index_bits = compiled(index_bits)

# Build cycles by lookup method and group size, drain cycles without the groups by tables.
_STATES = 3 ** np.arange(int(AXES[_GROUP_SIZE].high or 0) + 1) - 1
_BUILD = np.zeros((len(AXES[_METHOD].choices), len(_STATES)), np.int64)
_BUILD[:] = _STATES
_BUILD[_NAIVE] = 0
_BUILD[_HALF] = _STATES // 2
_DRAIN = np.array(
    [
        4 - max(0, tables - 1).bit_length() // -TREE_LEVELS_PER_STAGE
        for tables in range(int(AXES[_TABLES].high or 0) + 1)
    ]
)


class Engine(NamedTuple):
    """Sizes of one engine; names as in `EngineSizes`."""

    block_inputs: int
    copies: int
    table_buffers: int
    slots: int
    words_per_group: int
    lookup_cycles: int
    slot_words: int
    front_cycles: int
    drain_cycles: int
    """Without the groups."""
    beat_bits: int
    vectors_per_beat: int
    beats_per_group: int
    """0 in the ``beat`` packing."""
    writes: int
    """Write cycles of `write_pattern` beats."""
    unpack: int
    """Cycles that these beats take, at least one each."""
    write_pattern: int
    max_groups: int


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def over(dividend: int, divisor: int) -> int:
    """Divide a number of 0 to 2^48 by a positive one, rounding down.

    In float64, which takes a third of the time: with the half added the exact quotient is at
    least 1 / (2 divisor) away from any integer, and the rounding error is smaller than that.
    """
    return int((dividend + 0.5) / divisor)


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def up(dividend: int, divisor: int) -> int:
    """Divide as `over`, rounding up."""
    return int((dividend + divisor - 0.5) / divisor)


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def engine_of(rows: Any, r: int) -> Engine:
    """Return the engine's sizes at one row of codes."""
    group_size, tables, copies = rows[r, _GROUP_SIZE], rows[r, _TABLES], rows[r, _COPIES]
    banks = rows[r, _BANKS]
    words_per_group = over(copies, banks)
    vector_bits = tables * _index_bits(group_size)
    beat_bits = rows[r, _PORTS] * rows[r, _PORT_BITS]
    block_inputs = group_size * tables
    if rows[r, _PACKING] == _GROUP_PACKING:
        vectors_per_beat = 0
        beats_per_group = up(copies * vector_bits, beat_bits)
        write_pattern = beats_per_group
        word_bits = banks * vector_bits
        # Every word is written once, at the end of the beat that completes it; a beat takes its
        # writes, but at least one cycle: so one cycle less for a word that shares its beat.
        writes = words_per_group
        unpack = beats_per_group
        latest = 0
        for word in range(1, words_per_group + 1):
            beat = up(word * word_bits, beat_bits)
            unpack += beat == latest
            latest = beat
    else:
        vectors_per_beat = over(beat_bits - NORM_BITS, vector_bits)
        beats_per_group = 0
        write_pattern = 1
        writes = up(vectors_per_beat, banks)
        unpack = max(1, writes)
    return Engine(
        block_inputs,
        copies,
        rows[r, _TABLE_BUFFERS],
        rows[r, _SLOTS],
        words_per_group,
        (words_per_group + 1) >> 1,
        over(rows[r, _WORDS], rows[r, _SLOTS]),
        rows[r, _GAP] + up(block_inputs, rows[r, _LANES]) + _BUILD[rows[r, _METHOD], group_size],
        _DRAIN[tables],
        beat_bits,
        vectors_per_beat,
        beats_per_group,
        writes,
        unpack,
        write_pattern,
        up(rows[r, _MAX_OUTPUTS], copies),
    )
