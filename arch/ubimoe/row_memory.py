"""Sizes of the row memories between UbiMoE's kernels."""

from dataclasses import dataclass

__all__ = ["RowMemorySizes"]


@dataclass(frozen=True, kw_only=True)
class RowMemorySizes:
    """A memory of rows: word b of row t at b rows + t, so that no multiplier makes addresses.

    Parameters
    ----------
    rows : int
        Most rows.
    tiles : int
        Words of a row.
    word_bits : int
        Bits of a word.
    lanes : int
        Rows of a group, as they come: for each word of a row the rows of the group.
    """

    rows: int
    tiles: int
    word_bits: int
    lanes: int

    @property
    def words(self) -> int:
        """Words in all."""
        return self.rows * self.tiles
