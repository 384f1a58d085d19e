"""Sizes of UbiMoE's combine (docs/ubimoe-kernels.md, "combine")."""

from dataclasses import dataclass

from headrace.arch.ubimoe.formats import Formats
from headrace.errors import InputError

__all__ = ["ADD_CYCLES", "CombineSizes"]

ADD_CYCLES = 5
"""From a value to its sum: operands, two registers of the product, the read, the write."""


@dataclass(frozen=True, kw_only=True)
class CombineSizes:
    """Sizes of the combination of the experts' results with the residual, and its cycles.

    Parameters
    ----------
    formats : Formats
        Features.
    dims : int
        Values per beat and multipliers, the linear kernel's `tile_out`; 1 to 1024.
    row_beats : int
        Beats of a row, the linear kernel's output tiles; 1 to 65535.
    lanes : int
        Rows of a group, the linear kernel's `lanes`; 1 to 256.
    max_tokens : int
        Largest sequence, 1 to 65535.

    Raises
    ------
    InputError
        A size is out of range.
    """

    formats: Formats
    dims: int
    row_beats: int
    lanes: int
    max_tokens: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {"dims": 1024, "row_beats": 65535, "lanes": 256, "max_tokens": 65535}
        for name, most in ranges.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: 1 to {most}")

    def check_command(self, tokens: int, choices: int) -> None:
        """Raise InputError unless there may be a command of so many tokens and rows for each."""
        for name, value, most in (("tokens", tokens, self.max_tokens), ("choices", choices, 255)):
            if not 1 <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: 1 to {most}")

    @property
    def token_bits(self) -> int:
        """Bits of a token's number, at least 1."""
        return max(1, (self.max_tokens - 1).bit_length())

    @property
    def lane_bits(self) -> int:
        """Bits of a lane's number, at least 1."""
        return max(1, (self.lanes - 1).bit_length())

    @property
    def memory_words(self) -> int:
        """Words of the memory of features: beat b of token t is in word b max_tokens + t."""
        return self.max_tokens * self.row_beats

    @property
    def address_bits(self) -> int:
        """Bits of an address of that memory, at least 1."""
        return max(1, (self.memory_words - 1).bit_length())

    @property
    def memory_word_bits(self) -> int:
        """Bits of one of them."""
        return self.dims * self.formats.feature_bits

    def cycles(self, tokens: int, choices: int) -> int:
        """Return the cycles from the command to the last result, both included, without stalls.

        max(N row_beats, 2) + N choices row_beats + N row_beats + 6: the residual in, the values,
        the results out. The next command is accepted in the cycle of the last result.
        """
        row_cycles = tokens * self.row_beats
        return max(row_cycles, 2) + row_cycles * choices + row_cycles + ADD_CYCLES + 1
