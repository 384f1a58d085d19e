"""Linear layer (rule 1): products floored one by one, bias, GELU."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.fixed.formats import WIDE_FRACTION, Formats
from headrace.models.kernels.fixed.functions import gelu as apply_gelu
from headrace.models.kernels.fixed.integers import Integers, checked, shifted_products, wrap

__all__ = ["BIAS_BITS", "linear"]

BIAS_BITS = 16


def linear(
    x: NDArray[np.integer],
    weights: NDArray[np.integer],
    bias: NDArray[np.integer] | None,
    formats: Formats,
    *,
    bias_fraction: int | None = None,
    gelu: bool = False,
) -> Integers:
    """Multiply rows of operands by a matrix, every product floored on its own.

    ``acc = (b << (22 - bf)) + sum_i ((x_i * w_i) >> (of + wf - 22))``, wrapped to 32 bits; with
    `gelu` the result is GELU(acc).

    Parameters
    ----------
    x : ndarray of integers, shape (rows, K)
        Operands.
    weights : ndarray of integers, shape (N, K)
        One row per output.
    bias : ndarray of integers, shape (N,), optional
        16 bits; None where there is none.
    formats : Formats
    bias_fraction : int, optional
        bf, from 0 to 22; `formats.bias_fraction` if left out. Inside MSA it is
        `formats.attention_bias_fraction`.
    gelu : bool
        Apply GELU.

    Returns
    -------
    ndarray of int64, shape (rows, N)
        Wide. `to_operand` or `to_feature` stores it, as the receiver wants.

    Raises
    ------
    InputError
        Shapes, types or values do not fit the formats.
    """
    rows = checked("x", x, (None, None), formats.operand_bits)
    matrix = checked("weights", weights, (None, rows.shape[1]), formats.weight_bits)
    fraction = formats.bias_fraction if bias_fraction is None else bias_fraction
    if not 0 <= fraction <= WIDE_FRACTION:
        raise InputError(f"bias_fraction = {fraction} is not allowed: 0 to {WIDE_FRACTION}")
    shift = formats.operand_fraction + formats.weight_fraction - WIDE_FRACTION
    acc = shifted_products(rows, matrix, shift)
    if bias is not None:
        start = checked("bias", bias, (len(matrix),), BIAS_BITS) << (WIDE_FRACTION - fraction)
        acc = wrap(acc + start)
    return apply_gelu(acc) if gelu else acc
