"""Operations per byte of a chain of operators, by how it is cut into kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from headrace.errors import InputError

__all__ = ["Stage", "fft_stages", "intensity", "kernel_bytes"]

_BYTES = 2  # of a bfloat16


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One operator of a chain; numbers may be arrays that broadcast, one entry per shape.

    Attributes
    ----------
    name : str
    operations : number
        A multiply-accumulate is 2, a move none.
    takes, gives : number
        bfloat16 values of the chain that it reads and writes.
    reads : number
        bfloat16 values that it reads besides: weights, factors.
    """

    name: str
    operations: Any
    takes: Any
    gives: Any
    reads: Any = 0


def kernel_bytes(stages: Sequence[Stage]) -> Any:
    """Return the bytes that one kernel of these stages reads and writes, each value once.

    It takes what its first stage takes and gives what its last one gives; what passes between its
    stages stays on chip; weights and factors are read.
    """
    values = stages[0].takes + stages[-1].gives + sum(stage.reads for stage in stages)
    return _BYTES * values


def intensity(stages: Sequence[Stage], kernels: Sequence[int]) -> Any:
    """Return operations per byte of off-chip memory.

    Parameters
    ----------
    stages : sequence of Stage
    kernels : sequence of int
        Stages per kernel, in order: (1, 1, 1, 1) fuses nothing, (4,) all of four.

    Raises
    ------
    InputError
        The kernels do not cover the stages.
    """
    if any(count < 1 for count in kernels) or sum(kernels) != len(stages):
        raise InputError(
            f"kernels of {tuple(kernels)} stages; counts from 1 that add up to {len(stages)} are "
            "needed"
        )
    ends = accumulate(kernels)
    parts = [stages[end - count : end] for end, count in zip(ends, kernels, strict=True)]
    moved = sum(kernel_bytes(part) for part in parts)
    return sum(stage.operations for stage in stages) / moved


def fft_stages(
    k: Any,
    m: Any,
    n: Any,
    p: Any,
    *,
    batch: Any = 1,
    is_complex: bool = False,
    reads_factors: bool = False,
) -> tuple[Stage, Stage, Stage, Stage]:
    """Return the paper's simplified Monarch FFT (figure 3): Gemm0, Mul, Transpose, Gemm1.

    ``second @ transpose((first @ x) * factors)`` with x (k, n), first (m, k), factors (m, n),
    second (p, n); a real FFT of two factors has k = m and p = n. The matrices and factors serve
    all chains of a batch.

    Parameters
    ----------
    k, m, n, p, batch : number
        Sizes; arrays broadcast.
    is_complex : bool
        Two bfloat16 per value, 8 operations per multiply-accumulate, 6 per product.
    reads_factors : bool
        Whether the factors come from off chip; else they are a constant of the kernel.
    """
    width = 2 if is_complex else 1
    inner, product = width * batch * m * n, 6 if is_complex else 1
    operations = 2 * width**2 * batch * m * n
    return (
        Stage(
            name="Gemm0",
            operations=operations * k,
            takes=width * batch * k * n,
            gives=inner,
            reads=width * m * k,
        ),
        Stage(
            name="Mul",
            operations=product * batch * m * n,
            takes=inner,
            gives=inner,
            reads=width * m * n if reads_factors else 0,
        ),
        Stage(name="Transpose", operations=0, takes=inner, gives=inner),
        Stage(
            name="Gemm1",
            operations=operations * p,
            takes=inner,
            gives=width * batch * p * m,
            reads=width * p * n,
        ),
    )
