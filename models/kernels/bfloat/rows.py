"""Softmax and RMSNorm of rows of bfloat16, sums in float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import (
    exp_bfloat16,
    reciprocal_bfloat16,
    round_to_bfloat16,
)
from headrace.models.kernels.bfloat.matrices import check_values, gemm_sums
from headrace.models.kernels.bfloat.rounding import Rounding

__all__ = ["rms_norm", "softmax"]

Array = NDArray[np.float32]


def softmax(x: Array, rounding: Rounding = round_to_bfloat16) -> Array:
    """Return the softmax of every row.

    ``d = x - max`` in float32, rounded to the nearest bfloat16; ``e = exp(d)``, the nearest
    bfloat16; their sum in float32, ascending from +0, rounded to the nearest bfloat16; its
    reciprocal, the nearest bfloat16; ``e`` times it, exact in float32, is rounded by `rounding`.
    The reciprocal of one row serves all its values, so a row need not add up to 1.

    A NaN or +infinity makes its row NaN, and so does a row of -infinities; elsewhere -infinity
    gives 0.

    Parameters
    ----------
    x : ndarray of float32
        bfloat16 values, shape (rows, n), n at least 1.

    Returns
    -------
    ndarray of float32
        bfloat16 values of the same shape.

    Raises
    ------
    InputError
        The type or shape does not fit, or values are no bfloat16.
    """
    _check_rows(x)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        exponentials = exp_bfloat16(round_to_bfloat16(x - x.max(axis=1, keepdims=True)))
        ones = np.ones((x.shape[1], 1), np.float32)
        sums = round_to_bfloat16(gemm_sums(exponentials, ones))
        return rounding(exponentials * reciprocal_bfloat16(sums))


def rms_norm(
    x: Array, weights: Array, epsilon: float, rounding: Rounding = round_to_bfloat16
) -> Array:
    """Return every row over the root of its mean square, times the weights.

    In float32, one rounding per operation: squares added up, ascending from +0; ``mean = sum *
    float32(1 / n)``; ``r = 1 / sqrt(mean + epsilon)``, root and quotient each rounded; ``(x r) w``.
    The result is rounded by `rounding`.

    Parameters
    ----------
    x : ndarray of float32
        bfloat16 values, shape (rows, n), n at least 1.
    weights : ndarray of float32
        bfloat16 values, shape (n,).
    epsilon : float
        Rounded to float32; at least 0.

    Returns
    -------
    ndarray of float32
        bfloat16 values of the same shape.

    Raises
    ------
    InputError
        A type or shape does not fit, values are no bfloat16, or epsilon is negative or NaN.
    """
    _check_rows(x)
    check_values(1, weights=weights)
    if weights.dtype != np.float32 or len(weights) != x.shape[1]:
        raise InputError(
            f"weights are {weights.shape} of {weights.dtype}; ({x.shape[1]},) of float32 is needed"
        )
    if not epsilon >= 0:
        raise InputError(f"epsilon = {epsilon}; a number from 0 is needed")
    with np.errstate(all="ignore"):
        mean = _square_sums(x) * np.float32(1 / x.shape[1])
        scale = np.float32(1) / np.sqrt(mean + np.float32(epsilon))
        return rounding((x * scale) * weights)


def _check_rows(x: Array) -> None:
    check_values(2, x=x)
    if x.dtype != np.float32 or x.shape[1] == 0:
        raise InputError(f"x is {x.shape} of {x.dtype}; (rows, n) of float32 is needed, n from 1")


def _square_sums(x: Array) -> Any:
    """Return the sums of squares of the rows, shape (rows, 1), ascending from +0."""
    sums = np.zeros((len(x), 1), np.float32)
    for column in x.T:
        sums[:, 0] += column * column
    return sums
