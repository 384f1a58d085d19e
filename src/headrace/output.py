"""What a command hands back: one JSON object, or tables for people."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Report", "console", "number", "plain", "printable", "results_only", "table"]

_PIPE_WIDTH = 200
"""Columns of a table that goes to a file or pipe, where there is no terminal to fit."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of one command.

    Parameters
    ----------
    command : str
        Name in the ``schema`` key.
    payload : mapping
        Keys of the JSON object beside ``schema``, ``version``, ``seed`` and ``seconds``.
    show : callable
        Takes a Rich console and prints the outcome for people.
    as_json : bool
        Which of the two to write.
    seed : int
        Seed of every random choice; 0 where there is none.
    exit_code : int
        0, or 1 when a check that was asked for failed.
    """

    command: str
    payload: Mapping[str, Any]
    show: "Callable[[Console], None]" = field(repr=False)
    as_json: bool
    seed: int = 0
    exit_code: int = 0

    def write(self, seconds: float) -> None:
        """Print the report on standard output.

        Parameters
        ----------
        seconds : float
            Wall clock of the whole command.

        Raises
        ------
        OSError
            Standard output cannot be written.
        """
        if not self.as_json:
            self.show(console())
            return
        from headrace import __version__

        body = {
            "schema": f"headrace/{self.command}/1",
            "version": __version__,
            "seed": self.seed,
            "seconds": round(seconds, 6),
            **self.payload,
        }
        sys.stdout.write(json.dumps(plain(body), allow_nan=False) + "\n")


@contextmanager
def results_only() -> Iterator[None]:
    """Send to standard error what other tools and their libraries print on standard output."""
    if sys.stdout is None or sys.stderr is None:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        with suppress(OSError):  # not a real file, as under test: nothing to turn round
            sys.stdout.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
        yield


def plain(value: object) -> Any:
    """Convert to what JSON can hold: NumPy scalars to numbers, infinities and NaN to null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def console() -> "Console":
    """Return a console on standard output that does not cut columns in a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Any:
    """Build a Rich table; numbers are aligned to the right.

    Parameters
    ----------
    title : str
        Heading above the table; "" for none.
    columns : sequence of str
        Headings.
    rows : iterable of sequences
        Cells; numbers are printed with four significant digits.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    body = [list(row) for row in rows]
    built = Table(box=SIMPLE_HEAD)
    for i, heading in enumerate(columns):
        cells = [row[i] for row in body]
        numeric = any(isinstance(c, (int, float)) and not isinstance(c, bool) for c in cells)
        built.add_column(escape(heading), justify="right" if numeric else "left")
    for row in body:
        built.add_row(*(escape(number(cell)) for cell in row))
    # A title of the table itself would be broken to the table's width.
    return Group(Text(f"\n{printable(title)}", style="bold"), built) if title else built


def number(value: object) -> str:
    """Write a cell: integers in full, floats with four significant digits, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e9:
            return f"{value:,.0f}"
        return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(str(value))


def printable(text: str) -> str:
    """Return text without control characters, which a file's names could send to a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
