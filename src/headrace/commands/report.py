"""``headrace report``: a study as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands import options as o
from headrace.files import check_folder
from headrace.output import Report
from headrace.progress import progress

__all__ = ["report"]


def report(
    study: o.StudyArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path(
        "report.html"
    ),
    name: o.StudyNameOption = "",
    points: Annotated[
        int,
        typer.Option("--points", help="Points to show, up to 100000; measured ones come on top."),
    ] = 20_000,
    json: o.JsonOption = False,
) -> Report:
    """Write a study as one interactive HTML file that needs no network."""
    from headrace.search.problem import Problem
    from headrace.search.report.page import write_report
    from headrace.search.report.study import study_report
    from headrace.search.store import open_store

    check_folder(output)
    with open_store(study) as store, progress("simulating") as tick:
        opened, url = store.open(name or None), store.url
        data = study_report(opened, Problem(opened.spec), points, tick)
    write_report(data, output)
    size = output.stat().st_size
    shown = len(data.feasible)
    return Report(
        command="report",
        payload={"study": url, "points": shown, "bytes": size, "file": str(output)},
        show=lambda console: console.print(
            f"wrote {shown:,} points to {output}, {size / 1e6:.1f} MB", markup=False
        ),
        as_json=json,
    )
