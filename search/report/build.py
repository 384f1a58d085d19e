"""A report's data from a problem and the points that a study found."""

import gzip
import math
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.axis import Axis
from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.search.problem import Problem
from headrace.search.report.data import AxisColumn, Detail, Figure, ReportData, Term
from headrace.search.report.importance import importance
from headrace.sim.budget import TERMS, group
from headrace.sim.simulation import Simulate, Simulation
from headrace.sim.trace import Trace
from headrace.sim.workload import Workload

__all__ = ["MOST_DETAILS", "MOST_TRACES", "build"]

MOST_DETAILS = 100
MOST_TRACES = 8

_MOST_TRACE_BYTES = 1 << 18

_UNITS = {
    "_tok_per_s": "tok/s",
    "_tok_per_j": "tok/J",
    "_cycles": "cycles",
    "_bytes": "bytes",
    "_bits": "bits",
    "_mhz": "MHz",
    "_s": "s",
    "_w": "W",
    "_j": "J",
}
Measured = Mapping[str, Mapping[int, Mapping[str, float]]]


def build(
    problem: Problem,
    indices: NDArray[np.int64],
    *,
    front: NDArray[np.int64] | Sequence[int] = (),
    best: int | None = None,
    measured: Measured | None = None,
    changes: Iterable[Mapping[str, Any]] = (),
    title: str = "",
    facts: Iterable[tuple[str, str]] = (),
    details: int = MOST_DETAILS,
    tick: Callable[[int, int], None] | None = None,
) -> ReportData:
    """Evaluate points and collect everything a report shows of them.

    Parameters
    ----------
    problem : Problem
    indices : int64 array, shape (n,)
        Points to show, none twice; 10^5 stay below 10 MB. The published point is added.
    front : int64 array
        Indices on the Pareto front.
    best : int, optional
        Index of the best point.
    measured : mapping of str to mapping of int to mapping of str to float, optional
        Figures by rung above the first (in their order) and index.
    changes : iterable of mapping, optional
        See `ReportData`.
    title : str
    facts : iterable of (key, value)
        Shown before those that the problem gives.
    details : int
        Points at most with budget and roofline: the best, the published and the measured ones,
        then the front, evenly thinned.
    tick : callable, optional
        Called with points simulated and points to simulate.

    Raises
    ------
    InputError
        An index outside of the space.
    """
    measured = measured or {}
    known = list(dict.fromkeys(i for rung in measured.values() for i in rung))
    asked = [*known, *([] if best is None else [best])]
    indices = np.concatenate([indices, np.setdiff1d(np.array(asked, np.int64), indices)])
    indices = np.asarray(indices, np.int64)
    if len(indices) and not 0 <= indices.min() <= indices.max() < problem.space.size:
        raise InputError(f"report: a point is not in the space of {problem.space.size:,} points")
    rows = problem.space.rows(indices)
    rows, published = _with_published(problem, rows)
    figures, feasible = _figures(problem, rows)
    place = {int(index): at for at, index in enumerate(indices)}
    rung = np.zeros(len(rows), np.uint8)
    for number, found in enumerate(measured.values(), 1):
        rung[[place[i] for i in found]] = number
    on_front = np.zeros(len(rows), np.bool_)
    on_front[: len(indices)] = np.isin(indices, np.asarray(front, np.int64))
    shares, note = importance(problem, tuple(f.label for f in figures if f.sense))
    first = [published, *([] if best is None else [place[best]]), *(place[i] for i in known)]
    chosen = _choose(first, np.flatnonzero(on_front), details)
    told = []
    for turn, at in enumerate(chosen):
        if tick is not None:
            tick(turn, len(chosen))
        told.append(
            _detail(problem, at, rows[at], indices, measured, with_trace=turn < MOST_TRACES)
        )
    return ReportData(
        title=title or f"{problem.spec.design} on {problem.spec.device}",
        facts=(*facts, *_facts(problem, len(indices))),
        command=_command(problem),
        axes=tuple(_axis(axis, rows[:, a]) for a, axis in enumerate(problem.space.axes)),
        figures=figures,
        feasible=feasible,
        front=on_front,
        rung=rung,
        rungs=(problem.spec.fidelities[0], *measured),
        published=published,
        best=None if best is None else place[best],
        changes=tuple(dict(change) for change in changes),
        importance=shares,
        importance_note=note,
        details=tuple(told),
    )


