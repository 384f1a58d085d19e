"""The layer schedule of TeLLMe, compiled: cycles of one pass of one point.

The formulas are those of `headrace.sim.tellme.formulas`, compiled as they stand (the cut into
tiles, which is all divisions, is restated). The schedule is
that of `headrace.sim.tellme.phases`, but what repeats is multiplied: equal tiles and equal layers
are stepped only until the state of loader and slots comes back relative to the clock, after which
every further one takes exactly as long. So the result is exact, not an extrapolation.
"""

from typing import Any

from numba import njit

from headrace.search.compiled import compiled
from headrace.search.tellme.sizes import Engine, over, up
from headrace.sim.tellme import formulas

__all__ = ["FIELDS", "MATRICES", "OUTPUT", "cut", "pass_cycles"]

MATRICES = 7
"""Matrices of a layer: q, k, v, o, up, gate, down."""

OUTPUT = 3
"""The one after attention, o."""

FIELDS = 18
"""Room for a cut matrix. After tiles and bytes each field is a pair: whole tile, last tile."""

_TILES, _BYTES = 0, 1
_LOAD, _WRITES, _LOOKUPS, _COMPUTE = 2, 4, 6, 8  # compute: prefill pair, decode pair
# Scratch of a pass: cycles of a whole tile before another one, before the last one; of the last.
_INNER, _BEFORE_LAST, _LAST, _STOLEN = 12, 13, 14, 15

_load_cycles = compiled(formulas.load_cycles)
_engine_cycles = compiled(formulas.engine_cycles)
_finish_time = compiled(formulas.finish_time)


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def cut(
    engine: Engine,
    rows: int,
    groups: int,
    region_rows: int,
    region_groups: int,
    exact: bool,
    tokens: int,
    bytes_per_cycle: float,
    latency: int,
    cuts: Any,
    at: int,
) -> tuple[int, int]:
    """Cut a matrix into tiles and fill a row of `cuts` with their times.

    Parameters
    ----------
    engine : Engine
    rows, groups : int
        Row blocks and output groups of the matrix.
    region_rows, region_groups : int
        The same of a region of the published layout.
    exact : bool
        Layout of the weight buffer.
    tokens : int
        Tokens of a prefill.
    bytes_per_cycle, latency : float, int
        Weight streaming.
    cuts : int64 array, shape (MATRICES, FIELDS)
    at : int
        Row of `cuts` to fill.

    Returns
    -------
    words, groups : int
        Words per bank and output groups that one slot has to hold at least.
    """
    tiles, whole, last = 1, groups, groups
    load_rows, load_last = rows, groups
    words, least = rows * engine.words_per_group, 1
    if not exact:
        across, down = up(groups, region_groups), up(rows, region_rows)
        load_rows, load_last = across * down * region_rows, region_groups
        words, least = load_rows * region_groups * engine.words_per_group, groups
    elif words * groups > engine.slot_words or groups > engine.max_groups:
        fit = min(over(engine.slot_words, words), engine.max_groups)  # as `formulas.tile_groups`
        if fit < 1:
            return words, least
        whole = up(groups, up(groups, fit))
        tiles = up(groups, whole)
        load_last = last = groups - (tiles - 1) * whole
    cuts[at, _TILES] = tiles
    cuts[at, _BYTES] = 0
    buffers, front = engine.table_buffers, engine.front_cycles
    for which in range(0 if tiles > 1 else 1, 2):
        compute_groups, load_groups = (last, load_last) if which else (whole, whole)
        patterns = load_rows * load_groups  # of beats written alike
        beats = patterns * engine.beats_per_group
        if not engine.beats_per_group:
            patterns = load_rows * up(load_groups * engine.copies, engine.vectors_per_beat)
            beats = patterns
        size = beats * engine.beat_bits >> 3
        lookup = compute_groups * engine.lookup_cycles
        drain = engine.drain_cycles + compute_groups
        cuts[at, _BYTES] += size if which else size * (tiles - 1)
        unpack = patterns * engine.unpack + 2
        cuts[at, _LOAD + which] = _load_cycles(size, bytes_per_cycle, latency, unpack)
        cuts[at, _WRITES + which] = patterns * engine.writes
        cuts[at, _LOOKUPS + which] = rows * lookup
        for stage in range(2):
            cuts[at, _COMPUTE + 2 * stage + which] = _engine_cycles(
                rows, front, lookup, drain, 1 if stage else tokens, buffers
            )
    if tiles == 1:
        cuts[at, _LOAD], cuts[at, _WRITES] = cuts[at, _LOAD + 1], cuts[at, _WRITES + 1]
    return words, least


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def pass_cycles(
    cuts: Any,
    order: Any,
    before: Any,
    layers: int,
    tokens: int,
    stage: int,
    slots: int,
    steals: bool,
    attention: int,
) -> tuple[int, int]:
    """Return the cycles of a pass, and of these the ones in which a unit computes.

    Parameters
    ----------
    cuts : int64 array, shape (MATRICES, FIELDS)
        Different matrices as `cut` left them, then room for scratch.
    order : int64 array, shape (MATRICES,)
        Row of `cuts` of each matrix.
    before : int64 array, shape (MATRICES + 1,), cycles
        Norms and attention before each matrix and after the last layer.
    layers, tokens : int
    stage : int
        0 for prefill, 1 for decode.
    slots : int
    steals : bool
        Whether writes of the next tile hold up lookups.
    attention : int, cycles
        Part of what comes before `OUTPUT` in which loads stand still; it comes first.
    """
    work = _COMPUTE + 2 * stage
    final = before[MATRICES]
    busy, loads = 0, 0
    for m in range(MATRICES):
        c = order[m]
        more = cuts[c, _TILES] - 1
        busy += before[m] + cuts[c, work + 1]
        loads += cuts[c, _LOAD + 1]
        if more:
            busy += more * cuts[c, work]
            loads += more * cuts[c, _LOAD]
    if slots == 1:
        return layers * (busy + loads) + final, layers * busy + final
    last_stolen = 0
    if steals:
        stolen, last_stolen = _steal(cuts, order, tokens, work)
        busy += stolen
    else:
        for m in range(MATRICES):
            c = order[m]
            cuts[m, _INNER] = cuts[m, _BEFORE_LAST] = cuts[c, work]
            cuts[m, _LAST] = cuts[c, work + 1]
    # The very last tile has no follower that could hold it up.
    compute = layers * busy - last_stolen + final
    if _hidden(cuts, order):
        first = cuts[order[0], _LOAD]
        return compute + max(0, first - before[0]), compute
    return _stepped(cuts, order, before, layers, slots, attention) - last_stolen + final, compute


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _steal(cuts: Any, order: Any, tokens: int, work: int) -> tuple[int, int]:
    """Fill the scratch with tile times that include what the writes of the next tile take.

    This is `_stolen_cycles` of the simulator. Returns the cycles lost in a layer, and those of
    its last tile.
    """
    total, stolen = 0, 0
    inner, before_last = 0, 0
    share = 0.0
    for m in range(MATRICES):
        c = order[m]
        follower = order[m + 1 if m + 1 < MATRICES else 0]
        again = m > 0 and order[m - 1] == c
        if not again:
            share = tokens * cuts[c, _LOOKUPS + 1] / cuts[c, work + 1]
        stolen = int(min(cuts[follower, _WRITES], cuts[c, work + 1]) * share)
        cuts[m, _LAST] = cuts[c, work + 1] + stolen
        total += stolen
        if cuts[c, _TILES] > 1:
            if not again:
                whole = tokens * cuts[c, _LOOKUPS] / cuts[c, work]
                inner = int(min(cuts[c, _WRITES], cuts[c, work]) * whole)
                before_last = int(min(cuts[c, _WRITES + 1], cuts[c, work]) * whole)
            cuts[m, _INNER] = cuts[c, work] + inner
            cuts[m, _BEFORE_LAST] = cuts[c, work] + before_last
            total += before_last + (cuts[c, _TILES] - 2) * inner
    return total, stolen


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _hidden(cuts: Any, order: Any) -> bool:
    """Whether every load but the first fits into the tile before it.

    Then, by induction, each tile is loaded before the one ahead of it ends, and nothing waits:
    its load begins before that one starts, and stands still only until then.
    """
    for m in range(MATRICES):
        c = order[m]
        after = m + 1 if m + 1 < MATRICES else 0
        if cuts[order[after], _LOAD] > cuts[m, _LAST]:
            return False
        if cuts[c, _TILES] > 1 and (
            cuts[c, _LOAD + 1] > cuts[m, _BEFORE_LAST]
            or (cuts[c, _TILES] > 2 and cuts[c, _LOAD] > cuts[m, _INNER])
        ):
            return False
    return True


