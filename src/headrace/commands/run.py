"""``headrace run``: generate text from a checkpoint through the exact reference kernels."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.options import DesignArgument, JsonOption, SeedOption
from headrace.errors import InputError
from headrace.output import Report

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run"]


def run(
    design: DesignArgument,
    prompt: Annotated[str, typer.Option("--prompt", help="Text to continue.")],
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            help="Folder with config.json, safetensors and tokenizer.json, or tiny-bitnet.",
        ),
    ] = "tiny-bitnet",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", help="Tokens to generate at most.")
    ] = 64,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", help="hardware (half precision where the machine has it) or float32."
        ),
    ] = "hardware",
    temperature: Annotated[
        float, typer.Option("--temperature", help="0 takes the likeliest token.")
    ] = 0.0,
    top_k: Annotated[
        int, typer.Option("--top-k", help="Draw among the k likeliest; 0 among all.")
    ] = 0,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> Report:
    """Generate text through the reference kernels.

    It is the very arithmetic that the hardware is checked against.
    """
    from headrace.arch.design import load_design

    if load_design(design).name != "tellme":
        raise InputError(f"design {design!r} generates no text: tellme needed")

    from headrace.models.checkpoint import example_checkpoint
    from headrace.models.generation import generate

    folder = example_checkpoint() if checkpoint == "tiny-bitnet" else Path(checkpoint)
    pieces = generate(
        folder,
        prompt,
        max_new_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        precision=precision,
    )
    text = "".join(pieces) if json else ""

    def show(console: "Console") -> None:
        _say(prompt)
        for piece in pieces:
            _say(piece)
        _say("\n")

    return Report(
        command="run",
        payload={
            "design": design,
            "checkpoint": checkpoint,
            "precision": precision,
            "prompt": prompt,
            "text": text,
        },
        show=show,
        as_json=json,
        seed=seed,
    )


def _say(text: str) -> None:
    """Print text as it comes."""
    sys.stdout.write(text)
    sys.stdout.flush()
