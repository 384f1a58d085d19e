"""``headrace roofline``: what the machine could reach, and what a point reaches."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands import options as o
from headrace.output import Report, table

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.sim.simulation import Simulation

__all__ = ["roofline"]


def roofline(
    design: o.DesignArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture, .png or .svg.")],
    device: o.DeviceOption = "",
    network: o.NetworkOption = "",
    point: o.PointOption = None,
    set_: o.SetOption = None,
    prompt_tokens: o.PromptOption = 128,
    context_tokens: o.ContextOption = 64,
    json: o.JsonOption = False,
) -> Report:
    """Draw the roofline of a point."""
    chosen, at = o.design_and_point(design, point, set_)
    target, net = o.device_and_network(chosen, device, network)

    from headrace.sim.roofline import plot_roofline
    from headrace.sim.workload import Workload

    workload = Workload(prompt_tokens=prompt_tokens, context_tokens=context_tokens)
    outcome: Simulation = chosen.face("sim")(at, target, net, workload, "analytic")
    roof, points = outcome.roof, outcome.roofline_points()
    title = f"{chosen.name} running {net.name} on {target.name}"
    plot_roofline([roof], points, output, title=title)

    def show(console: "Console") -> None:
        rows = [
            [p.name, p.intensity_flop_per_byte, p.attained_flop_per_s / 1e9, p.bound]
            for p in points
        ]
        peak = (
            f"{title}: peak {roof.flop_per_s / 1e9:.4g} GOP/s, "
            f"{roof.bytes_per_s / 1e9:.4g} GB/s, ridge {roof.ridge_flop_per_byte:.4g} OP/B"
        )
        console.print(table(peak, ["stage and kernel", "OP/B", "GOP/s", "bound"], rows))
        console.print(f"wrote {output}", markup=False)

    return Report(
        command="roofline",
        payload={
            "points": [
                {
                    "name": p.name,
                    "intensity_flop_per_byte": p.intensity_flop_per_byte,
                    "attained_flop_per_s": p.attained_flop_per_s,
                    "bound": p.bound,
                }
                for p in points
            ],
            "roof": {
                "name": roof.name,
                "flop_per_s": roof.flop_per_s,
                "bytes_per_s": roof.bytes_per_s,
            },
            "file": str(output),
        },
        show=show,
        as_json=json,
    )
