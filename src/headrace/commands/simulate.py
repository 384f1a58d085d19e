"""``headrace simulate``: the figures of one point, and where its time goes."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import options as o
from headrace.errors import InputError
from headrace.output import Report, table

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.sim.simulation import Simulation

__all__ = ["simulate"]


def simulate(
    design: o.DesignArgument,
    device: o.DeviceOption = "",
    network: o.NetworkOption = "",
    point: o.PointOption = None,
    set_: o.SetOption = None,
    prompt_tokens: o.PromptOption = 128,
    context_tokens: o.ContextOption = 64,
    output_tokens: o.OutputTokensOption = 1,
    batch: o.BatchOption = 1,
    frames: o.FramesOption = 1,
    expert_skew: Annotated[
        float,
        typer.Option("--expert-skew", help="Expert e gets rows as (e + 1)^-SKEW; 0: as many each."),
    ] = 0.0,
    expert_loads: Annotated[
        Path | None,
        typer.Option("--expert-loads", help='Measured rows instead: JSON {"layers": [[...]]}.'),
    ] = None,
    fidelity: Annotated[
        str, typer.Option("--fidelity", help="analytic (closed form) or cycle (recurrence).")
    ] = "analytic",
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Write the phases as a Perfetto trace.")
    ] = None,
    budget_plot: Annotated[
        Path | None, typer.Option("--budget-plot", help="Draw the cycle budget (.png or .svg).")
    ] = None,
    json: o.JsonOption = False,
) -> Report:
    """Predict latency, power and resources of a point."""
    chosen, at = o.design_and_point(design, point, set_)
    target, net = o.device_and_network(chosen, device, network)

    from headrace.sim.simulation import FIDELITIES
    from headrace.sim.workload import Workload

    if fidelity not in FIDELITIES:
        raise InputError(f"--fidelity {fidelity!r} is not allowed: one of {', '.join(FIDELITIES)}")
    workload = Workload(
        prompt_tokens=prompt_tokens,
        context_tokens=context_tokens,
        output_tokens=output_tokens,
        batch=batch,
        frames=frames,
        expert_skew=expert_skew,
        expert_shares=_shares(expert_loads),
    )
    outcome: Simulation = chosen.face("sim")(at, target, net, workload, fidelity)
    files = _draw(outcome, trace, budget_plot)
    title = f"{chosen.name} running {net.name} on {target.name}, {fidelity}"
    return Report(
        command="simulate",
        payload={**_payload(outcome), "fidelity": fidelity, "files": files},
        show=lambda console: _show(console, title, outcome, files),
        as_json=json,
    )


def _shares(loads: Path | None) -> tuple[tuple[float, ...], ...]:
    """Return the shares of the experts in a file of loads; none without a file."""
    if loads is None:
        return ()
    from headrace.models.routing import read_loads

    return tuple(tuple(layer) for layer in read_loads(loads).tolist())


def _draw(outcome: "Simulation", trace: Path | None, plot: Path | None) -> list[str]:
    """Write the trace and the picture that were asked for; return their names."""
    if trace is not None:
        from headrace.sim.trace import Trace

        events = Trace(outcome.clock_hz)
        for stage, phases in outcome.phases.items():
            events.add_phases(phases, process=stage)
        events.write(trace)
    if plot is not None:
        from headrace.sim.budget import group, plot_budget

        bars = [
            replace(total, name=f"{stage} {total.name}")
            for stage, phases in outcome.phases.items()
            for total in group(phases, "kernel").values()
        ]
        plot_budget(bars, plot, title=f"{outcome.point.design}: cycles by stage and kernel")
    return [str(path) for path in (trace, plot) if path is not None]


def _payload(outcome: "Simulation") -> dict[str, Any]:
    terms = ("name", "kernel", "layer", "cycles", "fill", "steady", "drain", "memory", "stall",
             "bound", "bytes")  # fmt: skip
    from headrace.arch.resources import Resources

    return {
        "point": dict(outcome.point),
        "hash": outcome.point.hash,
        "metrics": outcome.metrics,
        "resources": sum(outcome.resources.values(), Resources()).as_dict(),
        "modules": {name: r.as_dict() for name, r in outcome.resources.items()},
        "power_w": outcome.power,
        "phases": [
            {"stage": stage, **{term: getattr(phase, term) for term in terms}}
            for stage, phases in outcome.phases.items()
            for phase in phases
        ],
    }


def _show(console: "Console", title: str, outcome: "Simulation", files: list[str]) -> None:
    from headrace.arch.resources import Resources
    from headrace.sim.budget import TERMS, group, total

    console.print(table(title, ["metric", "value"], list(outcome.metrics.items())))
    counts = [[name, *r.as_dict().values()] for name, r in outcome.resources.items()]
    whole = sum(outcome.resources.values(), Resources()).as_dict()
    heads = ["module", *(name.upper() for name in whole)]
    if counts:  # an ASIC has none of an FPGA's
        console.print(table("resources", heads, [*counts, ["total", *whole.values()]]))
    for stage, watts in outcome.power.items():
        parts = ", ".join(f"{consumer} {power:.3g} W" for consumer, power in watts.items())
        console.print(f"{stage}: {parts}", markup=False)
    for stage, phases in outcome.phases.items():
        bars = [*group(phases, "kernel").values(), total(phases)]
        rows = [[b.name, *(getattr(b, t) for t in TERMS), b.cycles, b.bound] for b in bars]
        heads = ["kernel", *TERMS, "cycles", "bound"]
        console.print(table(f"{stage}: cycles by kernel", heads, rows))
    for name in files:
        console.print(f"wrote {name}", markup=False)
