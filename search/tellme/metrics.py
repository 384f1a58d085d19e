"""Metrics of one point of TeLLMe, compiled: latency, rates, power and energy."""

from math import ceil
from typing import Any

from numba import njit

from headrace.arch.tellme.axes import AXES
from headrace.search.compiled import compiled
from headrace.search.tellme.problem import Problem
from headrace.search.tellme.schedule import MATRICES, OUTPUT, pass_cycles
from headrace.search.tellme.sizes import COLUMN
from headrace.sim.tellme import formulas

__all__ = ["MEMO", "fill_metrics"]

MEMO = 64
"""Passes of an engine that are remembered by the cycles of their attention."""

_CLOCK = COLUMN["clock_mhz"]
_PREFILL_LANES = COLUMN["prefill_lanes"]
_PREFILL_ADDERS = COLUMN["prefill_adders"]
_PREFILL_PV = COLUMN["prefill_pv_units"]
_PREFILL_ORDER = COLUMN["prefill_order"]
_DECODE_LANES = COLUMN["decode_lanes"]
_KV_PORTS = COLUMN["kv_ports"]
_REVERSED = AXES[_PREFILL_ORDER].choices.index("reversed")
_VECTOR_BYTES = 2 * formulas.FP16_LANES
_SLOTS = COLUMN["weight_slots"]

_prefill_steps = compiled(formulas.prefill_steps)
_prefill_score_cycles = compiled(formulas.prefill_score_cycles)
_prefill_update_cycles = compiled(formulas.prefill_update_cycles)
_decode_key_cycles = compiled(formulas.decode_key_cycles)


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _attention(rows: Any, r: int, problem: Problem, interval: float) -> tuple[int, int, int]:
    """Return the cycles of one layer's attention in prefill and decode, and its key steps."""
    p = problem
    lanes = rows[r, _PREFILL_LANES]
    steps = _prefill_steps(p.prompt, lanes, rows[r, _PREFILL_ORDER] == _REVERSED)
    score = _prefill_score_cycles(
        p.heads, p.head_vectors, p.kv_vectors, lanes, rows[r, _PREFILL_ADDERS], interval
    )
    update = _prefill_update_cycles(
        p.heads,
        p.head_vectors,
        p.kv_vectors,
        lanes,
        rows[r, _PREFILL_PV],
        interval,
        p.softmax_cycles,
    )
    key = _decode_key_cycles(
        p.heads * p.head_vectors, p.kv_vectors, rows[r, _DECODE_LANES], rows[r, _KV_PORTS], interval
    )
    return steps * (score + update), 2 * ceil((p.context + 1) * key), steps


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _watts(problem: Problem, need: Any, clock_mhz: float, busy: float, bytes_per_s: float) -> float:
    """Return the average power; `busy` is the share of time in which a unit computes."""
    p = problem
    per_mhz = need[0] * p.lut_w + need[2] * p.dsp_w + need[3] * p.bram36_w + need[4] * p.uram_w
    fabric = per_mhz * clock_mhz * (p.idle_share + (1 - p.idle_share) * busy)
    return p.static_w + fabric + bytes_per_s * p.memory_j  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def fill_metrics(
    rows: Any,
    r: int,
    problem: Problem,
    order: Any,
    norms: Any,
    interval: float,
    cuts: Any,
    steals: bool,
    memo: Any,
    before: Any,
    need: Any,
    out: Any,
) -> None:
    """Fill the metrics of a point whose matrices fit (`_metrics` of the simulator).

    `memo` remembers the passes of points with the same engine; `steals` says whether writes of
    the next tile hold up lookups.
    """
    clock_mhz = rows[r, _CLOCK]
    hertz = clock_mhz * 1e6
    prefill_attention, decode_attention, steps = _attention(rows, r, problem, interval)
    slots = rows[r, _SLOTS]
    prefill, prefill_busy, decode, decode_busy = 0, 0, 0, 0
    for stage in range(2):  # one call, since it is compiled into this place
        attention = decode_attention if stage else prefill_attention
        slot = attention % MEMO
        if memo[stage, slot, 0] != attention:
            for m in range(MATRICES + 1):
                before[m] = norms[stage, m]
            before[OUTPUT] += attention
            tokens = 1 if stage else problem.prompt
            cycles, busy = pass_cycles(
                cuts, order, before, problem.layers, tokens, stage, slots, steals, attention
            )
            memo[stage, slot, 0] = attention
            memo[stage, slot, 1] = cycles
            memo[stage, slot, 2] = busy
        cycles, busy = memo[stage, slot, 1], memo[stage, slot, 2]
        if stage:
            decode, decode_busy = cycles, busy
        else:
            prefill, prefill_busy = cycles, busy
    weight_bytes = 0
    for m in range(MATRICES):
        weight_bytes += cuts[order[m], 1]
    weight_bytes *= problem.layers
    per_vector = 2 * problem.kv_vectors * _VECTOR_BYTES * problem.layers
    prefill_bytes = weight_bytes + (steps + problem.prompt) * per_vector
    decode_bytes = weight_bytes + (problem.context + 2) * per_vector
    ttft = prefill / hertz + problem.head_s
    step = decode / hertz + problem.head_s
    prefill_power = _watts(
        problem,
        need,
        clock_mhz,
        prefill_busy / hertz / ttft,
        (prefill_bytes + problem.head_bytes) / ttft,
    )
    decode_power = _watts(
        problem,
        need,
        clock_mhz,
        decode_busy / hertz / step,
        (decode_bytes + problem.head_bytes) / step,
    )
    out[0] = ttft
    out[1] = problem.prompt / ttft
    out[2] = step
    out[3] = 1 / step
    out[4] = ttft + problem.later * step
    out[5] = prefill_attention / hertz
    out[6] = problem.head_s
    out[7] = weight_bytes
    out[8] = max(prefill_power, decode_power)
    out[9] = prefill_power
    out[10] = decode_power
    out[11] = problem.prompt / ttft / prefill_power
    out[12] = 1 / step / decode_power
    out[13] = ttft * prefill_power + problem.later * step * decode_power
