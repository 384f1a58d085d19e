"""Power of a machine on an FPGA: fabric by its size and clock, memory by its traffic."""

from headrace.arch.calibration import constant
from headrace.arch.resources import Resources

__all__ = ["fabric_watts", "memory_watts"]


def fabric_watts(total: Resources, clock_mhz: float, busy: float) -> float:
    """Dynamic power of the fabric: each resource at its cost per MHz.

    A share of it, mostly the clock network, is drawn always; the rest in the share `busy` of
    the time in which a unit computes.
    """
    per_mhz = (
        total.lut * constant("fpga.lut_w_per_mhz")
        + total.dsp * constant("fpga.dsp_w_per_mhz")
        + total.bram36 * constant("fpga.bram36_w_per_mhz")
        + total.uram * constant("fpga.uram_w_per_mhz")
    )
    idle = constant("fpga.idle_share")
    return per_mhz * clock_mhz * (idle + (1 - idle) * busy)


def memory_watts(bytes_per_s: float, tier: str = "ddr") -> float:
    """Dynamic power of the main memory, ``ddr`` or ``hbm``, and its controller."""
    return bytes_per_s * constant(f"fpga.{tier}_j_per_byte")
