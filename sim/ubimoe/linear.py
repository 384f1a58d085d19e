"""Timed stream graph of UbiMoE's linear kernel, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.linear`) does what;
docs/timing-theory.md has the rule by which graphs are simulated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.arch.ubimoe.linear import LinearSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["LinearWork", "add_linear", "linear_graph"]


@dataclass(frozen=True, kw_only=True)
class LinearWork:
    """A load and the computation that uses it.

    Parameters
    ----------
    rows, in_tiles, out_tiles : int
        As in the commands.
    """

    rows: int
    in_tiles: int
    out_tiles: int


def linear_graph(
    sizes: LinearSizes,
    work: Sequence[LinearWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of loads and computations in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `load`,
    `weights`, `compute`, `inputs`, `results`; or a step inside: `begin` (a computation takes its
    slot), `issue` (a tile is read), `collect` (its sums are added), `gelu` (a beat enters the
    GELU units, if there are any).

    Parameters
    ----------
    sizes : LinearSizes
    work : sequence of LinearWork
        Each is one transfer of `load` and one of `compute`.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no work, or the kernel cannot do it.
    """
    graph = StreamGraph("linear")
    add_linear(Part(graph, arrivals=arrivals), sizes, work)
    return graph


def add_linear(part: Part, sizes: LinearSizes, work: Sequence[LinearWork]) -> None:
    """Add the nodes of `linear_graph` to a part of a graph.

    Parameters
    ----------
    part : Part
    sizes : LinearSizes
    work : sequence of LinearWork

    Raises
    ------
    InputError
        There is no work, or the kernel cannot do it.
    """
    _check(sizes, work)
    counts = _Counts.of(sizes, work)
    beats = counts.load_beats
    part.add_port("load", len(work))
    part.add_port("weights", sum(beats))
    part.add_port("compute", len(work))
    part.add_port("inputs", sum(counts.command_beats))
    part.add_port("results", sum(counts.tile_rows))
    part.add_node("begin", phases=len(work))
    issues = sum(counts.command_issues)
    part.add_node("issue", phases=issues, latency=sizes.pipeline_cycles)
    part.add_node("collect", phases=issues)

    part.add_edge("load", "weights", consume=firsts(beats))
    part.add_edge("weights", "load", produce=lasts(beats), initial=1, name="loader")
    part.add_edge("weights", "begin", produce=lasts(beats))
    part.add_edge("compute", "begin", depth=1, name="next command")
    part.add_edge("compute", "inputs", consume=firsts(counts.command_beats))
    part.add_edge(
        "inputs", "compute", produce=lasts(counts.command_beats), initial=1, name="router"
    )
    _add_pipeline(part, sizes, counts)


@dataclass(frozen=True)
class _Counts:
    """Firings that belong together."""

    load_beats: list[int] = field(default_factory=list)
    command_beats: list[int] = field(default_factory=list)
    command_issues: list[int] = field(default_factory=list)
    group_beats: list[int] = field(default_factory=list)
    group_issues: list[int] = field(default_factory=list)
    tile_issues: list[int] = field(default_factory=list)
    tile_rows: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, sizes: LinearSizes, work: Sequence[LinearWork]) -> "_Counts":
        counts = cls()
        for item in work:
            groups = sizes.group_rows(item.rows)
            counts.load_beats.append(sizes.load_beats(item.in_tiles, item.out_tiles))
            counts.command_beats.append(item.rows * item.in_tiles)
            counts.command_issues.append(len(groups) * item.in_tiles * item.out_tiles)
            for rows in groups:
                counts.group_beats.append(rows * item.in_tiles)
                counts.group_issues.append(item.in_tiles * item.out_tiles)
                counts.tile_issues.extend([item.in_tiles] * item.out_tiles)
                counts.tile_rows.extend([rows] * item.out_tiles)
        return counts


def _add_pipeline(part: Part, sizes: LinearSizes, counts: _Counts) -> None:
    """Add the edges of `issue`, `collect` and `results`."""
    part.add_edge(
        "begin",
        "issue",
        consume=firsts(counts.command_issues),
        free=lasts(counts.command_issues),
        depth=1,
        name="command",
    )
    part.add_edge(
        "inputs",
        "issue",
        claim=firsts(counts.group_beats),
        produce=lasts(counts.group_beats),
        consume=firsts(counts.group_issues),
        free=lasts(counts.group_issues),
        depth=2,
        name="row buffers",
    )
    part.add_edge("issue", "collect", depth=sizes.pipeline_cycles, release=0, name="pipeline")
    drain = "results"
    if sizes.gelu:
        drain = "gelu"
        part.add_node("gelu", phases=sum(counts.tile_rows), latency=sizes.gelu_cycles)
        part.add_edge("gelu", "results", depth=sizes.gelu_places)
    part.add_edge(
        "collect",
        drain,
        produce=lasts(counts.tile_issues),
        consume=firsts(counts.tile_rows),
        free=lasts(counts.tile_rows),
        depth=1,
        release=0,
        name="output registers",
    )
    part.add_edge(
        "collect",
        "load",
        produce=lasts(counts.command_issues),
        initial=sizes.slots,
        name="slots",
    )


def _check(sizes: LinearSizes, work: Sequence[LinearWork]) -> None:
    if not work:
        raise InputError("linear: no work; at least one load and computation")
    for number, item in enumerate(work):
        limits = {
            "rows": (item.rows, 65535),
            "in_tiles": (item.in_tiles, sizes.max_in_tiles),
            "out_tiles": (item.out_tiles, sizes.max_out_tiles),
            "in_tiles x out_tiles": (item.in_tiles * item.out_tiles, sizes.max_tiles),
        }
        for name, (value, most) in limits.items():
            if not 1 <= value <= most:
                raise InputError(f"work {number}: {name} = {value} is not allowed: 1 to {most}")
