"""Platforms: resources, memory tiers, links, clock and power, each figure with its source."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from headrace.arch.resources import Resources
from headrace.errors import InputError

__all__ = ["Device", "Figure", "Link", "MemoryTier", "device_names", "load_device"]


@dataclass(frozen=True)
class Figure:
    """A number with its source and, where sources disagree, the other values by name."""

    value: float
    source: str
    alternatives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MemoryTier:
    """One level of memory: capacity in bytes and peak bandwidth in bytes per second.

    `bandwidth_bytes_per_s` is None where no source gives it.
    """

    name: str
    capacity_bytes: float
    bandwidth_bytes_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class Link:
    """Ports of one kind: how many, bits per beat (None for serial links), bytes/s of each."""

    name: str
    count: int
    width_bits: int | None
    bandwidth_bytes_per_s: float


@dataclass(frozen=True, kw_only=True)
class Device:
    """A platform.

    Parameters
    ----------
    name, summary, kind : str
        Name, one line, and ``fpga``, ``gpu`` or ``asic``.
    resources : Resources or None
        Fabric resources of an FPGA.
    tiers, links : mapping
        Memory tiers and links by name.
    clock_mhz, power_w, peak_flop_per_s : float or None
        Clock that the papers used, published power, peak arithmetic; None where unknown.
    part, board : str or None
        Vivado's names.
    figures : mapping of str to Figure
        Every figure under its dotted key in ``devices.toml``, with source and alternatives.
    """

    name: str
    summary: str
    kind: str
    resources: Resources | None
    tiers: Mapping[str, MemoryTier]
    links: Mapping[str, Link]
    clock_mhz: float | None
    power_w: float | None
    peak_flop_per_s: float | None
    part: str | None
    board: str | None
    figures: Mapping[str, Figure]


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("headrace.arch").joinpath("devices.toml").read_text("utf-8"))


def device_names() -> tuple[str, ...]:
    """Return the names of all devices, in the order of the table."""
    return tuple(_table())


def _figures(table: Mapping[str, Any], prefix: str = "") -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for key, entry in table.items():
        if isinstance(entry, dict) and "value" in entry:
            found[prefix + key] = Figure(
                entry["value"], entry["source"], MappingProxyType(entry.get("alternatives", {}))
            )
        elif isinstance(entry, dict):
            found.update(_figures(entry, f"{prefix}{key}."))
    return found


def load_device(name: str) -> Device:
    """Return the device called `name`, or ``name:alternative``.

    An alternative (say ``kv260:ddr4-2400``) replaces the one disputed figure that has it.

    Raises
    ------
    InputError
        No such device or alternative; the message lists what there is.
    """
    base, colon, alternative = name.partition(":")
    if base not in _table():
        raise InputError(f"unknown device {base!r}: one of {', '.join(device_names())}")
    entry = _table()[base]
    figures = _figures(entry)
    if colon:
        holders = {k: f for k, f in figures.items() if alternative in f.alternatives}
        if not holders:
            known = sorted({a for f in figures.values() for a in f.alternatives})
            raise InputError(
                f"device {base!r} has no alternative {alternative!r}: one of {', '.join(known)}"
            )
        for key, figure in holders.items():
            figures[key] = Figure(
                figure.alternatives[alternative], figure.source, figure.alternatives
            )

    def value(key: str) -> float | None:
        return figures[key].value if key in figures else None

    peak = value("peak_tflops")
    return Device(
        name=name,
        summary=entry["summary"],
        kind=entry["kind"],
        resources=_resources(figures),
        tiers=MappingProxyType({t: _tier(t, figures) for t in entry.get("tiers", {})}),
        links=MappingProxyType({n: _link(n, figures) for n in entry.get("links", {})}),
        clock_mhz=value("clock_mhz"),
        power_w=value("power_w"),
        peak_flop_per_s=None if peak is None else peak * 1e12,
        part=entry.get("part"),
        board=entry.get("board"),
        figures=MappingProxyType(figures),
    )


def _resources(figures: Mapping[str, Figure]) -> Resources | None:
    counts = {
        key.removeprefix("resources."): figure.value
        for key, figure in figures.items()
        if key.startswith("resources.")
    }
    return Resources(**counts) if counts else None


def _tier(name: str, figures: Mapping[str, Figure]) -> MemoryTier:
    def scaled(key: str, factor: float) -> float | None:
        figure = figures.get(f"tiers.{name}.{key}")
        return None if figure is None else figure.value * factor

    capacity = scaled("capacity_gib", 2.0**30) or scaled("capacity_mib", 2.0**20)
    assert capacity is not None
    return MemoryTier(
        name=name,
        capacity_bytes=capacity,
        bandwidth_bytes_per_s=scaled("bandwidth_gb_per_s", 1e9),
    )


def _link(name: str, figures: Mapping[str, Figure]) -> Link:
    width = figures.get(f"links.{name}.width_bits")
    return Link(
        name=name,
        count=int(figures[f"links.{name}.count"].value),
        width_bits=None if width is None else int(width.value),
        bandwidth_bytes_per_s=figures[f"links.{name}.bandwidth_gb_per_s"].value * 1e9,
    )
