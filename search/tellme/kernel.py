"""The compiled evaluator of TeLLMe: rows of codes in, all figures out."""

from typing import Any

import numpy as np
from numba import njit, prange

from headrace.arch.tellme.axes import AXES, index_bits
from headrace.arch.tellme.engine import engine_sizes
from headrace.search.compiled import stamp
from headrace.search.tellme import count, metrics, schedule, sizes
from headrace.search.tellme.count import count_engine, count_point
from headrace.search.tellme.metrics import MEMO, fill_metrics
from headrace.search.tellme.module_tables import PART_AXES, Parts
from headrace.search.tellme.problem import BUDGETS, METRICS, RESOURCES, Problem
from headrace.search.tellme.schedule import FIELDS, MATRICES, cut
from headrace.search.tellme.sizes import COLUMN, engine_of
from headrace.sim.tellme import formulas

__all__ = ["evaluate"]

_CLOCK = COLUMN["clock_mhz"]
_COPIES = COLUMN["copies"]
_TABLE_BUFFERS = COLUMN["table_buffers"]
_BANKS = COLUMN["weight_banks"]
_WORDS = COLUMN["weight_words"]
_PACKING = COLUMN["weight_packing"]
_SLOTS = COLUMN["weight_slots"]
_MAX_OUTPUTS = COLUMN["max_outputs"]
_LAYOUT = COLUMN["weight_layout"]
_PORTS = COLUMN["weight_ports"]
_PORT_BITS = COLUMN["port_bits"]
_ACCUMULATOR = COLUMN["accumulator_bits"]
_MAX_CONTEXT = COLUMN["max_context"]
_PARTS = np.array([COLUMN[name] for name in PART_AXES])
_EXACT = AXES[_LAYOUT].choices.index("exact")
_NARROW = int(min(AXES[_PORT_BITS].choices))
_NOT_ENGINE = {
    "accumulator_bits",
    "prefill_lanes",
    "prefill_adders",
    "prefill_pv_units",
    "prefill_order",
    "decode_lanes",
    "kv_ports",
    "max_context",
}
_ENGINE = np.array([column for name, column in COLUMN.items() if name not in _NOT_ENGINE])
"""Axes that decide the cuts of the matrices; what depends on them alone is kept from row to row."""
_NEED_WORDS, _NEED_GROUPS, _UNFIT, _STEALS = range(4)
"""What is kept of an engine: words and output groups that a slot has to hold, the budgets that
this breaks, and whether writes of the next tile hold up lookups."""
_ROWS_PER_BLOCK = 1024
_KINDS = 64


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _sort(rows: Any, first: int, last: int, turns: Any) -> None:
    """Fill `turns` with the rows from `first` to `last` - 1, those of one kind side by side.

    Rows of a kind take the same branches, which the processor then predicts: that saves far more
    than this costs.
    """
    start = np.zeros(_KINDS + 1, np.int64)
    for i in range(first, last):
        start[_kind(rows, i) + 1] += 1
    for kind in range(_KINDS):
        start[kind + 1] += start[kind]
    for i in range(first, last):
        kind = _kind(rows, i)
        turns[start[kind]] = i
        start[kind] += 1


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _kind(rows: Any, r: int) -> int:
    """Return the code of the choices on which the evaluation branches, less than `_KINDS`."""
    return (  # type: ignore[no-any-return]
        (rows[r, _SLOTS] - 1) << 4
        | rows[r, _PACKING] << 3
        | rows[r, _LAYOUT] << 2
        | (rows[r, _TABLE_BUFFERS] - 1) << 1
        | (rows[r, _COPIES] > rows[r, _BANKS])
    )


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _covered(
    rows: Any, first: int, last: int, rates: Any, first_clock: int, depth_at: Any, part_at: Any
) -> bool:
    """Whether the tables hold all values of the rows from `first` to `last` - 1."""
    least = 0
    known = True
    for i in range(first, last):
        known &= not np.isnan(rates[rows[i, _CLOCK] - first_clock, 0, 0, 0])
        least = min(least, depth_at[0, rows[i, _MAX_OUTPUTS]], depth_at[1, rows[i, _WORDS]])
        for k in range(len(_PARTS)):
            least = min(least, part_at[k + 1, rows[i, _PARTS[k]]])
    return known and least == 0


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _engine(
    rows: Any,
    r: int,
    problem: Problem,
    row_blocks: Any,
    output_groups: Any,
    rates: Any,
    array: Any,
    reader: Any,
    unpacker: Any,
    dsp: Any,
    buffers: Any,
    depth_at: Any,
    parts: Any,
    part_at: Any,
    cuts: Any,
    kept: Any,
    counted: Any,
    memo: Any,
) -> None:
    """Fill what points with the same engine share.

    `cuts` is how matrices are cut, `kept` is described at its indices, `counted` are the engine's
    resources, and `memo`, the cycles of a pass by cycles of its attention, is emptied.
    """
    engine = engine_of(rows, r)
    width = 0 if rows[r, _PORT_BITS] == _NARROW else 1
    ports = min(rows[r, _PORTS], rates.shape[1])
    region = len(row_blocks) - 1
    words, outputs = 0, 0
    for s in range(region):
        w, g = cut(
            engine,
            row_blocks[s, engine.block_inputs],
            output_groups[s, engine.copies],
            row_blocks[region, engine.block_inputs],
            output_groups[region, engine.copies],
            rows[r, _LAYOUT] == _EXACT,
            problem.prompt,
            rates[rows[r, _CLOCK] - problem.first_clock, ports - 1, width, 0],
            problem.latency,
            cuts,
            s,
        )
        words, outputs = max(words, w), max(outputs, g)
    kept[_NEED_WORDS], kept[_NEED_GROUPS] = words, outputs
    kept[_UNFIT] = (words > engine.slot_words) << 6 | (outputs > engine.max_groups) << 7
    kept[_STEALS] = engine.words_per_group >= 2
    count_engine(
        rows,
        r,
        width,
        engine.words_per_group,
        array,
        reader,
        unpacker,
        dsp,
        buffers,
        depth_at,
        parts,
        part_at,
        counted,
    )
    memo[:, :, 0] = -1


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _point(
    rows: Any,
    r: int,
    every: bool,
    problem: Problem,
    order: Any,
    norms: Any,
    rates: Any,
    available: Any,
    accumulators: Any,
    depth_at: Any,
    parts: Any,
    part_at: Any,
    cuts: Any,
    kept: Any,
    counted: Any,
    memo: Any,
    before: Any,
    need: Any,
    out: Any,
) -> int:
    """Evaluate one point: fill `out` (METRICS, then RESOURCES), return the broken budgets.

    `cuts`, `kept`, `counted` and `memo` are its engine's, `before` is room for what comes before
    each matrix. `need` is filled with what the point needs of each budget.
    """
    count_point(rows, r, counted, accumulators, depth_at, parts, part_at, need)
    for i in range(len(RESOURCES)):
        out[len(METRICS) + i] = need[i]
    need[5], need[6], need[7] = rows[r, _PORTS], kept[_NEED_WORDS], kept[_NEED_GROUPS]
    need[8], need[9] = problem.accumulator_bits, problem.context + 1
    broken = kept[_UNFIT]
    for i in range(6):
        broken |= (need[i] > available[i]) << i
    broken |= (problem.accumulator_bits > rows[r, _ACCUMULATOR]) << 8
    broken |= (problem.context >= rows[r, _MAX_CONTEXT]) << 9
    if kept[_UNFIT] or (broken and not every):
        for i in range(len(METRICS)):
            out[i] = np.nan
        return broken  # type: ignore[no-any-return]
    width = 0 if rows[r, _PORT_BITS] == _NARROW else 1
    ports = min(rows[r, _PORTS], rates.shape[1])
    interval = rates[rows[r, _CLOCK] - problem.first_clock, ports - 1, width, 1]
    steals = kept[_STEALS] != 0
    fill_metrics(rows, r, problem, order, norms, interval, cuts, steals, memo, before, need, out)
    return broken  # type: ignore[no-any-return]


