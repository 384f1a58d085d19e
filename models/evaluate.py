"""Compare the two numerics on text: bits per byte and agreement of the most likely token.

``python -m headrace.models.evaluate --checkpoint DIR --text FILE...``
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.errors import InputError
from headrace.files import read_text
from headrace.models.checkpoint import example_checkpoint, load_checkpoint
from headrace.models.tokenizer import Tokenizer
from headrace.models.transformer import EVALUATION_WINDOW, Transformer, token_bits

__all__ = ["Evaluation", "evaluate", "main"]

END_OF_TEXT = 0
"""Begins every text, as in tiny-bitnet's training."""

MAX_TEXT_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of one or more texts.

    Attributes
    ----------
    bytes, tokens : int
        Length of the texts.
    float32_bits_per_byte, hardware_bits_per_byte : float
        Of each numerics.
    agreement : float
        Part of the positions whose most likely token is the same.
    """

    bytes: int
    tokens: int
    float32_bits_per_byte: float
    hardware_bits_per_byte: float
    agreement: float


def evaluate(
    checkpoint_folder: str | Path, texts: Sequence[str], window: int = EVALUATION_WINDOW
) -> Evaluation:
    """Score texts in both numerics, windows without overlap.

    Parameters
    ----------
    checkpoint_folder : path
        A BitNet with its tokenizer.
    texts : sequence of str
        Each is scored from the end-of-text token on.
    window : int
        Tokens a prediction may see.

    Raises
    ------
    InputError
        The checkpoint or a text is not acceptable.
    """
    checkpoint, tokenizer = load_checkpoint(checkpoint_folder), Tokenizer(checkpoint_folder)
    encoded = [[END_OF_TEXT, *tokenizer.encode(text)] for text in texts]
    byte_count = sum(len(text.encode()) for text in texts)
    if not byte_count:
        raise InputError("no text to score; at least one byte is needed")
    bits, best = {}, {}
    for precision in ("float32", "hardware"):
        model = Transformer(checkpoint, precision)
        scores = [token_bits(model, ids, window) for ids in encoded]
        bits[precision] = sum(float(s[0].sum()) for s in scores)
        best[precision] = np.concatenate([s[1] for s in scores])
    return Evaluation(
        bytes=byte_count,
        tokens=len(best["float32"]),
        float32_bits_per_byte=bits["float32"] / byte_count,
        hardware_bits_per_byte=bits["hardware"] / byte_count,
        agreement=float(np.mean(best["float32"] == best["hardware"])),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures of an evaluation; return the exit code (2 for bad input)."""
    parser = argparse.ArgumentParser(prog="python -m headrace.models.evaluate")
    parser.add_argument("--checkpoint", type=Path, default=example_checkpoint())
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--window", type=int, default=EVALUATION_WINDOW)
    options = parser.parse_args(arguments)
    try:
        texts = [read_text(path, MAX_TEXT_BYTES) for path in options.text]
        result = evaluate(options.checkpoint, texts, options.window)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"bytes                   {result.bytes}")
    print(f"tokens                  {result.tokens}")
    print(f"float32 bits per byte   {result.float32_bits_per_byte:.4f}")
    print(f"hardware bits per byte  {result.hardware_bits_per_byte:.4f}")
    print(f"top-1 agreement         {result.agreement:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
