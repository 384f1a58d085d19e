"""IEEE binary16 rounding and conversion for kernels that compute on float32 registers.

Every half-precision operation in `headrace.models.kernels` is: operate in float32 on values
that are exactly halves, then round to the nearest half, ties to even. For +, -, x, / of two
halves this equals the correctly rounded half operation, since float32 carries more than
2 x 11 + 1 bits. NumPy's float16 arithmetic does the same; these scalar functions exist because
numba has no float16 on the CPU.

numba's cache looks only at a caller's own file: after a change here, delete the callers'
``__pycache__``.
"""

import numpy as np
from numba import njit

__all__ = ["half_bits", "round_to_half"]

_INFINITY = np.uint32(0x7F800000)
_OVERFLOW = np.uint32(0x477FF000)  # 65520: halfway between the largest half and 2^16
_SMALLEST_NORMAL = np.uint32(0x38800000)  # 2^-14


@njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def round_to_half(x: np.float32) -> np.float32:
    """Round a float32 to the nearest binary16 value, ties to even; returned as float32.

    Overflow gives infinity, subnormals are kept, NaN stays NaN, the sign of zero is kept.
    """
    # numba widens every integer operation to 64 bits; the casts keep 32-bit lanes
    bits = np.float32(x).view(np.uint32)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    sign = np.uint32(bits & np.uint32(0x80000000))
    odd = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
    raised = np.uint32(np.uint32(magnitude + np.uint32(0xFFF)) + odd)
    normal = np.uint32(raised & np.uint32(0xFFFFE000))
    # in [0.5, 1) floats are 2^-24 apart, which is the spacing of subnormal halves
    shifted = np.float32(magnitude.view(np.float32) + np.float32(0.5))
    subnormal = np.float32(shifted - np.float32(0.5)).view(np.uint32)
    result = subnormal if magnitude < _SMALLEST_NORMAL else normal
    result = _INFINITY if magnitude >= _OVERFLOW else result
    result = magnitude if magnitude > _INFINITY else result
    return np.uint32(result | sign).view(np.float32)


@njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def half_bits(x: np.float32) -> np.uint32:
    """Return the 16 bits of a float32 that is exactly a half; NaN gives 0x7E00."""
    bits = np.float32(x).view(np.uint32)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    sign = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000))
    if magnitude > _INFINITY:
        return np.uint32(sign | np.uint32(0x7E00))
    if magnitude == _INFINITY:
        return np.uint32(sign | np.uint32(0x7C00))
    if magnitude < _SMALLEST_NORMAL:
        return np.uint32(sign | np.uint32(magnitude.view(np.float32) * np.float32(16777216.0)))
    return np.uint32(sign | np.uint32((magnitude >> np.uint32(13)) - np.uint32(0x1C000)))
