"""A parametric architecture and the registry that finds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from headrace.arch.axis import Axis, Constraint, Value
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.errors import InputError

__all__ = ["Design", "design_names", "load_design"]

_GROUP = "headrace.designs"


@dataclass(frozen=True, kw_only=True)
class Design:
    """A parametric architecture.

    Parameters
    ----------
    name, summary : str
        Registry name and one line for lists.
    axes : tuple of Axis
        Parameters; their defaults are the published machine.
    constraints : tuple of Constraint
        Rules between axes.
    resources : callable
        Takes a `Point`, returns the resources of each module by name; they add up to the
        whole machine.
    default_device, default_network : str
        What the paper used.
    faces : mapping of str to str
        Where the other layers realise the design: layer name to ``module:attribute``. They are
        imported only when asked for, so that a layer never imports one above it.
    """

    name: str
    summary: str
    axes: tuple[Axis, ...]
    constraints: tuple[Constraint, ...]
    resources: Callable[[Point], Mapping[str, Resources]]
    default_device: str
    default_network: str
    faces: Mapping[str, str] = field(default_factory=dict)

    def axis(self, name: str, where: str = "") -> Axis:
        """Return the axis called `name`.

        Raises
        ------
        InputError
            There is no such axis; the message lists those there are.
        """
        for axis in self.axes:
            if axis.name == name:
                return axis
        place = f"{where}: " if where else ""
        names = ", ".join(a.name for a in self.axes)
        raise InputError(f"{place}{self.name} has no axis {name!r}: one of {names}")

    def point(self, values: Mapping[str, object] | None = None, where: str = "") -> Point:
        """Return the point with `values`, everything else at its default.

        Raises
        ------
        InputError
            An unknown axis, a value out of range or a broken rule.
        """
        values = dict(values or {})
        for name in values:
            self.axis(name, where)
        chosen: dict[str, Value] = {
            a.name: a.check(values.get(a.name, a.default), where) for a in self.axes
        }
        for constraint in self.constraints:
            if not constraint.holds(chosen):
                knobs = ", ".join(f"{k} = {chosen[k]}" for k in constraint.knobs)
                place = f"{where}: " if where else ""
                raise InputError(f"{place}{constraint.name}: {constraint.rule} needed, got {knobs}")
        return Point(self.name, chosen)

    def face(self, layer: str) -> Any:
        """Import and return the face of this design in `layer`.

        Raises
        ------
        InputError
            The design has no such face.
        """
        if layer not in self.faces:
            raise InputError(f"design {self.name!r} has no {layer} face")
        module, _, attribute = self.faces[layer].partition(":")
        return getattr(import_module(module), attribute)


def design_names() -> tuple[str, ...]:
    """Return the names of all installed designs, sorted."""
    return tuple(sorted(e.name for e in entry_points(group=_GROUP)))


def load_design(name: str) -> Design:
    """Return the installed design called `name`.

    Raises
    ------
    InputError
        No installed package registers it under the entry-point group ``headrace.designs``.
    """
    for entry in entry_points(group=_GROUP):
        if entry.name == name:
            design = entry.load()
            if not isinstance(design, Design):
                raise InputError(f"entry point {entry.value} of design {name!r} is not a Design")
            return design
    raise InputError(f"unknown design {name!r}: one of {', '.join(design_names())}")
