"""What a study stores, and its form as rows: written by us, but read as if by a stranger."""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.search.spec import Spec

__all__ = [
    "Evaluation",
    "StudyInfo",
    "UnitResult",
    "evaluation_from_row",
    "evaluation_to_row",
    "from_json",
    "plain",
    "to_json",
    "unit_from_row",
    "unit_to_row",
]

LARGEST = 1 << 62
"""Largest number that is stored: indices, counts."""

_MOST_KEPT = 1 << 24
_MOST_TEXT = 1 << 26


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """One line of the list of studies.

    Parameters
    ----------
    name : str
    created : str
        UTC, ISO 8601.
    spec : Spec
    units, evaluations : int
        Stored so far.
    """

    name: str
    created: str
    spec: Spec
    units: int
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class UnitResult:
    """Outcome of one unit of work.

    Parameters
    ----------
    number : int
        0 to 2^62.
    evaluated, feasible : int
        Points.
    broken : tuple of int
        How many points broke each budget and constraint.
    kept : int64 array, shape (k,)
        Indices of the local Pareto front, or of the best; the order is kept.
    seconds : float
        Time the work took.
    owner : str
        Process that did it.
    """

    number: int
    evaluated: int
    feasible: int
    broken: tuple[int, ...]
    kept: NDArray[np.int64]
    seconds: float
    owner: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One point at one rung.

    Parameters
    ----------
    rung : str
        Fidelity.
    index : int
        Place in the space, 0 to 2^62.
    hash : str
        Hash of the point.
    feasible, agrees : bool
        All budgets and constraints hold; all witnesses of the rung agree.
    figures : mapping of str to float
        Metrics and resources; may be infinite or not a number.
    detail : mapping of str to float or str
    artefacts : mapping of str to str
        See `headrace.search.measure.Measurement`.
    seconds : float
    cached : bool
    owner : str
        Process that did it.
    unit : int
        The unit that it was part of.
    """

    rung: str
    index: int
    hash: str
    feasible: bool
    agrees: bool
    figures: Mapping[str, float]
    detail: Mapping[str, float | str] = field(default_factory=dict)
    artefacts: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cached: bool = False
    owner: str = ""
    unit: int = 0


def unit_to_row(result: UnitResult) -> dict[str, Any]:
    """Return the columns of a finished unit."""
    kept = np.ascontiguousarray(result.kept, np.int64)
    return {
        "number": _count(result.number),
        "done": True,
        "lease": None,
        "owner": result.owner,
        "evaluated": _count(result.evaluated),
        "feasible": _count(result.feasible, result.evaluated),
        "broken": to_json([_count(b) for b in result.broken]),
        "kept_count": _count(len(kept), _MOST_KEPT),
        "kept": _pack(kept),
        "seconds": _seconds(result.seconds),
    }


def unit_from_row(row: Mapping[str, Any], where: str) -> UnitResult:
    """Return the result that a row holds.

    Raises
    ------
    InputError
        The row is not one that `unit_to_row` could have made; `where` begins the message.
    """
    try:
        evaluated = _count(row["evaluated"])
        broken = from_json(row["broken"])
        if type(broken) is not list:
            raise ValueError("budgets are not a list")
        return UnitResult(
            number=_count(row["number"]),
            evaluated=evaluated,
            feasible=_count(row["feasible"], evaluated),
            broken=tuple(_count(b) for b in broken),
            kept=_unpack(row["kept"], _count(row["kept_count"], _MOST_KEPT)),
            seconds=_seconds(row["seconds"]),
            owner=_text(row["owner"]),
        )
    except (ValueError, TypeError, zlib.error, RecursionError) as error:
        raise InputError(f"{where}: unit {row['number']!r:.40} is damaged: {error}") from error


def evaluation_to_row(evaluation: Evaluation, place: int) -> dict[str, Any]:
    """Return the columns of an evaluation, the `place`-th of its unit."""
    e = evaluation
    return {
        "rung": e.rung,
        "point": _count(e.index),
        "unit": _count(e.unit),
        "place": place,
        "hash": e.hash,
        "feasible": bool(e.feasible),
        "agrees": bool(e.agrees),
        "figures": to_json({str(k): plain(float(v)) for k, v in e.figures.items()}),
        "detail": to_json({str(k): plain(v) for k, v in e.detail.items()}),
        "artefacts": to_json({str(k): str(v) for k, v in e.artefacts.items()}),
        "seconds": _seconds(e.seconds),
        "cached": bool(e.cached),
        "owner": e.owner,
    }


def evaluation_from_row(row: Mapping[str, Any], where: str) -> Evaluation:
    """Return the evaluation that a row holds.

    Raises
    ------
    InputError
        The row is not one that `evaluation_to_row` could have made.
    """
    try:
        figures = _mapping(row["figures"])
        artefacts = _mapping(row["artefacts"])
        if any(type(v) is str for v in figures.values()):
            raise ValueError("a figure is no number")
        if any(type(v) is not str for v in artefacts.values()):
            raise ValueError("an artefact is no text")
        return Evaluation(
            rung=_text(row["rung"]),
            index=_count(row["point"]),
            hash=_text(row["hash"]),
            feasible=_flag(row["feasible"]),
            agrees=_flag(row["agrees"]),
            figures={k: float(v) for k, v in figures.items()},
            detail=_mapping(row["detail"]),
            artefacts=artefacts,
            seconds=_seconds(row["seconds"]),
            cached=_flag(row["cached"]),
            owner=_text(row["owner"]),
            unit=_count(row["unit"]),
        )
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{where}: evaluation {row['point']!r:.40} is damaged: {error}") from error


def to_json(value: object) -> str:
    """Return strict JSON: infinities and NaN are refused."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def from_json(text: object) -> Any:
    """Parse strict JSON that nobody has vouched for.

    Raises
    ------
    ValueError
        Not text, too long, or not JSON.
    """
    text = _text(text, _MOST_TEXT)

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def plain(value: float | str) -> object:
    """Return what strict JSON can hold: ``{"float": "nan"}`` where it has no number."""
    if isinstance(value, (str, bool, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else {"float": repr(number)}


def _mapping(text: object) -> dict[str, Any]:
    raw = from_json(text)
    if type(raw) is not dict:
        raise ValueError("not a mapping")
    return {key: _valued(value) for key, value in raw.items()}


def _valued(value: object) -> float | str:
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict) and value.get("float") in ("nan", "inf", "-inf"):
        return float(value["float"])
    raise ValueError("neither a number nor text")


def _pack(numbers: NDArray[np.int64]) -> bytes:
    """Compress: differences, then the bytes of equal weight together, then zlib.

    Ascending indices, the common case, shrink to about one byte each, half of what zlib makes
    of them as they are, in half the time.
    """
    steps = np.diff(numbers, prepend=np.int64(0)).astype("<i8")
    return zlib.compress(steps.view(np.uint8).reshape(-1, 8).T.tobytes(), 1)


def _unpack(blob: object, count: int) -> NDArray[np.int64]:
    if type(blob) is not bytes:
        raise ValueError("no indices")
    stream = zlib.decompressobj()
    # Never more than is announced, however much a hostile blob would unfold to.
    raw = stream.decompress(blob, 8 * count + 1)
    if len(raw) != 8 * count or not stream.eof or stream.unused_data:
        raise ValueError(f"not {count} indices")
    planes = np.frombuffer(raw, np.uint8).reshape(8, count)
    steps = np.ascontiguousarray(planes.T).view("<i8").reshape(count)
    numbers = np.cumsum(steps, dtype=np.int64)
    if count and not 0 <= numbers.min() <= numbers.max() <= LARGEST:
        raise ValueError("an index is out of range")
    return numbers


def _count(value: Any, most: int = LARGEST) -> int:
    if isinstance(value, np.integer):
        value = int(value)
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r:.40} is not a number from 0 to {most}")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r:.40} is not a time in seconds")
    return float(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{value!r:.40} is neither true nor false")
    return value


def _text(value: Any, most: int = 4096) -> str:
    if type(value) is not str or len(value) > most:
        raise ValueError("not a text, or one that is too long")
    return value
