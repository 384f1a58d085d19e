"""Reference of SN40L's compute unit in NumPy's float32, and random commands for it.

Nothing here is of the RTL. Numbers are patterns in int64 arrays; sums are NumPy's float32 ones,
in the order that docs/sn40l-units.md states.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.arch.sn40l.compute_program import (
    ComputeProgram,
    Operand,
    Operation,
    Reduction,
    Stage,
    TailFunction,
)
from headrace.rtl.streams import StreamVectors, pack

PORTS = ("commands", "left", "right", "results")


def wide(bits: Any) -> Any:
    """Return float32 values of bfloat16 patterns."""
    return (np.asarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32)


def bits_of(values: Any) -> Any:
    """Return patterns of float32 values, NaN as the one quiet NaN."""
    values = np.asarray(values, np.float32)
    return np.where(np.isnan(values), 0x7FC00000, values.view(np.uint32).astype(np.int64))


def single(pattern: int) -> Any:
    return np.uint32(pattern).view(np.float32)


def maximum(left: Any, right: Any) -> Any:
    """Return the larger value; NaN if either is, and +0 before -0."""
    larger = np.where(left > right, left, right)
    zeros = (left == 0) & (right == 0)
    larger = np.where(zeros, np.where(np.signbit(left), right, left), larger)
    return np.where(np.isnan(left) | np.isnan(right), np.float32(np.nan), larger)


def random_numbers(seed: int, count: int) -> list[int]:
    """Return numbers of the shift register x^16 + x^15 + x^13 + x^4 + 1, 16 steps each."""
    state, found = seed or 1, []
    for _ in range(count):
        found.append(state)
        for _ in range(16):
            fresh = (state >> 15 ^ state >> 14 ^ state >> 12 ^ state >> 3) & 1
            state = state << 1 & 0xFFFF | fresh
    return found


def array_sums(left: Any, right: Any) -> Any:
    """Return the sums of products, float32 (tiles, stages, interleave, lanes).

    Parameters: left (tiles, depth, interleave, lanes), right (tiles, depth, stages), bfloat16.
    """
    a, b = wide(left)[:, :, None, :, :], wide(right)[:, :, :, None, None]
    total = np.zeros(np.broadcast_shapes(a[:, 0].shape, b[:, 0].shape), np.float32)
    for k in range(left.shape[1]):
        total = total + a[:, k] * b[:, k]
    return total


def pipeline(stages: tuple[Stage, ...], left: Any, right: Any) -> Any:
    """Return what stages make of beats, float32 (beats, lanes)."""
    left, right = wide(left), wide(right)
    value = left
    for stage in stages:
        operands = {
            Operand.PREVIOUS: value,
            Operand.LEFT: left,
            Operand.RIGHT: right,
            Operand.CONSTANT: np.full_like(left, single(stage.constant)),
        }
        first, second = operands[stage.left], operands[stage.right]
        value = {
            Operation.PASS: lambda a, b: a,
            Operation.ADD: lambda a, b: a + b,
            Operation.MULTIPLY: lambda a, b: a * b,
            Operation.MAXIMUM: maximum,
        }[stage.operation](first, second)
    return value


def tail(program: ComputeProgram, values: Any) -> Any:
    """Return results, bfloat16 patterns (beats, lanes), of float32 values."""
    beats, lanes = values.shape
    if program.reduction is not Reduction.NONE:
        merge = np.add if program.reduction is Reduction.SUM else maximum
        root = values
        while root.shape[1] > 1:
            root = merge(root[:, ::2], root[:, 1::2])
        values = np.concatenate([root, np.zeros((beats, lanes - 1), np.float32)], axis=1)
    if program.relu:
        values = np.where((values > 0) | np.isnan(values), values, np.float32(0))
    bits = bits_of(values)
    addend = 0x7FFF + (bits >> 16 & 1)
    if program.stochastic:
        seeds = [program.seed ^ (lane * 0x9E37 & 0xFFFF) for lane in range(lanes)]
        addend = np.array([random_numbers(seed, beats) for seed in seeds]).T
    short = np.where(np.isnan(values), 0x7FC0, bits + addend >> 16)
    functions = {
        TailFunction.NONE: lambda x: x,
        TailFunction.RECIPROCAL: reciprocals,
        TailFunction.EXPONENTIAL: exponentials,
    }
    return functions[program.function](short)


def exponentials(short: Any) -> Any:
    """Return the bfloat16 next to exp(-|x|); see test_sn40l_floating."""
    return nearest(np.exp(-abs(wide(short).astype(np.float64))))


def reciprocals(short: Any) -> Any:
    """Return the bfloat16 next to 1 / x; see test_sn40l_floating."""
    return nearest(1 / wide(short).astype(np.float64))


def nearest(exact: Any) -> Any:
    """Return the bfloat16 next to a float64, normal or not."""
    magnitude = abs(exact)
    _, exponent = np.frexp(np.where(np.isfinite(magnitude), magnitude, 0))
    unit = np.ldexp(1.0, np.maximum(exponent - 8, -133))
    rounded = (np.rint(magnitude / unit) * unit).astype(np.float32)
    bits = bits_of(rounded) | np.where(np.signbit(exact), 1 << 31, 0)
    return np.where(np.isnan(exact), 0x7FC0, bits >> 16)


def draw_numbers(rng: Any, shape: Any, wild: float) -> Any:
    """Draw bfloat16 patterns near 1; a share `wild` of them anything, zeros and infinities too."""
    tame = rng.integers(122, 132, shape) << 7 | rng.integers(0, 128, shape)
    special = rng.choice([0, 1, 0x7F, 0x80, 0x7F7F, 0x7F80, 0x7FC0, 0x7FFF, 0x100], shape)
    other = np.where(rng.integers(2, size=shape), special, rng.integers(0, 0x8000, shape))
    bits = np.where(rng.random(shape) < wild, other, tame)
    return bits | rng.integers(0, 2, shape) << 15


@dataclass(frozen=True)
class Work:
    """A command with its beats and results: patterns (beats, values)."""

    program: ComputeProgram
    left: Any
    right: Any
    results: Any


def make(rng: Any, sizes: Any, program: ComputeProgram, wild: float = 0.0) -> Work:
    """Draw the operands of a command, and compute its results."""
    lanes, stages, interleave = sizes.lanes, sizes.stages, sizes.interleave
    count, depth = program.count, program.depth
    with np.errstate(all="ignore"):
        if program.systolic:
            left = draw_numbers(rng, (count, depth, interleave, lanes), wild / depth)
            right = draw_numbers(rng, (count, depth, max(lanes, stages)), wild / depth)
            values = array_sums(left, right[:, :, :stages])
        else:
            left = draw_numbers(rng, (count, lanes), wild)
            right = draw_numbers(rng, (count, max(lanes, stages)), wild)
            values = pipeline(program.stages, left, right[:, :lanes])
        results = tail(program, values.reshape(-1, lanes))
    right = right.reshape(-1, right.shape[-1]) if program.reads_right else right[:0]
    return Work(program, left.reshape(-1, lanes), right, results)


def draw_stage(rng: Any, constant: int) -> Stage:
    pick = rng.integers(0, 4, 3).tolist()
    return Stage(
        operation=Operation(pick[0]),
        left=Operand(pick[1]),
        right=Operand(pick[2]),
        constant=constant,
    )


def draw_program(rng: Any, sizes: Any, systolic: bool, most: int = 12) -> ComputeProgram:
    """Draw a command of up to `most` beats, or of a few tiles."""
    stages: tuple[Stage, ...] = ()
    if not systolic:
        constants = draw_numbers(rng, (sizes.stages,), 0.2) << 16
        constants |= rng.integers(0, 1 << 16, sizes.stages)
        constants = np.where(np.isnan(constants.astype(np.uint32).view(np.float32)), 0, constants)
        stages = tuple(draw_stage(rng, int(c)) for c in constants[: rng.integers(sizes.stages + 1)])
    return ComputeProgram(
        count=int(rng.integers(1, 5 if systolic else most + 1)),
        depth=int(rng.integers(1, 9)) if systolic else 0,
        stages=stages,
        reduction=Reduction(rng.choice([0, 0, 1, 2])),
        relu=bool(rng.integers(4) == 0),
        stochastic=bool(rng.integers(2)),
        function=TailFunction(rng.choice([0, 0, 1, 2])),
        seed=int(rng.integers(1 << 16)),
    )


def streams(sizes: Any, works: list[Work], **more: Any) -> StreamVectors:
    """Return commands in turn as vectors."""

    def rows(name: str) -> list[int]:
        return [p for work in works for p in pack(getattr(work, name).tolist(), 16)]

    commands = [work.program.word(sizes.stages) for work in works]
    inputs = {"commands": commands, "left": rows("left"), "right": rows("right")}
    return StreamVectors(inputs, {"results": rows("results")}, **more)
