"""A segment's tasks cut into kernels: each task, groups as GPU libraries fuse, or all that fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

from headrace.arch.sn40l.chip import ChipSizes
from headrace.errors import InputError
from headrace.sim.sn40l.buffers import Buffer, SectionBuffers
from headrace.sim.sn40l.workload import Pass, Segment, Task, segments_of

__all__ = ["LEVELS", "Kernel", "Program", "compile_pass", "cut_segment", "kernel_of"]

LEVELS = ("unfused", "operators", "partial", "full")
"""Each task a kernel; tasks that a framework calls as one operator; groups of 2 to 5 as GPU
libraries fuse; the cut of least HBM bytes."""

_LARGEST_GROUP = 5
_EPILOGUES = ("residual_add", "gelu", "silu", "relu2", "multiply", "rope", "quantise",
              "position_add")  # fmt: skip
_ACTIVATIONS = ("silu", "relu2")
_FLASH = ("mask", "softmax", "values")
_LEADERS = ("matmul", "ternary_matmul", "patch_embedding", "expert_matmul", "rms_norm",
            "layer_norm")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A section of the graph that is on the chip at once; its tasks are pipeline stages.

    Attributes
    ----------
    segment : str
    tasks : tuple of Task
    buffers : tuple of Buffer
        What its memory units hold.
    stored : frozenset of str
        Tensors that it writes for later kernels, KV cache aside.
    weight_bytes, kv_read_bytes, kv_write_bytes : int
        Bytes over HBM per call: weights, KV cache.
    activation_in_bytes, activation_out_bytes : int
        Intermediate results that come and go over HBM.
    """

    segment: str
    tasks: tuple[Task, ...] = field(repr=False)
    buffers: tuple[Buffer, ...] = field(repr=False)
    stored: frozenset[str] = field(repr=False)
    weight_bytes: int
    kv_read_bytes: int
    kv_write_bytes: int
    activation_in_bytes: int
    activation_out_bytes: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(task.name for task in self.tasks)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per call."""
        return sum(task.macs for task in self.tasks)

    @property
    def flop(self) -> int:
        """Operations per call, those of the SIMD pipeline included."""
        return sum(task.flop for task in self.tasks)

    @property
    def link_bytes(self) -> int:
        """Bytes that are summed over the sockets per call."""
        return sum(task.link_bytes for task in self.tasks)

    @property
    def hbm_bytes(self) -> int:
        """Bytes over HBM per call."""
        activations = self.activation_in_bytes + self.activation_out_bytes
        return self.weight_bytes + self.kv_read_bytes + self.kv_write_bytes + activations

    @property
    def intensity(self) -> float:
        """Operations per byte over HBM."""
        return self.flop / self.hbm_bytes


@dataclass(frozen=True)
class Program:
    """The kernels of a pass.

    Attributes
    ----------
    level : str
        One of `LEVELS`.
    parts : tuple of (Segment, tuple of Kernel)
        The segments in order, each with the kernels it was cut into; equal layers have equal ones.
    """

    level: str
    parts: tuple[tuple[Segment, tuple[Kernel, ...]], ...] = field(repr=False)

    @cached_property
    def calls(self) -> tuple[Kernel, ...]:
        """All kernels in the order of their calls."""
        return tuple(kernel for _, kernels in self.parts for kernel in kernels)

    def launches(self, *, looping: bool = False) -> int:
        """Return the kernel launches of the pass.

        With kernel looping consecutive calls of one kernel are one launch with an outer loop.
        """
        if not looping:
            return len(self.calls)
        return sum(a != b for a, b in zip(self.calls, (None, *self.calls), strict=False))

    @property
    def flop(self) -> int:
        """Operations of the pass on one socket."""
        return sum(kernel.flop for kernel in self.calls)

    @property
    def hbm_bytes(self) -> int:
        """Bytes over HBM of the pass on one socket."""
        return sum(kernel.hbm_bytes for kernel in self.calls)

    @property
    def link_bytes(self) -> int:
        """Bytes of the pass that are summed over the sockets."""
        return sum(kernel.link_bytes for kernel in self.calls)

    @property
    def intensity(self) -> float:
        """Operations per byte over HBM of the whole pass."""
        return self.flop / self.hbm_bytes


def compile_pass(work: Pass, chip: ChipSizes, level: str, *, tile_rows: int = 64) -> Program:
    """Compile a pass of a network for one socket.

    Parameters
    ----------
    work : Pass
    chip : ChipSizes
    level : str
        One of `LEVELS`.
    tile_rows : int
        Rows that a stage takes at once, 1 to 65536.

    Raises
    ------
    InputError
        The level is unknown, the tile is out of range, or a single task does not fit the units.
    """
    segments = segments_of(work)
    known = {s: cut_segment(s, chip, level, tile_rows=tile_rows) for s in dict.fromkeys(segments)}
    return Program(level, tuple((s, known[s]) for s in segments))


def cut_segment(
    segment: Segment, chip: ChipSizes, level: str, *, tile_rows: int = 64
) -> tuple[Kernel, ...]:
    """Cut one segment into kernels; parameters and errors as in `compile_pass`.

    ``full`` minimises the bytes over HBM, then the number of kernels, over all ways to cut the
    order of the tasks into runs that fit: by dynamic programming, so exactly.
    """
    if level not in LEVELS:
        raise InputError(f"fusion level {level!r} is not allowed: one of {', '.join(LEVELS)}")
    if type(tile_rows) is not int or not 1 <= tile_rows <= 1 << 16:
        raise InputError(f"tile_rows = {tile_rows!r} is not allowed: 1 to {1 << 16}")

    @cache
    def kernel(start: int, end: int) -> Kernel | None:
        return kernel_of(segment, chip, start, end, tile_rows=tile_rows)

    for i, task in enumerate(segment.tasks):
        if kernel(i, i + 1) is None:
            raise InputError(
                f"{task.name}: its buffers do not fit {chip.pmus} memory units of "
                f"{chip.pmu_bytes} bytes at tile_rows = {tile_rows}; fewer rows are needed"
            )
    cuts = {
        "unfused": _each,
        "operators": _operators,
        "partial": _library_groups,
        "full": _least_bytes,
    }[level]
    ends = cuts(segment.tasks, kernel)
    found = [kernel(a, b) for a, b in zip([0, *ends], ends, strict=False)]
    return tuple(k for k in found if k is not None)


_Kernels = Callable[[int, int], Kernel | None]


def _each(tasks: Sequence[Task], kernel: _Kernels) -> list[int]:
    del kernel
    return list(range(1, len(tasks) + 1))


def _operators(tasks: Sequence[Task], kernel: _Kernels) -> list[int]:
    """Join attention, a gate's activation and product, and a product with its all-reduce."""
    return _groups(tasks, kernel, _is_same_operator)


