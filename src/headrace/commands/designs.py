"""``headrace designs``: the installed architectures and their axes."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands.options import JsonOption
from headrace.output import Report, table

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.arch.design import Design

__all__ = ["designs"]


def designs(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one, with its axes.")
    ] = None,
    json: JsonOption = False,
) -> Report:
    """List the designs, or the axes and rules of one."""
    from headrace.arch.design import design_names, load_design

    found = [load_design(n) for n in ((name,) if name is not None else design_names())]

    def show(console: "Console") -> None:
        if name is not None:
            _show_axes(console, found[0])
            return
        rows = [
            [
                d.name,
                len(d.axes),
                d.default_device,
                d.default_network,
                ", ".join(d.faces),
                d.summary,
            ]
            for d in found
        ]
        heads = ["design", "axes", "device", "network", "faces", "what it is"]
        console.print(table("", heads, rows))

    return Report(
        command="designs", payload={"items": [_item(d) for d in found]}, show=show, as_json=json
    )


def _item(design: "Design") -> dict[str, Any]:
    return {
        "name": design.name,
        "summary": design.summary,
        "default_device": design.default_device,
        "default_network": design.default_network,
        "faces": list(design.faces),
        "axes": [
            {
                "name": a.name,
                "default": a.default,
                "choices": list(a.choices),
                "low": a.low,
                "high": a.high,
                "summary": a.summary,
            }
            for a in design.axes
        ],
        "constraints": [
            {"name": c.name, "rule": c.rule, "knobs": list(c.knobs)} for c in design.constraints
        ],
    }


def _show_axes(console: "Console", design: "Design") -> None:
    rows = [[a.name, a.default, a.allowed(), a.summary] for a in design.axes]
    heads = ["axis", "published", "allowed", "meaning"]
    console.print(table(f"{design.name}: {design.summary}", heads, rows))
    rules = [[c.name, c.rule, ", ".join(c.knobs)] for c in design.constraints]
    console.print(table("rules", ["rule", "what must hold", "knobs"], rules))
