"""``headrace devices``: the platforms, every figure with its source."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands.options import JsonOption
from headrace.output import Report, table

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.arch.device import Device

__all__ = ["devices"]


def devices(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one, with its sources.")
    ] = None,
    json: JsonOption = False,
) -> Report:
    """List the devices, or the sources of one."""
    from headrace.arch.device import device_names, load_device

    found = [load_device(n) for n in ((name,) if name is not None else device_names())]

    def show(console: "Console") -> None:
        if name is not None:
            console.print(_figures(found[0]))
            return
        console.print(_overview(found))
        console.print("headrace devices NAME lists every figure with its source.")

    return Report(
        command="devices",
        payload={"items": [_item(d, sources=name is not None) for d in found]},
        show=show,
        as_json=json,
    )


def _item(device: "Device", *, sources: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "name": device.name,
        "summary": device.summary,
        "kind": device.kind,
        "part": device.part,
        "board": device.board,
        "clock_hz": None if device.clock_mhz is None else device.clock_mhz * 1e6,
        "power_w": device.power_w,
        "peak_flop_per_s": device.peak_flop_per_s,
        "resources": None if device.resources is None else device.resources.as_dict(),
        "tiers": [
            {
                "name": t.name,
                "capacity_bytes": t.capacity_bytes,
                "bandwidth_bytes_per_s": t.bandwidth_bytes_per_s,
            }
            for t in device.tiers.values()
        ],
        "links": [
            {
                "name": link.name,
                "count": link.count,
                "width_bits": link.width_bits,
                "bandwidth_bytes_per_s": link.bandwidth_bytes_per_s,
            }
            for link in device.links.values()
        ],
        "alternatives": sorted({a for f in device.figures.values() for a in f.alternatives}),
    }
    if sources:
        item["figures"] = [
            {
                "key": key,
                "value": figure.value,
                "source": figure.source,
                "alternatives": dict(figure.alternatives),
            }
            for key, figure in device.figures.items()
        ]
    return item


def _overview(found: list["Device"]) -> Any:
    def row(device: "Device") -> list[object]:
        r = device.resources
        tiers = ", ".join(
            f"{t.name} {t.capacity_bytes / 2**30:.3g} GiB"
            + (
                ""
                if t.bandwidth_bytes_per_s is None
                else f" {t.bandwidth_bytes_per_s / 1e9:.4g} GB/s"
            )
            for t in device.tiers.values()
        )
        counts = [None] * 5 if r is None else [r.lut, r.ff, r.dsp, r.bram36, r.uram]
        return [device.name, device.kind, *counts, tiers, device.summary]

    heads = ["device", "kind", "LUT", "FF", "DSP", "BRAM36", "URAM", "memory", "what it is"]
    return table("", heads, map(row, found))


def _figures(device: "Device") -> Any:
    rows = [
        [key, f.value, f.source, ", ".join(f"{device.name.split(':')[0]}:{a} = {v:g}"
                                           for a, v in f.alternatives.items())]
        for key, f in device.figures.items()
    ]  # fmt: skip
    title = f"{device.name}: {device.summary}"
    return table(title, ["figure", "value", "source", "alternatives"], rows)
