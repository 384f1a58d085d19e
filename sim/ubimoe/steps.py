"""What a block of UbiMoE does one after the other, and for how long."""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Step", "job_finish"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a block's critical path.

    Parameters
    ----------
    name : str
        Within the layer: the operator it serves.
    kernel : str
        The kernel's name everywhere in headrace.
    cycles : int
        Length.
    memory : int, cycles
        Of these, how many only memory makes progress.
    bound : str
        What sets the length: ``compute`` or ``ports``.
    bytes : int
        Moved through the ports.
    macs : int
    """

    name: str
    kernel: str
    cycles: int
    memory: int = 0
    bound: str = field(default="")
    bytes: int = 0
    macs: int = 0

    @classmethod
    def longer(
        cls, name: str, kernel: str, *, compute: int, memory: int, size: int = 0, macs: int = 0
    ) -> "Step":
        """Return a step in which computing and moving data go on side by side."""
        waits = max(0, memory - compute)
        return cls(
            name=name,
            kernel=kernel,
            cycles=compute + waits,
            memory=waits,
            bound="ports" if waits else "compute",
            bytes=size,
            macs=macs,
        )


def job_finish(
    jobs: Iterable[tuple[int, int]], *, slots: int, begin: int, loader: int
) -> tuple[int, int]:
    """Run loads and the computations that use them through the slots of a linear.

    Parameters
    ----------
    jobs : iterable of (load, compute), cycles
        In order.
    slots : int
        Weight sets that are held: with 2 one is loaded while the other computes.
    begin, loader : int, cycles
        From when the linear may compute, from when the loader may load.

    Returns
    -------
    finish, computing : int, cycles
        When the last computation ends, and how long there was one.
    """
    ends = [begin] * slots
    finish, computing = begin, 0
    for number, (load, compute) in enumerate(jobs):
        freed = ends[number % slots] if number >= slots else loader
        loader = max(loader, freed) + load
        finish = max(finish, loader) + compute
        ends[number % slots] = finish
        computing += compute
    return finish, computing
