"""Sizes of UbiMoE's linear kernel (docs/ubimoe-kernels.md, "linear")."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.arch.tree import TREE_LEVELS_PER_STAGE
from headrace.arch.ubimoe.formats import WIDE_FRACTION, Formats
from headrace.arch.ubimoe.functions import GELU_LATENCY
from headrace.errors import InputError

__all__ = ["BIAS_BITS", "LinearSizes"]

BIAS_BITS = 16
"""Bits of a bias in the weight image."""

_PRODUCT_STAGES = 2  # registers behind a multiplier, both inside a DSP
_LARGEST = 65535  # commands carry 16 bits


@dataclass(frozen=True, kw_only=True)
class LinearSizes:
    """Sizes of one linear kernel, and its cycles.

    Parameters
    ----------
    formats : Formats
        Operands and weights.
    tile_in, tile_out : int
        T_in inputs and T_out outputs of a weight tile.
    lanes : int
        N_L rows that share a weight tile.
    max_in_tiles, max_out_tiles : int
        Largest row and largest result, in tiles.
    max_tiles : int
        Weight tiles of one slot.
    slots : int
        Weight sets held, 1 or 2: with 2 one is filled while the other one computes.
    beat_bits : int
        Bits of a beat of weights.
    bias_fraction : int
        Fraction bits of the biases.
    gelu : bool
        Whether there are GELU units, T_out of them.
    ultra : bool
        Whether the device has URAM: memories of more than 512 words ask for it.

    Raises
    ------
    InputError
        A size is out of range.
    """

    formats: Formats
    tile_in: int
    tile_out: int
    lanes: int
    max_in_tiles: int
    max_out_tiles: int
    max_tiles: int
    slots: int
    beat_bits: int = 256
    bias_fraction: int
    gelu: bool = False
    ultra: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "tile_in": (1, 1024),
            "tile_out": (1, 1024),
            "lanes": (1, 256),
            "max_in_tiles": (1, _LARGEST),
            "max_out_tiles": (1, _LARGEST),
            "max_tiles": (1, self.max_in_tiles * self.max_out_tiles),
            "slots": (1, 2),
            "beat_bits": (8, 4096),
            "bias_fraction": (0, WIDE_FRACTION),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")

    @property
    def multipliers(self) -> int:
        """Multipliers, N_L T_in T_out."""
        return self.lanes * self.tile_in * self.tile_out

    @property
    def tile_bits(self) -> int:
        """Bits of a weight tile."""
        return self.tile_in * self.tile_out * self.formats.weight_bits

    @property
    def tile_beats(self) -> int:
        """Beats of a weight tile."""
        return -(-self.tile_bits // self.beat_bits)

    @property
    def bias_beats(self) -> int:
        """Beats of the biases of one output tile."""
        return -(-self.tile_out * BIAS_BITS // self.beat_bits)

    @property
    def term_bits(self) -> int:
        """Bits of a shifted product that matter, at most 32."""
        formats = self.formats
        return min(32, formats.operand_bits + formats.weight_bits - formats.product_shift)

    @property
    def tree_stages(self) -> int:
        """Register stages of an adder tree of T_in terms, ceil(ceil(log2 T_in) / 2)."""
        return -(-(self.tile_in - 1).bit_length() // TREE_LEVELS_PER_STAGE)

    @property
    def product_stages(self) -> int:
        """Register stages of a multiplier."""
        return _PRODUCT_STAGES

    @property
    def pipeline_cycles(self) -> int:
        """Cycles from the issue of a tile until its sums are added to the accumulators.

        One for the memories, two for the products, `tree_stages` for the trees.
        """
        return 1 + self.product_stages + self.tree_stages

    @property
    def gelu_cycles(self) -> int:
        """Cycles through the GELU units and the FIFO behind them; 0 without units."""
        return (GELU_LATENCY + 1) * self.gelu

    @property
    def gelu_places(self) -> int:
        """Places of the FIFO behind the GELU units: as few as let a beat pass every cycle."""
        return GELU_LATENCY + 2

    def load_beats(self, in_tiles: int, out_tiles: int) -> int:
        """Return the beats of a weight image; an undisturbed load takes one cycle more."""
        return out_tiles * (self.bias_beats + in_tiles * self.tile_beats)

    def group_rows(self, rows: int) -> list[int]:
        """Return the rows of every group of a computation."""
        full, rest = divmod(rows, self.lanes)
        return [self.lanes] * full + [rest] * (rest > 0)

    def compute_cycles(self, rows: Any, in_tiles: Any, out_tiles: Any) -> Any:
        """Return the cycles of a computation in an idle kernel whose weights are there.

        From the command to the last result, both included, no stream stalling. With P_g =
        out_tiles max(in_tiles, rows of group g), either every group computes while the next one is
        read, or reading is the bottleneck all along, or up to the last full group::

            1 + pipeline + gelu + in_tiles + rows of the last - max(in_tiles, rows of the last)
              + max over those three of (cycles of reading + the P_g that follow)

        Exact if in_tiles >= lanes and out_tiles > lanes. Otherwise up to 2 cycles per group are
        missing, where reading and computing take equally long and wait for each other.

        Parameters
        ----------
        rows, in_tiles, out_tiles : int or int array
            As in the command, at least 1; broadcast.
        """
        before = (rows - 1) // self.lanes  # groups before the last one
        last = rows - before * self.lanes
        full_period = out_tiles * np.maximum(in_tiles, self.lanes)
        last_period = out_tiles * np.maximum(in_tiles, last)
        first = np.minimum(rows, self.lanes)
        reading_first = first * in_tiles + before * full_period
        reading_full = before * self.lanes * in_tiles + np.minimum(before, 1) * full_period
        longest = np.maximum(np.maximum(reading_first, reading_full), rows * in_tiles)
        ends = in_tiles + last - np.maximum(in_tiles, last)
        return 1 + self.pipeline_cycles + self.gelu_cycles + ends + longest + last_period
