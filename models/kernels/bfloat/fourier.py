"""The FFT as matrix products (Monarch), and the convolution by it."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import round_to_bfloat16
from headrace.models.kernels.bfloat.matrices import check_values, gemm, multiply, transpose
from headrace.models.kernels.bfloat.rounding import Rounding

__all__ = [
    "fft_convolution",
    "fourier_matrix",
    "gemm_mul_transpose_gemm",
    "kernel_spectrum",
    "monarch_fft",
    "twiddle_factors",
]

Array = NDArray[Any]


def fourier_matrix(size: int, inverse: bool = False) -> NDArray[np.complex64]:
    """Return ``exp(-2 pi i j k / size)``, its parts rounded to bfloat16; inverse: ``+``, unscaled.

    Roots of unity are NumPy's in float64, rounded to float32, then to bfloat16.
    """
    return _roots(np.outer(np.arange(size), np.arange(size)), size, inverse)


def twiddle_factors(rows: int, columns: int, inverse: bool = False) -> NDArray[np.complex64]:
    """Return ``exp(-2 pi i j k / (rows columns))``, j < rows, k < columns; see `fourier_matrix`."""
    return _roots(np.outer(np.arange(rows), np.arange(columns)), rows * columns, inverse)


def gemm_mul_transpose_gemm(
    x: Array,
    first: Array,
    factors: Array,
    second: Array,
    rounding: Rounding = round_to_bfloat16,
) -> Array:
    """Return ``second @ transpose((first @ x) * factors)``: the paper's figure 3.

    What leaves a product is rounded once to bfloat16, that by elements included.

    Parameters
    ----------
    x : ndarray of float32 or complex64
        bfloat16 values, shape (k, n).
    first, factors, second : ndarray, of the same type
        bfloat16 values, shapes (m, k), (m, n), (p, n).
    rounding : Rounding

    Returns
    -------
    ndarray, of the same type
        Shape (p, m).

    Raises
    ------
    InputError
        Shapes or types do not fit, or values are no bfloat16.
    """
    scaled = multiply(gemm(first, x, rounding), factors, rounding)
    return gemm(second, transpose(scaled), rounding)


def monarch_fft(
    x: Array,
    factors: Sequence[int],
    inverse: bool = False,
    rounding: Rounding = round_to_bfloat16,
) -> Array:
    """Return the discrete Fourier transform, in natural order; the inverse one is not scaled.

    With n = n1 n2, x as (n1, n2) rows, and the transform of n2 by the rest of the factors: product
    with the matrix of n1, twiddle factors, transpose, transform of n1 columns. Two factors are
    `gemm_mul_transpose_gemm`, every further one puts a product, factors and a transpose before.

    Parameters
    ----------
    x : ndarray of complex64
        bfloat16 parts, shape (n,).
    factors : sequence of int
        At least one; their product is n.
    inverse : bool
    rounding : Rounding

    Returns
    -------
    ndarray of complex64
        Shape (n,).

    Raises
    ------
    InputError
        The factors do not give n, or values are no bfloat16.
    """
    check_values(1, x=x)
    if any(f < 1 for f in factors) or not len(factors) or prod(factors) != len(x):
        raise InputError(f"factors {tuple(factors)}; positive ones that give {len(x)} are needed")
    columns = x.astype(np.complex64, copy=False)[:, None]
    return _fft_columns(columns, tuple(factors), inverse, rounding)[:, 0]


def kernel_spectrum(kernel: NDArray[np.floating]) -> NDArray[np.complex64]:
    """Return the spectrum of a real kernel over its length, for `fft_convolution`.

    NumPy's FFT in float64 over n, rounded to float32, then to bfloat16: it is data, made once.
    """
    kernel = np.asarray(kernel, np.float64)
    return _to_bfloat16(np.fft.fft(kernel) / len(kernel))


def fft_convolution(
    x: NDArray[np.float32],
    spectrum: NDArray[np.complex64],
    factors: Sequence[int],
    rounding: Rounding = round_to_bfloat16,
) -> NDArray[np.float32]:
    """Return the circular convolution of x with the kernel of a spectrum.

    `monarch_fft`, product with the spectrum, inverse `monarch_fft`, of which the real part stays.
    For a linear convolution pad both with zeros.

    Parameters
    ----------
    x : ndarray of float32
        bfloat16 values, shape (n,).
    spectrum : ndarray of complex64
        Of `kernel_spectrum`, shape (n,).
    factors : sequence of int
        Of n, see `monarch_fft`; the inverse transform takes them in the same order.
    rounding : Rounding

    Raises
    ------
    InputError
        Shapes do not fit, or values are no bfloat16.
    """
    check_values(1, x=x, spectrum=spectrum)
    if spectrum.shape != x.shape or spectrum.dtype != np.complex64:
        raise InputError(
            f"spectrum is {spectrum.shape} of {spectrum.dtype}; {x.shape} of complex64 is needed"
        )
    forward = monarch_fft(x.astype(np.complex64), factors, rounding=rounding)
    scaled = multiply(forward[None], spectrum[None], rounding)[0]
    result = monarch_fft(scaled, factors, inverse=True, rounding=rounding)
    return np.ascontiguousarray(result.real)


def _fft_columns(x: Array, factors: tuple[int, ...], inverse: bool, rounding: Rounding) -> Array:
    """Return the transform of every column of (n, columns)."""
    first, (size, columns) = factors[0], x.shape
    matrix = fourier_matrix(first, inverse)
    if len(factors) == 1:
        return gemm(matrix, x, rounding)
    rest = size // first
    inner = gemm(matrix, x.reshape(first, rest * columns), rounding)
    twiddles = np.repeat(twiddle_factors(first, rest, inverse), columns, axis=1)
    inner = multiply(inner, twiddles, rounding).reshape(first, rest, columns)
    turned = np.ascontiguousarray(inner.transpose(1, 0, 2)).reshape(rest, first * columns)
    return _fft_columns(turned, factors[1:], inverse, rounding).reshape(size, columns)


def _roots(exponents: NDArray[Any], size: int, inverse: bool) -> NDArray[np.complex64]:
    turn = (2j if inverse else -2j) * np.pi / size
    return _to_bfloat16(np.exp(turn * (exponents % size)))


def _to_bfloat16(x: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
    return round_to_bfloat16(x.astype(np.complex64).view(np.float32)).view(np.complex64)
