"""A small instance of a point, for runs in a Verilog simulator."""

from headrace.arch.axis import Value
from headrace.arch.point import Point

__all__ = ["reduced"]


def reduced(point: Point, tables: int = 4, copies: int = 4, max_outputs: int = 64) -> Point:
    """Return `point` with a smaller engine of the same structure.

    Group size, lookup method, buffering, packing, layout, slots, sequencer gap, accumulator
    width and the ratio of banks to copies stay; tables, copies, buffer depth, lanes and ports
    shrink.

    Parameters
    ----------
    point : Point
        A point of tellme.
    tables, copies : int
        Upper bounds of T and Q; `copies` at least 4.
    max_outputs : int
        Outputs of the accumulator memory.

    Returns
    -------
    Point
        A valid point; `point` itself if it is that small already.
    """
    from headrace.arch.tellme import TELLME

    few_tables = min(tables, point.integer("tables"))
    few_copies = min(copies, point.integer("copies"))
    slots = point.integer("weight_slots")
    changes: dict[str, Value] = {
        "tables": few_tables,
        "copies": few_copies,
        "weight_banks": max(
            1, few_copies * point.integer("weight_banks") // point.integer("copies")
        ),
        "weight_words": min(point.integer("weight_words"), 256 * slots),
        "activation_lanes": min(
            point.integer("activation_lanes"), few_tables * point.integer("group_size")
        ),
        "weight_ports": 1,
        "port_bits": 128,
        "max_outputs": min(max_outputs, point.integer("max_outputs")),
    }
    return TELLME.point({**point, **changes})
