"""Write a report as one HTML file that asks the network for nothing."""

import base64
import hashlib
import html
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.files import write_atomic
from headrace.search.report.data import ReportData
from headrace.sim.budget import TERMS

__all__ = ["render", "write_report"]

_SCRIPTS = ("data", "constraint", "scatter", "parallel", "panels", "main")


def write_report(data: ReportData, path: Path) -> None:
    """Write `data` as one self-contained HTML file.

    Parameters
    ----------
    data : ReportData
    path : Path

    Raises
    ------
    InputError
        The file cannot be written; what stood there is left as it was.
    """
    write_atomic(path, render(data))


def render(data: ReportData) -> str:
    """Return the HTML text; equal data give equal text.

    Everything that comes from a study is deflated and in base64, hence cannot end its element
    early. The page puts it in place as text, and its Content-Security-Policy allows its own
    script and style, by their hashes, and nothing else.
    """
    folder = files("headrace.search.report") / "static"
    style = (folder / "report.css").read_text("utf-8")
    script = '"use strict";\n' + "\n".join(
        (folder / f"{name}.js").read_text("utf-8") for name in _SCRIPTS
    )
    columns = _Columns()
    facts = json.dumps(_finite(_facts(data, columns)), separators=(",", ":"), allow_nan=False)
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    page = (folder / "report.html").read_text("utf-8")
    pieces = {
        "policy": policy,
        "title": html.escape(data.title),
        "style": style,
        "facts": _packed(facts.encode()),
        "columns": _packed(bytes(columns.buffer)),
        "script": script,
    }
    parts = page.split("%%")  # text, name, text, name, ..., text
    parts[1::2] = [pieces[name] for name in parts[1::2]]
    return "".join(parts)


class _Columns:
    """Columns one after the other; equal ones are stored once."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._known: dict[bytes, int] = {}

    def add(self, column: NDArray[Any]) -> list[int]:
        """Store a column; return offset and bytes per value.

        The first bytes of all values come first, then the second ones, and so on: so the
        exponents of numbers of similar size stand side by side, which deflates better.
        """
        planes = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)
        raw = planes.T.tobytes()
        if raw not in self._known:
            self._known[raw] = len(self.buffer)
            self.buffer += raw
        return [self._known[raw], column.dtype.itemsize]


def _facts(data: ReportData, columns: _Columns) -> dict[str, Any]:
    """Return everything but the columns, for JSON, with the places of the columns."""
    simple = ("title", "command", "published", "best", "rungs", "importance_note")
    flags = data.feasible.astype(np.uint8) | data.front.astype(np.uint8) << 1
    return {
        **{name: getattr(data, name) for name in simple},
        "count": len(data),
        "facts": data.facts,
        "terms": TERMS,
        "flags": columns.add(flags),
        "rung": columns.add(data.rung.astype(np.uint8)),
        "axes": [
            {
                "name": axis.name,
                "label": axis.label,
                "summary": axis.summary,
                "labels": axis.labels,
                "numbers": axis.numbers,
                "words": axis.words,
                "default": axis.default,
                "column": columns.add(_small(axis.codes)),
            }
            for axis in data.axes
        ],
        "figures": [
            {
                "name": figure.name,
                "label": figure.label,
                "sense": figure.sense,
                "available": figure.available,
                "column": columns.add(figure.values.astype("<f4")),
            }
            for figure in data.figures
        ],
        "changes": data.changes,
        "importance": [asdict(one) for one in data.importance],
        "details": [
            {**asdict(detail), "trace": base64.b64encode(detail.trace).decode()}
            for detail in data.details
        ],
    }


def _finite(value: Any) -> Any:
    """Replace infinities and NaN by None: JSON has no words for them."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def _small(codes: NDArray[np.uint16]) -> NDArray[Any]:
    return codes.astype(np.uint8 if not len(codes) or codes.max() < 256 else "<u2")


def _packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 6)).decode()


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
