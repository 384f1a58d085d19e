"""The gates of the feed-forward network, in float32 and in half precision."""

import numpy as np
from numpy.typing import NDArray

from headrace.models.kernels.half_functions import exp_half, reciprocal_half

__all__ = ["relu2_gate", "relu2_gate_half", "silu_half", "swiglu", "swiglu_half"]


def swiglu(gate: NDArray[np.float32], up: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``silu(gate) * up`` in float32, with ``silu(g) = g / (1 + exp(-g))``.

    Parameters
    ----------
    gate, up : ndarray of float32
        Same shape.
    """
    with np.errstate(over="ignore"):
        return np.asarray(gate / (np.float32(1) + np.exp(-gate)) * up, dtype=np.float32)


def silu_half(gate: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return ``g * recip16(1 + exp16(-g))``, every step rounded to half.

    Below about -11.1 exp overflows, the reciprocal is 0 and the result is -0.

    Parameters
    ----------
    gate : ndarray of float16
        Finite.
    """
    gate = np.asarray(gate, dtype=np.float16)
    with np.errstate(over="ignore", under="ignore"):
        result: NDArray[np.float16] = gate * reciprocal_half(np.float16(1) + exp_half(-gate))
    return result


def swiglu_half(gate: NDArray[np.float16], up: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return ``silu_half(gate) * up`` rounded to half (TeLLMe's fused write-out).

    Parameters
    ----------
    gate, up : ndarray of float16
        Same shape.
    """
    with np.errstate(over="ignore", under="ignore"):
        result: NDArray[np.float16] = silu_half(gate) * np.asarray(up, dtype=np.float16)
    return result


def relu2_gate(gate: NDArray[np.float32], up: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``max(gate, 0)^2 * up`` in float32, the gate of BitNet 2B4T.

    Parameters
    ----------
    gate, up : ndarray of float32
        Same shape.
    """
    positive = np.maximum(gate, np.float32(0))
    return positive * positive * up


def relu2_gate_half(gate: NDArray[np.float16], up: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return ``(max(gate, 0)^2) * up`` with both products rounded to half.

    Parameters
    ----------
    gate, up : ndarray of float16
        Same shape.
    """
    positive = np.maximum(np.asarray(gate, dtype=np.float16), np.float16(0))
    with np.errstate(over="ignore", under="ignore"):
        result: NDArray[np.float16] = (positive * positive) * np.asarray(up, dtype=np.float16)
    return result
