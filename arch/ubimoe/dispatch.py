"""Sizes of UbiMoE's dispatch (docs/ubimoe-kernels.md, "dispatch")."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import InputError

__all__ = ["MAX_EXPERTS", "MAX_TOP_K", "SCORE_BITS", "DispatchSizes"]

MAX_EXPERTS = 256
"""An expert's number has 8 bits."""

MAX_TOP_K = 16
"""Choices of a token in one beat."""

SCORE_BITS = 23
"""Bits of a probability: 22 fraction bits, at most one, unsigned."""


@dataclass(frozen=True, kw_only=True)
class DispatchSizes:
    """Sizes of the dispatch of tokens to experts, and its cycles.

    Parameters
    ----------
    max_tokens : int
        Largest sequence, 1 to 65535.
    experts : int
        Experts to choose from, 1 to `MAX_EXPERTS`.
    top_k : int
        Experts chosen by each token, all different, 1 to `MAX_TOP_K` and at most `experts`.

    Raises
    ------
    InputError
        A size is out of range.
    """

    max_tokens: int
    experts: int
    top_k: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "max_tokens": (1, 65535),
            "experts": (1, MAX_EXPERTS),
            "top_k": (1, min(MAX_TOP_K, self.experts)),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")

    def check_tokens(self, tokens: int) -> None:
        """Raise InputError unless a command may ask for so many tokens."""
        if not 1 <= tokens <= self.max_tokens:
            raise InputError(f"tokens = {tokens} is not allowed: 1 to {self.max_tokens}")

    def tokens_of(self, loads: Sequence[int]) -> int:
        """Return the tokens of a command whose experts have so many rows each.

        Raises
        ------
        InputError
            No routing has these loads.
        """
        tokens, rest = divmod(sum(loads), self.top_k)
        if len(loads) != self.experts or rest or not all(0 <= rows <= tokens for rows in loads):
            raise InputError(
                f"loads of {list(loads)} rows are not allowed: {self.experts} experts, for each at"
                f" most one row of a token, {self.top_k} rows for every token"
            )
        self.check_tokens(tokens)
        return tokens

    @property
    def token_bits(self) -> int:
        """Bits of a token's number, and of a place in a queue; at least 1."""
        return max(1, (self.max_tokens - 1).bit_length())

    @property
    def expert_bits(self) -> int:
        """Bits of the number of an expert, at least 1."""
        return max(1, (self.experts - 1).bit_length())

    @property
    def queue_words(self) -> int:
        """Words of the memory of queues: a power of two for each expert."""
        return self.experts << self.token_bits

    @property
    def queue_word_bits(self) -> int:
        """Bits of one of them, token and score."""
        return self.token_bits + SCORE_BITS

    def cycles(self, tokens: int) -> int:
        """Return the cycles from the command to the last row, both included, without stalls.

        2 tokens top_k + 2: one cycle per choice in, one per row out. The next command is accepted
        in the cycle of the last row.
        """
        return 2 * tokens * self.top_k + 2
