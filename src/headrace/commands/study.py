"""``headrace study``: what is kept in a study's database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import options as o
from headrace.files import check_folder
from headrace.output import Report, table
from headrace.progress import announce, stages

if TYPE_CHECKING:
    from headrace.search.outcome import Exploration
    from headrace.search.problem import Problem
    from headrace.search.store import Study

__all__ = ["STUDY_COMMANDS"]

_FINISHED = "finished"


def list_(study: o.StudyArgument, json: o.JsonOption = False) -> Report:
    """List the studies of a database."""
    from headrace.search.store import open_store

    with open_store(study) as store:
        items = [
            {
                "name": info.name,
                "created": info.created,
                "design": info.spec.design,
                "device": info.spec.device,
                "network": info.spec.network,
                "objective": info.spec.objective,
                "strategy": info.spec.strategy,
                "units": info.units,
                "evaluations": info.evaluations,
            }
            for info in store.studies()
        ]
    heads = list(items[0]) if items else ["name"]
    return Report(
        command="study-list",
        payload={"items": items},
        show=lambda console: console.print(
            table(f"{len(items)} studies", heads, [list(item.values()) for item in items])
        ),
        as_json=json,
    )


def show(
    study: o.StudyArgument, name: o.StudyNameOption = "", json: o.JsonOption = False
) -> Report:
    """Show what a study has found, finished or not."""
    from headrace.search.outcome import outcome
    from headrace.search.problem import Problem
    from headrace.search.store import open_store

    with open_store(study) as store:
        opened = store.open(name or None)
        problem = Problem(opened.spec)
        return _report("study-show", store.url, opened, problem, outcome(opened, problem), json)


def resume(
    study: o.StudyArgument,
    name: o.StudyNameOption = "",
    workers: o.WorkersOption = None,
    scheduler: o.SchedulerOption = None,
    json: o.JsonOption = False,
) -> Report:
    """Go on with a study where it was stopped, or help another process with it."""
    from headrace.commands.explore import kept, warn_of_versions
    from headrace.search.explore import conduct
    from headrace.search.problem import Problem
    from headrace.search.store import open_store

    with open_store(study) as store:
        opened = store.open(name or None)
        problem = Problem(opened.spec)
        warn_of_versions(opened)
        with stages() as tick, kept(store.url):
            found = conduct(opened, problem, workers=workers, scheduler=scheduler, progress=tick)
        return _report("study-resume", store.url, opened, problem, found, json)


def _report(
    command: str,
    where: str,
    study: "Study",
    problem: "Problem",
    found: "Exploration",
    json: bool,
) -> Report:
    from headrace.commands.explore import outcome_payload, show_outcome

    finished = study.note(_FINISHED) is True
    state = "finished" if finished else "not finished"
    title = (
        f"study {study.name}, {state}, begun {study.created}: "
        f"{problem.design.name} running {problem.network.name} on {problem.device.name}"
    )
    return Report(
        command=command,
        payload={
            **outcome_payload(found),
            "study": where,
            "name": study.name,
            "created": study.created,
            "versions": dict(study.versions),
            "finished": finished,
        },
        show=lambda console: show_outcome(console, title, found),
        as_json=json,
        seed=study.spec.seed,
        exit_code=0 if found.choice is not None or not finished else 1,
    )


def export(
    study: o.StudyArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File that ends in .parquet or .csv.")
    ],
    name: o.StudyNameOption = "",
    json: o.JsonOption = False,
) -> Report:
    """Write a study's evaluations as Parquet or CSV."""
    from headrace.search.outcome import recorded
    from headrace.search.problem import Problem
    from headrace.search.store import open_store
    from headrace.search.transfer import export as write

    check_folder(output)
    with open_store(study) as store:
        opened = store.open(name or None)
        problem = Problem(opened.spec)
        rows, url = recorded(opened, problem), store.url
        write(rows, problem.space, output)
    return Report(
        command="study-export",
        payload={"study": url, "rows": len(rows), "file": str(output)},
        show=lambda console: console.print(f"wrote {len(rows):,} rows to {output}", markup=False),
        as_json=json,
    )


def merge(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Database to merge into.")],
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Databases to read.")],
    name: Annotated[str, typer.Option("--name", help="Only the study of this name.")] = "",
    json: o.JsonOption = False,
) -> Report:
    """Merge studies: the same name and specification become one."""
    from headrace.search.store import open_store
    from headrace.search.transfer import merge as join

    items: list[dict[str, Any]] = []
    for source in sources:  # before the target is made
        open_store(source).close()
    with open_store(target, create=True) as into:
        url = into.url
        for source in sources:
            with open_store(source) as other:
                names = [name] if name else [info.name for info in other.studies()]
                for one in names:
                    announce(f"merging {one} of {other.url}")
                    done = join(other.open(one), into)
                    items.append(
                        {
                            "source": other.url,
                            "name": one,
                            "units": done.units,
                            "evaluations": done.evaluations,
                            "conflicts": done.conflicts,
                        }
                    )
    heads = ["source", "name", "units", "evaluations", "conflicts"]
    return Report(
        command="study-merge",
        payload={"target": url, "items": items},
        exit_code=1 if any(item["conflicts"] for item in items) else 0,
        show=lambda console: console.print(
            table("merged", heads, [[item[h] for h in heads] for item in items])
        ),
        as_json=json,
    )


def compare(
    study: o.StudyArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Database of the other study.")],
    name: o.StudyNameOption = "",
    other_name: Annotated[
        str, typer.Option("--other-name", help="Which study of the other database.")
    ] = "",
    json: o.JsonOption = False,
) -> Report:
    """Compare the fronts of two studies that have the same objectives."""
    from dataclasses import asdict

    from headrace.errors import InputError
    from headrace.search.compare import compare as judge
    from headrace.search.problem import Problem
    from headrace.search.run import candidates
    from headrace.search.store import open_store

    costs, goals, labels, specs = [], [], [], []
    for where, which in ((study, name), (other, other_name)):
        with open_store(where) as store:
            opened = store.open(which or None)
            problem = Problem(opened.spec)
            costs.append(candidates(opened, problem, problem.spec.fidelities[0])[1])
            goals.append([o.text for o in problem.goal.objectives])
            specs.append(problem.spec)
            labels.append(f"{store.url} {opened.name}")
    if goals[0] != goals[1]:
        raise InputError(
            f"studies with other objectives cannot be compared: {', '.join(goals[0])} here, "
            f"{', '.join(goals[1])} there"
        )
    for difference in specs[0].differences(specs[1]):
        if difference.startswith(("design", "device", "network ", "workload")):
            announce(f"the studies differ: {difference}")
    found = asdict(judge(costs[0], costs[1]))
    return Report(
        command="study-compare",
        payload={"studies": labels, "objectives": goals[0], **found},
        show=lambda console: console.print(
            table(f"{labels[0]} beside {labels[1]}", ["what", "value"], list(found.items()))
        ),
        as_json=json,
    )


list_.__name__ = "list"
STUDY_COMMANDS = (list_, show, resume, export, merge, compare)
