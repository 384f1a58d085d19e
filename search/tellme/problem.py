"""What the compiled evaluator is given besides points, and the names of what it returns."""

from typing import Any, NamedTuple

__all__ = ["BUDGETS", "METRICS", "RESOURCES", "Problem", "Tables"]

METRICS = (
    "ttft_s",
    "prefill_tok_per_s",
    "decode_s",
    "decode_tok_per_s",
    "latency_s",
    "prefill_attention_s",
    "lm_head_s",
    "weight_bytes",
    "power_w",
    "prefill_power_w",
    "decode_power_w",
    "prefill_tok_per_j",
    "decode_tok_per_j",
    "energy_j",
)
RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")
BUDGETS = 10


class Problem(NamedTuple):
    """Numbers that are the same for all points: network, workload, device and constants.

    Parameters
    ----------
    layers, hidden, heads, head_vectors, kv_vectors : int
        See `headrace.sim.tellme.mapping.Shape`.
    prompt, context, later : int
        Prompt tokens, context tokens, output tokens after the first.
    head_s, head_bytes : float
        LM head on the CPU.
    first_clock : int
        Clock of the first entry of `Tables.rates`.
    latency : int
        Cycles before the first beat of a transfer.
    static_w, lut_w, dsp_w, bram36_w, uram_w, idle_share, memory_j : float
        Constants of the power model; the resources' are per MHz, the memory's per byte.
    softmax_cycles : float
    accumulator_bits : int
        Bits that the longest sum needs.
    """

    layers: int
    heads: int
    head_vectors: int
    kv_vectors: int
    prompt: int
    context: int
    later: int
    head_s: float
    head_bytes: float
    first_clock: int
    latency: int
    static_w: float
    lut_w: float
    dsp_w: float
    bram36_w: float
    uram_w: float
    idle_share: float
    memory_j: float
    softmax_cycles: float
    accumulator_bits: int


class Tables(NamedTuple):
    """Arrays that are the same for all points.

    They are handed to compiled functions one by one: reading an array out of a tuple counts
    references, which takes longer than the arithmetic here.

    Parameters
    ----------
    rows : int64 array, shape (shapes + 1, G x T + 1)
        Row blocks of the different matrices of a layer by inputs of a block; of a region last.
    groups : int64 array, shape (shapes + 1, Q + 1)
        Output groups of the same by copies.
    order : int64 array, shape (MATRICES,)
        Which of them each matrix is.
    norms : int64 array, shape (2, MATRICES + 1), cycles
        Norms before each matrix and after the last layer, in prefill and in decode.
    rates : float64 array, shape (clocks, ports, widths, 2)
        Weight bytes per cycle and vector interval by clock from `first_clock`, weight ports from
        1, and code of the port's width.
    available : float64 array, shape (BUDGETS,)
        Budgets that no axis sets; NaN where an axis does.
    array, reader, unpacker, dsp : float64 arrays
        See `headrace.search.tellme.engine_tables.ArrayTables`.
    accumulators, buffers : float64 arrays
        Tables of that module, one per depth.
    depth_at : int64 array, shape (2, deepest + 1)
        Place of a depth in `accumulators` and in `buffers`.
    parts, part_at : float64 and int64 arrays
        See `headrace.search.tellme.module_tables.Parts`.
    """

    rows: Any
    groups: Any
    order: Any
    norms: Any
    rates: Any
    available: Any
    array: Any
    reader: Any
    unpacker: Any
    dsp: Any
    accumulators: Any
    buffers: Any
    depth_at: Any
    parts: Any
    part_at: Any