def _with_published(problem: Problem, rows: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return rows that contain the published point, and its place."""
    row = problem.space.encode([problem.design.point()])
    same = np.flatnonzero((rows == row).all(axis=1))
    if len(same):
        return rows, int(same[0])
    return np.concatenate([rows, row]), len(rows)


def _figures(problem: Problem, rows: NDArray[Any]) -> tuple[tuple[Figure, ...], NDArray[np.bool_]]:
    """Return objectives first, then the other metrics, then resources; and what is feasible."""
    batch = problem.evaluator.evaluate(rows)
    columns = {name: column.copy() for name, column in batch.columns.items()}
    costs, violation = problem.judge(batch)
    senses = {}
    for objective, cost in zip(problem.goal.objectives, costs.T, strict=True):
        name = objective.text.partition(" ")[2].strip()
        senses[name] = "max" if objective.maximise else "min"
        columns.setdefault(name, -cost if objective.maximise else cost)
    limits = problem.device.resources
    available = {} if limits is None else limits.as_dict()
    resources = problem.evaluator.resources
    order = [*senses, *(name for name in columns if name not in senses)]
    return tuple(
        Figure(
            name=name,
            label=name.upper() if name in resources else _label(name),
            values=columns[name],
            sense=senses.get(name, ""),
            available=available.get(name) if name in resources else None,
        )
        for name in order
    ), violation == 0


def _axis(axis: Axis, codes: NDArray[Any]) -> AxisColumn:
    """Number the values of one column; names come as their place among the choices."""
    is_name = isinstance(axis.default, str)
    standard = axis.choices.index(axis.default) if is_name else axis.default
    found = np.unique(np.append(codes, standard))
    kind = type(axis.default)
    values = [axis.choices[int(v)] if is_name else kind(v) for v in found.tolist()]
    texts = [str(v).lower() if kind is bool else str(v) for v in values]
    return AxisColumn(
        name=axis.name,
        label=_label(axis.name),
        summary=axis.summary,
        labels=tuple(texts),
        numbers=tuple(math.nan if is_name else float(v) for v in found.tolist()),
        words=tuple(shlex.quote(f"{axis.name}={text}") for text in texts),
        default=int(np.searchsorted(found, standard)),
        codes=np.searchsorted(found, codes).astype(np.uint16),
    )


def _label(name: str) -> str:
    """Return a name for people: ``decode_tok_per_s`` becomes ``decode (tok/s)``."""
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix) and name != suffix[1:]:
            return f"{name.removesuffix(suffix).replace('_', ' ')} ({unit})"
    return name.replace("_", " ")


def _command(problem: Problem) -> str:
    """Return ``headrace simulate`` with everything but the point."""
    spec, standard = problem.spec, Workload()
    words = ["headrace", "simulate", spec.design, "--device", spec.device]
    words += ["--network", spec.network]
    for name in ("prompt_tokens", "context_tokens", "output_tokens", "batch", "frames"):
        value = getattr(spec.workload, name)
        if value != getattr(standard, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _facts(problem: Problem, shown: int) -> list[tuple[str, str]]:
    spec, load = problem.spec, problem.spec.workload
    return [
        ("goal", spec.objective),
        ("design", f"{spec.design} on {spec.device}, running {spec.network}"),
        (
            "workload",
            f"{load.prompt_tokens} prompt tokens, {load.context_tokens} in the context, "
            f"{load.output_tokens} after the first",
        ),
        ("strategy", f"{spec.strategy}, seed {spec.seed}"),
        ("space", f"{problem.space.size:,} points, {shown:,} in this report"),
    ]


def _choose(first: list[int], front: NDArray[np.int64], most: int) -> list[int]:
    """Return the places to detail: `first`, then the front evenly thinned."""
    chosen = list(dict.fromkeys(first))[:most]
    rest = front[~np.isin(front, chosen)]
    take = min(most - len(chosen), len(rest))
    return chosen + [int(rest[len(rest) * k // take]) for k in range(take)]


def _detail(
    problem: Problem,
    at: int,
    row: NDArray[Any],
    indices: NDArray[np.int64],
    measured: Measured,
    *,
    with_trace: bool,
) -> Detail:
    """Simulate one point; one that cannot run is described all the same."""
    point = problem.space.decode(row)
    index = int(indices[at]) if at < len(indices) else -1
    found = {rung: dict(points[index]) for rung, points in measured.items() if index in points}
    detail = Detail(place=at, hash=point.hash, toml=point.to_toml(), measured=found)
    try:
        outcome = _simulate(problem, point)
    except InputError as error:
        return replace(detail, note=str(error))
    trace = _trace(outcome) if with_trace else b""
    is_long = len(trace) > _MOST_TRACE_BYTES
    return replace(
        detail,
        note="Its trace is too long to be stored here." if is_long else "",
        clock_hz=float(outcome.clock_hz),
        budget=tuple(
            Term(
                stage=stage,
                kernel=kernel,
                bound=part.bound,
                terms=tuple(getattr(part, term) for term in TERMS),
            )
            for stage, phases in outcome.phases.items()
            for kernel, part in group(phases, "kernel").items()
        ),
        roof=(outcome.roof.flop_per_s, outcome.roof.bytes_per_s),
        roofline=tuple(
            (p.name, p.intensity_flop_per_byte, p.attained_flop_per_s, p.bound)
            for p in outcome.roofline_points()
        ),
        trace=b"" if is_long else trace,
    )


def _simulate(problem: Problem, point: Point) -> Simulation:
    simulate: Simulate = problem.design.face("sim")
    return simulate(point, problem.device, problem.network, problem.spec.workload)


def _trace(outcome: Simulation) -> bytes:
    """Return the Perfetto trace, gzip without a date: equal points give equal bytes."""
    events = Trace(outcome.clock_hz)
    for stage, phases in outcome.phases.items():
        events.add_phases(phases, process=stage)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        events.write(path)
        return gzip.compress(path.read_bytes(), mtime=0)
