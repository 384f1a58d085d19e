"""Timed stream graph of UbiMoE's MoE block: the kernels' graphs and what joins them.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.moe_block`) does what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.held import held_arrivals, held_port, mark_transfers, taken_arrivals
from headrace.sim.parts import Part, Port
from headrace.sim.rates import firsts, lasts
from headrace.sim.ubimoe.combine import CombineWork, add_combine
from headrace.sim.ubimoe.dispatch import add_dispatch
from headrace.sim.ubimoe.gate import add_gate
from headrace.sim.ubimoe.layer_norm import add_layer_norm
from headrace.sim.ubimoe.linear import LinearWork, add_linear
from headrace.sim.ubimoe.moe_rows import add_hidden_rows, add_token_rows

__all__ = ["MoeWork", "add_moe_block", "job_rows", "moe_block_graph"]


@dataclass(frozen=True, kw_only=True)
class MoeWork:
    """A sequence.

    Parameters
    ----------
    tokens : int
    loads : tuple of int, optional
        By experts: the rows of each one, in order. Otherwise a dense FFN.
    """

    tokens: int
    loads: tuple[int, ...] | None = None


def moe_block_graph(
    sizes: MoeBlockSizes,
    work: Sequence[MoeWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of sequences in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `norm`, `gate_weights`, `jobs`, `weights`, `inputs`, `results`, and those inside the kernels,
    as `linear.inputs`; or a step inside, as `linear.issue`.

    Parameters
    ----------
    sizes : MoeBlockSizes
    work : sequence of MoeWork
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no work, or the block cannot do it.
    """
    graph = StreamGraph("moe block")
    given = dict(arrivals or {})
    beats = sum(item.tokens for item in work) * sizes.norm.row_beats
    parts = [max(1, sizes.dims // sizes.tile_out)] * beats
    if "inputs" in given:
        given["features"] = held_arrivals(given["inputs"], parts)
    if "results" in given:
        given["sums"] = taken_arrivals(given["results"], parts)
    part = Part(graph, arrivals=given)
    add_moe_block(part, sizes, work)
    mark_transfers(part, "inputs", "features", parts)
    mark_transfers(part, "results", "sums", parts)
    return graph


def add_moe_block(part: Part, sizes: MoeBlockSizes, work: Sequence[MoeWork]) -> None:
    """Add the nodes of `moe_block_graph` to a part of a graph.

    Its ports are those of the block, but `features` instead of `inputs` and `sums` instead of
    `results`: beats of `tile_out` features where that is less than `dims`.

    Parameters
    ----------
    part : Part
    sizes : MoeBlockSizes
    work : sequence of MoeWork

    Raises
    ------
    InputError
        There is no work, or the block cannot do it.
    """
    _check(sizes, work)
    tokens = [item.tokens for item in work]
    jobs = [rows for item in work for rows in job_rows(sizes, item)]
    beats = sum(tokens) * sizes.norm.row_beats
    narrow, wide = max(1, sizes.dims // sizes.tile_out), max(1, sizes.tile_out // sizes.dims)
    part.add_port("command", len(work))
    part.add_port("norm", len(work) * sizes.norm.row_beats)
    part.add_port("jobs", len(jobs))
    part.add_port("features", beats * narrow)
    part.add_port("sums", beats * narrow)
    port = part.ports
    normalised, stored, issued = _normalised(part, sizes, work)
    norm_inputs = port["features"].wide_source(narrow)
    norm = part.inner("norm", parameters=port["norm"], inputs=norm_inputs, results=normalised)
    add_layer_norm(norm, sizes.norm, tokens)
    values = _add_rows(part, sizes, work, stored)
    combine = part.inner(
        "combine",
        residual=port["features"].wide_sink(wide),
        values=values,
        results=port["sums"].wide_source(wide),
    )
    combined = [CombineWork(tokens=item.tokens, jobs=job_rows(sizes, item)) for item in work]
    add_combine(combine, sizes.combine, combined)
    _add_scores(part, sizes, len(port["wanted"].first))
    _add_jobs(part, len(jobs))
    _add_commands(part, work)
    if any(item.loads is None for item in work):
        _add_dense(part, sizes, work)
    if any(item.loads is not None for item in work):
        _add_experts(part, sizes, work, issued)


def job_rows(sizes: MoeBlockSizes, item: MoeWork) -> tuple[int, ...]:
    """Return the rows of each job of a sequence, in order.

    Parameters
    ----------
    sizes : MoeBlockSizes
    item : MoeWork
    """
    if item.loads is None:
        return (item.tokens,) * sizes.dense_parts
    return tuple(rows for rows in item.loads if rows)


def _normalised(
    part: Part, sizes: MoeBlockSizes, work: Sequence[MoeWork]
) -> tuple[Port, Port, Port]:
    """Add the stream of normalised beats; return it as the norm, the memory and the gate see it.

    A beat stays for its words of the memory, if there are more than one; by experts the last of
    them goes with the last of the gate's products.
    """
    words, together = max(1, sizes.dims // sizes.tile_in), max(1, sizes.tile_in // sizes.dims)
    by_experts = np.array([item.loads is not None for item in work])
    counts = np.array([item.tokens * sizes.norm.row_beats for item in work])
    lengths = np.repeat(np.where(by_experts, words - 1 + sizes.experts, words), counts)
    part.add_port("normalised", int(lengths.sum()))
    beats = held_port(part.ports["normalised"].node, lengths.tolist())
    first = (beats.first[:, None] + np.arange(words)).ravel()
    last = first.copy()
    last[words - 1 :: words] = beats.last
    met = beats.first[np.repeat(by_experts, counts)] + words - 1
    issued = (met[:, None] + np.arange(sizes.experts)).ravel()
    stored = Port(beats.node, first, last).wide_sink(together)
    return beats, stored, Port(beats.node, issued, issued)


def _add_rows(part: Part, sizes: MoeBlockSizes, work: Sequence[MoeWork], stored: Port) -> Port:
    """Add the linear and the memories of its rows; return the results for combine.

    Adds the ports `weights` and `wanted`, the rows of the jobs.
    """
    jobs = [rows for item in work for rows in job_rows(sizes, item)]
    linear_work = [
        LinearWork(rows=rows, in_tiles=inputs, out_tiles=outputs)
        for rows in jobs
        for inputs, outputs in zip(sizes.in_tiles, sizes.out_tiles, strict=True)
    ]
    part.add_port("weights", len(jobs) * sizes.weight_beats)
    linear = part.inner("linear", weights=part.ports["weights"])
    add_linear(linear, sizes.linear, linear_work)
    inputs = _halves(linear.ports["inputs"], jobs, sizes.in_tiles)
    results = _halves(linear.ports["results"], jobs, sizes.out_tiles)
    tokens = part.inner("tokens", inputs=stored, results=inputs[0])
    add_token_rows(tokens, sizes, [item.tokens for item in work], _fresh(sizes, work))
    part.ports["wanted"] = tokens.ports["wanted"]
    words = max(1, sizes.tile_out // sizes.tile_in)
    hidden = part.inner(
        "hidden", inputs=results[0], passed=results[1], results=inputs[1].wide_source(words)
    )
    add_hidden_rows(hidden, sizes, jobs)
    return results[1]


def _halves(port: Port, jobs: Sequence[int], tiles: tuple[int, int]) -> tuple[Port, Port]:
    """Return the transfers of the first and of the second linear."""
    counts = [rows * each for rows in jobs for each in tiles]
    first = np.repeat(np.tile([True, False], len(jobs)), counts)
    return port.at(np.flatnonzero(first)), port.at(np.flatnonzero(~first))


def _fresh(sizes: MoeBlockSizes, work: Sequence[MoeWork]) -> IntArray:
    """Return what `add_token_rows` wants: a dense FFN takes rows as they come."""
    pieces = []
    for item in work:
        rows = np.zeros(sum(job_rows(sizes, item)), np.int64)
        if item.loads is None:
            rows[: item.tokens] = 1
        else:
            rows[0] = item.tokens  # no token is dispatched before the last one is chosen for
        pieces.append(rows)
    return np.concatenate(pieces)


def _add_scores(part: Part, sizes: MoeBlockSizes, rows: int) -> None:
    """Add the FIFO of rows for combine: a memory, and a register behind it."""
    part.add_node("score", phases=rows)
    part.add_edge("wanted", "score", depth=sizes.max_tokens)
    part.add_edge("score", "combine.rows", depth=1, release=0)


def _add_jobs(part: Part, jobs: int) -> None:
    """Add the way of a job to all that need it; the next one is taken when all have this one."""
    once, twice = [1] * jobs, [2] * jobs
    part.add_port("job", jobs)
    sinks = {
        "hidden.command": once,
        "combine.jobs": once,
        "jobs": once,
        "linear.load": twice,
        "linear.compute": twice,
    }
    for sink, transfers in sinks.items():
        part.add_edge("job", sink, consume=firsts(transfers), free=lasts(transfers), depth=1)


def _add_commands(part: Part, work: Sequence[MoeWork]) -> None:
    """Add the way of a command to the kernels; the next one is taken when all have this one."""
    part.add_node("taken", phases=len(work))
    part.add_edge("command", "taken", depth=1, release=0)
    for kernel in ("combine", "norm", "tokens"):
        part.add_edge("command", f"{kernel}.command")
        part.add_edge(f"{kernel}.command", "taken")
    for kernel in ("norm", "tokens"):
        part.add_edge("combine.command", f"{kernel}.command")
    # What a command does not concern takes it in the cycle after the memory of tokens.
    part.add_edge("command", "tokens.command", depth=1, release=2, name="unconcerned")


def _add_dense(part: Part, sizes: MoeBlockSizes, work: Sequence[MoeWork]) -> None:
    """Add jobs and rows of dense FFNs."""
    dense = np.array([item.loads is None for item in work])
    of_dense = dense.astype(np.int64)
    for name, counts in _wanted(sizes, work).items():
        own = part.ports[name].at(np.flatnonzero(np.repeat(dense, counts)))
        part.ports[f"dense {name}"] = own
        each = counts[dense].tolist()
        part.add_edge("tokens.command", f"dense {name}", produce=of_dense, consume=firsts(each))
        part.add_edge(f"dense {name}", "taken", produce=lasts(each), consume=of_dense)


def _add_experts(part: Part, sizes: MoeBlockSizes, work: Sequence[MoeWork], issued: Port) -> None:
    """Add gate and dispatch."""
    loads = [item.loads for item in work if item.loads is not None]
    tokens = [item.tokens for item in work if item.loads is not None]
    by_experts = np.array([item.loads is not None for item in work])
    own = {
        name: part.ports[name].at(np.flatnonzero(np.repeat(by_experts, counts)))
        for name, counts in _wanted(sizes, work).items()
    }
    part.add_port("gate_weights", len(loads) * sizes.gate.weight_words)
    dispatch = part.inner("dispatch", jobs=own["job"], rows=own["wanted"])
    add_dispatch(dispatch, sizes.dispatch, loads)
    choices = held_port(dispatch.ports["choice"].node, [sizes.top_k] * sum(tokens))
    gate = part.inner("gate", weights=part.ports["gate_weights"], issue=issued, choices=choices)
    add_gate(gate, sizes.gate, tokens)
    concerned = by_experts.astype(np.int64)
    for kernel in ("gate", "dispatch"):
        part.add_edge("combine.command", f"{kernel}.command", produce=concerned)
        part.add_edge(f"{kernel}.command", "taken", consume=concerned)


def _wanted(sizes: MoeBlockSizes, work: Sequence[MoeWork]) -> dict[str, IntArray]:
    """Return the jobs, and their rows, of each command, by the names of their ports."""
    jobs = [job_rows(sizes, item) for item in work]
    return {"job": np.array([len(job) for job in jobs]), "wanted": np.array([*map(sum, jobs)])}


def _check(sizes: MoeBlockSizes, work: Sequence[MoeWork]) -> None:
    if not work:
        raise InputError("moe block: no work; at least one command")
    for number, item in enumerate(work):
        sizes.dispatch.check_tokens(item.tokens)
        if item.loads is not None and sizes.dispatch.tokens_of(item.loads) != item.tokens:
            raise InputError(
                f"work {number}: loads of {list(item.loads)} rows are not allowed:"
                f" {item.tokens} tokens of {sizes.top_k} rows each"
            )
