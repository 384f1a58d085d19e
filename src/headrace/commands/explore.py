"""``headrace explore``: search the space of a design."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import options as o
from headrace.errors import InputError
from headrace.files import check_folder
from headrace.output import Report, printable, table
from headrace.progress import announce, stages

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.search.outcome import Candidate, Exploration, Rung
    from headrace.search.store import Study

__all__ = [
    "difference_table",
    "explore",
    "front_table",
    "kept",
    "outcome_payload",
    "show_outcome",
    "warn_of_versions",
]

_SHOWN = 20
_MEMORY = "sqlite://"


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
        str,
        typer.Option(
            "--strategy", help="auto, exhaustive, random, climb, two-stage, nsga2 or tpe."
        ),
    ] = "auto",
    samples: Annotated[
        int | None, typer.Option("--samples", help="Points that the strategy evaluates.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", metavar="AXIS=VALUE[,VALUE]", help="Search only these; repeatable."),
    ] = None,
    fidelity: Annotated[
        str,
        typer.Option(
            "--fidelity", help="Rungs of the ladder, such as analytic,cycle,rtl.", metavar="RUNGS"
        ),
    ] = "analytic",
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="RUNG=N", help="Points that climb to a rung; repeatable."),
    ] = None,
    study: Annotated[
        str,
        typer.Option(
            "--study",
            metavar="STUDY",
            help="Keep everything in this database (a file or an URL); the same command goes on "
            "where it was stopped.",
        ),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="Of the study in the database; the design's if left out.")
    ] = "",
    workers: o.WorkersOption = None,
    scheduler: o.SchedulerOption = None,
    prompt_tokens: o.PromptOption = 128,
    context_tokens: o.ContextOption = 64,
    output_tokens: o.OutputTokensOption = 1,
    batch: o.BatchOption = 1,
    frames: o.FramesOption = 1,
    seed: o.SeedOption = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the best point as TOML.")
    ] = None,
    json: o.JsonOption = False,
) -> Report:
    """Search for the best point or a Pareto front."""
    from headrace.arch.design import load_design

    if output is not None:
        check_folder(output)
    chosen = load_design(design)
    target, net = o.device_and_network(chosen, device, network)

    from headrace.search.explore import conduct, specify
    from headrace.search.problem import Problem
    from headrace.search.space import parse_choices
    from headrace.search.spec import DEFAULT_OBJECTIVE
    from headrace.search.store import open_store
    from headrace.sim.workload import Workload

    spec = specify(
        chosen,
        target,
        net,
        Workload(
            prompt_tokens=prompt_tokens,
            context_tokens=context_tokens,
            output_tokens=output_tokens,
            batch=batch,
            frames=frames,
        ),
        network_name=str(Path(network).resolve()) if network and net.name != network else network,
        objective=objective or DEFAULT_OBJECTIVE,
        constraints=constraint or (),
        strategy=strategy,
        samples=samples,
        seed=seed,
        fixed=parse_choices(chosen, fix or ()),
        fidelities=[rung.strip() for rung in fidelity.split(",")],
        budgets=_budgets(budget or ()),
    )
    with open_store(study or _MEMORY, create=True) as store:
        opened, url = store.create(name or chosen.name, spec), store.url
        warn_of_versions(opened)
        with stages() as tick, kept(url if study else ""):
            found = conduct(
                opened,
                Problem(spec, chosen, target, net),
                workers=workers,
                scheduler=scheduler,
                progress=tick,
            )
    if output is not None and found.choice is not None:
        found.choice.point.save(output)
    title = f"{chosen.name} running {net.name} on {target.name}"
    return Report(
        command="explore",
        payload={
            **outcome_payload(found),
            "study": url if study else None,
            "file": None if output is None or found.choice is None else str(output),
        },
        show=lambda console: show_outcome(console, title, found, output),
        as_json=json,
        seed=seed,
        exit_code=0 if found.choice is not None else 1,
    )


def _budgets(settings: "list[str] | tuple[str, ...]") -> dict[str, int]:
    """Parse ``rung=n``."""
    budgets: dict[str, int] = {}
    for setting in settings:
        rung, equals, text = setting.partition("=")
        if not equals or not text.strip().isdecimal() or len(text) > 9:
            raise InputError(f"--budget {setting!r} is not allowed: RUNG=N needed, as in cycle=100")
        if rung.strip() in budgets:
            raise InputError(f"--budget names {rung.strip()!r} twice")
        budgets[rung.strip()] = int(text)
    return budgets


@contextmanager
def kept(study: str) -> Iterator[None]:
    """Say where the work is when Ctrl-C ends it; "" for nowhere."""
    try:
        yield
    except KeyboardInterrupt:
        if study:
            announce(f"what is done is kept in {study}; the same command goes on")
        raise


def warn_of_versions(study: "Study") -> None:
    """Say so where a study began with other versions of what its figures rest on."""
    from headrace.search.store.versions import tool_versions

    now = tool_versions()
    changed = [
        f"{name} {version}, now {now.get(name, 'missing')}"
        for name, version in study.versions.items()
        if now.get(name) != version
    ]
    if changed:
        announce(f"study {study.name} began with other versions: {'; '.join(changed)}")


def outcome_payload(found: "Exploration") -> dict[str, Any]:
    """Return an outcome as keys of the JSON contract."""
    return {
        "objective": found.goal.text,
        "strategy": found.strategy,
        "space_size": found.space_size,
        "evaluated": found.evaluated,
        "feasible": found.feasible,
        "evaluations_per_s": found.evaluations_per_s,
        "broken": found.broken,
        "pareto": [_candidate(c) for c in found.pareto],
        "best": None if found.choice is None else _candidate(found.choice),
        "rungs": [_rung(rung) for rung in found.rungs],
    }


def _rung(rung: "Rung") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "fidelity": rung.fidelity,
        "seconds": rung.seconds,
        "evaluations": [asdict(e) for e in rung.evaluations],
        "changes": [asdict(c) for c in rung.changes],
        "best": None if rung.best is None else rung.best.hash,
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
    best = None if found.best is None else found.best.hash
    shown = list(found.pareto[:: max(1, -(-len(found.pareto) // limit))])
    if found.best is not None and best not in {c.hash for c in shown}:
        shown.append(found.best)
    rows = [
        ["*" if c.hash == best else "", c.hash[:10]]
        + [{**c.metrics, **c.resources}.get(name) for name in names]
        for c in shown
    ]
    title = f"Pareto front: {len(found.pareto):,} points, {len(shown)} shown, * is the best"
    return table(title, ["", "point", *names], rows)


def show_outcome(
    console: "Console", title: str, found: "Exploration", output: Path | None = None
) -> None:
    """Print an outcome for people."""
    console.print(printable(title), markup=False)
    rate = f", {found.evaluations_per_s / 1e6:.3g} million per second" if found.worked else ""
    console.print(
        f"{found.evaluated:,} of {found.space_size:,} points evaluated ({found.strategy}), "
        f"{found.feasible:,} feasible{rate}"
    )
    if found.choice is None and found.best is not None:
        for rung in found.rungs:
            _show_rung(console, rung)
        console.print("\nnothing that was measured is feasible")
        return
    if not found.evaluated:
        console.print("nothing has been evaluated yet")
        return
    if found.choice is None:
        reasons = [[name, count] for name, count in found.broken.items() if count]
        if found.goal.constraints:
            reasons.append(["(all points evaluated)", found.evaluated])
        console.print(table("nothing is feasible; budgets exceeded", ["budget", "points"], reasons))
        for constraint in found.goal.constraints:
            console.print(f"and this has to hold: {constraint.text}", markup=False)
        return
    if len(found.pareto) > 1:
        console.print(front_table(found))
    for rung in found.rungs:
        _show_rung(console, rung)
    best = found.choice
    figures = [*best.metrics.items(), *best.resources.items()]
    console.print(table(f"best: {found.goal.text}", ["figure", "value"], figures))
    console.print(difference_table(best))
    if output is not None:
        console.print(f"wrote {output}", markup=False)


def _show_rung(console: "Console", rung: "Rung") -> None:
    agreeing = sum(e.agrees for e in rung.evaluations)
    cached = sum(e.cached for e in rung.evaluations)
    feasible = sum(e.feasible for e in rung.evaluations)
    console.print(
        f"\n{rung.fidelity}: {len(rung.evaluations)} points, {agreeing} on which all witnesses "
        f"agree, {feasible} feasible, {cached} from the cache, {rung.seconds:.3g} s of work"
    )
    for e in rung.evaluations:
        if not e.agrees:
            console.print(f"  {e.hash[:10]} {e.detail}", markup=False)
    rows = [
        [c.objective, c.points, c.tau, f"{c.largest:+.2%}", c.moved[:10], c.same_best]
        for c in rung.changes
    ]
    if rows:
        heads = ["objective", "points", "rank correlation", "largest change", "point", "same best"]
        lower = rung.changes[0].lower
        console.print(table(f"from {lower} to {rung.fidelity}", heads, rows))


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
