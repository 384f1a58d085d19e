"""Progress of long work on standard error: a bar on a terminal, a plain line now and then else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["announce", "progress", "stages"]

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with the work done and the work to do.

    Parameters
    ----------
    what : str
        Two or three words in front of the bar.
    quiet : bool
        Show nothing where there is no terminal, not even plain lines.
    """
    with stages(quiet=quiet) as tick:
        yield lambda done, total: tick(what, done, total)


@contextmanager
def stages(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function to call with what is going on, the work done and the work to do.

    Parameters
    ----------
    quiet : bool
        Show nothing where there is no terminal, not even plain lines.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines(quiet)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, tuple[TaskID, _Pace]] = {}

        def tick(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, rate=""), _Pace(done)
            task, pace = tasks[what]
            bar.update(task, completed=done, total=total, rate=pace.text(done))

        yield tick


class _Pace:
    """How fast work is done; what was done before it began does not count."""

    def __init__(self, done: int):
        self._first, self._start = done, time.monotonic()

    def rate(self, done: int) -> float:
        """Return work per second so far."""
        return (done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def text(self, done: int) -> str:
        """Return the rate in words."""
        rate = self.rate(done)
        if done == self._first:
            return ""
        return f"{rate / 1e6:.2f} million/s" if rate >= 1e5 else f"{rate:,.3g}/s"


class _Lines:
    """Prints a line at most every ten seconds, so that logs stay short."""

    def __init__(self, quiet: bool):
        self._quiet, self._last = quiet, time.monotonic()
        self._paces: dict[str, _Pace] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        pace = self._paces.setdefault(what, _Pace(done))
        if self._quiet or time.monotonic() - self._last <= _SECONDS_BETWEEN_LINES:
            return
        self._last = time.monotonic()
        line = f"{what}: {done:,} of {total:,}"
        if rate := pace.rate(done):
            line += f", {pace.text(done)}, {_time((total - done) / rate)} left"
        announce(line)


def _time(seconds: float) -> str:
    """Return a span of time in the largest unit of which there are two."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def announce(text: str) -> None:
    """Print a message beside the results, on standard error; control characters stay out."""
    if sys.stderr is not None:
        print("".join(c if c.isprintable() else "?" for c in text), file=sys.stderr, flush=True)
