"""Parameter axes of a design and the rules that tie them together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import InputError

__all__ = ["Axis", "Constraint", "Value"]

Value = int | float | str | bool


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One parameter of a design.

    Parameters
    ----------
    name : str
        Name used in TOML, on the command line and in reports; carries the unit as a suffix.
    default : Value
        The published setting; its type is the type of the axis.
    summary : str
        What it means, in one line, with the paper's symbol and source.
    choices : tuple of Value
        The values that a search enumerates, in ascending order where they have one.
    low, high : int or float, optional
        Bounds of a number that is given by hand. Without them only `choices` are valid.
    """

    name: str
    default: Value
    summary: str
    choices: tuple[Value, ...]
    low: float | None = None
    high: float | None = None

    def check(self, value: object, where: str = "") -> Value:
        """Return `value` if it is allowed on this axis.

        Raises
        ------
        InputError
            Wrong type or out of range; the message names the axis and the allowed range.
        """
        kind = type(self.default)
        place = f"{where}: " if where else ""
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise InputError(
                f"{place}{self.name} = {value!r} is not allowed: {kind.__name__} needed, "
                f"{self.allowed()}"
            )
        assert isinstance(value, (int, float, str, bool))
        if self.low is None or self.high is None:
            inside = value in self.choices
        else:
            inside = isinstance(value, (int, float)) and self.low <= value <= self.high
        if not inside:
            raise InputError(f"{place}{self.name} = {value!r} is not allowed: {self.allowed()}")
        return value

    def allowed(self) -> str:
        """Describe the allowed values in a few words."""
        if self.low is None or self.high is None:
            return "one of " + ", ".join(str(c) for c in self.choices)
        return f"{self.low:g} to {self.high:g}"

    def parse(self, text: str, where: str = "") -> Value:
        """Convert `text` from a command line, then check it.

        Raises
        ------
        InputError
            The text is not a value of this axis.
        """
        kind = type(self.default)
        try:
            if kind is bool:
                return self.check({"true": True, "false": False}[text.lower()], where)
            return self.check(kind(text), where)
        except (KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            place = f"{where}: " if where else ""
            raise InputError(
                f"{place}{self.name} = {text!r} is not allowed: {kind.__name__} needed, "
                f"{self.allowed()}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A rule over several axes that does not depend on device or network.

    Parameters
    ----------
    name : str
        Short name for explanations.
    rule : str
        The rule in words and symbols, for messages.
    holds : callable
        Takes the mapping of axis values and returns whether the rule holds. It uses only
        operators that work on NumPy arrays too, so that the search can evaluate columns.
    knobs : tuple of str
        Axes that can be turned to satisfy it.
    """

    name: str
    rule: str
    holds: Callable[[Mapping[str, Any]], Any]
    knobs: tuple[str, ...]
