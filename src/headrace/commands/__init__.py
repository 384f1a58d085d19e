"""One module per command; each imports the layers it needs when it runs.

What stands at the top of these modules is imported by every ``headrace --help``, so it is only
Typer, the shared options and `headrace.output`.
"""

import typer

from headrace.commands.demo import demo
from headrace.commands.designs import designs
from headrace.commands.devices import devices
from headrace.commands.emit import emit
from headrace.commands.explore import explore
from headrace.commands.models import models
from headrace.commands.report import report
from headrace.commands.reproduce import reproduce
from headrace.commands.roofline import roofline
from headrace.commands.run import run
from headrace.commands.simulate import simulate
from headrace.commands.study import STUDY_COMMANDS
from headrace.commands.verify import verify
from headrace.errors import InputError

__all__ = ["application"]

_COMMANDS = (
    devices,
    models,
    designs,
    run,
    simulate,
    explore,
    report,
    emit,
    verify,
    reproduce,
    roofline,
    demo,
)


def application() -> typer.Typer:
    """Return the command line as a Typer application."""
    # Help as plain text: Rich takes longer to import than the whole command line.
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_face)
    for command in _COMMANDS:
        app.command()(command)
    study = typer.Typer(rich_markup_mode=None, help="List, show, resume, merge, export, compare.")
    for part in STUDY_COMMANDS:
        study.command()(part)
    app.add_typer(study, name="study")
    return app


def _face(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Model, search, generate and verify streaming transformer accelerators."""
    if version:
        from headrace import __version__

        typer.echo(f"headrace {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise InputError("a command is needed (see headrace --help)")
