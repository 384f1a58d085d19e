"""bfloat16 on float32 registers: rounding, and the exponential of a number that is not positive."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["exp_bfloat16", "round_to_bfloat16"]

_SIGN_AND_EXPONENT = np.uint32(0xFFFF0000)


def round_to_bfloat16(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """Round to the nearest bfloat16, ties to even.

    Parameters
    ----------
    x : ndarray of float
        float32 values; others are first rounded to float32.

    Returns
    -------
    ndarray of float32
        Same shape; the low 16 bits of every value are 0. Subnormals and the sign of zero are
        kept, overflow gives infinity, NaN stays NaN.
    """
    values = np.asarray(x, np.float32, order="C")
    bits = values.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded &= _SIGN_AND_EXPONENT
    result = rounded.view(np.float32)
    undefined = np.isnan(values)
    if undefined.any():
        result[undefined] = np.nan
    return result


def exp_bfloat16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correctly rounded bfloat16 exponential.

    Parameters
    ----------
    x : ndarray of float32
        bfloat16 values, none positive.

    Returns
    -------
    ndarray of float32
        bfloat16 values from 0 to 1.
    """
    magnitude = (np.asarray(x, np.float32, order="C").view(np.uint32) >> np.uint32(16)) & 0x7FFF
    return np.asarray(_exp_table()[magnitude])


@cache
def _exp_table() -> NDArray[np.float32]:
    """Return exp(-x) for the 32,768 bfloat16 values x of positive sign, indexed by their bits."""
    x = (np.arange(2**15, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(under="ignore", invalid="ignore"):
        return round_to_bfloat16(np.exp(-x.astype(np.float64)).astype(np.float32))
