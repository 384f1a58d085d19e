"""Programs of the memory unit's address generators (docs/sn40l-memory.md, "memory_unit")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.sn40l.memory_unit import COUNT_BITS, MemoryUnitSizes
from headrace.errors import InputError

__all__ = ["MemoryProgram"]


@dataclass(frozen=True, kw_only=True)
class MemoryProgram:
    """What one address generator does with one command.

    A run is a nest of counters, the first one innermost; each iteration is a vector, whose lane j
    has the address ``base + sum(index * stride) + j * lane_stride``, plus ``sequence *
    sequence_stride`` when a packet is written. An address below `limit` is at the place ``origin +
    address``; any other one is not written, and read as 0.

    Parameters
    ----------
    counts, strides : tuple of int
        Iterations (1 to 65536) and stride of each counter, as many as the unit has or fewer.
    limit : int
        Addresses with a place, 0 to all words of the unit.
    base, lane_stride, sequence_stride : int
        As above, like the strides signed; addresses wrap at the unit's `address_bits`.
    origin : int
        Place of address 0; places wrap at the end of the unit.
    runs : int
        Times that the nest is run, 1 to 65536.
    flip : int
        Bits of `origin` that are inverted in every second run: the other buffer.
    bank_shift : int
        Lowest of the adjacent bits of a place that select the bank.
    stripe_shift : int, optional
        Lowest of the equally many bits that are added to them, without a carry out: diagonal
        stripes. They share no bit with the others.
    buffered : bool
        Whether runs wait for a buffer: of writes for one that is free, of reads for a full one.
    """

    counts: tuple[int, ...]
    strides: tuple[int, ...]
    limit: int
    base: int = 0
    lane_stride: int = 1
    sequence_stride: int = 0
    origin: int = 0
    runs: int = 1
    flip: int = 0
    bank_shift: int = 0
    stripe_shift: int | None = None
    buffered: bool = False

    @property
    def vectors(self) -> int:
        """Vectors of a run."""
        return int(np.prod(self.counts))

    def fields(self, sizes: MemoryUnitSizes) -> dict[str, Any]:
        """Return the fields of the command, as unsigned numbers, the lowest first.

        Parameters
        ----------
        sizes : MemoryUnitSizes

        Raises
        ------
        InputError
            A number is out of the range that `sizes` allow.
        """
        self._check(sizes)
        spare = [0] * (sizes.levels - len(self.counts))
        mask = (1 << sizes.address_bits) - 1
        return {
            "base": self.base & mask,
            "strides": [stride & mask for stride in (*self.strides, *spare)],
            "lasts": [count - 1 for count in self.counts] + spare,
            "lane_stride": self.lane_stride & mask,
            "limit": self.limit,
            "origin": self.origin,
            "flip": self.flip,
            "last_run": self.runs - 1,
            "bank_shift": self.bank_shift,
            "stripe_shift": self.stripe_shift or 0,
            "striped": int(self.stripe_shift is not None),
            "buffered": int(self.buffered),
            "sequence_stride": self.sequence_stride & mask,
        }

    def _check(self, sizes: MemoryUnitSizes) -> None:
        """Raise InputError unless the numbers are in their ranges."""
        levels = len(self.counts)
        if not 1 <= levels == len(self.strides) <= sizes.levels:
            raise InputError(
                f"{levels} counts and {len(self.strides)} strides are not allowed: as many of"
                f" both, 1 to {sizes.levels}"
            )
        half = 1 << sizes.address_bits - 1
        most = 1 << COUNT_BITS
        ranges = {f"counts[{i}]": (count, 1, most) for i, count in enumerate(self.counts)}
        ranges |= {f"strides[{i}]": (s, -half, half - 1) for i, s in enumerate(self.strides)}
        for name in ("base", "lane_stride", "sequence_stride"):
            ranges[name] = (getattr(self, name), -half, half - 1)
        ranges["limit"] = (self.limit, 0, sizes.words)
        ranges["runs"] = (self.runs, 1, most)
        for name in ("origin", "flip"):
            ranges[name] = (getattr(self, name), 0, sizes.words - 1)
        ranges["bank_shift"] = (self.bank_shift, 0, sizes.row_bits)
        if self.stripe_shift is not None:
            ranges["stripe_shift"] = (self.stripe_shift, 0, sizes.place_bits - 1)
        for name, (value, least, largest) in ranges.items():
            if not least <= value <= largest:
                raise InputError(f"{name} = {value} is not allowed: {least} to {largest}")
        if (
            self.stripe_shift is not None
            and abs(self.stripe_shift - self.bank_shift) < sizes.bank_bits
        ):
            raise InputError(
                f"stripe_shift = {self.stripe_shift} is not allowed: at least {sizes.bank_bits}"
                f" from bank_shift = {self.bank_shift}"
            )

    def addresses(
        self, sizes: MemoryUnitSizes, sequences: Sequence[int] | None = None
    ) -> NDArray[np.int64]:
        """Return the addresses of a run, shape (vectors, banks).

        Parameters
        ----------
        sizes : MemoryUnitSizes
        sequences : sequence of int, optional
            Sequence id of each packet of the run, if it is written; by default 0.
        """
        first = np.full(1, self.base, np.int64)
        for count, stride in zip(self.counts, self.strides, strict=True):
            first = (np.arange(count)[:, None] * stride + first).reshape(-1)
        if sequences is not None:
            first = first + np.asarray(sequences, np.int64) * self.sequence_stride
        lanes = np.arange(sizes.banks) * self.lane_stride
        return (first[:, None] + lanes) & ((1 << sizes.address_bits) - 1)

    def rounds(
        self, sizes: MemoryUnitSizes, sequences: Sequence[int] | None = None
    ) -> NDArray[np.int64]:
        """Return the cycles for which each vector has the banks, shape (runs, vectors).

        A bank serves one lane per cycle, so these are as many as the largest number of lanes that
        share a bank; at least 1.

        Parameters
        ----------
        sizes : MemoryUnitSizes
        sequences : sequence of int, optional
            Sequence ids of the packets of all runs, if they are written; by default 0.

        Raises
        ------
        InputError
            A number is out of the range that `sizes` allow, or there are too few packets.
        """
        self._check(sizes)
        runs = np.zeros((self.runs, self.vectors), np.int64)
        if sequences is not None:
            if len(sequences) != runs.size:
                raise InputError(f"{len(sequences)} packets are not allowed: {runs.size} needed")
            runs[:] = np.reshape(sequences, runs.shape)
        return np.array(
            [self._run_rounds(sizes, number, run.tolist()) for number, run in enumerate(runs)]
        )

    def _run_rounds(
        self, sizes: MemoryUnitSizes, number: int, sequences: Sequence[int]
    ) -> NDArray[np.int64]:
        addresses = self.addresses(sizes, sequences)
        origin = self.origin ^ (self.flip if number % 2 else 0)
        places = (addresses + origin) & (sizes.words - 1)
        banks = places >> self.bank_shift
        if self.stripe_shift is not None:
            banks = banks + (places >> self.stripe_shift)
        chosen = (banks & (sizes.banks - 1))[:, :, None] == np.arange(sizes.banks)
        hits = (chosen & (addresses < self.limit)[:, :, None]).sum(axis=1)
        rounds: NDArray[np.int64] = np.maximum(1, hits.max(axis=1))
        return rounds
