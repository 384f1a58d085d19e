"""``headrace models``: the networks that come with headrace, or one from a folder."""

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.options import JsonOption
from headrace.output import Report, table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["models"]


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Only this one: a name or a folder with config.json."
        ),
    ] = None,
    json: JsonOption = False,
) -> Report:
    """List the networks, or the facts of one."""
    from headrace.models.network import load_network, network_names

    networks = [load_network(n) for n in ((name,) if name is not None else network_names())]
    items = [network.facts() for network in networks]

    def show(console: "Console") -> None:
        if name is not None:
            console.print(table(items[0]["summary"], ["fact", "value"], list(items[0].items())))
            return
        rows = [
            [n.name, n.family, n.layers, n.hidden_size, n.parameters / 1e6, n.weight_format,
             n.summary]
            for n in networks
        ]  # fmt: skip
        heads = [
            "network",
            "family",
            "layers",
            "hidden",
            "parameters (10^6)",
            "weights",
            "what it is",
        ]
        console.print(table("", heads, rows))

    return Report(command="models", payload={"items": items}, show=show, as_json=json)
