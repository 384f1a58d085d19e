"""Timed stream graph of SN40L's fused pipeline, transfer by transfer, and of its units one by one.

The graph states in which cycle the RTL (`headrace.rtl.sn40l.fused_pipeline`) does what.
"""

from collections.abc import Mapping, Sequence

from headrace.arch.sn40l.compute_program import ComputeProgram
from headrace.arch.sn40l.fused_pipeline import FusedPipelineSizes, FusedPrograms
from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import READ_FILL, WRITE_FILL
from headrace.sim.graph import IntArray, StreamGraph, pulse
from headrace.sim.parts import Part, Port
from headrace.sim.rates import firsts, lasts
from headrace.sim.sn40l.compute_unit import add_compute_unit

__all__ = ["fused_pipeline_graph"]

_BUFFERS = 2
_READ = READ_FILL - 3  # cycles from the banks to a result, as many vectors are on their way
_FILLED = WRITE_FILL - 2 + READ_FILL - 2  # from the last packet of a run to its first read


def fused_pipeline_graph(
    sizes: FusedPipelineSizes,
    tiles: int,
    arrivals: Mapping[str, IntArray] | None = None,
    *,
    fused: bool = True,
) -> StreamGraph:
    """Build the graph of a batch; simulate one iteration of it.

    A firing is a transfer in the very cycle in which the RTL does it: ports have the names of the
    RTL's; ``M_banks`` is a vector read from the banks of the memory unit M, ``M_results`` one that
    is handed to all chains.

    Parameters
    ----------
    sizes : FusedPipelineSizes
    tiles : int
        At least 1.
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.
    fused : bool
        Without, every compute unit waits until the one before has done the whole batch, which
        is kept in memories large enough. There is no such RTL.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        The batch has too many tiles for a command.
    """
    graph = StreamGraph("fused_pipeline")
    (programs,) = sizes.programs([tiles])
    part = Part(graph, arrivals=arrivals)
    casts = {name: _add_cast(part, name, programs) for name in ("inputs", "second")}
    for chain in range(sizes.chains):
        _add_chain(part, sizes, programs, f"_{chain}", casts, fused)
    return graph


def _add_memory(part: Part, name: str, packets: Sequence[int], reads: Sequence[int]) -> None:
    """Add a memory unit with two buffers that are written and read in runs of so many vectors.

    No vector needs more than one round, so that nothing stalls between the packets and the banks.
    """
    part.add_port(f"{name}_write", 1)
    part.add_port(f"{name}_read", 1, latency=READ_FILL - _READ)
    part.add_port(f"{name}_packets", sum(packets), latency=_FILLED)
    part.add_node(f"{name}_banks", phases=sum(reads), latency=_READ)
    part.add_edge(
        f"{name}_packets",
        f"{name}_banks",
        claim=firsts(packets),
        produce=lasts(packets),
        consume=firsts(reads),
        free=lasts(reads),
        depth=_BUFFERS,
    )
    part.add_edge(f"{name}_write", f"{name}_packets", consume=pulse(sum(packets), 0))
    part.add_edge(f"{name}_read", f"{name}_banks", consume=pulse(sum(reads), 0))


def _runs(program: MemoryProgram, whole: bool = False) -> list[int]:
    """Return the vectors of each run, or of all of them as one."""
    runs = [program.vectors] * program.runs
    return [sum(runs)] if whole else runs


def _add_cast(part: Part, name: str, programs: FusedPrograms) -> str:
    """Add a memory whose vectors go to all chains; return the node that hands them out."""
    write, read = programs.write[name], programs.read[name]
    _add_memory(part, name, _runs(write), _runs(read))
    part.add_node(f"{name}_results", phases=1)
    part.add_edge(f"{name}_banks", f"{name}_results", depth=_READ, release=0)
    return f"{name}_results"


def _add_chain(
    part: Part,
    sizes: FusedPipelineSizes,
    programs: FusedPrograms,
    end: str,
    casts: Mapping[str, str],
    fused: bool,
) -> None:
    """Add a chain from its end to its beginning: results first, since they are the next inputs."""
    memories = {name: (programs.write[name], programs.read[name]) for name in programs.read}
    gemm0, multiply, gemm1 = programs.compute.values()
    part.add_port(f"results{end}", sizes.unit.results(gemm1))
    _add_unit(part, sizes, f"gemm1{end}", gemm1, part.ports[f"results{end}"])
    write, read = memories["scaled"]
    _add_memory(part, f"scaled{end}", _runs(write, not fused), _runs(read, not fused))
    _add_unit(part, sizes, f"multiply{end}", multiply, part.ports[f"scaled{end}_packets"])
    products = part.ports[f"multiply{end}"]
    if not fused:
        _add_memory(part, f"products{end}", [multiply.count], [multiply.count])
        _feed(part, f"products{end}_banks", f"multiply{end}", 1, _READ)
        products = part.ports[f"products{end}_packets"]
    _add_unit(part, sizes, f"gemm0{end}", gemm0, products)
    for name in ("first", "factors"):
        write, read = memories[name]
        _add_memory(part, f"{name}{end}", _runs(write), _runs(read))
    beats = sizes.unit.interleave
    _feed(part, casts["inputs"], f"gemm0{end}", 1, 1)
    _feed(part, f"first{end}_banks", f"gemm0{end}", beats, _READ)
    _feed(part, f"factors{end}_banks", f"multiply{end}", 1, _READ)
    _feed(part, f"scaled{end}_banks", f"gemm1{end}", 1, _READ)
    _feed(part, casts["second"], f"gemm1{end}", beats, 1)


def _add_unit(
    part: Part, sizes: FusedPipelineSizes, name: str, program: ComputeProgram, results: Port
) -> None:
    """Add a compute unit; its left stream is a port of its name."""
    part.add_port(f"{name}_commands", 1)
    inner = part.inner(name, results=results, commands=part.ports[f"{name}_commands"])
    add_compute_unit(inner, sizes.unit, program)
    part.ports[name] = inner.ports["left"]


def _feed(part: Part, source: str, unit: str, beats: int, depth: int) -> None:
    """Let each vector of a source be there for so many left beats; the last one takes it."""
    groups = [beats] * (part.ports[unit].first.size // beats)
    part.add_edge(source, unit, consume=firsts(groups), free=lasts(groups), depth=depth, release=0)
