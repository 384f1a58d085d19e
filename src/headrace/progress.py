"""Progress of long work on standard error: a bar on a terminal, a plain line now and then else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["announce", "progress"]

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
    if sys.stderr is None or not sys.stderr.isatty():
        yield _plain(what, quiet)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(what: str, quiet: bool) -> Callable[[int, int], None]:
    """Return a function that prints a line at most every ten seconds, so that logs stay short."""
    last = time.monotonic()

    def tick(done: int, total: int) -> None:
        nonlocal last
        if not quiet and time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            announce(f"{what}: {done:,} of {total:,}")

    return tick


def announce(text: str) -> None:
    """Print a message beside the results, on standard error."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
