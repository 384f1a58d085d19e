"""Rooflines: what a machine could reach at an arithmetic intensity, and what was reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.errors import InputError
from headrace.files import write_atomic

__all__ = ["Roof", "RooflinePoint", "place", "plot_roofline"]


@dataclass(frozen=True)
class Roof:
    """The limits of a machine.

    Parameters
    ----------
    name : str
    flop_per_s : float
        Peak of the arithmetic; two operations per multiply-accumulate.
    bytes_per_s : float
        Bandwidth of the memory tier.

    Raises
    ------
    InputError
        A limit is not above 0.
    """

    name: str
    flop_per_s: float
    bytes_per_s: float

    def __post_init__(self) -> None:
        if not (self.flop_per_s > 0 and self.bytes_per_s > 0):
            raise InputError(f"roof {self.name!r}: peak and bandwidth must be above 0")

    @property
    def ridge_flop_per_byte(self) -> float:
        """Intensity from which the arithmetic is the limit."""
        return self.flop_per_s / self.bytes_per_s


@dataclass(frozen=True)
class RooflinePoint:
    """One operator or run.

    Parameters
    ----------
    name : str
    intensity_flop_per_byte : float
    attained_flop_per_s : float
    bound : str
        ``"memory"`` or ``"compute"``.
    """

    name: str
    intensity_flop_per_byte: float
    attained_flop_per_s: float
    bound: str


def place(roof: Roof, name: str, *, flop: float, size: float, seconds: float) -> RooflinePoint:
    """Return the point of work that was done in a time.

    Parameters
    ----------
    roof : Roof
    name : str
    flop : float
        Operations; two per multiply-accumulate.
    size : float, bytes
        Moved to and from the memory tier of `roof`.
    seconds : float

    Returns
    -------
    RooflinePoint

    Raises
    ------
    InputError
        A figure is not above 0.
    """
    if not (flop > 0 and size > 0 and seconds > 0):
        raise InputError(f"roofline point {name!r}: operations, bytes and time must be above 0")
    bound = "memory" if flop / size < roof.ridge_flop_per_byte else "compute"
    return RooflinePoint(name, flop / size, flop / seconds, bound)


def plot_roofline(
    roofs: Sequence[Roof], points: Sequence[RooflinePoint], path: Path, *, title: str = ""
) -> None:
    """Draw roofs and points on logarithmic axes, with a line at every ridge.

    Parameters
    ----------
    roofs : sequence of Roof
        At least one.
    points : sequence of RooflinePoint
    path : Path
        ``.png`` or ``.svg``; equal input gives equal bytes.
    title : str

    Raises
    ------
    InputError
        There is no roof, the suffix is another one, or the file cannot be written.
    """
    from headrace.sim.picture import figure, render

    if not roofs:
        raise InputError(f"cannot draw {path}: a roofline needs at least one roof")
    ridges = [roof.ridge_flop_per_byte for roof in roofs]
    spread = [*ridges, *(point.intensity_flop_per_byte for point in points)]
    intensities = np.geomspace(min(spread) / 8, max(spread) * 8, 200)
    with figure(width=7.0, height=4.5) as axes:
        for roof, ridge in zip(roofs, ridges, strict=True):
            line = np.minimum(roof.flop_per_s, roof.bytes_per_s * intensities)
            (drawn,) = axes.loglog(intensities, line, label=roof.name)
            axes.axvline(ridge, color=drawn.get_color(), linestyle=":", linewidth=0.8)
        middle = np.sqrt(min(spread) * max(spread))
        ordered = sorted(points, key=lambda point: point.attained_flop_per_s)
        for turn, point in enumerate(ordered):
            where = (point.intensity_flop_per_byte, point.attained_flop_per_s)
            axes.plot(*where, marker="o" if point.bound == "compute" else "s", color="black")
            # Neighbours are labelled below and above in turn, and towards the middle.
            is_right = point.intensity_flop_per_byte > middle
            axes.annotate(
                point.name,
                where,
                xytext=(-6 if is_right else 6, 5 if turn % 2 else -12),
                textcoords="offset points",
                ha="right" if is_right else "left",
                fontsize="small",
            )
        axes.set_xlabel("intensity (operations per byte)")
        axes.set_ylabel("operations per second")
        axes.set_title(title)
        axes.legend(loc="best", fontsize="small")
        write_atomic(path, render(axes, path))
