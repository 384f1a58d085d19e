"""Resources of the engine as sums of table entries.

`headrace.arch.tellme.engine_resources` counts with whole columns, too slowly for the search, but
each of its terms depends on few sizes. So the terms are evaluated once on small grids by those
very functions, and a point's count is a sum of five entries. Terms of the buffer's memories are
linear in the banks: their tables hold the value of one bank, and of two less one.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tellme import engine_resources as engine
from headrace.arch.tellme.axes import AXES

__all__ = ["ArrayTables", "accumulator_table", "array_tables", "buffer_table"]

# Which sizes the entries of each table are sorted by; a term belongs to the first that covers it.
_READ = {
    "array": {"group_size", "tables", "copies", "method", "table_buffers"},
    "accumulator": {"copies", "accumulator_bits", "max_groups"},
    "reader": {"group_size", "tables", "activation_lanes"},
    "unpacker": {"group_size", "tables", "packing", "beat_bits", "banks", "copies"},
    "buffer": {"group_size", "tables", "packing", "words", "banks", "copies"},
}
_TERMS = {"lut": engine.lut_terms, "ff": engine.ff_terms}
_PROBES = 256

Table = NDArray[np.float64]


class ArrayTables(NamedTuple):
    """Tables that do not depend on depths; indices are sizes less one unless said otherwise.

    Parameters
    ----------
    array : shape (5, 3, 2, tables, copies, 2)
        LUT and FF of tables, lookups and adder trees by group size, method code, table buffers.
    reader : shape (5, tables, lanes)
        FF.
    unpacker : shape (5, tables, 9, 3, banks, 2)
        By beat (2 x (ports - 1) + width code of the ``beat`` packing, 8 for ``group``) and words
        per group (1, 2, 4), then banks; then LUT and FF.
    dsp : shape (2, copies)
        By packing code.
    """

    array: Table
    reader: Table
    unpacker: Table
    dsp: Table


def _choices(name: str) -> tuple[Any, ...]:
    return next(axis.choices for axis in AXES if axis.name == name)


def _most(name: str) -> int:
    axis = next(axis for axis in AXES if axis.name == name)
    assert axis.high is not None
    return int(axis.high)


def _grid(**sizes: Any) -> dict[str, Any]:
    """Return columns on the open grid of the arrays among `sizes`; the rest are published sizes."""
    published: dict[str, Any] = {
        "group_size": 3, "tables": 28, "copies": 16, "method": "full", "table_buffers": 1,
        "activation_lanes": 1, "banks": 16, "words": 10944, "slots": 1, "packing": "beat",
        "beat_bits": 768, "accumulator_bits": 24, "max_groups": 256,
    }  # fmt: skip
    return published | {name: np.asarray(values) for name, values in sizes.items()}


def _open(*axes: Any) -> list[NDArray[Any]]:
    """Return arrays that broadcast to the grid of `axes`."""
    count = len(axes)
    return [
        np.asarray(values).reshape([-1 if i == at else 1 for i in range(count)])
        for at, values in enumerate(axes)
    ]


@cache
def _homes(resource: str) -> dict[str, str]:
    """Return the table of every term of `resource`, found by turning each size alone."""
    rng = np.random.default_rng(0)

    def draw(values: Any) -> NDArray[Any]:
        return rng.choice(np.asarray(values), _PROBES)

    values: dict[str, Any] = {
        "group_size": range(1, 6), "tables": range(2, 65), "copies": (16, 32, 64),
        "method": _choices("lookup_method"), "table_buffers": (1, 2),
        "activation_lanes": (1, 2, 4, 8, 16), "banks": (16, 32, 64),
        "words": (48, 512, 4096, 12288), "packing": _choices("weight_packing"),
        "beat_bits": (384, 512, 768, 1024), "accumulator_bits": (20, 24, 32),
        "max_groups": (48, 512, 4096),
    }  # fmt: skip
    base = _grid(**{name: draw(some) for name, some in values.items()})
    base["copies"], base["banks"] = np.full(_PROBES, 64), np.full(_PROBES, 16)
    terms = _TERMS[resource]
    before = terms(base)
    read: dict[str, set[str]] = {name: set() for name in before}
    for size, some in values.items():
        after = terms(base | {size: draw(some)})
        for name in read:
            if np.any(np.asarray(after[name]) != np.asarray(before[name])):
                read[name].add(size)
    return {
        name: next(table for table, covered in _READ.items() if sizes <= covered)
        for name, sizes in read.items()
    }


def _sum(columns: Mapping[str, Any], table: str, resource: str) -> Any:
    """Return the sum of the terms of `resource` that belong into `table`."""
    factors, homes = engine.coefficients(resource), _homes(resource)
    terms = _TERMS[resource](columns)
    return sum(factors[n] * np.asarray(t) for n, t in terms.items() if homes[n] == table)


@cache
def array_tables() -> ArrayTables:
    """Return the tables that do not depend on depths."""
    groups = np.arange(1, 6)
    tables, copies = np.arange(1, _most("tables") + 1), np.arange(1, _most("copies") + 1)
    lanes = np.arange(1, _most("activation_lanes") + 1)

    g, m, b, t, q = _open(groups, _choices("lookup_method"), (1, 2), tables, copies)
    c = _grid(group_size=g, method=m, table_buffers=b, tables=t, copies=q, banks=q)
    shape = np.broadcast_shapes(g.shape, m.shape, b.shape, t.shape, q.shape)
    array = np.empty((*shape, 2))
    array[..., 0] = _sum(c, "array", "lut")
    array[..., 1] = _sum(c, "array", "ff")

    g, t, n = _open(groups, tables, lanes)
    reader = np.empty((len(groups), len(tables), len(lanes)))
    reader[...] = _sum(_grid(group_size=g, tables=t, activation_lanes=n), "reader", "ff")

    beats = [(p + 1) * w for p in range(4) for w in _choices("port_bits")]
    g, t, per_group, banks = _open(groups, tables, (1, 2, 4), copies)
    unpacker = np.empty((len(groups), len(tables), len(beats) + 1, 3, len(copies), 2))
    for beat, bits in enumerate([*beats, beats[-1]]):
        packing = "beat" if beat < len(beats) else "group"
        c = _grid(
            group_size=g, tables=t, copies=per_group * banks, banks=banks, packing=packing,
            beat_bits=bits,
        )  # fmt: skip
        unpacker[:, :, beat, :, :, 0] = _sum(c, "unpacker", "lut")
        unpacker[:, :, beat, :, :, 1] = _sum(c, "unpacker", "ff")

    p, q = _open(_choices("weight_packing"), copies)
    dsp = np.empty((2, len(copies)))
    dsp[...] = engine.engine_dsp(_grid(packing=p, copies=q, banks=q))
    return ArrayTables(array, reader, unpacker, dsp)


@cache
def accumulator_table(max_outputs: int) -> Table:
    """Return LUT, FF and block RAM of the accumulators of one depth.

    Returns
    -------
    float64 array, shape (copies, accumulator bits + 1, 3)
    """
    copies, bits = np.arange(1, _most("copies") + 1), np.arange(_most("accumulator_bits") + 1)
    q, a = _open(copies, bits)
    c = _grid(copies=q, banks=q, accumulator_bits=a, max_groups=-(-max_outputs // q), words=10944)
    table = np.empty((len(copies), len(bits), 3))
    table[..., 0] = _sum(c, "accumulator", "lut")
    table[..., 1] = _sum(c, "accumulator", "ff")
    table[..., 2] = engine.engine_bram36(c)  # a buffer of this depth is all URAM
    return table


@cache
def buffer_table(words: int) -> Table:
    """Return what the banks of one depth take.

    Returns
    -------
    float64 array, shape (2, 2, 5, tables, 2, 4)
        By packing code, one or more words per group, group size and tables; then first bank and
        each further one; then LUT, FF, block RAM and URAM.
    """
    tables = np.arange(1, _most("tables") + 1)
    p, w, g, t = _open(_choices("weight_packing"), (1, 2), np.arange(1, 6), tables)
    found = np.empty((2, 2, 5, len(tables), 2, 4))
    for banks in (1, 2):
        c = _grid(
            packing=p, copies=w * banks, banks=np.full((1, 1, 1, 1), banks), group_size=g,
            tables=t, words=words, max_groups=1,
        )  # fmt: skip
        into = found[..., banks - 1, :]
        into[..., 0] = _sum(c, "buffer", "lut")
        into[..., 1] = _sum(c, "buffer", "ff")
        into[..., 2] = engine.engine_bram36(c)
        into[..., 3] = engine.engine_uram(c)
    found[..., 1, :] -= found[..., 0, :]
    return found
