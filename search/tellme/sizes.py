"""Rows of codes, read by the compiled evaluator.

`Engine` restates the sizes of `headrace.arch.tellme.engine.EngineSizes` in numbers alone, since
compiled code has neither its properties nor names of methods; a test holds the two together.
"""

from typing import Any, NamedTuple

from numba import njit

from headrace.arch.tellme.axes import AXES, index_bits
from headrace.arch.tellme.engine import NORM_BITS, TREE_LEVELS_PER_STAGE
from headrace.search.compiled import compiled

__all__ = ["COLUMN", "Engine", "engine_of"]

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
def _up(dividend: int, divisor: int) -> int:
    """Divide non-negative numbers of less than 32 bits, rounding up."""
    return (dividend + divisor - 1) // divisor


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def engine_of(rows: Any, r: int) -> Engine:
    """Return the engine's sizes at one row of codes."""
    group_size, tables, copies = rows[r, _GROUP_SIZE], rows[r, _TABLES], rows[r, _COPIES]
    banks = rows[r, _BANKS]
    words_per_group = copies // banks
    vector_bits = tables * _index_bits(group_size)
    beat_bits = rows[r, _PORTS] * rows[r, _PORT_BITS]
    block_inputs = group_size * tables
    states = 1
    for _ in range(group_size):
        states *= 3
    build = states - 1
    if rows[r, _METHOD] == _NAIVE:
        build = 0
    elif rows[r, _METHOD] == _HALF:
        build = build // 2
    levels = 0
    while 1 << levels < tables:
        levels += 1
    if rows[r, _PACKING] == _GROUP_PACKING:
        vectors_per_beat = 0
        beats_per_group = _up(copies * vector_bits, beat_bits)
        write_pattern = beats_per_group
        word_bits = banks * vector_bits
        unpack = writes = 0
        for beat in range(1, beats_per_group + 1):
            done = min(words_per_group, beat * beat_bits // word_bits)
            unpack += max(1, done - writes)
            writes = done
    else:
        vectors_per_beat = (beat_bits - NORM_BITS) // vector_bits
        beats_per_group = 0
        write_pattern = 1
        writes = _up(vectors_per_beat, banks)
        unpack = max(1, writes)
    return Engine(
        block_inputs,
        copies,
        rows[r, _TABLE_BUFFERS],
        rows[r, _SLOTS],
        words_per_group,
        max(1, _up(words_per_group, 2)),
        rows[r, _WORDS] // rows[r, _SLOTS],
        rows[r, _GAP] + _up(block_inputs, rows[r, _LANES]) + build,
        3 + _up(levels, TREE_LEVELS_PER_STAGE) + 1,
        beat_bits,
        vectors_per_beat,
        beats_per_group,
        writes,
        unpack,
        write_pattern,
        _up(rows[r, _MAX_OUTPUTS], copies),
    )
