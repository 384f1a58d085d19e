"""Table-lookup encoding of ternary weights: patterns, indices and tables of partial sums."""

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["build_tables", "group_patterns", "pad_features", "weight_indices"]

MAX_GROUP_SIZE = 5
"""3^5 = 243 entries still have an index of one byte."""


@cache
def group_patterns(group_size: int) -> NDArray[np.int8]:
    """Return the ternary pattern behind each index of a lookup table.

    Index 0 is the zero pattern. Of each pair {p, -p} the representative has fewer -1 than +1;
    of a tie, the one whose first nonzero is +1. Representatives stand at 1..(3^G-1)/2, ordered
    by number of nonzeros, then their positions, then number of -1, then the tuple of
    minus flags over the nonzeros; ``index(-p) = index(p) + (3^G-1)/2``. For G = 3 this is the
    table of TeLLMe's release (paper section 3.1).

    Parameters
    ----------
    group_size : int
        G, from 1 to 5.

    Returns
    -------
    ndarray of int8, shape (3**G, G), read-only

    Raises
    ------
    InputError
        `group_size` is out of range.
    """
    _check_group_size(group_size)
    representatives = sorted(
        (p for p in product((-1, 0, 1), repeat=group_size) if _is_representative(p)),
        key=_order,
    )
    half = np.array(representatives, dtype=np.int8).reshape(-1, group_size)
    patterns = np.concatenate([np.zeros((1, group_size), dtype=np.int8), half, -half])
    patterns.flags.writeable = False
    return patterns


def _check_group_size(group_size: int) -> None:
    if type(group_size) is not int or not 1 <= group_size <= MAX_GROUP_SIZE:
        raise InputError(
            f"group_size = {group_size!r}; an integer from 1 to {MAX_GROUP_SIZE} is needed"
        )


def _is_representative(pattern: tuple[int, ...]) -> bool:
    plus, minus = pattern.count(1), pattern.count(-1)
    if plus != minus:
        return minus < plus
    first = next((value for value in pattern if value), 0)
    return first > 0


def _order(pattern: tuple[int, ...]) -> tuple[object, ...]:
    positions = tuple(i for i, value in enumerate(pattern) if value)
    minus_flags = tuple(pattern[i] < 0 for i in positions)
    return len(positions), positions, sum(minus_flags), minus_flags


def pad_features(
    values: NDArray[np.int8], group_size: int, block: int | None = None
) -> NDArray[np.int8]:
    """Pad the last axis with zeros to a multiple of G, and of `block` if given.

    Parameters
    ----------
    values : ndarray of int8, shape (..., K)
    group_size : int
        G, from 1 to 5.
    block : int, optional
        Rows per block, a multiple of G (TeLLMe: 84 = 28 tables of 3).

    Raises
    ------
    InputError
        `group_size` is out of range or does not divide `block`.
    """
    _check_group_size(group_size)
    multiple = group_size if block is None else block
    if multiple < 1 or multiple % group_size:
        raise InputError(f"block = {block!r}; a multiple of group_size = {group_size} is needed")
    missing = -values.shape[-1] % multiple
    if not missing:
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])


def weight_indices(
    weights: NDArray[np.int8], group_size: int, block: int | None = None
) -> NDArray[np.uint8]:
    """Encode ternary weights as table indices.

    Parameters
    ----------
    weights : ndarray of int8, shape (N, K)
        Values -1, 0 or 1; K is padded with zeros as in `pad_features`.
    group_size : int
        G, from 1 to 5.
    block : int, optional
        As in `pad_features`.

    Returns
    -------
    ndarray of uint8, shape (N, K_padded / G)

    Raises
    ------
    InputError
        A weight is not ternary, or the group size is out of range.
    """
    if weights.dtype != np.int8 or weights.ndim != 2:
        raise InputError("weights: an int8 array of shape (outputs, inputs) is needed")
    if weights.size and (weights.min() < -1 or weights.max() > 1):
        raise InputError("weights: only -1, 0 and 1 are ternary")
    padded = pad_features(weights, group_size, block)
    groups = padded.reshape(len(weights), -1, group_size).astype(np.int16)
    powers = 3 ** np.arange(group_size, dtype=np.int16)
    codes = (groups + 1) @ powers
    return np.asarray(_index_of_code(group_size)[codes], dtype=np.uint8)


@cache
def _index_of_code(group_size: int) -> NDArray[np.uint8]:
    """Map the base-3 code of a pattern (first weight least significant) to its index."""
    codes = (group_patterns(group_size).astype(np.int16) + 1) @ (3 ** np.arange(group_size))
    result = np.empty(3**group_size, dtype=np.uint8)
    result[codes] = np.arange(3**group_size)
    return result


def build_tables(
    activations: NDArray[np.int8], group_size: int, *, half: bool = False
) -> NDArray[np.int16]:
    """Build the tables of partial sums for already padded activations.

    Parameters
    ----------
    activations : ndarray of int8, shape (..., K) with K a multiple of G
    group_size : int
        G, from 1 to 5.
    half : bool
        Keep only the representatives: entry e is then index e + 1 of the full table.

    Returns
    -------
    ndarray of int16, shape (..., K / G, entries)
        3^G entries, or (3^G - 1) / 2 with `half`; no larger than 128 G.
    """
    patterns = group_patterns(group_size).astype(np.int16)
    if half:
        patterns = patterns[1 : 1 + len(patterns) // 2]
    groups = activations.reshape(*activations.shape[:-1], -1, group_size).astype(np.int16)
    return groups @ patterns.T
