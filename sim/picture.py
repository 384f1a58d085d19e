"""Pictures with equal bytes for equal content."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figure", "render"]


@contextmanager
def figure(*, width: float, height: float) -> Iterator[Axes]:
    """Yield the axes of a new figure, with settings that make its bytes repeatable.

    Parameters
    ----------
    width, height : float, inches
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # SVG names its parts after a hash with a random salt; text stays text.
    settings: dict[Any, object] = {
        "svg.hashsalt": "headrace",
        "svg.fonttype": "none",
        "figure.dpi": 100,
    }
    with matplotlib.rc_context(settings):
        canvas = FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained"))
        yield canvas.figure.add_subplot()


def render(axes: Axes, path: Path) -> bytes:
    """Return the picture of `axes` in the format that the suffix of `path` names.

    Parameters
    ----------
    axes : Axes
        From `figure`, whose block must still be open.
    path : Path
        ``.png`` or ``.svg``.

    Raises
    ------
    InputError
        The suffix is another one.
    """
    # Neither format may hold the date, nor PNG the version of matplotlib.
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": "headrace"}}
    if path.suffix not in metadata:
        raise InputError(f"cannot draw {path}: the name must end in .png or .svg")
    buffer = io.BytesIO()
    axes.get_figure(root=True).savefig(  # type: ignore[union-attr]
        buffer, format=path.suffix[1:], metadata=metadata[path.suffix]
    )
    return buffer.getvalue()
