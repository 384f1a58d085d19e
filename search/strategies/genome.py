"""Points as genomes: one position per axis that has a choice, repaired to what the rules allow."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from headrace.search.space import Block, Space

__all__ = ["Genome"]


class Genome:
    """Translates between indices of a space and positions along its axes.

    A strategy that mixes and moves points needs axes one by one, in their natural order, while
    the space numbers the allowed combinations of each block of tied axes. So a gene is the
    position of an axis' value among those that occur, in ascending order, and a combination that
    the rules forbid stands for the nearest one that they allow: the one in which the fewest axes
    differ, among these the one with the smallest shift (each axis counted from 0 to 1), among
    these the first in the space. This never fails and involves no chance.

    Parameters
    ----------
    space : Space

    Attributes
    ----------
    axes : tuple of int
        Those with at least two values; a genome has one gene for each of them.
    sizes : int64 array, shape (genes,)
        Values per gene.
    ordered : bool array, shape (genes,)
        Whether the order of the values means something: false for names.
    """

    def __init__(self, space: Space):
        self._space = space
        tables = {axis: b.table[:, i] for b in space.blocks for i, axis in enumerate(b.axes)}
        self._levels = [np.unique(tables[axis]) for axis in range(len(space.axes))]
        self.axes = tuple(a for a, levels in enumerate(self._levels) if len(levels) > 1)
        self.sizes = np.array([len(self._levels[a]) for a in self.axes], np.int64)
        self.ordered = np.array([type(space.axes[a].default) is not str for a in self.axes], bool)
        gene = {axis: i for i, axis in enumerate(self.axes)}
        self._blocks = [_BlockGenes(block, self._levels, gene) for block in space.blocks]

    def __len__(self) -> int:
        return len(self.axes)

    def genes(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the genomes of points, shape (n, genes)."""
        rows = self._space.rows(indices)
        columns = [np.searchsorted(self._levels[a], rows[:, a]) for a in self.axes]
        return np.array(columns, np.int64).reshape(len(self.axes), len(rows)).T

    def indices(
        self, genes: NDArray[np.int64], firm: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Return the indices of genomes, repaired where rules forbid them.

        Parameters
        ----------
        genes : int64 array, shape (n, genes)
            Positions outside of an axis count as its nearest end.
        firm : bool array, shape (n, genes), optional
            Genes that a repair changes only if it has to.
        """
        genes = np.clip(genes, 0, self.sizes - 1)
        firm = np.zeros(genes.shape, np.bool_) if firm is None else firm
        index = np.zeros(len(genes), np.int64)
        for block in self._blocks:
            index = index * block.size + block.entries(genes, firm)
        return index


class _BlockGenes:
    """The genes of one block and which of their combinations are allowed."""

    def __init__(self, block: Block, levels: list[NDArray[np.float64]], gene: dict[int, int]):
        self.size = len(block.table)
        members = [(i, a) for i, a in enumerate(block.axes) if a in gene]
        self._genes = [gene[a] for _, a in members]
        self._radix = tuple(len(levels[a]) for _, a in members)
        columns = [np.searchsorted(levels[a], block.table[:, i]) for i, a in members]
        self._table = np.array(columns, np.int64).reshape(len(members), self.size).T
        packed = self._pack(self._table)
        self._order = np.argsort(packed)
        self._packed = packed[self._order]
        self._complete = self.size == prod(self._radix)
        self._repaired: dict[tuple[int, bytes], int] = {}

    def _pack(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        code = np.zeros(len(positions), np.int64)
        for column, size in enumerate(self._radix):
            code = code * size + positions[:, column]
        return code

    def entries(self, genes: NDArray[np.int64], firm: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the entries of the block's table for whole genomes."""
        positions, firm = genes[:, self._genes], firm[:, self._genes]
        wanted = self._pack(positions)
        place = np.minimum(np.searchsorted(self._packed, wanted), self.size - 1)
        entry = self._order[place]
        if not self._complete:
            for row in np.flatnonzero(self._packed[place] != wanted):
                key = (int(wanted[row]), firm[row].tobytes())
                if key not in self._repaired:
                    self._repaired[key] = self._nearest(positions[row], firm[row])
                entry[row] = self._repaired[key]
        return entry

    def _nearest(self, position: NDArray[np.int64], firm: NDArray[np.bool_]) -> int:
        away = np.abs(self._table - position)
        weight = np.where(firm, len(firm) + 1, 1)
        shift = away @ (1 / (np.array(self._radix) * len(firm)))  # below 1
        return int(np.argmin((away > 0) @ weight + shift))
