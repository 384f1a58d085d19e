"""Sizes of V-Rex's score-alignment unit (docs/vrex-units.md, "score_align")."""

from dataclasses import dataclass
from typing import Any

from headrace.arch.tree import TREE_LEVELS_PER_STAGE
from headrace.errors import InputError

__all__ = ["EXP_CYCLES", "ROWS_INSIDE", "SCORE_BITS", "TRANSFORMS", "ScoreAlignSizes"]

TRANSFORMS = ("raw", "relu", "exp")
"""What a command may ask for, by number."""

SCORE_BITS = 16
"""Bits of a score as it comes, bfloat16, and of an aligned one, an integer with its sign."""

ROWS_INSIDE = 16
"""Whole rows in the unit, at most: more than its pipelines hold, if each has one beat."""

EXP_CYCLES = 8
"""Cycles from a score and the largest one of its row to the exponential in its register."""

_SHIFT_CYCLES = 2  # from a score and its row's exponent: distance, shift


@dataclass(frozen=True, kw_only=True)
class ScoreAlignSizes:
    """Sizes of the unit in front of the threshold unit, and its cycles.

    Parameters
    ----------
    lanes : int
        Scores per beat; a power of two, 2 to 256.
    max_clusters : int
        Largest row, `lanes` to 65535.
    exp : bool
        Whether lanes have exponentials.

    Raises
    ------
    InputError
        A size is out of range.
    """

    lanes: int = 16
    max_clusters: int = 4096
    exp: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {"lanes": (2, 256), "max_clusters": (self.lanes, 2**16 - 1)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
        if self.lanes & (self.lanes - 1):
            raise InputError(f"lanes = {self.lanes} is not allowed: a power of two")

    @property
    def lane_bits(self) -> int:
        """Bits of the number of a lane."""
        return (self.lanes - 1).bit_length()

    @property
    def word_bits(self) -> int:
        """Bits of the number of a beat in its row."""
        return max(1, int(self.beats(self.max_clusters) - 1).bit_length())

    @property
    def memory_words(self) -> int:
        """Beats that the memory holds: two of the largest rows, and never less than 32."""
        return max(2 << self.word_bits, 32)

    @property
    def memory_bits(self) -> dict[str, int]:
        """Bits of each memory by name."""
        return {
            "scores": self.memory_words * (self.lanes * SCORE_BITS + 1),
            "tops": ROWS_INSIDE * (9 + self.exp * (SCORE_BITS + 1)),
        }

    @property
    def tree_stages(self) -> int:
        """Registers in the tree that finds the largest score of a beat."""
        return -(-self.lane_bits // TREE_LEVELS_PER_STAGE)

    @property
    def latency(self) -> int:
        """Cycles from the last beat of a row to its first aligned beat, if none is in the way.

        The tree; the row's largest score, its exponent; `read_cycles`.
        """
        return self.tree_stages + 2 + self.read_cycles

    @property
    def read_cycles(self) -> int:
        """Cycles from the address of a beat to the aligned one, whatever the transform."""
        return 1 + (EXP_CYCLES if self.exp else _SHIFT_CYCLES)

    def beats(self, clusters: Any) -> Any:
        """Return the beats of a row of so many clusters (int or int array)."""
        return -(-clusters // self.lanes)

    def cycles(self, clusters: int, rows: int) -> int:
        """Return the cycles from a command to its last aligned beat, both included.

        Nothing stalls, and the unit is empty before. The next command is taken in the cycle after
        the last beat of scores: 1 + rows * beats cycles after this one.

        Parameters
        ----------
        clusters, rows : int
            At least 1 each.
        """
        return int(self.beats(clusters)) * (rows + 1) + self.latency
