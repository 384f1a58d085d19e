"""A small instance of a point, for runs in a Verilog simulator."""

from headrace.arch.axis import Value
from headrace.arch.point import Point

__all__ = ["reduced"]


def reduced(point: Point, dims: int = 2, max_tokens: int = 10) -> Point:
    """Return `point` with smaller kernels of the same structure.

    Numerics, attention, its modules' exponentials, slots and orders stay, and which of `dims`,
    `tile_in` and `tile_out` is wider; lanes, modules, heads, experts, parts and ports are cut to a
    few, sizes of rows and sequences to what these need.

    Parameters
    ----------
    point : Point
        A point of ubimoe.
    dims : int
        Upper bound of T_a; tiles are at most twice as wide.
    max_tokens : int
        Upper bound of the sequence, at least 4.

    Returns
    -------
    Point
        A valid point.
    """

    def at_most(name: str, most: int) -> int:
        return min(point.integer(name), most)

    few_dims = at_most("attention_dims", dims)
    tile_in = _scaled(point.integer("tile_in"), point.integer("attention_dims"), few_dims)
    tile_out = _scaled(point.integer("tile_out"), point.integer("attention_dims"), few_dims)
    modules = at_most("attention_modules", 2)
    parts = min(point.integer("hidden") // point.integer("expert_hidden"), 2)
    hidden = 4 * max(tile_in, tile_out)
    changes: dict[str, Value] = {
        "attention_modules": modules,
        "heads": modules * min(point.integer("heads") // point.integer("attention_modules"), 2),
        "head_dim": at_most("head_dim", 16),
        "attention_dims": few_dims,
        "attention_lanes": at_most("attention_lanes", 4),
        "tile_in": tile_in,
        "tile_out": tile_out,
        "linear_lanes": at_most("linear_lanes", 4),
        "msa_linear_lanes": at_most("msa_linear_lanes", 3),
        "max_tokens": at_most("max_tokens", max_tokens),
        "hidden": parts * hidden,
        "expert_hidden": hidden,
        "experts": at_most("experts", 4),
        "top_k": at_most("top_k", 2),
        "weight_ports": at_most("weight_ports", 2),
        "msa_weight_ports": at_most("msa_weight_ports", 2),
        "port_bits": 128,
    }
    return Point(point.design, {**point, **changes})


def _scaled(tile: int, dims: int, few_dims: int) -> int:
    """Return a tile that is wider, or less wide, than `few_dims`, as `tile` is than `dims`."""
    if tile >= dims:
        return few_dims * min(tile // dims, 2)
    return max(1, few_dims // 2)
