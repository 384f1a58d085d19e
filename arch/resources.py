"""What a point takes of a device, and what a device has."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

__all__ = ["Resources", "no_fabric"]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Counts of FPGA resources.

    Parameters
    ----------
    lut, ff : float
        Six-input look-up tables (logic and distributed memory) and flip-flops.
    dsp : float
        DSP48E2 slices.
    bram36 : float
        36 Kb block RAMs; an 18 Kb half counts 0.5.
    uram : float
        288 Kb UltraRAM blocks of 4096 x 72 bits.
    """

    lut: float = 0.0
    ff: float = 0.0
    dsp: float = 0.0
    bram36: float = 0.0
    uram: float = 0.0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    def as_dict(self) -> dict[str, float]:
        """Return the counts by name, in a fixed order."""
        return {f.name: float(getattr(self, f.name)) for f in fields(self)}


def no_fabric(point: object) -> Mapping[str, Resources]:
    """Return the resources of a design that is silicon: none of an FPGA's, at any point."""
    del point
    return {}
