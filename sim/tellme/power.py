"""Power of the TeLLMe machine: fabric by its size and clock, memory by its traffic."""

from headrace.arch.calibration import constant
from headrace.arch.resources import Resources

__all__ = ["fabric_watts", "memory_watts", "static_watts"]


def static_watts() -> float:
    """Board power without load: processing system, memory idle, leakage (fitted)."""
    return constant("tellme.static_w")


def fabric_watts(total: Resources, clock_mhz: float) -> float:
    """Dynamic power of the fabric: each resource at its cost per MHz."""
    per_mhz = (
        total.lut * constant("tellme.lut_w_per_mhz")
        + total.dsp * constant("tellme.dsp_w_per_mhz")
        + total.bram36 * constant("tellme.bram36_w_per_mhz")
        + total.uram * constant("tellme.uram_w_per_mhz")
    )
    return per_mhz * clock_mhz


def memory_watts(bytes_per_s: float) -> float:
    """Dynamic power of the main memory and its controller."""
    return bytes_per_s * constant("tellme.ddr_j_per_byte")
