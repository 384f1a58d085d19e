"""UbiMoE's layers by the stream graph of the whole encoder block, at the rate of the ports.

One layer after the other. Features come from memory and go there; the weights of QKV, projection
and a dense FFN, whose jobs are known, are asked for while the layer before is computed.
"""

from collections.abc import Sequence

import numpy as np

from headrace.errors import InputError
from headrace.sim.cycle import simulate
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.parts import Part, Port
from headrace.sim.rates import firsts
from headrace.sim.ubimoe.encoder_block import add_encoder_block
from headrace.sim.ubimoe.mapping import Machine
from headrace.sim.ubimoe.moe_block import MoeWork, job_rows
from headrace.sim.ubimoe.steps import Step

__all__ = ["layer_steps"]


def layer_steps(
    machine: Machine, rows: Sequence[Sequence[int] | None]
) -> list[tuple[list[Step], list[Step]]]:
    """Return the steps of the MSA block and of the FFN of every layer.

    Parameters
    ----------
    machine : Machine
    rows : sequence of sequence of int or None
        Of every layer the rows of each expert; None for a dense FFN.

    Raises
    ------
    InputError
        The machine is not the RTL's: Q, K and V are not on chip.
    """
    if not machine.on_chip:
        raise InputError(
            "fidelity cycle needs keys = chip: the published schedule through memory has no RTL "
            "whose graph could be fired"
        )
    memo = {key: _layer(machine, key) for key in {None if r is None else tuple(r) for r in rows}}
    return [memo[None if r is None else tuple(r)] for r in rows]


def _layer(machine: Machine, rows: tuple[int, ...] | None) -> tuple[list[Step], list[Step]]:
    tokens, sizes = machine.shape.tokens, machine.sizes
    work = MoeWork(tokens=tokens, loads=rows)
    jobs = job_rows(sizes.moe, work)
    job_beats = sizes.moe.weight_beats
    feature_bits = sizes.msa.dims * sizes.msa.formats.feature_bits
    per_feature = machine.ports.interval * feature_bits / (8 * machine.ports.beat_bytes)
    before = sizes.msa.weight_beats + machine.ports.latency
    beats = tokens * sizes.msa.row_beats
    graph = StreamGraph("layer")
    begin = np.full(beats, before, np.int64)
    graph.add_node("inputs", phases=beats, ii=_intervals(per_feature, beats), arrivals=begin)
    graph.add_node("jobs", phases=len(jobs), latency=machine.ports.latency)
    weights = len(jobs) * job_beats
    graph.add_node("moe_weights", phases=weights, ii=_intervals(machine.ports.interval, weights))
    graph.add_edge("jobs", "moe_weights", consume=firsts([job_beats] * len(jobs)))
    counts = {"inputs": beats, "jobs": len(jobs), "moe_weights": weights}
    part = Part(graph, ports={name: Port.of(name, count) for name, count in counts.items()})
    add_encoder_block(part, sizes, [work])
    starts = simulate(graph, iterations=1, starts=True).starts
    assert starts is not None
    middle = int(starts["between"][0])
    written = np.ceil(per_feature * beats)
    last = max(int(starts["sums"][-1]), int(starts["sums"][0] + written)) + 1
    issues = int((starts["moe.linear.issue"] >= middle).sum())
    return (
        [Step(name="msa", kernel="msa_block", cycles=middle - before, bound="compute",
              bytes=sizes.msa.weight_beats * sizes.msa.beat_bits // 8,
              macs=_msa_macs(machine))],
        [_ffn_step(machine, rows, last - middle, issues, weights)],
    )  # fmt: skip


def _msa_macs(machine: Machine) -> int:
    tokens, width = machine.shape.tokens, machine.shape.width
    return 4 * tokens * width * width + 2 * tokens * tokens * width


def _ffn_step(
    machine: Machine, rows: tuple[int, ...] | None, cycles: int, issues: int, beats: int
) -> Step:
    """Return the FFN as one step; of its time, what the linear does not compute is memory's."""
    moe, tokens, width = machine.sizes.moe, machine.shape.tokens, machine.shape.width
    routed = tokens * moe.dense_parts if rows is None else sum(rows)
    gate = 0 if rows is None else tokens * width * moe.experts
    waits = max(0, cycles - issues)
    return Step(
        name="ffn" if rows is None else "experts",
        kernel="moe_block",
        cycles=cycles,
        memory=waits if waits > issues else 0,
        bound="ports" if waits > issues else "compute",
        bytes=beats * moe.beat_bits // 8,
        macs=2 * routed * width * moe.hidden + gate,
    )


def _intervals(interval: float, count: int) -> IntArray:
    """Return whole intervals, at least 1, whose mean is `interval`."""
    marks = np.floor(max(1.0, interval) * np.arange(count + 1)).astype(np.int64)
    return np.asarray(np.diff(marks))
