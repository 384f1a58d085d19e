"""Read JSON that nobody has vouched for."""

import json
from pathlib import Path
from typing import Any

from headrace.errors import InputError
from headrace.files import read_text

__all__ = ["read_json_object"]

MAX_CONFIG_BYTES = 1 << 20
"""A real config.json is a few kilobytes; anything above this is refused."""


def read_json_object(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read one JSON object from a file that nobody has vouched for.

    Parameters
    ----------
    path : Path
        A regular file of at most `max_bytes` bytes of UTF-8.
    max_bytes : int
        Larger files are refused.

    Raises
    ------
    InputError
        Not a readable regular file, too large, not UTF-8, not JSON, NaN or infinity in it,
        a key given twice, nested too deeply, or not an object.
    """
    text = read_text(path, max_bytes)
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_object_without_twins
        )
    except RecursionError as error:
        raise InputError(f"{path}: JSON is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path}: not acceptable JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object is needed, found {type(value).__name__}")
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _object_without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is given twice in one object")
    return result
