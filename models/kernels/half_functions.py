"""exp and reciprocal in half precision, defined once for reference, RTL and HLS."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["exp_half", "exp_table", "reciprocal_half"]

Half = NDArray[np.float16]


@cache
def exp_table() -> NDArray[np.float16]:
    """Return exp of every half: 65,536 halves indexed by the bits of the argument.

    The definition is the half nearest to the real exp(x), ties to even, so the error is at
    most half a unit in the last place. No half has exp(x) closer than 1.1e-8 (relative) to the
    middle between two halves, so float64's exp, good to 1e-15, decides every
    entry. exp(-inf) = 0; arguments above 11.09 give infinity; NaN gives NaN.
    """
    arguments = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        table = np.exp(arguments).astype(np.float16)
    table.flags.writeable = False
    return table


def exp_half(x: Half) -> Half:
    """Return exp(x), element by element, as `exp_table` defines it.

    Parameters
    ----------
    x : ndarray of float16
        Any shape.
    """
    return exp_table()[np.asarray(x, dtype=np.float16).view(np.uint16)]


def reciprocal_half(x: Half) -> Half:
    """Return 1/x rounded to the nearest half, ties to even; 1/0 is infinity.

    Parameters
    ----------
    x : ndarray of float16
        Any shape. Below 2^-16 the result overflows to infinity.
    """
    with np.errstate(divide="ignore", over="ignore"):
        # one IEEE division: float32's quotient rounds to the same half as the exact one
        result: Half = np.float16(1) / np.asarray(x, dtype=np.float16)
    return result
