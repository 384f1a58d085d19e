"""Timed stream graph of the ternary matmul engine, transfer by transfer.

The graph states in which cycle the RTL (`headrace.rtl.tellme`) does what; docs/engine.md describes
the machine and docs/timing-theory.md the rule by which graphs are simulated.
`headrace.sim.tellme.tokens` has the coarser graph for whole layers.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from headrace.arch.tellme.engine import EngineSizes, write_cycles
from headrace.arch.tellme.job import EngineJob, check_job
from headrace.sim.graph import IntArray, StreamGraph

__all__ = ["engine_graph"]


def engine_graph(sizes: EngineSizes, job: EngineJob) -> StreamGraph:
    """Build the graph of a whole job; simulate one iteration of it.

    A firing is one transfer of a stream, one write of the banks or one issue of the lookup, in
    the very cycle in which the RTL does it: `load`, `beat`, `write`, `compute`, `gap` (the first
    cycle of a row block), `read`, `build` (the cycle after a row's last transfer), `lookup`,
    `drain` (a result). `cycles` of the simulation counts from the first accepted command to the
    last result.

    Parameters
    ----------
    sizes : EngineSizes
    job : EngineJob

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        The engine cannot do the job.
    """
    check_job(job, sizes)
    graph = StreamGraph("engine")
    _add_loading(graph, sizes, job)
    _add_front_end(graph, sizes, job)
    _add_lookup(graph, sizes, job)
    return graph


def _add_loading(graph: StreamGraph, sizes: EngineSizes, job: EngineJob) -> None:
    """Add the nodes `load`, `beat`, `write` and `compute` and the edges between them."""
    pattern = write_cycles(sizes)
    load_beats = [load.rows * sizes.row_beats(load.groups) for load in job.loads]
    writes = np.concatenate([np.resize(pattern, beats) for beats in load_beats])
    completing = writes > 0
    # A beat waits until the words that the beats before it completed are written.
    claims = np.concatenate(([1], completing[:-1])).astype(np.int64)
    steps = [int(count) for count in writes[completing]]
    load_steps = [
        int(writes[end - beats : end].sum())
        for beats, end in zip(load_beats, accumulate(load_beats), strict=True)
    ]
    graph.add_node("load", phases=len(job.loads))
    graph.add_node("beat", phases=len(writes), arrivals=job.weight_arrivals)
    graph.add_node("write", phases=sum(steps), **_port_a(sizes, priority=0))
    graph.add_node("compute", phases=len(job.computes))
    graph.add_edge("load", "beat", consume=_firsts(load_beats))
    graph.add_edge(
        "beat",
        "write",
        produce=completing.astype(np.int64),
        claim=claims,
        consume=_firsts(steps),
        free=_lasts(steps),
        depth=1,
        release=0,
        name="beat register",
    )
    graph.add_edge("write", "load", produce=_lasts(load_steps), initial=1, name="unpacker")
    graph.add_edge("write", "compute", produce=_lasts(load_steps))


def _add_front_end(graph: StreamGraph, sizes: EngineSizes, job: EngineJob) -> None:
    """Add `gap`, `read` and `build`: rows one after the other."""
    reads = [sizes.read_cycles] * sum(c.rows * c.tokens for c in job.computes)
    graph.add_node("gap", phases=len(reads), latency=sizes.block_gap)
    graph.add_node("read", phases=sum(reads), arrivals=job.activation_arrivals)
    graph.add_node("build", phases=len(reads), ii=sizes.build_cycles, latency=sizes.build_cycles)
    graph.add_edge("compute", "gap", consume=_firsts([c.rows * c.tokens for c in job.computes]))
    graph.add_edge("gap", "read", consume=_firsts(reads))
    graph.add_edge("read", "build", produce=_lasts(reads))
    graph.add_edge("build", "gap", initial=1, name="front end")


def _add_lookup(graph: StreamGraph, sizes: EngineSizes, job: EngineJob) -> None:
    """Add `lookup` and `drain`, which take turns, and what a token and a computation give back."""
    tokens = [c for c in job.computes for _ in range(c.tokens)]
    row_issues = [c.groups * sizes.lookup_cycles for c in tokens for _ in range(c.rows)]
    token_issues = [c.groups * sizes.lookup_cycles * c.rows for c in tokens]
    token_results = [c.groups for c in tokens]
    computation_results = [c.groups * c.tokens for c in job.computes]
    # From the issue of a token's last group to its first result: accumulation, two cycles more.
    latency = sizes.pipeline_cycles + 2
    graph.add_node("lookup", phases=sum(row_issues), latency=latency, **_port_a(sizes, priority=1))
    graph.add_node("drain", phases=sum(token_results), arrivals=job.result_arrivals)
    graph.add_edge("build", "lookup", consume=_firsts(row_issues))
    graph.add_edge(
        "gap",
        "lookup",
        consume=_firsts(row_issues),
        free=_lasts(row_issues),
        depth=sizes.table_buffers,
        name="tables",
    )
    graph.add_edge("lookup", "drain", produce=_lasts(token_issues), consume=_firsts(token_results))
    turns = [("lookup", token_issues, "accumulators")]
    if sizes.table_buffers == 1:
        turns.append(("gap", [c.rows for c in tokens], "turn"))
    for target, firings, name in turns:
        graph.add_edge(
            "drain",
            target,
            produce=_lasts(token_results),
            consume=_firsts(firings),
            initial=1,
            name=name,
        )
    for target, initial in (("compute", 1), ("load", sizes.slots)):
        graph.add_edge("drain", target, produce=_lasts(computation_results), initial=initial)


def _port_a(sizes: EngineSizes, *, priority: int) -> dict[str, Any]:
    """Return the port shared by writes and lookups, if they share one."""
    if sizes.words_per_group == 1:
        return {}
    return {"server": "port A", "server_cycles": 1, "priority": priority}


def _firsts(lengths: Sequence[int]) -> IntArray:
    """Return 1 at the first of each run of firings, 0 elsewhere."""
    rates = np.zeros(sum(lengths), np.int64)
    rates[np.cumsum([0, *lengths[:-1]])] = 1
    return rates


def _lasts(lengths: Sequence[int]) -> IntArray:
    """Return 1 at the last of each run of firings, 0 elsewhere."""
    rates = np.zeros(sum(lengths), np.int64)
    rates[np.cumsum(lengths) - 1] = 1
    return rates
