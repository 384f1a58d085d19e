"""Sizes of UbiMoE's gate (docs/ubimoe-kernels.md, "gate")."""

from dataclasses import dataclass

from headrace.arch.ubimoe.dispatch import MAX_EXPERTS, MAX_TOP_K
from headrace.arch.ubimoe.formats import Formats
from headrace.arch.ubimoe.functions import EXP_LATENCY, RECIP_LATENCY
from headrace.errors import InputError

__all__ = [
    "EXPONENTIAL_TIME",
    "PRODUCT_STAGES",
    "RECIPROCAL_TIME",
    "SUM_TIME",
    "TREE_LEVELS_PER_STAGE",
    "TURN",
    "GateSizes",
]

PRODUCT_STAGES = 2
"""Registers behind every multiplier."""

TREE_LEVELS_PER_STAGE = 2
"""Adder levels between the registers of the tree."""

TURN = PRODUCT_STAGES + 1
"""Cycles of the softmax per expert: the sum may have to be scaled before the next one is added."""

EXPONENTIAL_TIME = 2 + EXP_LATENCY
"""Cycles from the choice of a score to its exponential: score, difference, exponential."""

SUM_TIME = EXPONENTIAL_TIME + TURN
"""Cycles from the choice of a score to the sum with it."""

RECIPROCAL_TIME = SUM_TIME + RECIP_LATENCY
"""Cycles from the choice of the last score to the reciprocal of the sum."""


@dataclass(frozen=True, kw_only=True)
class GateSizes:
    """Sizes of the gate, and its cycles.

    Parameters
    ----------
    formats : Formats
        Operands and weights.
    experts : int
        1 to `MAX_EXPERTS`.
    top_k : int
        Experts chosen by each token, 1 to `MAX_TOP_K` and at most `experts`.
    dims : int
        Operands per beat, multipliers; 1 to 1024.
    row_beats : int
        Beats of a row; 1 to 65535.
    max_tokens : int
        Largest sequence; 1 to 65535.

    Raises
    ------
    InputError
        A size is out of range.
    """

    formats: Formats
    experts: int
    top_k: int
    dims: int
    row_beats: int
    max_tokens: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "experts": MAX_EXPERTS,
            "top_k": min(MAX_TOP_K, self.experts),
            "dims": 1024,
            "row_beats": 65535,
            "max_tokens": 65535,
        }
        for name, most in ranges.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: 1 to {most}")

    def check_tokens(self, tokens: int) -> None:
        """Raise InputError unless a command may ask for so many tokens."""
        if not 1 <= tokens <= self.max_tokens:
            raise InputError(f"tokens = {tokens} is not allowed: 1 to {self.max_tokens}")

    @property
    def weight_words(self) -> int:
        """Words of the weight memory, `dims` weights each; beats of weights per command."""
        return self.experts * self.row_beats

    @property
    def expert_bits(self) -> int:
        """Bits of the number of an expert, at least 1."""
        return max(1, (self.experts - 1).bit_length())

    @property
    def address_bits(self) -> int:
        """Bits of an address of the weight memory, at least 1."""
        return max(1, (self.weight_words - 1).bit_length())

    @property
    def tree_stages(self) -> int:
        """Registers in the adder tree over the products of a beat."""
        return -(-(self.dims - 1).bit_length() // TREE_LEVELS_PER_STAGE)

    @property
    def product_cycles(self) -> int:
        """Cycles from a beat to the partial score at the accumulators."""
        return 1 + PRODUCT_STAGES + self.tree_stages

    @property
    def softmax_cycles(self) -> int:
        """Cycles from one token's softmax to the next one's, if its scores are there."""
        return self._choices_time + 2

    @property
    def token_cycles(self) -> int:
        """Cycles per token in the steady state: its products or its softmax."""
        return max(self.weight_words, self.softmax_cycles)

    @property
    def _choices_time(self) -> int:
        """Cycles from the first score of a token to its choices."""
        return TURN * (self.experts - 1) + RECIPROCAL_TIME + PRODUCT_STAGES + self.top_k

    def cycles(self, tokens: int) -> int:
        """Return the cycles from the command to the last choices, both included, without stalls.

        (2 row_beats - 1) experts + (N - 1) token_cycles + softmax_cycles + product_cycles + 2:
        the weights, a first token up to its last beat, `token_cycles` for each further token, the
        pipelines. The command comes to an idle gate.
        """
        first_score = self.weight_words + 1 + (self.row_beats - 1) * self.experts
        first_softmax = first_score + self.product_cycles + 2
        return first_softmax + (tokens - 1) * self.token_cycles + self._choices_time + 1
