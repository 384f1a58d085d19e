"""``headrace reproduce``: the paper's figures beside the predicted ones."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headrace.commands.options import DesignArgument, JsonOption
from headrace.output import Report, table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["reproduce"]

_KEYS = (
    "id",
    "what",
    "published",
    "predicted",
    "unit",
    "error",
    "allowed",
    "met",
    "fitted",
    "source",
    "note",
)


def reproduce(design: DesignArgument, json: JsonOption = False) -> Report:
    """Set predictions beside the paper's figures."""
    from headrace.arch.design import load_design

    chosen = load_design(design)
    rows = list(chosen.face("reproduce")())

    def show(console: "Console") -> None:
        console.print(reproduction_table(chosen.name, rows))
        console.print(
            "allowed: the error that is claimed not to be exceeded, where one is claimed\n"
            "fitted: a constant was chosen to meet this figure, so it is no prediction"
        )

    return Report(
        command="reproduce",
        payload={"rows": [{key: getattr(row, key) for key in _KEYS} for row in rows]},
        show=show,
        as_json=json,
    )


def reproduction_table(name: str, rows: Iterable[Any]) -> Any:
    """Return the rows as a table, the error in per cent.

    Parameters
    ----------
    name : str
        Of the design.
    rows : iterable
        What the ``reproduce`` face returns.
    """
    heads = [
        "figure",
        "published",
        "predicted",
        "unit",
        "error",
        "allowed",
        "fitted",
        "source",
        "note",
    ]
    body = [
        [
            row.what,
            row.published,
            row.predicted,
            row.unit,
            "-" if row.error is None else f"{row.error:+.2%}",
            _claim(row),
            row.fitted,
            row.source,
            row.note,
        ]
        for row in rows
    ]
    return table(f"{name}: paper and prediction", heads, body)


def _claim(row: Any) -> str:
    if row.met is None:
        return "-"
    limit = "exact" if row.allowed == 0 else f"{row.allowed:.0%}"
    return limit if row.met else f"{limit}: MISSED"
