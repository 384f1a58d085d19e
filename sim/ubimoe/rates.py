"""Rates of firings that belong together in runs."""

from collections.abc import Sequence

import numpy as np

from headrace.sim.graph import IntArray

__all__ = ["firsts", "lasts"]


def firsts(lengths: Sequence[int]) -> IntArray:
    """Return 1 at the first of each run of firings, 0 elsewhere.

    Parameters
    ----------
    lengths : sequence of int
        Firings of each run; at least 1.

    Returns
    -------
    int64 array, shape (sum of lengths,)
    """
    rates = np.zeros(sum(lengths), np.int64)
    rates[np.cumsum([0, *lengths[:-1]])] = 1
    return rates


def lasts(lengths: Sequence[int]) -> IntArray:
    """Return 1 at the last of each run of firings, 0 elsewhere; see `firsts`."""
    rates = np.zeros(sum(lengths), np.int64)
    rates[np.cumsum(lengths) - 1] = 1
    return rates
