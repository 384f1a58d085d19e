"""Closed forms of the TeLLMe machine outside its matmul engine.

Plain arithmetic on numbers, so that the simulator calls these functions as they stand and the
search compiles the same functions with numba. Section numbers refer to arXiv 2510.15926.
"""

from math import ceil

__all__ = [
    "FP16_LANES",
    "decode_key_cycles",
    "engine_cycles",
    "finish_time",
    "load_cycles",
    "norm_cycles",
    "prefill_score_cycles",
    "prefill_steps",
    "prefill_update_cycles",
    "tile_groups",
]

FP16_LANES = 16
"""FP16 values in the 256-bit vectors that all units outside the engine exchange (section 3.1)."""


def load_cycles(total_bytes: int, bytes_per_cycle: float, latency: int, unpack: int) -> int:
    """Cycles of one load of weights, from the first request to the last word in the banks.

    Parameters
    ----------
    total_bytes, bytes_per_cycle, latency : int, float, int
        One burst train: data at the sustained rate after one read latency.
    unpack : int, cycles
        What the banks need to take all beats; the slower of the two counts.
    """
    return max(ceil(total_bytes / bytes_per_cycle), unpack) + latency


def engine_cycles(
    rows: int, front: int, lookup: int, drain: int, tokens: int, table_buffers: int
) -> int:
    """Cycles of the matmul engine from an accepted computation to its last result.

    With one set of tables everything takes turns. With two, a token takes the longest cycle of
    the engine's stream graph: the front end alone, the lookups with their drain, or (front end
    slower than lookup, from three rows on) the front end held up across a drain.

    Parameters
    ----------
    rows : int
        Row blocks of the tile.
    front : int, cycles
        Gap, read and build of one row block.
    lookup : int, cycles
        Lookups of one row block.
    drain : int, cycles
        From the last lookup of a token to the cycle after its last result.
    tokens, table_buffers : int
        Tokens of the computation; sets of tables, 1 or 2.
    """
    if table_buffers == 1:
        return tokens * (rows * (front + lookup) + drain)
    period = max(rows * front, rows * lookup + drain)
    if rows >= 3:
        period = max(period, (rows - 2) * front + 2 * lookup + drain)
    first = front + (rows - 1) * max(front, lookup) + lookup + drain
    return first + (tokens - 1) * period


def tile_groups(groups: int, rows: int, slot_words: int, words_per_group: int, most: int) -> int:
    """Output groups of a tile when a matrix is cut into the fewest tiles of even size.

    Returns 0 if not even one group fits a slot.
    """
    fit = min(slot_words // (rows * words_per_group), most)
    if fit < 1:
        return 0
    tiles = (groups + fit - 1) // fit
    return (groups + tiles - 1) // tiles


def prefill_steps(tokens: int, lanes: int, is_reversed: bool) -> int:
    """Key steps of prefill attention over `tokens` tokens (section 3.3).

    Reversed: sum over b of (N - lanes b) for the ceil(N / lanes) batches of queries; forward:
    every batch visits all keys.
    """
    batches = (tokens + lanes - 1) // lanes
    if is_reversed:
        return batches * tokens - lanes * (batches * (batches - 1) // 2)
    return batches * tokens


def prefill_score_cycles(
    heads: int,
    head_vectors: int,
    kv_vectors: int,
    lanes: int,
    adders: int,
    vector_interval: float,
) -> int:
    """Cycles of the score loop of one key step (section 3.3).

    It takes one query vector of every lane per ceil(lanes x 16 / adders) cycles and cannot
    outrun the keys, which come at one vector per `vector_interval`.
    """
    interval = (lanes * FP16_LANES + adders - 1) // adders
    return max(heads * head_vectors * interval, ceil(kv_vectors * vector_interval))


def prefill_update_cycles(
    heads: int,
    head_vectors: int,
    kv_vectors: int,
    lanes: int,
    pv_units: int,
    vector_interval: float,
    softmax_cycles: float,
) -> int:
    """Cycles of the softmax and value loop of one key step (section 3.3).

    It takes `head_vectors` + `softmax_cycles` per lane and head, shared by `pv_units`, and
    cannot outrun the values.
    """
    turns = (lanes * heads + pv_units - 1) // pv_units
    return max(ceil(turns * (head_vectors + softmax_cycles)), ceil(kv_vectors * vector_interval))


def decode_key_cycles(
    query_vectors: int, kv_vectors: int, lanes: int, ports: int, vector_interval: float
) -> float:
    """Cycles per key, and again per value, of decode attention (section 3.3).

    The lanes take the vectors of all heads; the ports deliver the keys (then the values).
    """
    compute = (query_vectors * FP16_LANES + lanes - 1) // lanes
    return max(float(compute), kv_vectors * vector_interval / ports)


def norm_cycles(tokens: int, width: int) -> int:
    """Cycles of RMS-MAX over `tokens` rows of `width` values (section 3.4).

    Reading, scaling and writing form a pipeline over tokens, 16 values per cycle each.
    """
    vectors = (width + FP16_LANES - 1) // FP16_LANES
    return (tokens + 2) * vectors


def finish_time(
    previous: int,
    compute: int,
    load: int,
    loader_free: int,
    slot_free: int,
    slots: int,
    pause: int,
    resume: int,
) -> tuple[int, int]:
    """Advance the machine by one step of the layer schedule.

    Parameters
    ----------
    previous : int
        Cycle at which the step before ended.
    compute, load : int
        Cycles of the step itself and of the weights it needs (0: none).
    loader_free, slot_free : int
        Cycle from which the loader is idle, and from which the slot of this tile is empty.
    slots : int
        With one slot, loading and computing take turns as in the release.
    pause, resume : int
        Start and end of the latest attention. It streams keys and values through the ports of
        the weights, so a load stands still meanwhile.

    Returns
    -------
    finish, loader_free : int
        Cycle at which the step ends; from which the loader is idle again.
    """
    if load == 0:
        return previous + compute, loader_free
    if slots == 1:
        loaded = previous + load
    else:
        begin = max(loader_free, slot_free)
        loaded = begin + load
        if begin < resume and loaded > pause:
            loaded += resume - max(begin, pause)
    return max(previous, loaded) + compute, loaded
