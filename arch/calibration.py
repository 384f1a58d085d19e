"""Constants that come from a measurement, in one table with their origin."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

__all__ = ["Constant", "calibration", "constant"]


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One calibrated constant.

    Parameters
    ----------
    name : str
        Dotted name, ``design.constant``.
    value, unit : float, str
        Value and its unit; "1" for a ratio.
    fitted : bool
        Whether the value was chosen so that the model meets a published figure.
    fitted_on, source : str
        That figure; where value or figure comes from.
    """

    name: str
    value: float
    unit: str
    fitted: bool
    fitted_on: str
    source: str


@cache
def calibration() -> Mapping[str, Constant]:
    """Return all constants by dotted name."""
    text = files("headrace.arch").joinpath("calibration.toml").read_text("utf-8")
    return MappingProxyType(
        {
            f"{design}.{name}": Constant(name=f"{design}.{name}", **entry)
            for design, table in tomllib.loads(text).items()
            for name, entry in table.items()
        }
    )


def constant(name: str) -> float:
    """Return the value of the constant with the dotted `name`."""
    return calibration()[name].value
