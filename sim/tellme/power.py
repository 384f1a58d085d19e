"""Power of the TeLLMe machine: fabric by its size and clock, memory by its traffic."""

from headrace.arch.calibration import constant
from headrace.arch.resources import Resources

__all__ = ["fabric_watts", "memory_watts", "static_watts"]


def static_watts() -> float:
    """Board power without load: processing system, memory idle, leakage (fitted)."""
    return constant("tellme.static_w")


def fabric_watts(total: Resources, clock_mhz: float, busy: float) -> float:
    """Dynamic power of the fabric: each resource at its cost per MHz.

    A share of it, mostly the clock network, is drawn always; the rest in the share `busy` of
    the time in which a unit computes.
    """
    per_mhz = (
        total.lut * constant("tellme.lut_w_per_mhz")
        + total.dsp * constant("tellme.dsp_w_per_mhz")
        + total.bram36 * constant("tellme.bram36_w_per_mhz")
        + total.uram * constant("tellme.uram_w_per_mhz")
    )
    idle = constant("tellme.idle_share")
    return per_mhz * clock_mhz * (idle + (1 - idle) * busy)


def memory_watts(bytes_per_s: float) -> float:
    """Dynamic power of the main memory and its controller."""
    return bytes_per_s * constant("tellme.ddr_j_per_byte")
