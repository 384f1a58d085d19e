"""What is emitted for a V-Rex point: the retrieval engine and its units, counted."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from numpy.typing import ArrayLike

from headrace.arch.device import load_device
from headrace.arch.point import Point
from headrace.arch.vrex.units import UnitSizes, unit_sizes
from headrace.errors import InputError
from headrace.rtl.emit import RtlFace, component_ports
from headrace.rtl.netlist import NetlistCounts, map_netlist
from headrace.rtl.ports import Ports
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.hash_cluster import HashCluster
from headrace.rtl.vrex.kv_management import KvManagement
from headrace.rtl.vrex.mean_key import MeanKey
from headrace.rtl.vrex.retrieval_engine import RetrievalEngine
from headrace.rtl.vrex.score_align import ScoreAlign
from headrace.rtl.vrex.threshold import ThresholdUnit

__all__ = ["MAPPED", "RTL", "UNITS", "VrexRtl", "unit"]

UNITS = {
    "hash_cluster": HashCluster,
    "mean_key": MeanKey,
    "score_align": ScoreAlign,
    "threshold": ThresholdUnit,
    "kv_management": KvManagement,
    "retrieval_engine": RetrievalEngine,
}
"""Top modules by name; the last one holds `hash_cluster`, `threshold` and `kv_management`."""

MAPPED = "mapped to UltraScale+ by Yosys to compare variants: not cells of an ASIC"


def unit(name: str, sizes: UnitSizes) -> Any:
    """Return a unit in Amaranth, not elaborated.

    Parameters
    ----------
    name : str
        One of `UNITS`.
    sizes : UnitSizes
    """
    return UNITS[name](getattr(sizes, name))


class VrexRtl(RtlFace):
    """The RTL face of the design ``vrex``: silicon, so without shell, scripts and board.

    Attributes
    ----------
    top : str
        Module of the retrieval engine.
    """

    top = "retrieval_engine"
    device = "vrex8"

    def component(self, point: Point) -> RetrievalEngine:
        """Return the retrieval engine of `point` in Amaranth."""
        return RetrievalEngine(unit_sizes(point).retrieval_engine)

    def files(
        self,
        point: Point,
        device: str = "",
        weights: Mapping[str, ArrayLike] | None = None,
    ) -> dict[str, bytes]:
        """Return all files of the emission but the manifest, by path.

        Parameters
        ----------
        point : Point
            A point of ``vrex``.
        device : str
            Name of an ASIC; vrex8 if empty.
        weights : mapping of str to array, optional
            There are none in a retrieval engine.

        Raises
        ------
        InputError
            The device is no ASIC, or weights are given, or pyosys is missing.
        """
        if load_device(device or self.device).kind != "asic":
            raise InputError(f"device {device!r} is not allowed: the hardware of V-Rex is an ASIC")
        if weights:
            raise InputError("weights are not allowed: the retrieval engine of V-Rex holds none")
        sizes = unit_sizes(point)
        sources = {name: to_verilog(unit(name, sizes), name) for name in UNITS}
        counts = {name: map_netlist(text, name) for name, text in sources.items()}
        ports = {name: component_ports(unit(name, sizes)) for name in UNITS}
        text = {f"rtl/{name}.v": source for name, source in sources.items()}
        text |= {
            "filelist.f": "".join(f"{path}\n" for path in text),
            "ports.json": _json(ports),
            "netlist.json": _json(
                {"what": MAPPED, "units": {name: asdict(c) for name, c in counts.items()}}
            ),
            "point.toml": point.to_toml(),
            "README.md": _readme(point, sizes, counts, ports),
        }
        return {path: content.encode() for path, content in text.items()}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _readme(
    point: Point,
    sizes: UnitSizes,
    counts: Mapping[str, NetlistCounts],
    ports: Mapping[str, Ports],
) -> str:
    cells = "\n".join(
        f"| `{name}` | {c.lut} | {c.lutram} | {c.ff} | {c.dsp} | {c.bram36:g} |"
        for name, c in counts.items()
    )
    listed = "\n".join(
        f"| `{name}` | {_sizes(getattr(sizes, name))} | {len(ports[name])} |"
        for name in UNITS
        if name != VrexRtl.top
    )
    return f"""\
# V-Rex retrieval engine, point {point.hash[:16]}

Emitted by headrace from `point.toml`; emitting the same point again gives the same bytes:

    headrace emit vrex --point point.toml -o DIR

| unit | sizes | ports |
|---|---|---|
{listed}
| `{VrexRtl.top}` | `hash_cluster`, `threshold` and `kv_management` of these sizes \
| {len(ports[VrexRtl.top])} |

Netlists {MAPPED}.
Yosys {counts[VrexRtl.top].yosys_version}; `lut` holds `lutram`.

| unit | lut | lutram | ff | dsp | bram36 |
|---|---|---|---|---|---|
{cells}

| file | what |
|---|---|
| `rtl/UNIT.v` | a unit with all of its modules: streams with valid and ready |
| `filelist.f` | these files, for tools that are started here; no module is in two of them |
| `ports.json` | direction and bits of every port, by unit |
| `netlist.json` | the counts above, and all others |
| `manifest.json` | SHA-256 of every file |
"""


def _sizes(sizes: Any) -> str:
    return ", ".join(f"{f.name} {getattr(sizes, f.name)}" for f in fields(sizes))


RTL = VrexRtl()
