"""Sizes and cycles of SN40L's memory unit (docs/sn40l-memory.md, "memory_unit")."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from headrace.errors import InputError

__all__ = ["COUNT_BITS", "READ_FILL", "WRITE_FILL", "MemoryUnitSizes"]

COUNT_BITS = 16
"""Bits of a number of iterations and of runs."""

WRITE_FILL = 6
"""Cycles besides the rounds: command, product, sum, lanes, places, token."""

READ_FILL = 5
"""Cycles besides the rounds: command, lanes, places, memory, result."""

_BUFFERS = 2


@dataclass(frozen=True, kw_only=True)
class MemoryUnitSizes:
    """Sizes of the memory unit, and its cycles.

    The capacity of the defaults, 512 KiB, is SN40L's (section 3, table 2). Banks, their width and
    the levels are not published: 64 bytes per cycle and direction in 16 banks.

    Parameters
    ----------
    banks : int
        Banks, and words of a vector; a power of two, 2 to 64.
    word_bits : int
        Bits of a word, 1 to 64.
    depth : int
        Words of a bank; a power of two, 2 to 65536.
    levels : int
        Nested counters of an address generator, 1 to 4.
    sequence_bits : int
        Bits of the sequence id of a vector packet, 1 to 16.
    address_bits : int
        Bits of an address of a tensor: more than those of a place in the unit, 32 at most.

    Raises
    ------
    InputError
        A size is out of range.
    """

    banks: int = 16
    word_bits: int = 32
    depth: int = 8192
    levels: int = 4
    sequence_bits: int = 16
    address_bits: int = 24

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, most in {"banks": 64, "depth": 65536}.items():
            value = getattr(self, name)
            if not 2 <= value <= most or value & (value - 1):
                raise InputError(
                    f"{name} = {value} is not allowed: a power of two from 2 to {most}"
                )
        ranges = {
            "word_bits": (1, 64),
            "levels": (1, 4),
            "sequence_bits": (1, 16),
            "address_bits": (self.place_bits + 1, 32),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")

    @property
    def bank_bits(self) -> int:
        """Bits of the number of a bank."""
        return self.banks.bit_length() - 1

    @property
    def row_bits(self) -> int:
        """Bits of the number of a word in its bank."""
        return self.depth.bit_length() - 1

    @property
    def place_bits(self) -> int:
        """Bits of a place: the number of a word in the unit."""
        return self.bank_bits + self.row_bits

    @property
    def shift_bits(self) -> int:
        """Bits of the number of a bit of a place."""
        return (self.place_bits - 1).bit_length()

    @property
    def words(self) -> int:
        """Words of the unit."""
        return self.banks * self.depth

    @property
    def memory_bits(self) -> int:
        """Bits of the banks."""
        return self.words * self.word_bits

    def write_cycles(self, rounds: ArrayLike) -> int:
        """Return the cycles from a write command to its last token, both included.

        No stream stalls and no run waits for a buffer. The next command is taken in the cycle of
        that token.

        Parameters
        ----------
        rounds : int array
            Cycles for which each vector has the banks (`MemoryProgram.rounds`).
        """
        return WRITE_FILL + int(np.sum(rounds))

    def read_cycles(self, rounds: ArrayLike) -> int:
        """Return the cycles from a read command to its last result, both included.

        Parameters are those of `write_cycles`. The last token comes a cycle before that result,
        and the next command is taken with it.
        """
        return READ_FILL + int(np.sum(rounds))

    def buffered_cycles(self, write_rounds: ArrayLike, read_rounds: ArrayLike) -> int:
        """Return the cycles from two buffered commands, taken at once, to the last result.

        No stream stalls. Run k is read when it is written; run k + 2 is written when run k is read.

        Parameters
        ----------
        write_rounds, read_rounds : int array, shape (runs, vectors)
            Cycles for which each vector has the banks. Shapes may differ in the vectors.
        """
        written, read = (
            np.asarray(rounds, np.int64).sum(axis=-1) for rounds in (write_rounds, read_rounds)
        )
        write_end, read_end = 0, [0] * _BUFFERS
        for write_busy, read_busy in zip(written, read, strict=True):
            room = read_end[-_BUFFERS] + 1
            write_end = max(write_end + 1, room + WRITE_FILL - 2) + int(write_busy) - 1
            start = max(read_end[-1] + 1, write_end + READ_FILL - 2)
            read_end.append(start + int(read_busy) - 1)
        return read_end[-1] + 3
