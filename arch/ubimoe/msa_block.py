"""Sizes of UbiMoE's MSA block (docs/ubimoe-kernels.md, "encoder_block")."""

from dataclasses import dataclass
from functools import cached_property

from headrace.arch.ubimoe.combine import ADD_CYCLES, CombineSizes
from headrace.arch.ubimoe.fed_linear import fed_linear
from headrace.arch.ubimoe.formats import Formats
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.row_memory import RowMemorySizes
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.errors import InputError

__all__ = ["MsaBlockSizes"]


@dataclass(frozen=True, kw_only=True)
class MsaBlockSizes:
    """Sizes of layer norm, QKV, attention, projection and residual as one block.

    Parameters
    ----------
    formats : Formats
    heads, head_dim : int
        As in `StreamingAttentionSizes`; the width D of a row is their product.
    max_tokens : int
        Largest sequence.
    dims : int
        T_a: features, and operands of the layer norm and the attention, of a beat.
    attention_lanes : int
        N_a, query rows in flight; a sequence is at least as long.
    tile_in, tile_out : int
        T_in and T_out of the linear. `tile_in` is a multiple or a divisor of `dims`; `tile_out`
        is a multiple, so that a memory read per beat is enough for the attention. Both divide D.
    linear_lanes : int
        N_L of the linear.
    beat_bits : int
        Bits of a beat of weights.
    exp_units : int
        Exponentials per lane of the attention.
    ultra : bool
        Whether the device has URAM (`LinearSizes`).

    Raises
    ------
    InputError
        A size is out of range.
    """

    formats: Formats
    heads: int
    head_dim: int
    max_tokens: int
    dims: int
    attention_lanes: int
    tile_in: int
    tile_out: int
    linear_lanes: int = 1
    beat_bits: int = 256
    exp_units: int = 1
    ultra: bool = True

    def __post_init__(self) -> None:
        """Check the ranges, those of the kernels too."""
        _ = self.attention, self.norm
        if self.tile_in < 1 or self.width % self.tile_in or not self._meets(self.tile_in):
            raise InputError(
                f"tile_in = {self.tile_in} is not allowed: a divisor of the width {self.width}, "
                f"and a multiple or a divisor of dims = {self.dims}"
            )
        if self.tile_out < 1 or self.width % self.tile_out or self.tile_out % self.dims:
            raise InputError(
                f"tile_out = {self.tile_out} is not allowed: a divisor of the width {self.width}, "
                f"and a multiple of dims = {self.dims}"
            )
        _ = self.linear, self.combine

    def _meets(self, tile: int) -> bool:
        return tile % self.dims == 0 or self.dims % tile == 0

    @property
    def width(self) -> int:
        """D, features of a row."""
        return self.heads * self.head_dim

    @property
    def row_beats(self) -> int:
        """Beats of a row of features."""
        return self.width // self.dims

    @property
    def in_tiles(self) -> int:
        """Tiles of a row at the input of a linear."""
        return self.width // self.tile_in

    @property
    def row_tiles(self) -> int:
        """Output tiles of a row of Q, K, V or the projection."""
        return self.width // self.tile_out

    @cached_property
    def norm(self) -> LayerNormSizes:
        """Sizes of the layer norm."""
        return LayerNormSizes(formats=self.formats, width=self.width, dims=self.dims)

    @cached_property
    def linear(self) -> LinearSizes:
        """Sizes of the linear for QKV and then the projection, a slot for the weights of each."""
        out_tiles = 3 * self.row_tiles
        return LinearSizes(
            formats=self.formats,
            tile_in=self.tile_in,
            tile_out=self.tile_out,
            lanes=self.linear_lanes,
            max_in_tiles=self.in_tiles,
            max_out_tiles=out_tiles,
            max_tiles=self.in_tiles * out_tiles,
            slots=2,
            beat_bits=self.beat_bits,
            bias_fraction=self.formats.attention_bias_fraction,
            ultra=self.ultra,
        )

    @cached_property
    def attention(self) -> StreamingAttentionSizes:
        """Sizes of the attention."""
        return StreamingAttentionSizes(
            formats=self.formats,
            heads=self.heads,
            head_dim=self.head_dim,
            lanes=self.attention_lanes,
            dims=self.dims,
            max_tokens=self.max_tokens,
            exp_units=self.exp_units,
        )

    @cached_property
    def combine(self) -> CombineSizes:
        """Sizes of what adds the projection to the residual."""
        return CombineSizes(
            formats=self.formats,
            dims=self.tile_out,
            row_beats=self.row_tiles,
            lanes=self.linear_lanes,
            max_tokens=self.max_tokens,
        )

    @property
    def row_memory(self) -> RowMemorySizes:
        """Sizes of each of the memories of Q, K and V: words of `tile_out` operands."""
        return RowMemorySizes(
            rows=self.max_tokens,
            tiles=self.row_tiles,
            word_bits=self.tile_out * self.formats.operand_bits,
            lanes=self.linear_lanes,
        )

    @property
    def weight_beats(self) -> int:
        """Beats of weights per command: the image of QKV, then the one of the projection."""
        return sum(self.linear.load_beats(self.in_tiles, n * self.row_tiles) for n in (3, 1))

    def cycles(self, tokens: int, *, loaded: bool = False) -> int:
        """Return the cycles from the command to the last result, both included.

        If no stream ever waits for its outside. Rows go through layer norm and QKV, each row of
        keys into the attention as soon as it is written; the second part of the attention follows
        when all are there. Its results are held back when the projection is slower than they come
        (`fed_linear`).

        Parameters
        ----------
        tokens : int
            N, attention_lanes to max_tokens.
        loaded : bool
            The weights are there already, as they are for all sequences but the first one.

        Raises
        ------
        InputError
            The attention cannot do so many tokens.
        """
        return self.milestones(tokens, loaded=loaded)[-1] + tokens * self.row_beats

    def interval(self, tokens: int) -> int:
        """Return the cycles between the last results of sequences of N tokens in a row.

        If no stream ever waits for its outside, and the weights of the next sequence, loaded while
        the linear computes, are there in time. Features are taken from the cycle of a last result
        on, those of a beat of the sums' memory but the last even before (`Repack`).

        Parameters
        ----------
        tokens : int
            N, attention_lanes to max_tokens.

        Raises
        ------
        InputError
            The attention cannot do so many tokens.
        """
        return self.cycles(tokens, loaded=True) - 1 - self.tile_out // self.dims

    def milestones(self, tokens: int, *, loaded: bool = False) -> tuple[int, int, int, int]:
        """Return when, without waiting for its outside, parts of a command are done.

        Cycles from the command until the first normalised row is whole, until the last row of
        keys is written, until the last row leaves the attention, and until just before the first
        result. Parameters and errors as in `cycles`.
        """
        attention, linear, norm = self.attention, self.linear, self.norm
        attention.check_tokens(tokens)
        qkv_beats, beats = (linear.load_beats(self.in_tiles, n * self.row_tiles) for n in (3, 1))
        row = self.row_beats
        # The command is at the kernels in cycle 1, features come from cycle 2 on.
        first = norm.cycles(1) - row + 1
        last_issue, written = fed_linear(
            linear,
            range(first, first + tokens * row, row),
            row_beats=row,
            in_tiles=self.in_tiles,
            out_tiles=3 * self.row_tiles,
            begin=0 if loaded else qkv_beats + 3,
        )
        key = 0
        for rows, time in zip(linear.group_rows(tokens), written, strict=True):
            key = max(key, time + 2) + rows * row
        lanes = self.attention_lanes
        value = key - row + attention.head_beats - 1 + attention.score_cycles
        ends = [g // lanes * tokens + g % lanes + tokens - 1 for g in range(tokens)]
        rows_out = [value + step * row + attention.result_cycles for step in ends]
        _, sums = fed_linear(
            linear,
            rows_out,
            row_beats=row,
            in_tiles=self.in_tiles,
            out_tiles=self.row_tiles,
            begin=max(last_issue + 2, 0 if loaded else qkv_beats + beats + 4),
        )
        projection = linear.pipeline_cycles + self.row_tiles * max(
            self.in_tiles, linear.group_rows(tokens)[-1]
        )
        last_row = max(rows_out[-1], sums[-1] - projection)
        return first + row, written[-1], last_row, sums[-1] + ADD_CYCLES + 1
