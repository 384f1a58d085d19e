"""Integers of a given width: wrapping, narrowing, and sums of shifted products."""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from headrace.errors import InputError
from headrace.models.kernels.fixed.formats import WIDE_BITS, WIDE_FRACTION, Formats

__all__ = [
    "Integers",
    "checked",
    "from_real",
    "shifted",
    "shifted_products",
    "to_feature",
    "to_operand",
    "to_real",
    "to_wide",
    "wrap",
]

Integers = NDArray[np.int64]


def wrap(value: Integers, bits: int = WIDE_BITS) -> Integers:
    """Keep the low `bits` bits as a two's complement number.

    Parameters
    ----------
    value : ndarray of int64
        Any shape.
    bits : int
        From 1 to 63.
    """
    half = 1 << (bits - 1)
    result: Integers = ((value & ((1 << bits) - 1)) ^ half) - half
    return result


def shifted(value: Integers, right: int) -> Integers:
    """Shift right by `right` bits (floor); to the left where `right` is negative."""
    result: Integers = value >> right if right >= 0 else value << -right
    return result


def to_operand(value: Integers, formats: Formats) -> Integers:
    """Narrow wide values to operands: floor, then wrap or, for INT8, saturate."""
    narrow = value >> (WIDE_FRACTION - formats.operand_fraction)
    if formats.saturates:
        half = 1 << (formats.operand_bits - 1)
        clipped: Integers = np.clip(narrow, -half, half - 1)
        return clipped
    return wrap(narrow, formats.operand_bits)


def to_feature(value: Integers, formats: Formats) -> Integers:
    """Narrow wide values to features: floor, then wrap."""
    return wrap(value >> (WIDE_FRACTION - formats.feature_fraction), formats.feature_bits)


def to_wide(feature: Integers, formats: Formats) -> Integers:
    """Widen features, exactly."""
    result: Integers = feature << (WIDE_FRACTION - formats.feature_fraction)
    return result


def from_real(value: ArrayLike, bits: int, fraction: int) -> Integers:
    """Round real numbers to the nearest `bits`-bit integers with `fraction` fraction bits.

    Ties go to even; what is too large saturates. This is how parameters are prepared on the
    host, no kernel does it.

    Parameters
    ----------
    value : array_like of float
        Finite.

    Raises
    ------
    InputError
        A value is not finite.
    """
    real = np.asarray(value, dtype=np.float64)
    if not np.isfinite(real).all():
        raise InputError("a real number to be stored in fixed point is not finite")
    half = 1 << (bits - 1)
    return np.clip(np.rint(np.ldexp(real, fraction)), -half, half - 1).astype(np.int64)


def to_real(value: Integers, fraction: int) -> NDArray[np.float64]:
    """Return the real numbers that integers with `fraction` fraction bits stand for."""
    result: NDArray[np.float64] = np.ldexp(value.astype(np.float64), -fraction)
    return result


def checked(
    name: str, value: NDArray[np.generic], shape: tuple[int | None, ...], bits: int
) -> Integers:
    """Return `value` as int64, after a look at its type, shape and range.

    Parameters
    ----------
    name : str
        What the error calls it.
    value : ndarray of integers
    shape : tuple
        The shape it must have; None where any length of at least 1 will do.
    bits : int
        Bits of the signed format; negative for an unsigned one of -`bits` bits.

    Raises
    ------
    InputError
        Type, shape or a value does not fit.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name}: integers are needed, found {array.dtype}")
    fits = array.ndim == len(shape) and all(
        found == wanted if wanted is not None else found >= 1
        for found, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted_text = ", ".join("n" if length is None else str(length) for length in shape)
        raise InputError(f"{name} of shape {array.shape} does not fit; ({wanted_text}) is needed")
    least, most = (0, (1 << -bits) - 1) if bits < 0 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if array.size and not (least <= int(array.min()) and int(array.max()) <= most):
        raise InputError(
            f"{name}: values from {array.min()} to {array.max()} are not allowed: {least} to {most}"
        )
    return array.astype(np.int64)


def shifted_products(x: Integers, w: Integers, right: int) -> Integers:
    """Return ``wrap(sum_i (x_i * w_i) >> right)``, every product shifted on its own.

    A sum of floors is not the floor of the sum, so no matrix product of a library can be used.

    Parameters
    ----------
    x : ndarray of int64, shape (rows, K)
    w : ndarray of int64, shape (N, K)
        Products fit 63 bits.
    right : int
        Right shift of a product; negative: to the left.

    Returns
    -------
    ndarray of int64, shape (rows, N)
        Wrapped to 32 bits.
    """
    sums = np.empty((len(x), len(w)), np.int64)
    _multiply(np.ascontiguousarray(x), np.ascontiguousarray(w), max(right, 0), sums)
    return wrap(sums << max(-right, 0))


@njit(cache=True)
def _multiply(x, w, right, sums):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        for n in range(w.shape[0]):
            total = np.int64(0)
            for k in range(x.shape[1]):
                total += (x[i, k] * w[n, k]) >> right
            sums[i, n] = total
