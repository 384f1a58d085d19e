"""The layer schedule of TeLLMe as phases with budgets (section 3.1 and the released schedule)."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from headrace.arch.point import Point
from headrace.arch.tellme.engine import EngineSizes, engine_sizes, write_cycles
from headrace.sim.budget import Phase
from headrace.sim.tellme.formulas import FP16_LANES, finish_time
from headrace.sim.tellme.kernels import Kernels, Work
from headrace.sim.tellme.mapping import MemoryRates, Shape, Tile, tiles

__all__ = ["Stage", "stage_phases"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pass through the network: `tokens` new tokens after `context` cached ones."""

    name: str
    tokens: int
    context: int


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One call of the schedule: the work of a unit and the tile of weights it waits for."""

    name: str
    kernel: str
    operator: str
    layer: int | None
    work: Work
    bound: str
    macs: int = 0
    tile: Tile | None = None
    memory_bytes: int = 0


def stage_phases(
    stage: Stage, point: Point, shape: Shape, rates: MemoryRates, kernels: Kernels
) -> list[Phase]:
    """Return the phases of one pass in order; their cycles add up to its latency.

    Parameters
    ----------
    stage : Stage
        Prefill (``context = 0``) or decode (``tokens = 1``).
    point, shape, rates : Point, Shape, MemoryRates
        Machine, network and memory.
    kernels : Kernels
        Times of the units, closed form or simulated.

    Raises
    ------
    InputError
        A matrix does not fit the weight buffer.
    """
    sizes = engine_sizes(point)
    steps = list(_Schedule(stage, point, shape, kernels).steps())
    beats = [_beats(step.tile, sizes) if step.tile else 0 for step in steps]
    weight_bytes = [n * sizes.beat_bits // 8 for n in beats]
    loads = [
        kernels.load(step.tile.load_rows, step.tile.load_groups) if step.tile else 0
        for step in steps
    ]
    stolen = _stolen_cycles(steps, sizes)
    finish, loader_free = 0, 0
    slot_free = [0] * sizes.slots
    turn = 0
    pause, resume = 0, 0
    phases = []
    for step, size, load, steal in zip(steps, weight_bytes, loads, stolen, strict=True):
        work = step.work
        busy = work.cycles + steal
        start = finish
        finish, loader_free = finish_time(
            start,
            busy,
            load,
            loader_free,
            slot_free[turn % sizes.slots],
            sizes.slots,
            pause,
            resume,
        )
        if step.memory_bytes:
            pause, resume = start, finish
        if load:
            slot_free[turn % sizes.slots] = finish
            turn += 1
        waited = finish - start - busy
        phases.append(
            Phase(
                name=step.name,
                kernel=step.kernel,
                operator=step.operator,
                layer=step.layer,
                cycles=finish - start,
                fill=work.fill,
                steady=work.steady,
                drain=work.drain,
                memory=waited,
                stall=work.stall + steal,
                bound=rates.tier if waited > busy else step.bound,
                bytes={rates.tier: size + step.memory_bytes},
                macs=step.macs,
            )
        )
    return phases


def _beats(tile: Tile, sizes: EngineSizes) -> int:
    """Beats of the load of a tile."""
    return tile.load_rows * sizes.row_beats(tile.load_groups)


def _write_cycles(tile: Tile | None, sizes: EngineSizes) -> int:
    """Cycles in which the load of a tile writes the banks."""
    if tile is None:
        return 0
    per_beat = write_cycles(sizes)
    return _beats(tile, sizes) * sum(per_beat) // len(per_beat)


def _stolen_cycles(steps: list[_Step], sizes: EngineSizes) -> list[int]:
    """Cycles that each step loses to beats written while it looks up.

    With more than one slot the next tile is written while this one computes; a beat takes port A
    of the banks for its write cycles, and lookups that need both ports wait (docs/engine.md).
    """
    stolen = [0] * len(steps)
    if sizes.slots == 1 or sizes.words_per_group < 2:
        return stolen
    engine = [i for i, step in enumerate(steps) if step.tile is not None]
    for current, following in itertools.pairwise(engine):
        work = steps[current].work
        writes = _write_cycles(steps[following].tile, sizes)
        share = work.steady / work.cycles
        stolen[current] = int(min(writes, work.cycles) * share)
    return stolen


class _Schedule:
    """The calls of one pass, in order (section 3.1 and the released schedule)."""

    def __init__(self, stage: Stage, point: Point, shape: Shape, kernels: Kernels) -> None:
        self._stage, self._shape, self._kernels = stage, shape, kernels
        self._sizes = engine_sizes(point)
        layout = point.text("weight_layout")
        self._cuts = [
            (matrix, tiles(matrix, self._sizes, layout, shape.hidden)) for matrix in shape.linears
        ]

    def steps(self) -> Iterator[_Step]:
        """Yield every call of the pass."""
        hidden, intermediate = self._shape.hidden, self._shape.intermediate
        for layer in range(self._shape.layers):
            at = f"layers.{layer}."
            yield self._norm(layer, at + "input_norm", hidden)
            for index in range(3):
                yield from self._linear(layer, index)
            yield self._attention(layer)
            yield self._norm(layer, at + "attention_sub_norm", hidden)
            yield from self._linear(layer, 3)
            yield self._norm(layer, at + "post_attention_norm", hidden)
            yield from self._linear(layer, 4)
            yield from self._linear(layer, 5)
            yield self._norm(layer, at + "ffn_sub_norm", intermediate)
            yield from self._linear(layer, 6)
        yield self._norm(None, "final_norm", hidden)

    def _linear(self, layer: int, index: int) -> Iterator[_Step]:
        matrix, parts = self._cuts[index]
        operator = f"layers.{layer}.{matrix.name}"
        tokens, copies = self._stage.tokens, self._sizes.copies
        left = matrix.outputs
        for part, tile in enumerate(parts):
            outputs = min(tile.groups * copies, left)
            left -= outputs
            yield _Step(
                name=f"{operator}.{part}" if len(parts) > 1 else operator,
                kernel="ternary_matmul",
                operator=operator,
                layer=layer,
                work=self._kernels.linear(tile.rows, tile.groups, tokens),
                bound="lookup",
                macs=tokens * matrix.inputs * outputs,
                tile=tile,
            )

    def _norm(self, layer: int | None, operator: str, width: int) -> _Step:
        return _Step(
            name=operator,
            kernel="rms_norm",
            operator=operator,
            layer=layer,
            work=self._kernels.norm(self._stage.tokens, width),
            bound="vector unit",
        )

    def _attention(self, layer: int) -> _Step:
        tokens, context, shape = self._stage.tokens, self._stage.context, self._shape
        pairs = tokens * context + tokens * (tokens + 1) // 2
        is_prefill = context == 0
        work = (
            self._kernels.prefill_attention(tokens)
            if is_prefill
            else self._kernels.decode_attention(context + tokens)
        )
        return _Step(
            name=f"layers.{layer}.attention",
            kernel="prefill_attention" if is_prefill else "decode_attention",
            operator=f"layers.{layer}.attention",
            layer=layer,
            work=work,
            bound="attention",
            macs=2 * shape.heads * shape.head_vectors * FP16_LANES * pairs,
            memory_bytes=self._kernels.attention_bytes(tokens, context),
        )
