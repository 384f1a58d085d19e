"""Map builders and lookups alone: the LUTs by group size that engine_resources.py holds.

    python bench/map_tellme_modules.py

Two sizes of each module give what a table or a lookup adds and what all of them share. It takes
some ten minutes on one core, none if the netlists are in the cache.
"""

from dataclasses import replace
from typing import Any

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.rtl.netlist import map_netlist
from headrace.rtl.tellme.builder import TableBuilder
from headrace.rtl.tellme.lookup import SelectArray, TableArray
from headrace.rtl.verilog import to_verilog


def sizes(**changes: Any) -> EngineSizes:
    return replace(engine_sizes(TELLME.point()), **changes)


def logic_luts(component: Any) -> int:
    """Return the LUTs of `component` without its LUT RAM."""
    counts = map_netlist(to_verilog(component, "mapped"), "mapped")
    return counts.lut - counts.lutram


def builder(group: int, method: str) -> str:
    two, four = (
        logic_luts(TableBuilder(sizes(group_size=group, method=method, tables=tables, copies=1)))
        for tables in (2, 4)
    )
    return f"{(four - two) / 2:g} a table and {2 * two - four:g} for the signs"


def lookup(group: int, method: str, buffers: int) -> str:
    array = SelectArray if method == "naive" else TableArray
    engine = sizes(group_size=group, method=method, tables=2, copies=2, table_buffers=buffers)
    return f"{logic_luts(array(engine)) / 4:g} a lookup"


def main() -> None:
    for group in range(1, 6):
        for method in ("full", "half", "naive"):
            if method != "naive":
                print(f"G = {group}, {method}: builder {builder(group, method)}", flush=True)
            for buffers in (1, 2):
                found = lookup(group, method, buffers)
                print(f"G = {group}, {method}, {buffers} sets: {found}", flush=True)


if __name__ == "__main__":
    main()
