"""Ternary matrix multiply: three lookup methods and the plain integer product."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.ternary_tables import build_tables, pad_features, weight_indices

__all__ = ["METHODS", "int_matmul", "lookup_matmul", "ternary_matmul"]

METHODS = ("naive", "half", "full")
"""TeLLMe's M1, M2 and M3 (paper, method comparison)."""


def ternary_matmul(
    x: NDArray[np.int8],
    weights: NDArray[np.int8],
    method: str = "full",
    group_size: int = 3,
    block: int | None = None,
) -> NDArray[np.int32]:
    """Multiply INT8 activations by a ternary matrix the way a TLMM engine does.

    Parameters
    ----------
    x : ndarray of int8, shape (..., K)
        Quantised activations.
    weights : ndarray of int8, shape (N, K)
        -1, 0 or 1.
    method : str
        ``naive`` (M1): each weight selects +x, -x or 0, then an adder tree. ``half`` (M2): a
        table of (3^G-1)/2 sums per group and a sign stage. ``full`` (M3): a table of 3^G sums
        per group. All give the same integers.
    group_size : int
        G, weights per index, from 1 to 5.
    block : int, optional
        Inputs are padded with zeros to a multiple of this (and of G).

    Returns
    -------
    ndarray of int32, shape (..., N)
        Accumulators; no larger than 128 K.

    Raises
    ------
    InputError
        Unknown method, shapes that do not fit, wrong types, weights that are not ternary.
    """
    _check(x, weights)
    if method not in METHODS:
        raise InputError(f"method = {method!r}; one of {', '.join(METHODS)} is needed")
    tokens = x.reshape(-1, x.shape[-1])
    if method == "naive":
        result = np.empty((len(tokens), len(weights)), dtype=np.int32)
        padded = pad_features(weights, group_size, block)
        weight_indices(weights, group_size, block)  # refuses weights that are not ternary
        _select_and_add(pad_features(tokens, group_size, block), padded, result)
    else:
        indices = weight_indices(weights, group_size, block)
        result = lookup_matmul(tokens, indices, method, group_size)
    return result.reshape(*x.shape[:-1], len(weights))


def lookup_matmul(
    x: NDArray[np.int8], indices: NDArray[np.uint8], method: str = "full", group_size: int = 3
) -> NDArray[np.int32]:
    """Multiply by a matrix that is already encoded as table indices.

    Parameters
    ----------
    x : ndarray of int8, shape (tokens, K)
        Padded with zeros to the length of the rows of `indices`.
    indices : ndarray of uint8, shape (N, K_padded / G)
        From `weight_indices` with the same group size.
    method : str
        ``half`` or ``full``.
    group_size : int
        G, from 1 to 5.

    Returns
    -------
    ndarray of int32, shape (tokens, N)

    Raises
    ------
    InputError
        Unknown method, shapes that do not fit, or an index beyond the table.
    """
    if method not in ("half", "full"):
        raise InputError(f"method = {method!r}; half or full is needed")
    tokens = pad_features(x, group_size, max(1, indices.shape[1]) * group_size)
    if tokens.shape[1] != indices.shape[1] * group_size:
        raise InputError(f"x of shape {x.shape} does not fit indices of shape {indices.shape}")
    if indices.size and indices.max() >= 3**group_size:
        raise InputError(f"indices: values below {3**group_size} are needed")
    result = np.empty((len(tokens), len(indices)), dtype=np.int32)
    lookup = _look_up_half if method == "half" else _look_up_full
    # token by token, as the engine does: one token's tables are all that exist at a time
    for token, row in zip(tokens, result, strict=True):
        lookup(build_tables(token, group_size, half=method == "half"), indices, row)
    return result


def int_matmul(x: NDArray[np.int8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """Multiply INT8 activations by an INT8 matrix, exactly; the fast path of a network.

    Integer loops, compiled: no BLAS, whose threads cost more than they bring at these sizes.

    Parameters
    ----------
    x : ndarray of int8, shape (..., K)
    weights : ndarray of int8, shape (N, K)
        Ternary weights or the rows of an INT8 LM head.

    Returns
    -------
    ndarray of int32, shape (..., N)
        Exact for K up to 2^17.

    Raises
    ------
    InputError
        Shapes or types do not fit.
    """
    _check(x, weights)
    tokens = x.reshape(-1, x.shape[-1])
    result = np.empty((len(tokens), len(weights)), dtype=np.int32)
    _multiply(np.ascontiguousarray(tokens), np.ascontiguousarray(weights), result)
    return result.reshape(*x.shape[:-1], len(weights))


def _check(x: NDArray[np.int8], weights: NDArray[np.int8]) -> None:
    if x.dtype != np.int8 or weights.dtype != np.int8:
        raise InputError(f"int8 is needed, found x {x.dtype} and weights {weights.dtype}")
    if x.ndim < 1 or weights.ndim != 2 or x.shape[-1] != weights.shape[1]:
        raise InputError(
            f"x of shape {x.shape} does not fit weights of shape {weights.shape}: "
            "(..., K) and (N, K) are needed"
        )


@njit(cache=True)
def _multiply(tokens, weights, result):  # type: ignore[no-untyped-def]
    for n in range(weights.shape[0]):
        for i in range(tokens.shape[0]):
            total = np.int32(0)
            for k in range(weights.shape[1]):
                # the casts keep numba from widening to 64 bits
                product = np.int32(np.int32(tokens[i, k]) * np.int32(weights[n, k]))
                total = np.int32(total + product)
            result[i, n] = total


@njit(cache=True)
def _select_and_add(tokens, weights, result):  # type: ignore[no-untyped-def]
    for i in range(tokens.shape[0]):
        for n in range(weights.shape[0]):
            total = np.int32(0)
            for k in range(weights.shape[1]):
                if weights[n, k] > 0:
                    total += tokens[i, k]
                elif weights[n, k] < 0:
                    total -= tokens[i, k]
            result[i, n] = total


@njit(cache=True)
def _look_up_full(tables, indices, result):  # type: ignore[no-untyped-def]
    for n in range(indices.shape[0]):
        total = np.int32(0)
        for t in range(indices.shape[1]):
            total += tables[t, indices[n, t]]
        result[n] = total


@njit(cache=True)
def _look_up_half(tables, indices, result):  # type: ignore[no-untyped-def]
    entries = tables.shape[1]
    for n in range(indices.shape[0]):
        total = np.int32(0)
        for t in range(indices.shape[1]):
            index = indices[n, t]
            if index > entries:
                total -= tables[t, index - entries - 1]
            elif index > 0:
                total += tables[t, index - 1]
        result[n] = total
