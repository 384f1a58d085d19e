"""Studies beyond their database: merged into another, written as tables."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import InputError
from headrace.files import write_atomic
from headrace.search.bulk import BULK
from headrace.search.space import Space
from headrace.search.store import Evaluation, Store, Study, UnitResult
from headrace.search.store.records import plain, to_json

__all__ = ["Merged", "export", "merge"]

_BEFORE = ("rung", "index", "hash")
_AFTER = ("feasible", "agrees", "seconds", "cached", "owner", "artefacts", "detail")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What `merge` has done.

    Parameters
    ----------
    units, evaluations : int
        Copied.
    conflicts : int
        Units and notes that both sides have, with other content; the target's were kept.
    """

    units: int
    evaluations: int
    conflicts: int


def merge(source: Study, target: Store, name: str | None = None) -> Merged:
    """Copy what a study knows into another database.

    A unit that both have is kept as it is in the target. If its results differ, the two were
    made by different programs: then nothing more is copied of its rung and of those above, so
    that no study is made of halves that do not fit.

    Parameters
    ----------
    source : Study
    target : Store
    name : str, optional
        Name in the target; that of the source by default.

    Raises
    ------
    InputError
        The target has a study of this name with another specification, or cannot be written.
    """
    study = target.create(name or source.name, source.spec)
    ours, theirs = study.notes(), source.notes()
    conflicts = sum(key in ours and ours[key] != theirs[key] for key in theirs)
    units = evaluations = 0
    for place, rung in enumerate(source.spec.fidelities):
        if conflicts and place:  # numbers on upper rungs mean what the notes say
            break
        sweep = place == 0 and source.spec.strategy in BULK
        have, offered = _results(study, rung), _results(source, rung)
        differing = sum(
            _outcome(*offered[number], sweep) != _outcome(*have[number], sweep)
            for number in offered.keys() & have.keys()
        )
        conflicts += differing
        if differing:
            break
        missing = [number for number in offered if number not in have]
        stored = study.commit_all(
            rung, [(offered[n][0], offered[n][0].owner, offered[n][1]) for n in missing]
        )
        units += len(stored)
        evaluations += sum(len(offered[number][1]) for number in stored)
    if not conflicts:
        for key, value in theirs.items():
            study.set_note(key, value)
    return Merged(units=units, evaluations=evaluations, conflicts=conflicts)


def _results(study: Study, rung: str) -> dict[int, tuple[UnitResult, list[Evaluation]]]:
    found: dict[int, tuple[UnitResult, list[Evaluation]]] = {
        unit.number: (unit, []) for unit in study.units(rung)
    }
    for evaluation in study.evaluations(rung):
        if evaluation.unit not in found:
            raise InputError(
                f"{study.where} is damaged: point {evaluation.index} of {rung} belongs to unit "
                f"{evaluation.unit}, which is not there"
            )
        found[evaluation.unit][1].append(evaluation)
    return found


def _outcome(unit: UnitResult, evaluations: list[Evaluation], sweep: bool) -> object:
    """Return what two runs of the same unit must agree on: not times, owners, or tools.

    A sweep leaves out what is beaten by points known when it ran, which depends on the order of
    units. What it left out is beaten by a point of the same record, so the union is right.
    """
    points = [
        (e.index, e.hash, e.feasible, e.agrees, sorted((k, repr(v)) for k, v in e.figures.items()))
        for e in evaluations
    ]
    kept = None if sweep else unit.kept.tolist()
    return unit.evaluated, unit.feasible, unit.broken, kept, points


def export(evaluations: Iterable[Evaluation], space: Space, path: Path) -> int:
    """Write evaluations as a table, one row each.

    The columns are rung, index, hash, all axes, all figures, feasible, agrees, seconds, cached,
    owner, and artefacts and detail as JSON. A figure that a point does not have is null (empty
    in CSV). An axis or a figure with the name of an earlier column gets ``axis.`` or ``figure.``
    before it. In CSV a text that a spreadsheet would take for a formula gets an apostrophe
    before it.

    Parameters
    ----------
    evaluations : iterable of Evaluation
    space : Space
        In which the indices count.
    path : Path
        ``.parquet`` or ``.csv``; written whole or not at all.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    InputError
        Another suffix, a place that cannot be written, or a point outside the space.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: suffix {path.suffix!r} is not allowed: .parquet or .csv")
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    rows = list(evaluations)
    buffer = io.BytesIO()
    columns = _columns(rows, space)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    else:
        columns = {_harmless(name): _cells(column) for name, column in columns.items()}
        pyarrow.csv.write_csv(
            pyarrow.table(columns), buffer, pyarrow.csv.WriteOptions(quoting_style="needed")
        )
    write_atomic(path, buffer.getvalue())
    return len(rows)


def _columns(rows: list[Evaluation], space: Space) -> dict[str, Any]:
    """Return the columns of a table, each an Arrow array."""
    import pyarrow

    columns: dict[str, Any] = {
        "rung": _texts(e.rung for e in rows),
        "index": pyarrow.array([e.index for e in rows], pyarrow.int64()),
        "hash": _texts(e.hash for e in rows),
    }
    for name, column in _axes(rows, space).items():
        columns[f"axis.{name}" if name in {*_BEFORE, *_AFTER} else name] = column
    for figure in dict.fromkeys(name for e in rows for name in e.figures):
        name = f"figure.{figure}" if figure in {*columns, *_AFTER} else figure
        values = [e.figures.get(figure) for e in rows]
        columns[_storable(name)] = pyarrow.array(values, pyarrow.float64())
    columns["feasible"] = pyarrow.array([e.feasible for e in rows], pyarrow.bool_())
    columns["agrees"] = pyarrow.array([e.agrees for e in rows], pyarrow.bool_())
    columns["seconds"] = pyarrow.array([e.seconds for e in rows], pyarrow.float64())
    columns["cached"] = pyarrow.array([e.cached for e in rows], pyarrow.bool_())
    columns["owner"] = _texts(e.owner for e in rows)
    columns["artefacts"] = _texts(_json(e.artefacts) for e in rows)
    columns["detail"] = _texts(_json(e.detail) for e in rows)
    return columns


def _axes(rows: list[Evaluation], space: Space) -> dict[str, Any]:
    """Return the axes of all points as Arrow arrays of the axes' types."""
    import pyarrow

    indices = np.array([e.index for e in rows], np.int64)
    if outside := [i for i in indices.tolist() if not 0 <= i < space.size]:
        raise InputError(
            f"point {outside[0]} is not in the space of {space.design.name}: 0 to {space.size - 1}"
        )
    codes = space.rows(indices)
    columns = {}
    for axis, column in zip(space.axes, codes.T, strict=True):
        kind = type(axis.default)
        if kind is str:
            columns[axis.name] = _texts(str(axis.choices[int(code)]) for code in column)
        else:
            numbers: dict[type, type] = {int: np.int64, float: np.float64, bool: np.bool_}
            columns[axis.name] = pyarrow.array(column.astype(numbers[kind]))
    return columns


def _json(value: Mapping[str, float | str]) -> str:
    return to_json({key: plain(item) for key, item in value.items()})


def _texts(values: Iterable[str]) -> Any:
    import pyarrow

    return pyarrow.array([_storable(value) for value in values], pyarrow.string())


def _storable(text: str) -> str:
    """Return `text` without half characters, which JSON may hold but UTF-8 may not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cells(column: Any) -> Any:
    import pyarrow

    if column.type != pyarrow.string():
        return column
    return pyarrow.array([_harmless(text) for text in column.to_pylist()], pyarrow.string())


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
