"""Layer norm (rule 4) from one pass over the row: mean and mean square."""

import numpy as np
from numpy.typing import NDArray

from headrace.models.kernels.fixed.formats import ONE, WIDE_FRACTION, Formats
from headrace.models.kernels.fixed.functions import root_reciprocal
from headrace.models.kernels.fixed.integers import Integers, checked, to_operand, to_wide, wrap

__all__ = ["EPSILON", "NORM_BITS", "layer_norm"]

NORM_BITS = 16
"""Bits of gains and offsets."""

EPSILON = 4
"""1e-6 as a wide value."""


def layer_norm(
    x: NDArray[np.integer],
    gain: NDArray[np.integer],
    offset: NDArray[np.integer],
    formats: Formats,
) -> Integers:
    """Normalise rows of features.

    With ``c = floor(2^22 / D)`` and ``u = (x * c) >> ff``: ``m = sum u; msq = sum ((x * u) >>
    ff); var = msq - ((m * m) >> 22) + 4; r = RSQRT(var)``; the result is ``operand(((((wide(x) -
    m) * r) >> 22) * gain) >> nf) + (offset << (22 - nf)))``. Sums, the difference, the shifted
    first product and the argument of operand wrap to 32 bits.

    Parameters
    ----------
    x : ndarray of integers, shape (rows, D)
        Features.
    gain, offset : ndarray of integers, shape (D,)
        16 bits, `formats.norm_fraction` of them fraction.
    formats : Formats

    Returns
    -------
    ndarray of int64, shape (rows, D)
        Operands.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    rows = checked("x", x, (None, None), formats.feature_bits)
    gains = checked("gain", gain, (rows.shape[1],), NORM_BITS)
    offsets = checked("offset", offset, (rows.shape[1],), NORM_BITS)
    share = (rows * (ONE // rows.shape[1])) >> formats.feature_fraction
    mean = wrap(share.sum(axis=1, keepdims=True))
    mean_square = wrap(((rows * share) >> formats.feature_fraction).sum(axis=1, keepdims=True))
    variance = wrap(mean_square - ((mean * mean) >> WIDE_FRACTION) + EPSILON)
    centred = wrap(to_wide(rows, formats) - mean)
    normal = wrap((centred * root_reciprocal(variance)) >> WIDE_FRACTION)
    scaled = (normal * gains) >> formats.norm_fraction
    return to_operand(wrap(scaled + (offsets << (WIDE_FRACTION - formats.norm_fraction))), formats)
