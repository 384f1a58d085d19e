"""Options that several commands share, and how their words become points and networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.errors import InputError

if TYPE_CHECKING:
    from headrace.arch.design import Design
    from headrace.arch.device import Device
    from headrace.arch.point import Point
    from headrace.models.network import Network

__all__ = [
    "BatchOption",
    "ContextOption",
    "DesignArgument",
    "DeviceOption",
    "FramesOption",
    "JsonOption",
    "NetworkOption",
    "OutputTokensOption",
    "PointOption",
    "PromptOption",
    "SchedulerOption",
    "SeedOption",
    "SetOption",
    "StudyArgument",
    "StudyNameOption",
    "WorkersOption",
    "design_and_point",
    "device_and_network",
    "parse_overrides",
]

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; messages go to standard error.")
]
DesignArgument = Annotated[str, typer.Argument(metavar="DESIGN", help="One of `headrace designs`.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="One of `headrace devices`; the paper's when left out.")
]
NetworkOption = Annotated[
    str,
    typer.Option(
        "--network",
        help="One of `headrace models` or a folder with a config.json; the paper's when left out.",
    ),
]
PointOption = Annotated[
    Path | None, typer.Option("--point", help="TOML file of a point; published when left out.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="AXIS=VALUE", help="Change one axis of the point; repeatable."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
PromptOption = Annotated[
    int, typer.Option("--prompt-tokens", help="Tokens read before the first output token.")
]
ContextOption = Annotated[
    int, typer.Option("--context-tokens", help="Tokens in the KV cache at a decode step.")
]
OutputTokensOption = Annotated[
    int, typer.Option("--output-tokens", help="Tokens decoded after the first.")
]
BatchOption = Annotated[int, typer.Option("--batch", help="Requests side by side.")]
FramesOption = Annotated[int, typer.Option("--frames", help="Video frames, where they apply.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        max=1024,
        help="Local processes for the rungs above the first; one per core when left out, 0: none.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler to use instead: tcp://host:port."
    ),
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Database of the study: a file or an URL.")
]
StudyNameOption = Annotated[
    str, typer.Option("--name", help="Which study, if the database holds several.")
]


def parse_overrides(design: "Design", assignments: list[str] | None) -> dict[str, Any]:
    """Turn ``axis=value`` words into checked values.

    Raises
    ------
    InputError
        A word has no ``=``, names an axis twice or one that the design lacks, or its value is
        not allowed.
    """
    values: dict[str, Any] = {}
    for word in assignments or ():
        name, equals, text = word.partition("=")
        name = name.strip()
        if not equals:
            raise InputError(f"--set {word!r} is not allowed: axis=value needed")
        if name in values:
            raise InputError(f"--set names {name!r} twice")
        values[name] = design.axis(name, "--set").parse(text.strip(), "--set")
    return values


def design_and_point(
    name: str, file: Path | None, assignments: list[str] | None
) -> tuple["Design", "Point"]:
    """Return the design called `name` and the point that `--point` and `--set` describe.

    Raises
    ------
    InputError
        Unknown design, or a file or assignment that is not acceptable.
    """
    from headrace.arch.design import load_design
    from headrace.arch.point import Point

    design = load_design(name)
    base = dict(Point.load(file, design)) if file is not None else {}
    values = parse_overrides(design, assignments)
    where = "--set" if values else str(file) if file is not None else ""
    return design, design.point({**base, **values}, where=where)


def device_and_network(design: "Design", device: str, network: str) -> tuple["Device", "Network"]:
    """Return device and network by name; "" means what the design's paper used.

    Raises
    ------
    InputError
        An unknown name, or a config that is not acceptable.
    """
    from headrace.arch.device import load_device
    from headrace.models.network import load_network

    return (
        load_device(device or design.default_device),
        load_network(network or design.default_network),
    )
