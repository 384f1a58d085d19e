"""One validated choice of a design's parameters."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import tomli_w

from headrace.arch.axis import Value
from headrace.errors import InputError
from headrace.files import read_text, write_atomic

if TYPE_CHECKING:
    from headrace.arch.design import Design

__all__ = ["Point"]

_MAX_FILE_BYTES = 64 * 1024


class Point(Mapping[str, Value]):
    """A frozen, hashable mapping from axis name to value.

    Points are made by `Design.point`, which fills in defaults and checks every rule.

    Parameters
    ----------
    design : str
        Name of the design.
    values : mapping of str to Value
        All axes, in the design's order.
    """

    __slots__ = ("_hash", "_values", "design")

    def __init__(self, design: str, values: Mapping[str, Value]):
        self.design = design
        self._values = MappingProxyType(dict(values))
        canonical = json.dumps([design, sorted(self._values.items())], separators=(",", ":"))
        self._hash = hashlib.sha256(canonical.encode()).hexdigest()

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self._hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other._hash == self._hash

    def __repr__(self) -> str:
        return f"Point({self.design!r}, {dict(self._values)!r})"

    @property
    def hash(self) -> str:
        """Content hash: SHA-256 over the design's name and all values, 64 hex digits."""
        return self._hash

    def integer(self, name: str) -> int:
        """Return the value of an integer axis."""
        value = self._values[name]
        if type(value) is not int:
            raise TypeError(f"{name} is not an integer axis")
        return value

    def text(self, name: str) -> str:
        """Return the value of an axis of names."""
        value = self._values[name]
        if type(value) is not str:
            raise TypeError(f"{name} is not an axis of names")
        return value

    def switch(self, name: str) -> bool:
        """Return the value of a yes-or-no axis."""
        value = self._values[name]
        if type(value) is not bool:
            raise TypeError(f"{name} is not a yes-or-no axis")
        return value

    def to_toml(self) -> str:
        """Serialise as TOML text that `from_toml` reads back to an equal point."""
        return tomli_w.dumps({"design": self.design, "axes": dict(self._values)})

    def save(self, path: Path) -> None:
        """Write `to_toml` to `path`, whole or not at all."""
        write_atomic(path, self.to_toml())

    @staticmethod
    def load(path: Path, design: "Design") -> "Point":
        """Read a point of `design` from a TOML file.

        Axes that the file leaves out take the design's defaults.

        Raises
        ------
        InputError
            The file cannot be read, is not TOML, names another design or an unknown axis, or
            breaks a rule.
        """
        raw = read_text(path, _MAX_FILE_BYTES)
        try:
            data = tomllib.loads(raw)
        except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits
            text = str(error).splitlines()[0] if str(error) else "nested too deeply"
            raise InputError(f"{path}: not a TOML file: {text}") from error
        unknown = sorted(set(data) - {"design", "axes"})
        if unknown:
            raise InputError(f"{path}: unknown key {unknown[0]!r}, allowed are design, axes")
        if data.get("design") != design.name:
            raise InputError(
                f"{path}: design = {data.get('design')!r} is not allowed: {design.name!r} needed"
            )
        axes = data.get("axes", {})
        if not isinstance(axes, dict):
            raise InputError(f"{path}: axes must be a table of axis = value")
        return design.point(axes, where=str(path))
