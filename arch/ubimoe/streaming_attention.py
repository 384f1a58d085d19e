"""Streaming attention: sizes, and which lane meets which key in which step (section 3.2).

Every lane holds one query row; one key row per step is broadcast to all lanes. Lane j begins a row
j steps after lane 0 does and meets the keys from there on, wrapping around, so that rows end one
after the other. docs/ubimoe-kernels.md has the ports.
"""

from dataclasses import dataclass
from typing import Any

from headrace.arch.tree import TREE_LEVELS_PER_STAGE
from headrace.arch.ubimoe.formats import (
    WIDE_BITS,
    WIDE_FRACTION,
    Formats,
    multiplier_dsp,
)
from headrace.arch.ubimoe.functions import EXP_LATENCY, RECIP_LATENCY
from headrace.errors import InputError

__all__ = [
    "MAX_TOKENS",
    "StreamingAttentionSizes",
    "attention_steps",
    "ending_row",
    "key_row",
    "query_row",
    "starting_row",
]

MAX_TOKENS = 511
"""The sum of as many probabilities, each at most 2^22, fits 31 bits."""

_FACTOR_BITS = WIDE_FRACTION + 2  # an exponential or a reciprocal as a signed number


@dataclass(frozen=True, kw_only=True)
class StreamingAttentionSizes:
    """Sizes of one streaming attention kernel (``streaming_attention``).

    Parameters
    ----------
    formats : Formats
        Q, K, V and results are its operands.
    heads, head_dim : int
        Heads of this module, 1 to 255; dims of each, a power of 4 up to 1024 (so that its root is
        a shift).
    lanes : int
        Query rows in flight, N_a, at most `max_tokens`.
    dims : int
        Operands per beat, T_a; divides `head_dim`.
    max_tokens : int
        Largest sequence, at most `MAX_TOKENS`.
    exp_units : int
        Exponentials per lane: 1, or one per head as published.
    """

    formats: Formats
    heads: int
    head_dim: int
    lanes: int
    dims: int
    max_tokens: int
    exp_units: int = 1

    def __post_init__(self) -> None:
        _check_range("heads", self.heads, 1, 255)
        if self.head_dim not in (1, 4, 16, 64, 256, 1024):
            raise InputError(f"head_dim = {self.head_dim} is not allowed: a power of 4 up to 1024")
        if self.dims < 1 or self.head_dim % self.dims:
            raise InputError(
                f"dims = {self.dims} is not allowed: a divisor of head_dim = {self.head_dim}"
            )
        _check_range("max_tokens", self.max_tokens, 1, MAX_TOKENS)
        _check_range("lanes", self.lanes, 1, self.max_tokens)
        if self.exp_units not in (1, self.heads):
            raise InputError(
                f"exp_units = {self.exp_units} is not allowed: 1 or heads = {self.heads}"
            )

    @property
    def width(self) -> int:
        """Operands of a row, heads x head_dim."""
        return self.heads * self.head_dim

    @property
    def head_beats(self) -> int:
        """Beats of one head of a row."""
        return self.head_dim // self.dims

    @property
    def row_beats(self) -> int:
        """Beats of a row, and cycles of a step."""
        return self.heads * self.head_beats

    @property
    def scale_shift(self) -> int:
        """Right shift of the scores of a block, log2 sqrt(head_dim): 3 for 64."""
        return (self.head_dim.bit_length() - 1) // 2

    @property
    def score_product_stages(self) -> int:
        """Registers of a product of Q and K."""
        return _product_stages(self.formats.operand_bits, self.formats.operand_bits)

    @property
    def value_product_stages(self) -> int:
        """Registers of a product of V and an exponential."""
        return _product_stages(self.formats.operand_bits, _FACTOR_BITS)

    @property
    def result_product_stages(self) -> int:
        """Registers of a product of a sum over the keys and a reciprocal."""
        return _product_stages(WIDE_BITS, _FACTOR_BITS)

    @property
    def tree_stages(self) -> int:
        """Registers of the adder tree, one after every second level and one after the last."""
        return -(-(self.dims - 1).bit_length() // TREE_LEVELS_PER_STAGE)

    @property
    def score_cycles(self) -> int:
        """Cycles from the last beat of a head in part 1 until part 2 may begin with its scores.

        Registers of the operands, the product, the tree, the score; the cycle that writes it.
        """
        return 3 + self.score_product_stages + self.tree_stages

    @property
    def result_cycles(self) -> int:
        """Cycles from the last value beat of a row's head to its result.

        Registers of the score, the difference, the exponential, the sum, the reciprocal, the
        product, the result.
        """
        return 4 + EXP_LATENCY + RECIP_LATENCY + self.result_product_stages

    @property
    def maxima_depth(self) -> int:
        """Maxima on their way from part 1 to part 2, so that neither ever waits in a free run.

        Room is taken with a head's first beat in part 1 and given back with its last beat in
        part 2, 2 head_beats + score_cycles - 2 cycles later.
        """
        return -(-(2 * self.head_beats + self.score_cycles - 1) // self.head_beats)

    @property
    def scores_depth(self) -> int:
        """Words of the score FIFO, one per step and head: part 2 runs N - 1 steps behind."""
        return (self.max_tokens - 1) * self.heads + self.maxima_depth

    def cycles(self, tokens: Any) -> Any:
        """Return the cycles from an accepted command to the last result, both included.

        (S + N - 1) row_beats + head_beats + score_cycles + result_cycles, if no stream ever waits
        for its outside. Integers or integer arrays.
        """
        steps = attention_steps(tokens, self.lanes)
        constant = self.head_beats + self.score_cycles + self.result_cycles
        return (steps + tokens - 1) * self.row_beats + constant

    def check_tokens(self, tokens: int) -> None:
        """Raise InputError unless a command may ask for so many tokens."""
        _check_range("tokens", tokens, self.lanes, self.max_tokens)


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} = {value} is not allowed: {low} to {high}")


def _product_stages(a_bits: int, b_bits: int) -> int:
    """Return the registers behind a multiplier: those of one DSP, or two more for their sums."""
    return 2 if multiplier_dsp(a_bits, b_bits) == 1 else 4


def attention_steps(tokens: Any, lanes: Any) -> Any:
    """Return the steps of a whole pass, S = b N + r with b, r = divmod(N + lanes - 1, lanes).

    4257 for 129 tokens and 4 lanes. N^2 / lanes + lanes - 1 if lanes divides N. Integers or
    integer arrays, 1 <= lanes <= tokens.
    """
    full = (tokens + lanes - 1) // lanes
    return full * tokens + (tokens + lanes - 1) % lanes


def key_row(step: Any, tokens: Any) -> Any:
    """Return the row of K, and in part 2 of V, that all lanes meet in a step: s mod N."""
    return step % tokens


def query_row(step: int, lane: int, tokens: int, lanes: int) -> int | None:
    """Return the row of Q that a lane holds in a step, or None if it holds none.

    Lane j holds row g lanes + j in the steps g N + j to g N + j + N - 1.
    """
    row = (step - lane) // tokens * lanes + lane
    return row if step >= lane and row < tokens else None


def starting_row(step: int, tokens: int, lanes: int) -> int | None:
    """Return the row of Q that is taken in a step, or None. It is taken by lane row mod lanes."""
    lane = step % tokens
    return query_row(step, lane, tokens, lanes) if lane < lanes else None


def ending_row(step: int, tokens: int, lanes: int) -> int | None:
    """Return the row that meets its last key in a step, or None: the one begun N - 1 before."""
    return starting_row(step - tokens + 1, tokens, lanes) if step >= tokens - 1 else None
