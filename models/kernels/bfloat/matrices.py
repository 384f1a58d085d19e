"""Matrices of bfloat16: product with sums in float32, product by elements, transpose."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import round_to_bfloat16
from headrace.models.kernels.bfloat.rounding import Rounding

__all__ = ["check_values", "gemm", "gemm_sums", "multiply", "transpose"]

_LOWER_HALF = np.uint32(0xFFFF)


def check_values(axes: int, **operands: NDArray[Any]) -> None:
    """Check that operands have so many axes and hold bfloat16 values as float32 or complex64.

    Raises
    ------
    InputError
        One does not.
    """
    for name, x in operands.items():
        if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.complex64):
            kind = getattr(x, "dtype", type(x).__name__)
            raise InputError(f"{name} is of {kind}; float32 or complex64 is needed")
        if x.ndim != axes:
            raise InputError(f"{name} has {x.ndim} axes; {axes} are needed")
        if np.any(_parts(x).view(np.uint32) & _LOWER_HALF):
            raise InputError(f"{name} holds values that are no bfloat16; round them first")


def gemm_sums(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return the float32 sums of a matrix product, before they are rounded to bfloat16.

    A sum starts at +0 and takes one product after the other, k ascending. A product is rounded to
    float32 (it is exact but below 2^-126 in magnitude, where it may have bits below 2^-149, and
    beyond float32's range), every addition, too: IEEE 754, ties to even, subnormals kept. Of two
    complex factors the real part takes ``re re``, then ``(im)(-im)``; the imaginary part ``re
    im``, then ``im re`` (left factor first).

    Parameters
    ----------
    left : ndarray of float32 or complex64
        bfloat16 values, shape (m, k).
    right : ndarray, of the same type
        bfloat16 values, shape (k, n).

    Returns
    -------
    ndarray, of the same type
        Shape (m, n). The bits of a NaN are not stated.

    Raises
    ------
    InputError
        Shapes or types do not fit, or values are no bfloat16.
    """
    check_values(2, left=left, right=right)
    if left.dtype != right.dtype or left.shape[1] != right.shape[0]:
        raise InputError(
            f"left is {left.shape} of {left.dtype}, right {right.shape} of {right.dtype}; "
            "(m, k) and (k, n) of one type are needed"
        )
    if left.dtype == np.float32:
        return np.asarray(_sums(np.ascontiguousarray(left), np.ascontiguousarray(right)))
    sums = _sums(_parts(left), _of_real(right))
    return np.asarray(sums).view(np.complex64)


def gemm(
    left: NDArray[Any], right: NDArray[Any], rounding: Rounding = round_to_bfloat16
) -> NDArray[Any]:
    """Return the matrix product: `gemm_sums`, rounded once to bfloat16.

    Complex results are rounded as rows of real and imaginary parts in turn.
    """
    return _rounded(gemm_sums(left, right), rounding)


def multiply(
    left: NDArray[Any], right: NDArray[Any], rounding: Rounding = round_to_bfloat16
) -> NDArray[Any]:
    """Return the product by elements, rounded once to bfloat16; of complex values see `gemm_sums`.

    Parameters
    ----------
    left, right : ndarray of float32 or complex64
        bfloat16 values, of one type and one shape (m, n).

    Raises
    ------
    InputError
        Shapes or types do not fit, or values are no bfloat16.
    """
    check_values(2, left=left, right=right)
    if left.dtype != right.dtype or left.shape != right.shape:
        raise InputError(
            f"left is {left.shape} of {left.dtype}, right {right.shape} of {right.dtype}; "
            "one shape and type is needed"
        )
    if left.dtype == np.complex64:
        real, imaginary, right_real, right_imaginary = left.real, left.imag, right.real, right.imag
        product = np.empty(left.shape, np.complex64)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            product.real = real * right_real + imaginary * -right_imaginary
            product.imag = real * right_imaginary + imaginary * right_real
    else:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            product = left * right
    return _rounded(product, rounding)


def transpose(x: NDArray[Any]) -> NDArray[Any]:
    """Return the transpose, a copy with the same bits, NaN included; shape (m, n) to (n, m)."""
    return np.ascontiguousarray(x.T)


def _rounded(x: NDArray[Any], rounding: Rounding) -> NDArray[Any]:
    return rounding(_parts(x)).view(x.dtype)


def _parts(x: NDArray[Any]) -> NDArray[np.float32]:
    """Return real and imaginary parts in turn along the last axis; float32 as it is."""
    return np.ascontiguousarray(x).view(np.float32)


def _of_real(right: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Return the real matrix that takes rows of parts to rows of parts."""
    k, n = right.shape
    wide = np.empty((k, 2, n, 2), np.float32)
    wide[:, 0, :, 0], wide[:, 0, :, 1] = right.real, right.imag
    wide[:, 1, :, 0], wide[:, 1, :, 1] = -right.imag, right.real
    return wide.reshape(2 * k, 2 * n)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _sums(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    sums = np.zeros((left.shape[0], right.shape[1]), np.float32)
    for i in range(left.shape[0]):
        for k in range(left.shape[1]):
            factor = left[i, k]
            for j in range(right.shape[1]):
                sums[i, j] += factor * right[k, j]
    return sums
