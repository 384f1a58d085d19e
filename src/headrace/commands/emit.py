"""``headrace emit``: Verilog for one point, and what the design has besides: Tcl, HLS C++."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import options as o
from headrace.output import Report, table

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.arch.design import Design
    from headrace.arch.point import Point

__all__ = ["emission", "emit"]


def emit(
    design: o.DesignArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to make, or to replace if we wrote it.")
    ],
    point: o.PointOption = None,
    set_: o.SetOption = None,
    device: o.DeviceOption = "",
    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", help="Also pack the weights of this folder, or tiny-bitnet."),
    ] = "",
    json: o.JsonOption = False,
) -> Report:
    """Write the hardware of a point as a folder."""
    chosen, at = o.design_and_point(design, point, set_)

    from headrace.files import check_replaceable
    from headrace.rtl.emit import MANIFEST, emit_folder, manifest

    check_replaceable(output)
    weights = _weights(checkpoint) if checkpoint else None
    files = emission(chosen, at, device or chosen.default_device, weights)
    emit_folder(files, output)
    rtl = chosen.face("rtl")
    ports = [
        {"name": name, "direction": direction, "width": width}
        for name, (direction, width) in rtl.ports(at).items()
    ]
    listed = manifest({**files, MANIFEST: (output / MANIFEST).read_bytes()})

    def show(console: "Console") -> None:
        rows = [[f["path"], f["sha256"][:16]] for f in listed]
        console.print(table(f"{output}: point {at.hash[:16]}", ["file", "sha256"], rows))
        rows = [[p["name"], p["direction"], p["width"]] for p in ports]
        console.print(table(f"ports of {rtl.top}", ["port", "direction", "bits"], rows))

    return Report(
        command="emit",
        payload={
            "files": listed,
            "top": rtl.top,
            "ports": ports,
            "point": dict(at),
            "hash": at.hash,
            "directory": str(output),
        },
        show=show,
        as_json=json,
    )


def emission(
    design: "Design", point: "Point", device: str, weights: dict[str, Any] | None = None
) -> dict[str, bytes]:
    """Return all files of a point by path: RTL at the top, HLS, if there is any, below ``hls/``.

    Parameters
    ----------
    design, point : Design, Point
    device : str
        What the hardware is for; an FPGA where there are scripts.
    weights : dict of str to int8 array, optional
        Ternary matrices to pack, by identifier.

    Raises
    ------
    InputError
        The device is not one for this design, or the point cannot be built.
    """
    files: dict[str, bytes] = dict(design.face("rtl").files(point, device, weights))
    if "hls" not in design.faces:
        return files
    tree = design.face("hls").tree(point, device)
    return files | {f"hls/{path}": tree[path] for path in tree.paths()}


def _weights(checkpoint: str) -> dict[str, Any]:
    """Return the ternary matrices of a checkpoint by identifier, such as ``layer0_q_proj``."""
    from headrace.models.checkpoint import TernaryLinear, example_checkpoint, load_checkpoint

    loaded = load_checkpoint(example_checkpoint() if checkpoint == "tiny-bitnet" else checkpoint)
    return {
        f"layer{index}_{name}": part.weights
        for index, layer in enumerate(loaded.layers)
        for name, part in vars(layer).items()
        if isinstance(part, TernaryLinear)
    }
