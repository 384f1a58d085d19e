"""Patch embedding (rule 7): pixels to features, class token, positions."""

import numpy as np
from numpy.typing import NDArray

from headrace.models.kernels.fixed.formats import WIDE_FRACTION, Formats
from headrace.models.kernels.fixed.integers import (
    Integers,
    checked,
    shifted_products,
    to_feature,
    wrap,
)
from headrace.models.kernels.fixed.linear import BIAS_BITS

__all__ = ["PATCH_WEIGHT_BITS", "PIXEL_BITS", "patch_embedding"]

PATCH_WEIGHT_BITS = 16
PIXEL_BITS = 8
"""Bits of an unsigned pixel, all of them fraction."""


def patch_embedding(
    pixels: NDArray[np.integer],
    weights: NDArray[np.integer],
    bias: NDArray[np.integer],
    positions: NDArray[np.integer],
    formats: Formats,
) -> Integers:
    """Embed the patches of an image.

    ``acc = (b << (22 - bf)) + sum ((pixel * w) >> 2)``, wrapped to 32 bits; row n + 1 is
    ``feature(acc) + positions[n + 1]`` of patch n, wrapping; row 0 is positions[0] alone.

    Parameters
    ----------
    pixels : ndarray of integers, shape (patches, K)
        0 to 255; K pixels of a patch in the order of `weights`.
    weights : ndarray of integers, shape (D, K)
        16 bits, `formats.patch_fraction` of them fraction.
    bias : ndarray of integers, shape (D,)
        16 bits, `formats.bias_fraction` of them fraction.
    positions : ndarray of integers, shape (patches + 1, D)
        Features; row 0 holds the class token and its position, already added.
    formats : Formats

    Returns
    -------
    ndarray of int64, shape (patches + 1, D)
        Features.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    patches = checked("pixels", pixels, (None, None), -PIXEL_BITS)
    matrix = checked("weights", weights, (None, patches.shape[1]), PATCH_WEIGHT_BITS)
    start = checked("bias", bias, (len(matrix),), BIAS_BITS)
    shape = (len(patches) + 1, len(matrix))
    added = checked("positions", positions, shape, formats.feature_bits)
    shift = PIXEL_BITS + formats.patch_fraction - WIDE_FRACTION
    acc = shifted_products(patches, matrix, shift)
    acc = wrap(acc + (start << (WIDE_FRACTION - formats.bias_fraction)))
    embedded = np.vstack([np.zeros_like(added[:1]), to_feature(acc, formats)])
    return wrap(embedded + added, formats.feature_bits)
