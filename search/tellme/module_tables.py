"""Resources of the modules beside the engine as sums over axes.

They are additive: what one of these axes adds does not depend on the others (ports and their
width count as one). So each value is looked up once in `headrace.arch.tellme.resources`, and a
point's count is the sum of what its values add. A test holds the sums against that function.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.resources import Resources
from headrace.arch.tellme import TELLME
from headrace.search.tellme.sizes import COLUMN

__all__ = ["PART_AXES", "Parts"]

PART_AXES = (
    "copies",
    "prefill_lanes",
    "prefill_adders",
    "prefill_pv_units",
    "decode_lanes",
    "max_context",
)
"""Axes with a row in `Parts.at`; row 0 is that of ports and width together."""

_ENGINE = ("ternary_matmul", "weight_buffer")
_WIDTHS = TELLME.axis("port_bits").choices


class Parts:
    """What every value of the axes adds; a value is added to the table when it is met.

    Attributes
    ----------
    at : int64 array, shape (7, highest value + 1)
        Row of `table` for each value of ports and width (2 x (ports - 1) + code of the width),
        then of `PART_AXES`; -1 where there is none yet.
    table : float64 array, shape (rows, 5)
        LUT, FF, DSP, block RAM, URAM.
    """

    def __init__(self) -> None:
        highest = max(int(TELLME.axis(name).high or 0) for name in PART_AXES)
        self.at = np.full((1 + len(PART_AXES), highest + 1), -1)
        ports = int(TELLME.axis("weight_ports").high or 0)
        rows: list[NDArray[np.float64]] = []
        for port in range(ports):
            for width in _WIDTHS:
                self.at[0, len(rows)] = len(rows)
                rows.append(_modules(("weight_ports", port + 1), ("port_bits", width)))
        self.table = np.array(rows)

    def cover(self, rows: NDArray[Any]) -> None:
        """Add the values in `rows` that are not in the table."""
        added: list[NDArray[np.float64]] = []
        for kind, name in enumerate(PART_AXES, start=1):
            values = rows[:, COLUMN[name]]
            for value in np.unique(values[self.at[kind, values] < 0]):
                self.at[kind, value] = len(self.table) + len(added)
                added.append(_modules((name, int(value))) - _modules())
        if added:
            self.table = np.concatenate([self.table, added])


@cache
def _modules(*values: tuple[str, Any]) -> NDArray[np.float64]:
    """Return the resources beside the engine, everything but `values` as published."""
    chosen = dict(values)
    if "copies" in chosen:
        chosen["weight_banks"] = chosen["copies"]
    modules = TELLME.resources(TELLME.point({"tables": 4, **chosen}))
    total = sum((r for name, r in modules.items() if name not in _ENGINE), Resources())
    return np.array(list(total.as_dict().values()))
