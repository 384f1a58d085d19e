"""Sizes of UbiMoE's MoE block (docs/ubimoe-kernels.md, "encoder_block")."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from headrace.arch.ubimoe.combine import ADD_CYCLES, CombineSizes
from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.arch.ubimoe.formats import Formats
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.moe_jobs import JobTimes
from headrace.arch.ubimoe.row_memory import RowMemorySizes
from headrace.errors import InputError

__all__ = ["MoeBlockSizes"]


@dataclass(frozen=True, kw_only=True)
class MoeBlockSizes:
    """Sizes of layer norm, dense FFN or gate and experts, and residual as one block.

    Parameters
    ----------
    formats : Formats
    width, hidden : int
        D, and hidden values of an expert.
    experts, top_k : int
        As in `GateSizes`.
    max_tokens : int
        Largest sequence.
    dims : int
        Features and operands of a beat of the layer norm and the gate.
    tile_in, tile_out : int
        T_in and T_out of the linear; divisors of `width` and `hidden`. Each is a multiple or a
        divisor of `dims`, and one of them of the other.
    linear_lanes : int
        N_L of the linear.
    beat_bits : int
        Bits of a beat of weights.
    dense_parts : int
        Parts, 1 to 255, of `hidden` values each, in which a dense FFN is computed.
    ultra : bool
        Whether the device has URAM (`LinearSizes`).

    Raises
    ------
    InputError
        A size is out of range.
    """

    formats: Formats
    width: int
    hidden: int
    experts: int
    top_k: int
    max_tokens: int
    dims: int
    tile_in: int
    tile_out: int
    linear_lanes: int = 3
    beat_bits: int = 256
    dense_parts: int = 1
    ultra: bool = True

    def __post_init__(self) -> None:
        """Check the ranges, those of the kernels too."""
        _ = self.norm
        if not 1 <= self.dense_parts <= 255:
            raise InputError(f"dense_parts = {self.dense_parts} is not allowed: 1 to 255")
        for name, others in {
            "tile_in": (self.dims,),
            "tile_out": (self.dims, self.tile_in),
        }.items():
            tile = getattr(self, name)
            divides = tile >= 1 and self.width % tile == 0 and self.hidden % tile == 0
            if not divides or any(tile % other and other % tile for other in others):
                raise InputError(
                    f"{name} = {tile} is not allowed: a divisor of width and hidden "
                    f"({self.width}, {self.hidden}), a multiple or a divisor of {list(others)}"
                )
        _ = self.gate, self.dispatch, self.linear, self.combine

    @property
    def in_tiles(self) -> tuple[int, int]:
        """Tiles of a row at the input of the first and the second linear."""
        return self.width // self.tile_in, self.hidden // self.tile_in

    @property
    def out_tiles(self) -> tuple[int, int]:
        """Tiles of a row of results of the first and the second linear."""
        return self.hidden // self.tile_out, self.width // self.tile_out

    @cached_property
    def norm(self) -> LayerNormSizes:
        """Sizes of the layer norm."""
        return LayerNormSizes(formats=self.formats, width=self.width, dims=self.dims)

    @cached_property
    def gate(self) -> GateSizes:
        """Sizes of the gate."""
        return GateSizes(
            formats=self.formats,
            experts=self.experts,
            top_k=self.top_k,
            dims=self.dims,
            row_beats=self.width // self.dims,
            max_tokens=self.max_tokens,
        )

    @cached_property
    def dispatch(self) -> DispatchSizes:
        """Sizes of the dispatch."""
        return DispatchSizes(max_tokens=self.max_tokens, experts=self.experts, top_k=self.top_k)

    @cached_property
    def linear(self) -> LinearSizes:
        """Sizes of the linear: a slot for the first weights of an FFN, one for the second."""
        tiles = zip(self.in_tiles, self.out_tiles, strict=True)
        return LinearSizes(
            formats=self.formats,
            tile_in=self.tile_in,
            tile_out=self.tile_out,
            lanes=self.linear_lanes,
            max_in_tiles=max(self.in_tiles),
            max_out_tiles=max(self.out_tiles),
            max_tiles=max(inputs * outputs for inputs, outputs in tiles),
            slots=2,
            beat_bits=self.beat_bits,
            bias_fraction=self.formats.bias_fraction,
            gelu=True,
            ultra=self.ultra,
        )

    @cached_property
    def combine(self) -> CombineSizes:
        """Sizes of what adds the results to the residual."""
        return CombineSizes(
            formats=self.formats,
            dims=self.tile_out,
            row_beats=self.out_tiles[1],
            lanes=self.linear_lanes,
            max_tokens=self.max_tokens,
        )

    @property
    def weight_beats(self) -> int:
        """Beats of the weights of a job, both images."""
        halves = zip(self.in_tiles, self.out_tiles, strict=True)
        return sum(self.linear.load_beats(*half) for half in halves)

    @property
    def token_memory(self) -> RowMemorySizes:
        """Sizes of the memory of normalised rows: words of `tile_in` operands."""
        return RowMemorySizes(
            rows=self.max_tokens,
            tiles=self.in_tiles[0],
            word_bits=self.tile_in * self.formats.operand_bits,
            lanes=1,
        )

    @property
    def hidden_memory(self) -> RowMemorySizes:
        """Sizes of the memory of hidden rows: words of `tile_out` operands."""
        return RowMemorySizes(
            rows=self.max_tokens,
            tiles=self.out_tiles[0],
            word_bits=self.tile_out * self.formats.operand_bits,
            lanes=self.linear_lanes,
        )

    def cycles(self, tokens: int, loads: Sequence[int] | None = None, *, first: int = 0) -> int:
        """Return the cycles from the command, to an idle block, to the last result, both included.

        If no stream waits for its outside. Exact, but for 1 cycle where a row has fewer input
        tiles than the linear has lanes, and up to 5 % too few where `tile_out` is narrower
        than `dims`: the layer norm's pipeline, which stands still as a whole, then has gaps.

        Parameters
        ----------
        tokens : int
        loads : sequence of int, optional
            By experts: the rows of each one, in order. Otherwise a dense FFN.
        first : int, cycles
            Earliest cycle of the first beat of inputs, counted from the command; the others follow
            at once.

        Raises
        ------
        InputError
            Too many tokens, or no routing has these loads.
        """
        self.dispatch.check_tokens(tokens)
        if loads is not None and self.dispatch.tokens_of(loads) != tokens:
            raise InputError(f"loads of {list(loads)} rows are not those of {tokens} tokens")
        # The kernels have the command in cycle 2.
        row = self.norm.row_beats * self._parts(self.tile_out)
        normalised = max(3, first) - 1 + self.norm.cycles(1) + row - 2 * self.norm.row_beats
        if loads is None:
            last = self._dense(tokens, normalised)
        else:
            last = self._routed(tokens, loads, normalised)
        return last + ADD_CYCLES + 1 + tokens * self.width // min(self.dims, self.tile_out)

    def interval(self, tokens: int, loads: Sequence[int] | None = None) -> int:
        """Return the cycles from the last result of the sequence before to this one's.

        If no stream waits for its outside; as exact as `cycles`, whose arguments these are. The
        kernels have the command in the cycle after that result.
        """
        return self.cycles(tokens, loads) - 2

    def _parts(self, tile: int) -> int:
        """Return the cycles in which a beat is handed on in tiles."""
        return max(1, self.dims // tile)

    def _dense(self, tokens: int, normalised: int) -> int:
        """Return when the last sum leaves the linear, from when the first normalised beat comes."""
        beats, parts = self.norm.row_beats, self._parts(self.tile_in)
        row = beats * max(parts, self._parts(self.tile_out))
        jobs = JobTimes(self.linear, self.in_tiles, self.out_tiles, offered=3)
        stored = normalised + beats * parts
        last = jobs.add(tokens, range(stored + 1, stored + 1 + tokens * row, row))
        for _ in range(1, self.dense_parts):
            last = jobs.add(tokens)
        return last

    def _routed(self, tokens: int, loads: Sequence[int], normalised: int) -> int:
        """Return when the last sum leaves the linear, from when the first normalised beat comes."""
        gate, parts = self.gate, self._parts(self.tile_in)
        beat = parts - 1 + gate.experts
        begin = max(normalised + parts - 1, gate.weight_words + 3)
        softmax = begin + (gate.row_beats - 1) * beat + gate.product_cycles + 1
        # The softmax waits until the dispatch has its choices, one per cycle.
        token = max(
            gate.row_beats * max(beat, self._parts(self.tile_out)),
            gate.softmax_cycles + self.top_k - 1,
        )
        chosen = softmax + (tokens - 1) * token + gate.softmax_cycles + self.top_k - 2
        jobs = JobTimes(self.linear, self.in_tiles, self.out_tiles, offered=chosen + 1)
        return max(jobs.add(rows, [chosen + 3] * rows) for rows in loads if rows)