def _library_groups(tasks: Sequence[Task], kernel: _Kernels) -> list[int]:
    """End a group where the next task is no epilogue of it and no part of the same attention."""
    return _groups(tasks, kernel, _joins)


def _groups(
    tasks: Sequence[Task], kernel: _Kernels, joins: Callable[[Sequence[Task], Task], bool]
) -> list[int]:
    ends, start = [], 0
    for i in range(1, len(tasks)):
        if not joins(tasks[start:i], tasks[i]) or kernel(start, i + 1) is None:
            ends.append(i)
            start = i
    return [*ends, len(tasks)]


def _is_same_operator(group: Sequence[Task], task: Task) -> bool:
    """Return whether a framework's operator goes on with a task.

    Attention is one operator, unless a bias is added to its scores.
    """
    if group[-1].name not in task.inputs:
        return False
    if task.kind in _FLASH:
        return group[0].kind == "scores"
    return task.kind == "all_reduce" or (task.kind == "multiply" and group[0].kind in _ACTIVATIONS)


def _joins(group: Sequence[Task], task: Task) -> bool:
    """Return whether a library would put a task into the kernel of those before it."""
    if group[-1].name not in task.inputs or len(group) == _LARGEST_GROUP:
        return False
    if task.kind in (*_FLASH, "bias"):
        return group[0].kind == "scores"
    return task.kind in _EPILOGUES and group[0].kind in _LEADERS


def _least_bytes(tasks: Sequence[Task], kernel: _Kernels) -> list[int]:
    """Return the ends of the runs with the least bytes over HBM, then the fewest kernels."""
    best: list[tuple[int, int]] = [(0, 0)]
    before = [0]
    for end in range(1, len(tasks) + 1):
        runs = ((start, kernel(start, end)) for start in range(end))
        costs = [
            (best[start][0] + run.hbm_bytes, best[start][1] + 1, start)
            for start, run in runs
            if run is not None
        ]
        size, count, start = min(costs)
        best.append((size, count))
        before.append(start)
    ends, end = [], len(tasks)
    while end:
        ends.append(end)
        end = before[end]
    return ends[::-1]


def kernel_of(
    segment: Segment, chip: ChipSizes, start: int, end: int, *, tile_rows: int = 64
) -> Kernel | None:
    """Return tasks ``start`` to ``end - 1`` of a segment as one kernel; None if they do not fit.

    Each task needs at least one compute unit; buffers take whole memory units.
    """
    if end - start > chip.pcus:
        return None
    buffers = SectionBuffers(segment, start, end, tile_rows).fit(chip)
    if buffers is None:
        return None
    tasks = segment.tasks[start:end]
    later = {name for task in segment.tasks[end:] for name in (*task.inputs, task.whole)}
    later.update(segment.outputs)
    kept = [task for task in tasks if task.kept]
    stored = [task for task in tasks if task.name in later and not task.kept]
    read = {
        source: sum(b.hbm_bytes for b in buffers if b.source == source)
        for source in ("weights", "cache", "rows")
    }
    return Kernel(
        segment=segment.name,
        tasks=tasks,
        buffers=buffers,
        stored=frozenset(task.name for task in stored),
        weight_bytes=read["weights"],
        kv_read_bytes=read["cache"],
        kv_write_bytes=segment.rows * sum(task.row_bytes for task in kept),
        activation_in_bytes=read["rows"],
        activation_out_bytes=segment.rows * sum(task.row_bytes for task in stored),
    )
