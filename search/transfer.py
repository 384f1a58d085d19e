"""Studies beyond their database: merged, written as tables, compared."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.files import write_atomic
from headrace.search.pareto import pareto_front
from headrace.search.space import Space
from headrace.search.store import Evaluation, Store, Study, UnitResult
from headrace.search.store.records import plain, to_json

__all__ = ["Comparison", "Merged", "compare", "export", "merge"]

_BEFORE = ("rung", "index", "hash")
_AFTER = ("feasible", "agrees", "seconds", "cached", "owner", "artefacts", "detail")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_REFERENCE = 1.1
_EXACT_STEPS = 1e12


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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two Pareto fronts a and b beside each other.

    Costs are minimised and scaled to 0..1 over the union of both fronts; the reference point of
    the hypervolumes is 1.1 in every objective.

    Parameters
    ----------
    size_a, size_b : int
        Points on the front.
    hypervolume_a, hypervolume_b : float
        Volume that the front dominates.
    exact : bool
        Whether the hypervolumes are; fronts too large for that (ten thousand points with five
        objectives) are estimated to about 0.1 %.
    coverage_a, coverage_b : float
        Share of the other front that this one dominates or equals; NaN where the other is empty.
    epsilon_a, epsilon_b : float
        Additive epsilon indicator: least amount by which this front must be improved in every
        objective to cover the other; infinite where this one is empty.
    """

    size_a: int
    size_b: int
    hypervolume_a: float
    hypervolume_b: float
    exact: bool
    coverage_a: float
    coverage_b: float
    epsilon_a: float
    epsilon_b: float


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
        have, offered = _results(study, rung), _results(source, rung)
        differing = sum(
            _outcome(*offered[number]) != _outcome(*have[number])
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


def _outcome(unit: UnitResult, evaluations: list[Evaluation]) -> object:
    """Return what two runs of the same unit must agree on: not times, owners, or tools."""
    points = [
        (e.index, e.hash, e.feasible, e.agrees, sorted((k, repr(v)) for k, v in e.figures.items()))
        for e in evaluations
    ]
    return unit.evaluated, unit.feasible, unit.broken, unit.kept.tolist(), points


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


def compare(costs_a: NDArray[np.float64], costs_b: NDArray[np.float64]) -> Comparison:
    """Compare the Pareto fronts of two sets of points.

    Parameters
    ----------
    costs_a, costs_b : float64 array, shape (n, objectives)
        To be minimised. Points with a cost that is not finite are left out, and so are those
        that others of the same set dominate.

    Raises
    ------
    InputError
        The two do not have the same number of objectives.

    Notes
    -----
    Indicators: Zitzler, Thiele, Laumanns, Fonseca, Grunert da Fonseca, "Performance assessment
    of multiobjective optimizers", IEEE Trans. Evolutionary Computation 7(2), 2003.
    """
    if costs_a.shape[1] != costs_b.shape[1]:
        raise InputError(
            f"{costs_a.shape[1]} and {costs_b.shape[1]} objectives cannot be compared: "
            "studies with the same objectives needed"
        )
    a, b = _scaled(_front(costs_a), _front(costs_b))
    exact = all(len(front) ** max(1, front.shape[1] - 2) <= _EXACT_STEPS for front in (a, b))
    return Comparison(
        size_a=len(a),
        size_b=len(b),
        hypervolume_a=_hypervolume(a, exact),
        hypervolume_b=_hypervolume(b, exact),
        exact=exact,
        coverage_a=_coverage(a, b),
        coverage_b=_coverage(b, a),
        epsilon_a=_epsilon(a, b),
        epsilon_b=_epsilon(b, a),
    )


def _front(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = costs[np.isfinite(costs).all(axis=1)]
    return finite[pareto_front(finite)] if len(finite) else finite


def _scaled(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale to 0..1 over both; an objective that is the same everywhere becomes 0."""
    both = np.concatenate([a, b])
    if not len(both):
        return a, b
    low = both.min(axis=0)
    span = both.max(axis=0) - low
    span[span == 0] = 1.0
    return (a - low) / span, (b - low) / span


def _hypervolume(front: NDArray[np.float64], exact: bool) -> float:
    if not len(front):
        return 0.0
    import moocore

    if exact:
        return float(moocore.hypervolume(front, ref=_REFERENCE))
    return float(moocore.hv_approx(front, ref=_REFERENCE))


def _coverage(front: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if not len(other):
        return float("nan")
    # Of equal rows the first stays, so what stays of `other` is not covered.
    stays = pareto_front(np.concatenate([front, other]))
    return 1.0 - int((stays >= len(front)).sum()) / len(other)


def _epsilon(front: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if not len(front):
        return float("inf")
    if not len(other):
        return float("-inf")
    import moocore

    return float(moocore.epsilon_additive(front, ref=other))
