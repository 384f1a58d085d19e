"""Why a point is infeasible, and which single change would mend it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace.arch.axis import Value
from headrace.arch.design import Design, load_design
from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.models.network import Network
from headrace.search.evaluator import Evaluator, SearchFace
from headrace.search.space import Space
from headrace.sim.workload import Workload

__all__ = ["Violation", "explain"]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One budget that a point exceeds.

    Parameters
    ----------
    budget, what, unit : str
        Its name, in words, and the unit of the numbers.
    needed, available : float
        What the point needs and what there is.
    knobs : tuple of (axis, value)
        Single changes that satisfy this budget and break no other, the smallest first (counted
        in steps along the axis).
    """

    budget: str
    what: str
    unit: str
    needed: float
    available: float
    knobs: tuple[tuple[str, Value], ...]

    @property
    def excess(self) -> float:
        """By how much the need exceeds what there is."""
        return self.needed - self.available

    def text(self) -> str:
        """Return the explanation as one line."""
        knobs = " or ".join(f"{axis} = {value}" for axis, value in self.knobs[:4])
        return (
            f"{self.what}: {self.needed:,.10g} {self.unit} needed, {self.available:,.10g} "
            f"available, {self.excess:,.10g} too many; "
            + (f"try {knobs}" if knobs else "no single axis mends it")
        )


def explain(
    point: Point,
    device: Device,
    network: Network,
    workload: Workload,
    *,
    design: Design | None = None,
) -> list[Violation]:
    """Return the budgets that `point` exceeds, with the changes that would mend each.

    Every axis is tried at every choice, alone, by evaluating all these neighbours.

    Parameters
    ----------
    point, device, network, workload : Point, Device, Network, Workload
    design : Design, optional
        The point's design, by default the installed one of its name.

    Returns
    -------
    list of Violation
        Empty if the point is feasible.

    Raises
    ------
    InputError
        No point of the design can run this.
    """
    design = design or load_design(point.design)
    face: SearchFace = design.face("search")
    evaluator = face.evaluator(device, network, workload)
    space = Space(design, _with(design, point))
    row = space.encode([point])
    broken = int(evaluator.evaluate(row, only=()).broken[0])
    if not broken:
        return []
    needed, available = evaluator.demands(row[0])
    changes = _changes(space, point, evaluator, broken)
    return [
        Violation(
            budget=budget.name,
            what=budget.what,
            unit=budget.unit,
            needed=float(needed[bit]),
            available=float(available[bit]),
            knobs=changes[bit],
        )
        for bit, budget in enumerate(evaluator.budgets)
        if broken >> bit & 1
    ]


def _with(design: Design, point: Point) -> Mapping[str, tuple[Value, ...]]:
    """Return the choices of every axis with the point's value among them, in order."""
    choices = {}
    for axis in design.axes:
        value = point[axis.name]
        extended = (*axis.choices, value) if value not in axis.choices else axis.choices
        choices[axis.name] = extended if isinstance(value, str) else tuple(sorted(extended))
    return choices


def _changes(
    space: Space, point: Point, evaluator: Evaluator, broken: int
) -> dict[int, tuple[tuple[str, Value], ...]]:
    """Return for each broken budget the neighbours that mend it and break nothing new."""
    rows = space.rows(space.neighbours(space.index(point)))
    after = evaluator.evaluate(rows, only=()).broken.copy()
    found = []
    for row, bits in zip(rows, after, strict=True):
        mended = broken & ~int(bits)
        if not mended or int(bits) & ~broken:
            continue
        neighbour = space.decode(row)
        at, name = next(
            (i, axis.name)
            for i, axis in enumerate(space.axes)
            if neighbour[axis.name] != point[axis.name]
        )
        values = space.choices[at]
        steps = abs(values.index(neighbour[name]) - values.index(point[name]))
        found.append((steps, at, name, neighbour[name], mended))
    found.sort(key=lambda change: change[:2])
    return {
        bit: tuple((name, value) for _, _, name, value, mended in found if mended >> bit & 1)
        for bit in range(len(evaluator.budgets))
        if np.bitwise_and(broken >> bit, 1)
    }
