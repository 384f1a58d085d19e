"""Sizes of UbiMoE's layer norm (docs/ubimoe-kernels.md), and its cycles."""

from dataclasses import dataclass
from typing import Any

from headrace.arch.tree import TREE_LEVELS_PER_STAGE
from headrace.arch.ubimoe.formats import WIDE_FRACTION, Formats
from headrace.arch.ubimoe.functions import RSQRT_LATENCY
from headrace.errors import InputError

__all__ = ["PRODUCT_STAGES", "LayerNormSizes"]

PRODUCT_STAGES = 3
"""Registers behind a multiplication: products of 32 bits take four DSP slices."""

_LARGEST_WIDTH = 65535


@dataclass(frozen=True, kw_only=True)
class LayerNormSizes:
    """Sizes of one layer norm, and its cycles.

    Parameters
    ----------
    formats : Formats
        Features in, operands out.
    width : int
        D, features of a row.
    dims : int
        Features, and operands, of a beat; divides `width`.

    Raises
    ------
    InputError
        A size is out of range.
    """

    formats: Formats
    width: int
    dims: int

    def __post_init__(self) -> None:
        if not 1 <= self.width <= _LARGEST_WIDTH:
            raise InputError(f"width = {self.width} is not allowed: 1 to {_LARGEST_WIDTH}")
        if self.dims < 1 or self.width % self.dims:
            raise InputError(
                f"dims = {self.dims} is not allowed: a divisor of width = {self.width}"
            )

    @property
    def row_beats(self) -> int:
        """Beats of a row."""
        return self.width // self.dims

    @property
    def mean_factor(self) -> int:
        """Factor of the features in the mean, floor(2^22 / D)."""
        return (1 << WIDE_FRACTION) // self.width

    @property
    def tree_stages(self) -> int:
        """Registers in the adder tree over a beat: after every second level and the last one."""
        return -(-(self.dims - 1).bit_length() // TREE_LEVELS_PER_STAGE)

    @property
    def mean_latency(self) -> int:
        """Cycles from a row's last beat to its sums: the beat, two products, tree, accumulator."""
        return 1 + 2 * PRODUCT_STAGES + self.tree_stages + 1

    @property
    def scale_latency(self) -> int:
        """Cycles from a row's sums to 1 / sqrt(var + eps): a product, the variance, the root."""
        return PRODUCT_STAGES + 1 + RSQRT_LATENCY

    @property
    def statistics_latency(self) -> int:
        """Cycles from a row's last beat to the earliest reading of its first one."""
        return self.mean_latency + self.scale_latency + 1

    @property
    def normaliser_latency(self) -> int:
        """Cycles from a beat read to its result: difference, two products, offset, operand."""
        return 1 + 2 * PRODUCT_STAGES + 1 + 1

    @property
    def buffer_beats(self) -> int:
        """Beats of the row memory: those that wait in it at a beat per cycle, and no more."""
        return self.row_beats + self.statistics_latency

    @property
    def waiting_rows(self) -> int:
        """Most rows of the row memory with statistics: whole ones, and a part of one being read."""
        return -(-self.buffer_beats // self.row_beats)

    def cycles(self, tokens: Any) -> Any:
        """Return the cycles from the command to the last result, both included.

        (tokens + 1) row_beats and the latencies, if no stream ever stalls: rows go through without
        a gap, the first one after it has been read once for its statistics.

        Parameters
        ----------
        tokens : int or int array
            Rows, at least 1.
        """
        latency = self.statistics_latency + 1 + self.normaliser_latency
        return (tokens + 1) * self.row_beats + latency
