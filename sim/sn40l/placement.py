"""Compute units per stage and memory units per buffer, so that the slowest is as fast as can be."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from headrace.arch.sn40l.chip import ChipSizes
from headrace.errors import InputError
from headrace.sim.sn40l.sections import Kernel

__all__ = ["Placement", "place", "spread_units"]

_MOST_UNITS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a kernel's stages and buffers are, as numbers of units.

    Attributes
    ----------
    pcus : tuple of int
        Compute units of each task, in order.
    pmus : tuple of int
        Memory units of each buffer, in order.
    compute_cycles, buffer_cycles : Fraction
        Cycles per call of the slowest stage, and of the buffer with the busiest ports.
    chip : ChipSizes
    work_cycles : int
        Cycles per call that one compute unit would take for all tasks.
    """

    pcus: tuple[int, ...]
    pmus: tuple[int, ...]
    compute_cycles: Fraction
    buffer_cycles: Fraction
    chip: ChipSizes = field(repr=False)
    work_cycles: int

    @property
    def pcu_share(self) -> float:
        """Share of the chip's compute units in use."""
        return sum(self.pcus) / self.chip.pcus

    @property
    def pmu_share(self) -> float:
        """Share of the chip's memory units in use."""
        return sum(self.pmus) / self.chip.pmus

    @property
    def balance(self) -> float:
        """Share of the time that the compute units in use work, if nothing else holds them up."""
        if not self.compute_cycles:
            return 1.0
        return float(self.work_cycles / (sum(self.pcus) * self.compute_cycles))

    @property
    def cycles(self) -> Fraction:
        """Cycles per call that the units take in steady state, HBM and launch aside."""
        return max(self.compute_cycles, self.buffer_cycles)


def spread_units(
    work: Sequence[int], available: int, least: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Spread units over stages so that the greatest work per unit is as small as possible.

    Every unit goes to the stage that is slowest at that time. That is exact: no better spread
    could leave that stage with fewer. It starts from the units that a slower spread needs already;
    what is given out beyond the least that the optimum needs is taken back.

    Parameters
    ----------
    work : sequence of int
        Work of each stage, from 0.
    available : int
        Units there are, 1 to 65536.
    least : sequence of int, optional
        Units each stage needs at least, from 1; by default 1.

    Returns
    -------
    tuple of int
        Units of each stage.

    Raises
    ------
    InputError
        There are fewer units than the stages need, or a number is out of range.
    """
    least = [1] * len(work) if least is None else list(least)
    if type(available) is not int or not 1 <= available <= _MOST_UNITS:
        raise InputError(f"units = {available!r} is not allowed: 1 to {_MOST_UNITS}")
    if any(type(x) is not int or x < 0 for x in work):
        raise InputError("work of a stage: integers from 0 are needed")
    if len(least) != len(work) or any(type(x) is not int or x < 1 for x in least):
        raise InputError(f"least units: an integer from 1 for each of {len(work)} stages is needed")
    if sum(least) > available:
        raise InputError(f"{len(work)} stages need {sum(least)} units; there are {available}")
    if not any(work):
        return tuple(least)
    # so many times total / spare is enough for all: rounding up costs one unit per stage
    spare = max(0, available - sum(least) - len(work))
    units = [max(low, -(-w * spare // sum(work))) for w, low in zip(work, least, strict=True)]
    queue = [(-Fraction(w, u), i) for i, (w, u) in enumerate(zip(work, units, strict=True))]
    heapq.heapify(queue)
    for _ in range(available - sum(units)):
        i = queue[0][1]
        units[i] += 1
        heapq.heapreplace(queue, (-Fraction(work[i], units[i]), i))
    slowest = -queue[0][0]
    return tuple(max(low, -(-w // slowest)) for w, low in zip(work, least, strict=True))


def place(kernel: Kernel, chip: ChipSizes) -> Placement:
    """Place a kernel: compute units by work, memory units by capacity and then by bandwidth.

    Raises
    ------
    InputError
        The kernel was cut for a larger chip.
    """
    work = [chip.pcu_cycles(task.macs, task.values, task.steps) for task in kernel.tasks]
    pcus = spread_units(work, chip.pcus)
    traffic = [buffer.port_bytes for buffer in kernel.buffers]
    pmus = spread_units(traffic, chip.pmus, [buffer.pmus(chip) for buffer in kernel.buffers])
    busiest = max((Fraction(t, u) for t, u in zip(traffic, pmus, strict=True)), default=Fraction(0))
    return Placement(
        pcus=pcus,
        pmus=pmus,
        compute_cycles=max(Fraction(w, u) for w, u in zip(work, pcus, strict=True)),
        buffer_cycles=busiest / chip.port_bytes,
        chip=chip,
        work_cycles=sum(work),
    )
