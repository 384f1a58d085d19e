"""The ``headrace`` command: one place for exit codes, signals and the last word on errors."""

import _thread
import errno
import io
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headrace.errors import InputError

if TYPE_CHECKING:
    from headrace.output import Report

__all__ = ["main"]

BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143
_SOON = 0.02
"""Seconds until a lost signal comes again: when the callback is over."""
_lost: list[int] = []
"""Signals that a callback swallowed; what fails then, fails because of them."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : list of str, optional
        Words after ``headrace``; those of the process when left out.

    Returns
    -------
    int
        0 success, 1 a check that was asked for failed, 2 bad input, 130 interrupted by
        Ctrl-C, 143 terminated.
    """
    started = time.perf_counter()
    try:
        if arguments is None:  # as a process of its own, not called from Python
            signal.signal(signal.SIGTERM, _terminate)
            sys.unraisablehook = _raise_again
            # Threads that wait for their next share of points sleep instead of spinning.
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            if not sys.warnoptions:
                # Of libraries to developers, such as Amaranth's about half-built hardware when
                # it is interrupted; users cannot act on them. `python -W` shows them.
                warnings.simplefilter("ignore")
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a name may not fit the terminal's encoding
        report = _run(sys.argv[1:] if arguments is None else arguments)
        if report is None:
            _flush()
            return 0
        if isinstance(report, int):
            if report == INTERRUPTED:
                _complain("interrupted")
            return report
        return _print(report, time.perf_counter() - started)
    except InputError as error:
        _complain(str(error))
        return BAD_INPUT
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except RuntimeError:
        if not _lost:
            raise
        if _lost[0] == signal.SIGTERM:
            return TERMINATED
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()  # the reader has seen all it wanted, as with `| head`
        return 0
    except OSError as error:
        # Files that a user names are read and written with InputError; what is left is the
        # environment: the help on standard output, a full or read-only disk under TMPDIR.
        _discard_stdout()
        place = error.filename or "standard output"
        _complain(f"cannot read or write {place}: {error.strerror or error}")
        return BAD_INPUT


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Deliver a signal once more if a callback out of C, such as the compiler's, swallowed it."""
    if isinstance(lost.exc_value, (KeyboardInterrupt, SystemExit)):
        interrupted = isinstance(lost.exc_value, KeyboardInterrupt)
        number = signal.SIGINT if interrupted else signal.SIGTERM
        _lost.append(number)
        later = threading.Timer(_SOON, _thread.interrupt_main, (number,))
        later.daemon = True
        later.start()
    else:
        sys.__unraisablehook__(lost)


def _print(report: "Report", seconds: float) -> int:
    """Write the report on standard output while an error can still be reported."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    report.write(seconds)
    _flush()
    return report.exit_code


def _run(arguments: list[str]) -> "Report | int | None":
    """Run a command; a line that cannot be parsed ends in one line on standard error."""
    from typer import Abort
    from typer.exceptions import TyperException

    from headrace.commands import application

    try:
        result: Report | int | None = application()(
            args=arguments, prog_name="headrace", standalone_mode=False
        )
    except TyperException as error:
        _complain(error.format_message() + _hint(error))
        return BAD_INPUT
    except Abort:
        raise KeyboardInterrupt from None
    return result


def _hint(error: Any) -> str:
    """Point to the help of the command whose line could not be parsed."""
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""


def _complain(message: str) -> None:
    """Print one line on standard error, if there is one."""
    line = " ".join(message.split())
    # A message may quote the bytes of a hostile file; control characters stay out of terminals.
    line = "".join(c if c.isprintable() else "?" for c in line)
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"headrace: {line}\n")
        sys.stderr.flush()


def _flush() -> None:
    """Write out what is buffered while an error can still be reported."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard_stdout() -> None:
    """Keep the interpreter from flushing a broken standard output again as it exits."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _terminate(number: int, frame: object) -> None:
    """Leave through the `finally` clauses that remove half-written files."""
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
