"""Random tiles for the ternary matmul engine, with the reference's accumulators."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tellme.engine import EngineSizes
from headrace.arch.tellme.job import Compute, EngineJob, Load
from headrace.arch.tellme.packing import pack_weights
from headrace.models.kernels.ternary_matmul import ternary_matmul

__all__ = ["Case", "draw_cases", "job"]

_TILES = 3
_MAX_ACTIVATION = 127  # the quantiser saturates here


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One tile of weights and the vectors that are multiplied by it.

    Parameters
    ----------
    rows, groups : int
        Row blocks and output groups of the tile.
    beats : uint8 array
        Its weight image.
    inputs : int8 array, shape (tokens, rows x block_inputs)
        Vectors, padded with zeros.
    expected : int64 array, shape (tokens, groups x copies)
        What the reference says, wrapped to the accumulators; 0 where there is no output.
    """

    rows: int
    groups: int
    beats: NDArray[np.uint8]
    inputs: NDArray[np.int8]
    expected: NDArray[np.int64]


def draw_cases(
    sizes: EngineSizes, vectors: int, largest: int, generator: np.random.Generator
) -> list[Case]:
    """Draw tiles of random shape, odd ones included, and spread `vectors` over them.

    Parameters
    ----------
    sizes : EngineSizes
    vectors : int
        Input vectors of all tiles together; at least 1.
    largest : int
        Most row blocks, and most output groups, of a tile.
    generator : numpy.random.Generator

    Returns
    -------
    list of Case
        At most three; the first vector of each reaches the largest sum of one output.
    """
    counts = [len(part) for part in np.array_split(np.arange(vectors), _TILES) if len(part)]
    return [_draw(sizes, count, largest, generator) for count in counts]


def _draw(sizes: EngineSizes, tokens: int, largest: int, generator: np.random.Generator) -> Case:
    room = sizes.slot_words // sizes.words_per_group
    groups = int(generator.integers(1, min(largest, sizes.max_groups, room) + 1))
    rows = int(generator.integers(1, min(largest, room // groups) + 1))
    padded = (rows * sizes.block_inputs, groups * sizes.copies)
    inputs = int(generator.integers(padded[0] - sizes.block_inputs + 1, padded[0] + 1))
    outputs = int(generator.integers(padded[1] - sizes.copies + 1, padded[1] + 1))
    weights = generator.integers(-1, 2, (outputs, inputs)).astype(np.int8)
    x = generator.integers(-_MAX_ACTIVATION, _MAX_ACTIVATION + 1, (tokens, inputs)).astype(np.int8)
    x[0] = _MAX_ACTIVATION * weights[0]
    sums = ternary_matmul(x, weights, sizes.method, sizes.group_size, sizes.block_inputs)
    half = 1 << (sizes.accumulator_bits - 1)
    expected = np.zeros((tokens, padded[1]), np.int64)
    expected[:, :outputs] = (sums.astype(np.int64) + half) % (2 * half) - half
    filled = np.zeros((tokens, padded[0]), np.int8)
    filled[:, :inputs] = x
    return Case(
        rows=rows,
        groups=groups,
        beats=pack_weights(weights, sizes),
        inputs=filled,
        expected=expected,
    )


def job(
    sizes: EngineSizes,
    cases: list[Case],
    generator: np.random.Generator | None = None,
    span_cycles: int = 1,
) -> EngineJob:
    """Return the commands of `cases`; with a generator, with streams that stall at random.

    Parameters
    ----------
    sizes : EngineSizes
    cases : list of Case
    generator : numpy.random.Generator, optional
        Without one every stream is always ready.
    span_cycles : int
        The items of a stalling stream arrive, and its results are asked for, at random times
        from 0 to this: longer than the engine needs, so that it waits, but in bursts.
    """
    computes = [
        Compute(rows=c.rows, groups=c.groups, stride=c.groups, tokens=len(c.inputs)) for c in cases
    ]
    loads = [Load(rows=c.rows, groups=c.groups) for c in cases]
    if generator is None:
        return EngineJob(loads, computes)
    beats = sum(len(c.beats) for c in cases)
    transfers = sum(c.rows * len(c.inputs) for c in cases) * sizes.read_cycles
    results = sum(c.groups * len(c.inputs) for c in cases)
    beats_at, transfers_at, results_at = (
        np.sort(generator.integers(0, span_cycles, count)) for count in (beats, transfers, results)
    )
    return EngineJob(
        loads,
        computes,
        weight_arrivals=beats_at,
        activation_arrivals=transfers_at,
        result_arrivals=results_at,
    )
