"""Resources of TeLLMe as sums of table entries, compiled.

The sum over what the engine's axes decide is kept from point to point; the order of the terms is
the same whether it is or not, so that a point has the same figures in any company.
"""

from typing import Any

import numpy as np
from numba import njit

from headrace.arch.tellme.axes import AXES
from headrace.search.tellme.module_tables import PART_AXES
from headrace.search.tellme.problem import RESOURCES
from headrace.search.tellme.sizes import COLUMN

__all__ = ["count_engine", "count_point"]

_GROUP_SIZE = COLUMN["group_size"]
_TABLES = COLUMN["tables"]
_COPIES = COLUMN["copies"]
_METHOD = COLUMN["lookup_method"]
_TABLE_BUFFERS = COLUMN["table_buffers"]
_LANES = COLUMN["activation_lanes"]
_BANKS = COLUMN["weight_banks"]
_WORDS = COLUMN["weight_words"]
_PACKING = COLUMN["weight_packing"]
_MAX_OUTPUTS = COLUMN["max_outputs"]
_GROUP_PACKING = AXES[_PACKING].choices.index("group")
_PORTS = COLUMN["weight_ports"]
_ACCUMULATOR = COLUMN["accumulator_bits"]
_PARTS = np.array([COLUMN[name] for name in PART_AXES])
assert PART_AXES[0] == "copies"  # the only one of the engine


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def count_engine(
    rows: Any,
    r: int,
    width: int,
    per_group: int,
    array: Any,
    reader: Any,
    unpacker: Any,
    dsp: Any,
    buffers: Any,
    depth_at: Any,
    parts: Any,
    part_at: Any,
    total: Any,
) -> None:
    """Fill `total` with LUT, FF, DSP, block RAM and URAM of what the engine's axes decide."""
    g, t, q = rows[r, _GROUP_SIZE] - 1, rows[r, _TABLES] - 1, rows[r, _COPIES] - 1
    m, b, n = rows[r, _METHOD], rows[r, _TABLE_BUFFERS] - 1, rows[r, _LANES] - 1
    packing, more = rows[r, _PACKING], rows[r, _BANKS] - 1
    beat = 8 if packing == _GROUP_PACKING else 2 * (rows[r, _PORTS] - 1) + width
    w = per_group >> 1
    bank = depth_at[1, rows[r, _WORDS]]
    deep = min(w, 1)
    total[0] = (
        array[g, m, b, t, q, 0]
        + unpacker[g, t, beat, w, more, 0]
        + buffers[bank, packing, deep, g, t, 0, 0]
        + more * buffers[bank, packing, deep, g, t, 1, 0]
    )
    total[1] = (
        array[g, m, b, t, q, 1]
        + reader[g, t, n]
        + unpacker[g, t, beat, w, more, 1]
        + buffers[bank, packing, deep, g, t, 0, 1]
        + more * buffers[bank, packing, deep, g, t, 1, 1]
    )
    total[2] = dsp[packing, q]
    total[3] = (
        buffers[bank, packing, deep, g, t, 0, 2] + more * buffers[bank, packing, deep, g, t, 1, 2]
    )
    total[4] = (
        buffers[bank, packing, deep, g, t, 0, 3] + more * buffers[bank, packing, deep, g, t, 1, 3]
    )
    ports = part_at[0, 2 * (rows[r, _PORTS] - 1) + width]
    copies = part_at[1, rows[r, _COPIES]]
    for i in range(len(RESOURCES)):
        total[i] += parts[ports, i] + parts[copies, i]


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def count_point(
    rows: Any,
    r: int,
    engine: Any,
    accumulators: Any,
    depth_at: Any,
    parts: Any,
    part_at: Any,
    need: Any,
) -> None:
    """Fill `need` with LUT, FF, DSP, block RAM and URAM of one point, given its engine's."""
    depth, q = depth_at[0, rows[r, _MAX_OUTPUTS]], rows[r, _COPIES] - 1
    bits = rows[r, _ACCUMULATOR]
    lut = engine[0] + accumulators[depth, q, bits, 0]
    ff = engine[1] + accumulators[depth, q, bits, 1]
    dsp = engine[2]
    bram36 = engine[3] + accumulators[depth, q, bits, 2]
    uram = engine[4]
    for k in range(1, len(_PARTS)):
        place = part_at[k + 1, rows[r, _PARTS[k]]]
        lut += parts[place, 0]
        ff += parts[place, 1]
        dsp += parts[place, 2]
        bram36 += parts[place, 3]
        uram += parts[place, 4]
    need[0], need[1], need[2], need[3], need[4] = lut, ff, dsp, bram36, uram
