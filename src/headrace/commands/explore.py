"""``headrace explore``: search the space of a design."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import options as o
from headrace.output import Report, table
from headrace.progress import progress

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.search.explore import Candidate, Exploration

__all__ = ["difference_table", "explore", "front_table"]

_SHOWN = 20


def explore(
    design: o.DesignArgument,
    device: o.DeviceOption = "",
    network: o.NetworkOption = "",
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            help='Such as "min ttft_s s.t. decode_tok_per_s >= 25"; several, separated by '
            "commas, ask for a Pareto front.",
        ),
    ] = "",
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint", help='One more condition, such as "lut <= 98303"; repeatable.'
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option("--strategy", help="auto, exhaustive or random.")
    ] = "auto",
    samples: Annotated[
        int | None, typer.Option("--samples", help="Points that random evaluates.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", metavar="AXIS=VALUE[,VALUE]", help="Search only these; repeatable."),
    ] = None,
    prompt_tokens: o.PromptOption = 128,
    context_tokens: o.ContextOption = 64,
    output_tokens: o.OutputTokensOption = 1,
    seed: o.SeedOption = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the best point as TOML.")
    ] = None,
    json: o.JsonOption = False,
) -> Report:
    """Search for the best point or a Pareto front."""
    from headrace.arch.design import load_design

    chosen = load_design(design)
    target, net = o.device_and_network(chosen, device, network)

    from headrace.search.explore import DEFAULT_OBJECTIVE
    from headrace.search.explore import explore as search
    from headrace.search.space import parse_choices
    from headrace.sim.workload import Workload

    workload = Workload(
        prompt_tokens=prompt_tokens, context_tokens=context_tokens, output_tokens=output_tokens
    )
    with progress("exploring") as tick:
        found = search(
            chosen,
            target,
            net,
            workload,
            objective=objective or DEFAULT_OBJECTIVE,
            constraints=constraint or (),
            strategy=strategy,
            samples=samples,
            seed=seed,
            fixed=parse_choices(chosen, fix or ()),
            progress=tick,
        )
    if output is not None and found.best is not None:
        found.best.point.save(output)
    title = f"{chosen.name} running {net.name} on {target.name}"
    return Report(
        command="explore",
        payload={**_payload(found), "file": None if output is None else str(output)},
        show=lambda console: _show(console, title, found, output),
        as_json=json,
        seed=seed,
        exit_code=0 if found.best is not None else 1,
    )


def _payload(found: "Exploration") -> dict[str, Any]:
    return {
        "objective": found.goal.text,
        "strategy": found.strategy,
        "space_size": found.space_size,
        "evaluated": found.evaluated,
        "feasible": found.feasible,
        "evaluations_per_s": found.evaluations_per_s,
        "broken": found.broken,
        "pareto": [_candidate(c) for c in found.pareto],
        "best": None if found.best is None else _candidate(found.best),
        "study": None,
    }


def _candidate(candidate: "Candidate") -> dict[str, Any]:
    return {
        "point": dict(candidate.point),
        "metrics": candidate.metrics,
        "resources": candidate.resources,
        "hash": candidate.hash,
    }


def front_table(found: "Exploration", limit: int = _SHOWN) -> Any:
    """Return the front as a table, evenly thinned to `limit` rows; the best point is marked.

    Parameters
    ----------
    found : Exploration
    limit : int
        Rows at most, the best point aside.
    """
    names = sorted(
        found.goal.names() | {"ttft_s", "decode_tok_per_s", "power_w", "lut", "uram"},
        key=lambda n: (n in {"lut", "ff", "dsp", "bram36", "uram"}, n),
    )
    step = max(1, -(-len(found.pareto) // limit))
    shown = [c for i, c in enumerate(found.pareto) if i % step == 0 or c == found.best]
    rows = [
        ["*" if c == found.best else "", c.hash[:10]]
        + [{**c.metrics, **c.resources}.get(name) for name in names]
        for c in shown
    ]
    title = f"Pareto front: {len(found.pareto)} points, {len(shown)} shown, * is the best"
    return table(title, ["", "point", *names], rows)


def _show(console: "Console", title: str, found: "Exploration", output: Path | None) -> None:
    console.print(title, markup=False)
    console.print(
        f"{found.evaluated:,} of {found.space_size:,} points evaluated ({found.strategy}), "
        f"{found.feasible:,} feasible, {found.evaluations_per_s / 1e6:.3g} million per second"
    )
    if found.best is None:
        reasons = [[name, count] for name, count in found.broken.items() if count]
        console.print(table("nothing is feasible; budgets exceeded", ["budget", "points"], reasons))
        return
    if len(found.pareto) > 1:
        console.print(front_table(found))
    figures = [*found.best.metrics.items(), *found.best.resources.items()]
    console.print(table(f"best: {found.goal.text}", ["figure", "value"], figures))
    console.print(difference_table(found.best))
    if output is not None:
        console.print(f"wrote {output}", markup=False)


def difference_table(candidate: "Candidate") -> Any:
    """Return a table of the axes on which a candidate differs from the published point."""
    from headrace.arch.design import load_design

    published = load_design(candidate.point.design).point()
    rows = [
        [name, published[name], value]
        for name, value in candidate.point.items()
        if published[name] != value
    ]
    return table("where it differs from the published point", ["axis", "published", "here"], rows)
