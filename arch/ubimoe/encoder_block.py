"""Sizes of a whole encoder block of UbiMoE (docs/ubimoe-kernels.md, "encoder_block")."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.errors import InputError

__all__ = ["EncoderBlockSizes"]


@dataclass(frozen=True, kw_only=True)
class EncoderBlockSizes:
    """Sizes of both halves of an encoder block.

    Parameters
    ----------
    msa : MsaBlockSizes
    moe : MoeBlockSizes
        Of the same formats, width, max_tokens and dims.

    Raises
    ------
    InputError
        The halves do not fit each other.
    """

    msa: MsaBlockSizes
    moe: MoeBlockSizes

    def __post_init__(self) -> None:
        """Check that the halves fit each other."""
        msa, moe = self.msa, self.moe
        pairs = {
            "formats": (msa.formats.name, moe.formats.name),
            "width": (msa.width, moe.width),
            "max_tokens": (msa.max_tokens, moe.max_tokens),
            "dims": (msa.dims, moe.dims),
        }
        for name, (first, second) in pairs.items():
            if first != second:
                raise InputError(
                    f"{name} = {second} of the MoE block is not allowed: {first} as in MSA"
                )

    def cycles(self, tokens: int, loads: Sequence[int] | None = None) -> int:
        """Return the cycles from the command, to an idle block, to the last result, both included.

        If no stream waits for its outside; as exact as those of the halves. The MoE block begins
        with the first result of the MSA block, its gate's weights or a dense FFN's first ones
        there already.

        Parameters
        ----------
        tokens : int
        loads : sequence of int, optional
            As in `MoeBlockSizes.cycles`.

        Raises
        ------
        InputError
            A half cannot do so many tokens, or no routing has these loads.
        """
        first = self.msa.cycles(tokens) - tokens * self.msa.row_beats
        return 1 + self.moe.cycles(tokens, loads, first=first)
