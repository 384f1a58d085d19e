"""Exact Pareto fronts of many points, chunk by chunk."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["Front", "pareto_front"]

_START = 256


class Front:
    """The Pareto front of all rows seen so far; memory grows with the front alone.

    Costs are minimised. A row dominates another if it is nowhere greater and somewhere less. Of
    rows that are equal everywhere the one with the lowest id stays, so the front does not depend
    on how rows are cut into chunks or in which order these come. Rows with a NaN or plus infinity
    are left out.

    Parameters
    ----------
    dimensions : int
        Costs per row, at least 1.
    """

    def __init__(self, dimensions: int):
        if dimensions < 1:
            raise InputError(f"dimensions = {dimensions} is not allowed: at least 1")
        self._costs = np.empty((_START, dimensions))
        self._ids = np.empty(_START, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def update(self, costs: NDArray[np.float64], ids: NDArray[np.int64]) -> None:
        """Take rows into account.

        Parameters
        ----------
        costs : float64 array, shape (n, dimensions)
        ids : int64 array, shape (n,)
            What a row is called afterwards. A row that comes again changes nothing.
        """
        if costs.ndim != 2 or costs.shape[1] != self._costs.shape[1] or len(ids) != len(costs):
            raise InputError(
                f"costs of shape {costs.shape} with {len(ids)} ids are not allowed: "
                f"(n, {self._costs.shape[1]}) with n ids"
            )
        costs, ids = np.ascontiguousarray(costs, np.float64), np.ascontiguousarray(ids, np.int64)
        row = 0
        while row < len(costs):
            row, self._size = _insert(costs, ids, row, self._costs, self._ids, self._size)
            if self._size == len(self._ids):
                self._costs = np.concatenate([self._costs, np.empty_like(self._costs)])
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the front in ascending order."""
        return np.sort(self._ids[: self._size])

    @property
    def costs(self) -> NDArray[np.float64]:
        """Costs of the front, shape (n, dimensions), in the order of `ids`."""
        return self._costs[: self._size][np.argsort(self._ids[: self._size])]


def pareto_front(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices of the rows on the Pareto front, ascending.

    Parameters
    ----------
    costs : float64 array, shape (n, dimensions)
        To be minimised; ties and NaN as in `Front`.
    """
    front = Front(costs.shape[1])
    front.update(costs, np.arange(len(costs)))
    return front.ids


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _insert(
    costs: NDArray[np.float64],
    ids: NDArray[np.int64],
    row: int,
    front: NDArray[np.float64],
    front_ids: NDArray[np.int64],
    size: int,
) -> tuple[int, int]:
    """Insert rows from `row` on until the front's arrays are full; return next row and size."""
    rows, dimensions = costs.shape
    while row < rows and size < len(front_ids):
        usable = True
        for d in range(dimensions):
            usable &= costs[row, d] < np.inf
        at = 0
        while usable and at < size:
            better, worse = False, False
            for d in range(dimensions):
                better |= costs[row, d] < front[at, d]
                worse |= costs[row, d] > front[at, d]
            if better and not worse:
                size -= 1
                front[at] = front[size]
                front_ids[at] = front_ids[size]
                continue
            if not better:
                usable = not worse and ids[row] < front_ids[at]
                if usable:
                    front_ids[at] = ids[row]
                # A row that dominates one point often dominates the next: let it be met earlier.
                _swap(front, front_ids, at, at // 2)
                usable = False
                break
            at += 1
        if usable:
            front[size] = costs[row]
            front_ids[size] = ids[row]
            size += 1
        row += 1
    return row, size


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _swap(front: NDArray[np.float64], ids: NDArray[np.int64], a: int, b: int) -> None:
    """Exchange two entries of the front."""
    for d in range(front.shape[1]):
        front[a, d], front[b, d] = front[b, d], front[a, d]
    ids[a], ids[b] = ids[b], ids[a]
