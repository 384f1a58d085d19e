"""Exact Pareto fronts of many points, chunk by chunk.

A front is kept as a k-d tree in one array: the points of a node lie side by side, halved by one
cost after the other, and the node knows the least of each cost below it. A row is compared with
the points of a node only if none of these is greater than its own; most rows end even before, at
a point that dominated a row just before. Rows that nothing dominates wait until there are enough
of them, then they are cleared of each other, the front of what they dominate, and joined to it.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["Front", "pareto_front"]

_LEAST_WAITING = 2048
_SCANNED = 256
"""Rows that are compared each with each rather than through a tree."""
_LEAF = 8
_ROWS_PER_BLOCK = 256
_RECENT = 4
_DEEPEST = 48

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


class _Tree(NamedTuple):
    """Points of a front; node n has the children 2 n and 2 n + 1, node 1 is the root.

    Parameters
    ----------
    costs : float64 array, shape (points, dimensions)
    ids : int64 array, shape (points,)
    least : float64 array, shape (nodes + 1, dimensions)
        Least costs below each node. Level l has 2^l nodes, node j of it holds the points from
        ``j * points >> l`` on; all leaves are on the last level.
    """

    costs: Floats
    ids: Ids
    least: Floats


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
        self._tree = _planted(np.empty((0, dimensions)), np.empty(0, np.int64))
        self._waiting: list[tuple[Floats, Ids]] = []

    def __len__(self) -> int:
        return len(self._joined().ids)

    def copy(self) -> "Front":
        """Return a front that goes its own way from here."""
        other = Front(self._tree.costs.shape[1])
        other._tree = self._joined()
        return other

    def update(self, costs: Floats, ids: Ids) -> None:
        """Take rows into account.

        Parameters
        ----------
        costs : float64 array, shape (n, dimensions)
        ids : int64 array, shape (n,)
            What a row is called afterwards. A row that comes again changes nothing.
        """
        dimensions = self._tree.costs.shape[1]
        if costs.ndim != 2 or costs.shape[1] != dimensions or len(ids) != len(costs):
            raise InputError(
                f"costs of shape {costs.shape} with {len(ids)} ids are not allowed: "
                f"(n, {dimensions}) with n ids"
            )
        costs, ids = np.ascontiguousarray(costs, np.float64), np.ascontiguousarray(ids, np.int64)
        first = 0
        while first < len(ids):
            most = max(_LEAST_WAITING, len(self._tree.ids) // 2)
            last = first + 2 * most
            self._waiting.append(_undominated(self._tree, costs[first:last], ids[first:last]))
            first = last
            if sum(len(w) for _, w in self._waiting) >= most:
                self._joined()

    @property
    def ids(self) -> Ids:
        """Ids of the front in ascending order."""
        return np.sort(self._joined().ids)

    @property
    def costs(self) -> Floats:
        """Costs of the front, shape (n, dimensions), in the order of `ids`."""
        tree = self._joined()
        return tree.costs[np.argsort(tree.ids)]

    def _joined(self) -> _Tree:
        """Let the rows that wait join the front."""
        waiting = [w for w in self._waiting if len(w[1])]
        self._waiting = []
        if waiting:
            fresh = _lexical(np.concatenate([w[0] for w in waiting]),
                             np.concatenate([w[1] for w in waiting]))  # fmt: skip
            fresh = _reduced(*fresh)
            old = _undominated(_planted(*fresh), self._tree.costs, self._tree.ids)
            self._tree = _planted(
                np.concatenate([old[0], fresh[0]]), np.concatenate([old[1], fresh[1]])
            )
        return self._tree


def pareto_front(costs: Floats) -> Ids:
    """Return the indices of the rows on the Pareto front, ascending.

    Parameters
    ----------
    costs : float64 array, shape (n, dimensions)
        To be minimised; ties and NaN as in `Front`.
    """
    front = Front(costs.shape[1])
    front.update(costs, np.arange(len(costs)))
    return front.ids


def _lexical(costs: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """Sort rows by first cost, second cost ..., id: none is dominated by a later one."""
    order = np.lexsort((ids, *reversed(costs.T)))
    return costs[order], ids[order]


def _reduced(costs: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """Return the front of rows in lexical order, in that order."""
    if len(ids) <= _SCANNED:
        kept = _scanned(costs)
        return costs[kept], ids[kept]
    half = len(ids) // 2
    first = _reduced(costs[:half], ids[:half])
    second = _reduced(*_undominated(_planted(*first), costs[half:], ids[half:]))
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def _planted(costs: Floats, ids: Ids) -> _Tree:
    """Return the tree of points none of which dominates another."""
    levels = max(0, (max(1, len(ids)) - 1) // _LEAF).bit_length()
    order, least = _halved(costs, levels)
    return _Tree(costs[order], ids[order], least)


def _undominated(tree: _Tree, costs: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """Return the rows that are finite and that no point of the tree dominates."""
    kept = np.empty(len(ids), np.bool_)
    _compare(costs, ids, *tree, kept)
    return costs[kept], ids[kept]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _scanned(costs: Floats) -> NDArray[np.bool_]:
    """Return which rows no earlier one dominates or equals; rows are in lexical order."""
    rows, dimensions = costs.shape
    kept = np.zeros(rows, np.bool_)
    front = np.empty(rows, np.int64)
    size = 0
    for row in range(rows):
        at = size - 1
        while at >= 0:
            below = True
            for d in range(dimensions):
                below &= costs[front[at], d] <= costs[row, d]
            if below:
                break
            at -= 1
        if at < 0:
            kept[row] = True
            front[size] = row
            size += 1
    return kept


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _halved(costs: Floats, levels: int) -> tuple[Ids, Floats]:
    """Return the order of the points in a tree of that many levels, and the nodes' least costs."""
    points, dimensions = costs.shape
    order = np.arange(points)
    least = np.full((2 << levels, dimensions), np.inf)
    for level in range(levels):
        for node in range(1 << level):
            begin, end = node * points >> level, (node + 1) * points >> level
            middle = (2 * node + 1) * points >> level + 1
            _partition(costs[:, level % dimensions], order, begin, end, middle)
    for node in range(1 << levels):
        for i in range(node * points >> levels, (node + 1) * points >> levels):
            for d in range(dimensions):
                at = (1 << levels) + node
                least[at, d] = min(least[at, d], costs[order[i], d])
    for node in range((1 << levels) - 1, 0, -1):
        for d in range(dimensions):
            least[node, d] = min(least[2 * node, d], least[2 * node + 1, d])
    return order, least


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _partition(keys: Floats, order: Ids, begin: int, end: int, middle: int) -> None:
    """Arrange `order` from `begin` to `end` - 1: keys before `middle` are no greater than after."""
    while end - begin > 1:
        pivot = keys[order[(begin + end) // 2]]
        low, high = begin, end - 1
        while low <= high:
            while keys[order[low]] < pivot:
                low += 1
            while keys[order[high]] > pivot:
                high -= 1
            if low <= high:
                order[low], order[high] = order[high], order[low]
                low += 1
                high -= 1
        if middle <= high:
            end = high + 1
        elif middle >= low:
            begin = low
        else:
            return


@njit(inline="always")  # type: ignore[untyped-decorator]
def _beats(costs: Floats, ids: Ids, at: int, rows: Floats, row_ids: Ids, row: int) -> bool:
    """Whether point `at` dominates a row, or equals it and has no greater id."""
    less = False
    for d in range(costs.shape[1]):
        if costs[at, d] > rows[row, d]:
            return False
        less |= costs[at, d] < rows[row, d]
    return less or ids[at] <= row_ids[row]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _dominator(
    rows: Floats, row_ids: Ids, row: int, costs: Floats, ids: Ids, least: Floats, stack: Ids
) -> int:
    """Return the place of a point of the tree that beats a row, or -1."""
    points, dimensions = costs.shape
    leaves = len(least) >> 1
    stack[0] = 1
    size = 1
    while size > 0:
        size -= 1
        node = stack[size]
        open_ = True
        for d in range(dimensions):
            open_ &= least[node, d] <= rows[row, d]
        if not open_:
            continue
        if node < leaves:
            stack[size] = 2 * node + 1
            stack[size + 1] = 2 * node
            size += 2
            continue
        leaf = node - leaves
        for at in range(leaf * points // leaves, (leaf + 1) * points // leaves):
            if _beats(costs, ids, at, rows, row_ids, row):
                return at
    return -1


@njit(cache=True, nogil=True, parallel=True)  # type: ignore[untyped-decorator]
def _compare(
    rows: Floats, row_ids: Ids, costs: Floats, ids: Ids, least: Floats, kept: NDArray[np.bool_]
) -> None:
    """Fill `kept`: whether a row is finite and no point of the tree beats it."""
    blocks = (len(rows) + _ROWS_PER_BLOCK - 1) // _ROWS_PER_BLOCK
    for block in prange(blocks):
        recent = np.zeros(_RECENT, np.int64)
        stack = np.empty(_DEEPEST, np.int64)
        first = block * _ROWS_PER_BLOCK
        for row in range(first, min(len(rows), first + _ROWS_PER_BLOCK)):
            usable = True
            for d in range(rows.shape[1]):
                usable &= rows[row, d] < np.inf
            kept[row] = usable
            if not usable or len(ids) == 0:
                continue
            found = -1
            for k in range(_RECENT):
                if _beats(costs, ids, recent[k], rows, row_ids, row):
                    found = recent[k]
                    break
            else:
                k = _RECENT - 1
                found = _dominator(rows, row_ids, row, costs, ids, least, stack)
            if found >= 0:
                kept[row] = False
                while k > 0:
                    recent[k] = recent[k - 1]
                    k -= 1
                recent[0] = found
