"""Draw small engines and work for them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tellme.axes import index_bits
from headrace.arch.tellme.engine import NORM_BITS, EngineSizes
from headrace.arch.tellme.job import Compute, EngineJob, Load, check_job
from headrace.arch.tellme.packing import pack_weights
from headrace.rtl.tellme.bench import activation_transfers

__all__ = ["EngineVectors", "Reference", "random_sizes", "random_vectors"]

Reference = Callable[[NDArray[np.int8], NDArray[np.int8]], NDArray[np.int64]]
"""From inputs [tokens, K] and ternary weights [N, K] to integer products [tokens, N]."""

_MOST_ROWS = 4
_MOST_TOKENS = 8
_MOST_TABLES = 5
_MOST_GROUPS = 6


@dataclass(frozen=True, eq=False)
class EngineVectors:
    """A job with its data and what must come out.

    Attributes
    ----------
    job : EngineJob
    beats : uint8 array, shape (beats, beat_bits / 8)
    activations : int8 array, shape (transfers, activation_lanes)
    results : int64 array, shape (results, Q)
    """

    job: EngineJob
    beats: NDArray[np.uint8]
    activations: NDArray[np.int8]
    results: NDArray[np.int64]


def random_sizes(
    generator: np.random.Generator, least_group_size: int = 1, most_group_size: int = 4
) -> EngineSizes:
    """Draw the sizes of a small engine, odd ones included.

    Parameters
    ----------
    generator : numpy.random.Generator
    least_group_size, most_group_size : int
        Bounds of G.
    """
    group_size = int(generator.integers(least_group_size, most_group_size + 1))
    tables = int(generator.integers(1, _MOST_TABLES + 1))
    copies = int(generator.choice([1, 2, 3, 4, 4, 5, 6, 8]))
    words_per_group = int(generator.choice([n for n in (1, 2, 4) if copies % n == 0]))
    slots = int(generator.integers(1, 4))
    packing = str(generator.choice(["beat", "group"]))
    vector_bits = tables * int(index_bits(group_size))
    least_bits = vector_bits + NORM_BITS if packing == "beat" else 8
    beat_bits = int(generator.integers(least_bits, least_bits + 6 * vector_bits + 1))
    return EngineSizes(
        group_size=group_size,
        tables=tables,
        copies=copies,
        method=str(generator.choice(["naive", "half", "full"])),
        table_buffers=int(generator.integers(1, 3)),
        activation_lanes=int(generator.integers(1, group_size * tables + 1)),
        block_gap=int(generator.choice([0, 0, 1, 5])),
        banks=copies // words_per_group,
        words=int(generator.integers(30, 90)) * slots + int(generator.integers(0, slots)),
        slots=slots,
        packing=packing,
        beat_bits=-(-beat_bits // 8) * 8,
        accumulator_bits=int(generator.integers(16, 25)),
        max_groups=_MOST_GROUPS,
    )


def random_vectors(
    sizes: EngineSizes, vectors: int, generator: np.random.Generator, reference: Reference
) -> EngineVectors:
    """Draw loads and computations with at least `vectors` input vectors.

    Shapes are random, most with padded rows and output groups; weights and activations are
    uniform, with some extreme rows of +-127.

    Parameters
    ----------
    sizes : EngineSizes
    vectors : int
    generator : numpy.random.Generator
    reference : callable
        Says which bits are right.
    """
    loads: list[Load] = []
    computes: list[Compute] = []
    beats, activations, results = [], [], []
    count = 0
    while count < vectors:
        weights, inputs = _draw_matrices(sizes, generator)
        groups = -(-len(weights) // sizes.copies)
        rows = sizes.row_blocks(weights.shape[1])
        expected = np.zeros((len(inputs), groups * sizes.copies), np.int64)
        expected[:, : len(weights)] = reference(inputs, weights)
        half = 1 << (sizes.accumulator_bits - 1)
        padded = np.zeros((len(inputs), rows * sizes.block_inputs), np.int8)
        padded[:, : inputs.shape[1]] = inputs
        loads.append(Load(rows, groups))
        computes.append(Compute(rows, groups, groups, len(inputs)))
        beats.append(pack_weights(weights, sizes))
        activations.append(activation_transfers(padded, sizes))
        results.append(((expected + half) % (2 * half) - half).reshape(-1, sizes.copies))
        count += len(inputs)
    job = EngineJob(loads, computes)
    check_job(job, sizes)
    return EngineVectors(
        job, np.concatenate(beats), np.concatenate(activations), np.concatenate(results)
    )


def _draw_matrices(
    sizes: EngineSizes, generator: np.random.Generator
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Draw weights [N, K] that fit a slot, and inputs [tokens, K]."""
    room = sizes.slot_words // sizes.words_per_group
    groups = int(generator.integers(1, min(room, sizes.max_groups) + 1))
    rows = int(generator.integers(1, min(room // groups, _MOST_ROWS) + 1))
    tokens = int(generator.integers(1, _MOST_TOKENS + 1))
    outputs = groups * sizes.copies - int(generator.integers(0, sizes.copies))
    depth = rows * sizes.block_inputs - int(generator.integers(0, sizes.block_inputs))
    weights = generator.integers(-1, 2, (outputs, depth)).astype(np.int8)
    inputs = generator.integers(-127, 128, (tokens, depth)).astype(np.int8)
    if generator.random() < 0.2:
        inputs[0] = 127 * np.where(weights[0] < 0, -1, 1)
    return weights, inputs
