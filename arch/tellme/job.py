"""What the ternary matmul engine is asked to do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tellme.engine import EngineSizes
from headrace.errors import InputError

__all__ = ["Compute", "EngineJob", "Load", "check_job"]

_MOST = 2**16 - 1  # commands carry 16-bit numbers


@dataclass(frozen=True)
class Load:
    """Fill the next free slot with `rows` row blocks x `groups` output groups."""

    rows: int
    groups: int


@dataclass(frozen=True)
class Compute:
    """Run `tokens` tokens on the oldest loaded slot; a row is `stride` groups after the last."""

    rows: int
    groups: int
    stride: int
    tokens: int


@dataclass(frozen=True)
class EngineJob:
    """Commands of the engine, and when its streams let it work.

    Commands are offered from cycle 0 on, each as soon as the one before is accepted.

    Parameters
    ----------
    loads : sequence of Load
    computes : sequence of Compute
        One for each load.
    weight_arrivals, activation_arrivals, result_arrivals : int array, cycles, optional
        Earliest cycle in which each beat, each transfer of activations is offered, and in which
        each result is asked for; by default 0.
    """

    loads: Sequence[Load]
    computes: Sequence[Compute]
    weight_arrivals: NDArray[np.int64] | None = None
    activation_arrivals: NDArray[np.int64] | None = None
    result_arrivals: NDArray[np.int64] | None = None

    @property
    def vectors(self) -> int:
        """Input vectors, tokens, that the job has."""
        return sum(c.tokens for c in self.computes)

    @property
    def results(self) -> int:
        """Results, output groups of all tokens, that the job has."""
        return sum(c.groups * c.tokens for c in self.computes)


def check_job(job: EngineJob, sizes: EngineSizes) -> None:
    """Check that an engine can do a job.

    The engine itself checks nothing: whoever writes commands to it answers for these rules.

    Raises
    ------
    InputError
        There is not one computation for each load, a number is not 1 to 65535, a tile is larger
        than a slot, a computation leaves its tile, or has more output groups than the
        accumulators.
    """
    if not job.loads or len(job.loads) != len(job.computes):
        raise InputError(
            f"engine job: {len(job.loads)} loads and {len(job.computes)} computations; one"
            " computation for each load, and at least one, is needed"
        )
    for command in (*job.loads, *job.computes):
        for name, value in vars(command).items():
            if not 1 <= value <= _MOST:
                raise InputError(f"engine job: {name} = {value} of {command}: 1 to {_MOST}")
    for load, compute in zip(job.loads, job.computes, strict=True):
        words = load.rows * load.groups * sizes.words_per_group
        if words > sizes.slot_words:
            raise InputError(f"engine job: {load} has {words} words, a slot {sizes.slot_words}")
        last = (compute.rows - 1) * compute.stride + compute.groups
        if last > load.rows * load.groups:
            raise InputError(
                f"engine job: {compute} reads output group {last} of a tile of"
                f" {load.rows * load.groups}"
            )
        if compute.groups > sizes.max_groups:
            raise InputError(
                f"engine job: {compute.groups} output groups; the accumulators hold"
                f" {sizes.max_groups}"
            )