def _build(sources: int) -> Any:
    """Return the compiled loop over points; see `headrace.search.compiled.stamp`."""

    @njit(cache=True, parallel=True, error_model="numpy")  # type: ignore[untyped-decorator]
    def evaluate_rows(
        rows: Any,
        every: bool,
        wanted: Any,
        problem: Problem,
        row_blocks: Any,
        output_groups: Any,
        order: Any,
        norms: Any,
        rates: Any,
        available: Any,
        array: Any,
        reader: Any,
        unpacker: Any,
        dsp: Any,
        accumulators: Any,
        buffers: Any,
        depth_at: Any,
        parts: Any,
        part_at: Any,
        columns: Any,
        need: Any,
        broken: Any,
    ) -> int:
        """Evaluate all rows; fill columns (wanted, n), need (n or 0, BUDGETS), broken (n,).

        `wanted` are figures as numbers. Metrics of points over a budget are NaN unless `every`.

        Returns 0 if the tables lack a value of the rows, which are then to be evaluated again.
        """
        n = len(rows)
        lacking = 0
        figures = len(METRICS) + len(RESOURCES)
        for task in prange((n + _ROWS_PER_BLOCK - 1) // _ROWS_PER_BLOCK):
            cuts = np.empty((MATRICES, FIELDS), np.int64)
            before = np.empty(MATRICES + 1, np.int64)
            # Filled point by point, copied column by column: columns are often a power of two
            # apart, so that writing one point to all of them would hit one cache set.
            block = np.empty((len(wanted), _ROWS_PER_BLOCK + 8))
            out = np.empty(figures)
            demand = np.empty(BUDGETS)
            turns = np.empty(_ROWS_PER_BLOCK, np.int64)
            kept = np.empty(4, np.int64)
            counted = np.empty(len(RESOURCES))
            memo = np.empty((2, MEMO, 3), np.int64)
            first = task * _ROWS_PER_BLOCK
            last = min(n, first + _ROWS_PER_BLOCK)
            if not _covered(rows, first, last, rates, problem.first_clock, depth_at, part_at):
                lacking += 1
                continue
            _sort(rows, first, last, turns)
            for turn in range(last - first):
                i = turns[turn]
                same = turn > 0
                if same:
                    before_it = turns[turn - 1]
                    for column in _ENGINE:
                        if rows[i, column] != rows[before_it, column]:
                            same = False
                            break
                if not same:
                    _engine(
                        rows,
                        i,
                        problem,
                        row_blocks,
                        output_groups,
                        rates,
                        array,
                        reader,
                        unpacker,
                        dsp,
                        buffers,
                        depth_at,
                        parts,
                        part_at,
                        cuts,
                        kept,
                        counted,
                        memo,
                    )
                broken[i] = _point(
                    rows,
                    i,
                    every,
                    problem,
                    order,
                    norms,
                    rates,
                    available,
                    accumulators,
                    depth_at,
                    parts,
                    part_at,
                    cuts,
                    kept,
                    counted,
                    memo,
                    before,
                    demand,
                    out,
                )
                for f in range(len(wanted)):
                    block[f, i - first] = out[wanted[f]]
                if len(need) == n:
                    need[i] = demand
            for f in range(len(wanted)):
                for i in range(first, last):
                    columns[f, i] = block[f, i - first]
        return 0 if lacking else sources

    return evaluate_rows


evaluate = _build(
    stamp(
        formulas.norm_cycles,
        index_bits,
        engine_sizes,
        count.count_point,
        schedule.cut,
        sizes.engine_of.py_func,
        Parts,
        metrics.fill_metrics,
    )
)
