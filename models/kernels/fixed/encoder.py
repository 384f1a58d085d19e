"""The whole encoder: patch embedding, then one encoder block after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.models.kernels.fixed.encoder_block import Affine, EncoderBlock, encoder_block
from headrace.models.kernels.fixed.formats import Formats
from headrace.models.kernels.fixed.integers import Integers
from headrace.models.kernels.fixed.patch_embedding import patch_embedding

__all__ = ["Encoder", "encoder", "encoder_states"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """All parameters of an encoder; `headrace.models.vit` makes them from a checkpoint's.

    Parameters
    ----------
    patch : Affine
        Weights (D, K), 16 bits, `Formats.patch_fraction` of them fraction; bias (D,) with
        `Formats.bias_fraction`.
    positions : ndarray of integers, shape (patches + 1, D)
        Features; row 0 holds the class token and its position, already added.
    blocks : tuple of EncoderBlock
        Dense, with experts, or of both kinds.
    """

    patch: Affine
    positions: NDArray[np.integer]
    blocks: tuple[EncoderBlock, ...]


def encoder(
    pixels: NDArray[np.integer], parameters: Encoder, formats: Formats, *, dims: int
) -> Integers:
    """Run patch embedding and all blocks.

    The norm that a ViT has after its last block is the host's, as are heads and decoders.

    Parameters
    ----------
    pixels : ndarray of integers, shape (patches, K)
        0 to 255, in the order of the patch weights (`headrace.models.vit.patch_rows`).
    parameters : Encoder
    formats : Formats
    dims : int
        T_a of the attention kernel, on which scores depend.

    Returns
    -------
    ndarray of int64, shape (patches + 1, D)
        Features after the last block; row 0 is the class token's.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    *_, features = encoder_states(pixels, parameters, formats, dims=dims)
    return features


def encoder_states(
    pixels: NDArray[np.integer], parameters: Encoder, formats: Formats, *, dims: int
) -> Iterator[Integers]:
    """Yield the features after the patch embedding and after every block.

    Parameters, shapes and errors as in `encoder`.
    """
    patch = parameters.patch
    x = patch_embedding(pixels, patch.weights, patch.bias, parameters.positions, formats)
    yield x
    for block in parameters.blocks:
        x = encoder_block(x, block, formats, dims=dims)
        yield x
