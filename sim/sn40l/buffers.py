"""What the memory units hold for a section: stage buffers, and operands held or streamed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from headrace.arch.sn40l.chip import ChipSizes
from headrace.sim.sn40l.workload import Segment, Task

__all__ = ["Buffer", "SectionBuffers", "Tiling", "most_saved"]


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """One buffer in memory units of its own.

    Attributes
    ----------
    name : str
        Of its tensor, or of the task whose weights it holds.
    kind : str
        ``stage`` (tiles between pipeline stages), ``held`` (a whole operand stays on the chip)
        or ``streamed`` (an operand comes from HBM for every tile).
    source : str
        What comes from HBM: ``rows`` of a tensor, ``weights``, the KV ``cache``; empty if nothing.
    bytes, hbm_bytes, port_bytes : int
        Its size; bytes read from HBM per call; bytes over its busier port per call.
    """

    name: str
    kind: str
    source: str
    bytes: int
    hbm_bytes: int
    port_bytes: int

    def pmus(self, chip: ChipSizes) -> int:
        """Return the memory units that its size takes, at least one."""
        return max(1, -(-self.bytes // chip.pmu_bytes))


@dataclass(frozen=True)
class Tiling:
    """How the rows of a segment pass through the stages: `tile_rows` at a time.

    A tile holds rows of one sequence, or several sequences whole.

    Parameters
    ----------
    tokens, batch, tile_rows : int
    """

    tokens: int
    batch: int
    tile_rows: int

    @property
    def sequence_tiles(self) -> int:
        """Tiles that one sequence is spread over."""
        return -(-self.tokens // self.tile_rows)

    @property
    def _packed(self) -> int:
        return min(self.batch, max(1, self.tile_rows // self.tokens))

    @property
    def tiles(self) -> int:
        """Tiles of all sequences."""
        return -(-self.batch // self._packed) * self.sequence_tiles

    @property
    def height(self) -> int:
        """Rows of a full tile."""
        return min(self.tile_rows, self.tokens * self._packed)


@dataclass(frozen=True)
class _Operand:
    """An operand either held, or streamed for every tile."""

    held: Buffer
    streamed: Buffer | None

    def saving(self) -> int:
        """Return the bytes from HBM that holding it saves."""
        assert self.streamed is not None
        return self.streamed.hbm_bytes - self.held.hbm_bytes


@dataclass(frozen=True)
class SectionBuffers:
    """The buffers that tasks ``start`` to ``end - 1`` of a segment need as one pipeline."""

    segment: Segment
    start: int
    end: int
    tile_rows: int

    @property
    def _tasks(self) -> Sequence[Task]:
        return self.segment.tasks[self.start : self.end]

    @cached_property
    def _tiling(self) -> Tiling:
        return Tiling(self.segment.tokens, self.segment.batch, self.tile_rows)

    @cached_property
    def slots(self) -> dict[str, int]:
        """How many tiles after the first stage each task works on the same tile.

        A stage is one tile behind its latest input. Attention without a mask needs all keys and
        values of the sequence first, so it is a whole sequence behind them.
        """
        slots: dict[str, int] = {}
        for task in self._tasks:
            before = [slots[name] + 1 for name in task.inputs if name in slots]
            if task.whole in slots:
                delay = 1 if task.causal else self._tiling.sequence_tiles
                before.append(slots[task.whole] + delay)
            slots[task.name] = max(before, default=0)
        return slots

    def fit(self, chip: ChipSizes) -> tuple[Buffer, ...] | None:
        """Return the buffers with as few bytes from HBM as the memory units allow.

        Stage buffers and two memory units per streamed operand are needed; operands are held
        where that saves most, exactly. None if even the least does not fit.
        """
        stages = list(self._stage_buffers())
        operands = list(self._operands(chip))
        room = chip.pmus - sum(buffer.pmus(chip) for buffer in stages)
        extra, saved = [], []
        for operand in operands:
            least = operand.streamed or operand.held
            room -= least.pmus(chip)
            extra.append(operand.held.pmus(chip) - least.pmus(chip))
            saved.append(0 if operand.streamed is None else operand.saving())
        if room < 0:
            return None
        chosen = most_saved(extra, saved, room)
        held = (op.held if i in chosen or op.streamed is None else op.streamed
                for i, op in enumerate(operands))  # fmt: skip
        return (*stages, *held)

    def _stage_buffers(self) -> Iterator[Buffer]:
        """Yield a buffer for each tensor: deep enough from its maker to its last reader."""
        rows, made = self.segment.rows, {task.name: task.row_bytes for task in self._tasks}
        outside = dict(self.segment.inputs)
        outside |= {task.name: task.row_bytes for task in self.segment.tasks[: self.start]}
        read: dict[str, list[int]] = {}
        for task in self._tasks:
            own = (task.whole,) if task.whole in made and task.causal else ()
            for name in dict.fromkeys((*task.inputs, *own)):
                read.setdefault(name, []).append(self.slots[task.name])
        for name in dict.fromkeys((*read, *made)):
            slots = read.get(name, [])
            row = made[name] if name in made else outside[name]
            first = self.slots[name] if name in made else min(slots) - 1
            depth = max(2, max(slots, default=first) - first + 1)
            depth = min(depth, max(2, self._tiling.tiles))
            yield Buffer(
                name=name,
                kind="stage",
                source="" if name in made else "rows",
                bytes=depth * self._tiling.height * row,
                hbm_bytes=0 if name in made else rows * row,
                port_bytes=rows * row * max(1, len(slots)),
            )

    def _operands(self, chip: ChipSizes) -> Iterator[_Operand]:
        made = {task.name for task in self._tasks}
        for task in self._tasks:
            if task.weight_bytes:
                yield self._weights(task, chip)
            if task.whole:
                yield self._whole(task, task.whole in made, chip)

    def _weights(self, task: Task, chip: ChipSizes) -> _Operand:
        size = task.weight_bytes
        every_tile = size if task.gathers else size * self._tiling.tiles
        facts = {"name": task.name, "source": "weights", "port_bytes": every_tile}
        held = Buffer(kind="held", bytes=size, hbm_bytes=size, **facts)  # type: ignore[arg-type]
        return _Operand(held, _streamed(held, every_tile, chip))

    def _whole(self, task: Task, is_made: bool, chip: ChipSizes) -> _Operand:
        """Return keys or values as an operand.

        A tile's own rows come straight from the stage that makes them, if it is in the section.
        Rows of a mask-free sequence in several tiles exist nowhere else, so they must be held.
        """
        tiling, row = self._tiling, task.whole_row_bytes
        tokens, batch, cached = self.segment.tokens, self.segment.batch, task.whole_cached
        seen = _rows_read(task, tokens, self.tile_rows)
        sequences = 1 if tiling.tiles == tiling.sequence_tiles else 2
        held = Buffer(
            name=task.whole,
            kind="held",
            source="cache" if task.causal else "rows",
            bytes=sequences * (cached + tokens) * row,
            hbm_bytes=batch * (cached + (0 if is_made else tokens)) * row,
            port_bytes=batch * row * seen,
        )
        if is_made and not task.causal and tiling.sequence_tiles > 1:
            return _Operand(held, None)
        read = seen - (tokens if is_made else 0)
        return _Operand(held, _streamed(held, batch * row * read, chip))


def _streamed(held: Buffer, hbm_bytes: int, chip: ChipSizes) -> Buffer:
    """Return the double buffer that an operand takes if it comes for every tile."""
    return Buffer(
        name=held.name,
        kind="streamed",
        source=held.source,
        bytes=min(held.bytes, 2 * chip.pmu_bytes),
        hbm_bytes=hbm_bytes,
        port_bytes=held.port_bytes,
    )


@cache
def _rows_read(task: Task, tokens: int, tile_rows: int) -> int:
    """Return the rows of keys or values that all tiles of a sequence read."""
    total = 0
    for start in range(0, tokens, tile_rows):
        end = min(start + tile_rows, tokens)
        rows = task.whole_cached + end if task.causal else tokens
        total += min(rows, end - start + task.window - 1) if task.window else rows
    return total


def most_saved(sizes: Sequence[int], savings: Sequence[int], room: int) -> frozenset[int]:
    """Choose the items that save most within `room`: a knapsack, solved exactly.

    Parameters
    ----------
    sizes, savings : sequence of int
        Room that each item takes, from 0; what it saves, from 0.
    room : int

    Returns
    -------
    frozenset of int
        Indices; of equal savings the choice that takes less room.
    """
    fronts: list[tuple[int, int, frozenset[int]]] = [(0, 0, frozenset())]
    for item, (size, saving) in enumerate(zip(sizes, savings, strict=True)):
        if not saving:
            continue
        taken = [(s + size, v + saving, c | {item}) for s, v, c in fronts if s + size <= room]
        best, kept = -1, []
        for choice in sorted([*fronts, *taken], key=lambda c: (c[0], -c[1])):
            if choice[1] > best:
                best = choice[1]
                kept.append(choice)
        fronts = kept
    return fronts[-1][2]