@njit(inline="always", error_model="numpy")  # type: ignore[untyped-decorator]
def _stepped(cuts: Any, order: Any, before: Any, layers: int, slots: int, attention: int) -> int:
    """Step through the schedule; return when the last tile ends."""
    finish, loader = 0, 0
    h1, h2, h3, h4 = 0, 0, 0, 0  # ends of the latest tiles, the newest first
    pause, resume = 0, 0
    layer = 0
    while layer < layers:
        base = finish
        p0, p1, p2, p3, p4 = finish - loader, finish - h1, finish - h2, finish - h3, finish - h4
        for m in range(MATRICES):
            c = order[m]
            if m == OUTPUT:
                pause, resume = finish, finish + attention
            finish += before[m]
            t = 2 - cuts[c, _TILES]
            while t < 2:
                if t == 1:
                    cycles, load = cuts[m, _LAST], cuts[c, _LOAD + 1]
                elif t == 0:
                    cycles, load = cuts[m, _BEFORE_LAST], cuts[c, _LOAD]
                else:
                    cycles, load = cuts[m, _INNER], cuts[c, _LOAD]
                gap = finish - loader
                o1, o2, o3, o4 = finish - h1, finish - h2, finish - h3, finish - h4
                start = finish
                slot = h2 if slots == 2 else (h3 if slots == 3 else h4)
                finish, loader = _finish_time(
                    finish, cycles, load, loader, slot, slots, pause, resume
                )
                h4, h3, h2, h1 = h3, h2, h1, finish
                t += 1
                if t < 0 and (
                    gap == finish - loader
                    and o1 == 0
                    and o2 == finish - h2
                    and (slots < 3 or o3 == finish - h3)
                    and (slots < 4 or o4 == finish - h4)
                ):
                    step = (finish - start) * -t
                    finish, loader = finish + step, loader + step
                    h1, h2, h3, h4 = h1 + step, h2 + step, h3 + step, h4 + step
                    t = 0
        layer += 1
        if (
            p0 == finish - loader
            and p1 == finish - h1
            and p2 == finish - h2
            and (slots < 3 or p3 == finish - h3)
            and (slots < 4 or p4 == finish - h4)
        ):
            finish += (layers - layer) * (finish - base)
            layer = layers
    return finish
