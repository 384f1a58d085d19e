"""What a report shows, as plain values: columns over all points, details of a few of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["AxisColumn", "Detail", "Figure", "Importance", "ReportData", "Term"]

_MOST_LABELS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class AxisColumn:
    """One axis of the design over all points.

    Parameters
    ----------
    name, label, summary : str
        Name on the command line, name for people with its unit, and what it means.
    labels : tuple of str
        Values that occur, as text, in ascending order where they have one.
    numbers : tuple of float
        The same as numbers; NaN for names, 0 and 1 for switches.
    words : tuple of str
        What follows ``--set`` for each of them, quoted for a POSIX shell.
    default : int
        Place of the published value among them.
    codes : uint16 array, shape (n,)
        Place of each point's value among them.
    """

    name: str
    label: str
    summary: str
    labels: tuple[str, ...]
    numbers: tuple[float, ...]
    words: tuple[str, ...]
    default: int
    codes: NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric, resource or objective over all points.

    Parameters
    ----------
    name, label : str
        Name in constraints; name for people with its unit.
    values : float64 array, shape (n,)
        Stored in single precision.
    sense : {"min", "max", ""}
        Whether it is an objective, and which way.
    available : float or None
        What the device has of a resource.
    """

    name: str
    label: str
    values: NDArray[np.float64]
    sense: str = ""
    available: float | None = None


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each axis alone explains of one objective.

    Parameters
    ----------
    objective : str
        Label of the figure.
    shares : mapping of str to float
        Axis to share of the variance, 0 to 1, of the objective's rank.
    """

    objective: str
    shares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One row of a latency budget; the parts of `terms` add up to its cycles.

    Parameters
    ----------
    stage, kernel, bound : str
    terms : tuple of int, cycles
        In the order of `headrace.sim.budget.TERMS`.
    """

    stage: str
    kernel: str
    bound: str
    terms: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What is stored of a chosen point beyond its columns.

    Parameters
    ----------
    place : int
        Which of the n points it is.
    hash, toml : str
        Content hash and text of `headrace.arch.point.Point`.
    clock_hz : float
        Of the cycles in `budget`.
    budget : tuple of Term
    roof : tuple of float
        Peak in operations per second and bandwidth in bytes per second; empty if not simulated.
    roofline : tuple of (name, operations per byte, operations per second, bound)
    measured : mapping of str to mapping of str to float
        Figures of the rungs above the first, by rung.
    trace : bytes
        Perfetto trace, gzip; empty where none is stored.
    note : str
        Why something is missing.
    """

    place: int
    hash: str
    toml: str
    clock_hz: float = 1.0
    budget: tuple[Term, ...] = ()
    roof: tuple[float, ...] = ()
    roofline: tuple[tuple[str, float, float, str], ...] = ()
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trace: bytes = b""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows of n points.

    Parameters
    ----------
    title : str
    facts : tuple of (key, value)
        Shown at the top: study, goal, versions, counts.
    command : str
        Words before the ``--set`` of a point, quoted for a POSIX shell.
    axes : tuple of AxisColumn
    figures : tuple of Figure
    feasible, front : bool arrays, shape (n,)
    rung : uint8 array, shape (n,)
        Highest rung that evaluated the point, 0 the first.
    rungs : tuple of str
        Names of the rungs.
    published, best : int or None
        Places of these points.
    changes : tuple of mapping
        How the ranking changed: for every objective and pair of rungs ``lower``, ``upper``,
        ``objective``, ``points``, ``tau``, ``largest`` (relative), ``moved`` (hash) and
        ``same_best``, see `headrace.search.ladder.Change`.
    importance : tuple of Importance
    importance_note : str
        Over which points, and what the shares are.
    details : tuple of Detail

    Raises
    ------
    InputError
        Columns of different lengths, or an axis with more than 65,536 values.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    command: str
    axes: tuple[AxisColumn, ...]
    figures: tuple[Figure, ...]
    feasible: NDArray[np.bool_]
    front: NDArray[np.bool_]
    rung: NDArray[np.uint8]
    rungs: tuple[str, ...] = ("analytic",)
    published: int | None = None
    best: int | None = None
    changes: tuple[Mapping[str, Any], ...] = ()
    importance: tuple[Importance, ...] = ()
    importance_note: str = ""
    details: tuple[Detail, ...] = ()

    def __post_init__(self) -> None:
        columns: dict[str, NDArray[Any]] = {axis.name: axis.codes for axis in self.axes}
        columns |= {figure.name: figure.values for figure in self.figures}
        columns |= {"front": self.front, "rung": self.rung}
        for name, column in columns.items():
            if column.shape != (len(self),):
                raise InputError(f"report: {name} has shape {column.shape}, ({len(self)},) needed")
        for axis in self.axes:
            if len(axis.labels) > _MOST_LABELS:
                raise InputError(
                    f"report: {len(axis.labels)} values of {axis.name} are too many: at most "
                    f"{_MOST_LABELS}"
                )

    def __len__(self) -> int:
        return len(self.feasible)

    def command_of(self, place: int) -> str:
        """Return the command that re-creates a point, for a POSIX shell."""
        words = [
            f"--set {axis.words[code]}"
            for axis in self.axes
            if (code := int(axis.codes[place])) != axis.default
        ]
        return " ".join([self.command, *words])
