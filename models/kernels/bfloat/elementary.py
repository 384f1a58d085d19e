"""bfloat16 on float32 registers: rounding, exponential of what is not positive, reciprocal."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["exp_bfloat16", "reciprocal_bfloat16", "round_to_bfloat16"]

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
        kept, overflow gives infinity, NaN the quiet NaN 0x7FC0.
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


def reciprocal_bfloat16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correctly rounded bfloat16 reciprocal.

    A quotient of 8-bit numbers is never so close to the middle of two bfloat16 values that
    float32's rounding could move it there; below 2^-126, where float32 has fewer bits, 1 / x is
    2^-128 at least, which leaves 21.

    Parameters
    ----------
    x : ndarray of float32
        bfloat16 values. Of zero it is the infinity of its sign, of an infinity the zero.

    Returns
    -------
    ndarray of float32
        bfloat16 values.
    """
    with np.errstate(all="ignore"):
        return round_to_bfloat16(np.float32(1) / np.asarray(x, np.float32))


@cache
def _exp_table() -> NDArray[np.float32]:
    """Return exp(-x) for the 32,768 bfloat16 values x of positive sign, indexed by their bits."""
    x = (np.arange(2**15, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(under="ignore", invalid="ignore"):
        return round_to_bfloat16(np.exp(-x.astype(np.float64)).astype(np.float32))
