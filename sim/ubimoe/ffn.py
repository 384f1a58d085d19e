"""The FFN of a layer in time, dense or by experts: on chip as in the RTL, or as published."""

from collections.abc import Sequence

from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.sim.ubimoe.mapping import Machine
from headrace.sim.ubimoe.serial import ERF_GELU_CYCLES, separate_cycles
from headrace.sim.ubimoe.steps import Step, job_finish

__all__ = ["ffn_steps"]


def ffn_steps(machine: Machine, rows: Sequence[int] | None, head_start: int) -> list[Step]:
    """Return the steps of one FFN, in order; their cycles add up.

    Parameters
    ----------
    machine : Machine
    rows : sequence of int or None
        Rows of every expert; None for a dense FFN.
    head_start : int, cycles
        Of the block before, during which the first weights of a dense FFN can be loaded where
        kernels run ahead (``keys = chip``).
    """
    moe, tokens = machine.sizes.moe, machine.shape.tokens
    steps = [_norm(machine)]
    parts = [tokens] * moe.dense_parts
    if rows is not None:
        parts = [count for count in rows if count]
        steps.append(_gate(machine))
    by_token = machine.point.text("expert_order") == "token" and rows is not None
    if by_token:
        parts = [1] * sum(parts)
    jobs = [job for count in parts for job in _job(machine, count)]
    ahead = head_start if machine.on_chip and rows is None else 0
    slots = 1 if by_token else machine.point.integer("weight_slots")
    finish, computing = job_finish(jobs, slots=slots, begin=0, loader=-ahead)
    macs = 2 * sum(parts) * machine.shape.width * moe.hidden
    beats = sum(moe.linear.load_beats(*t) for t in _tiles(moe)) * len(parts)
    steps.append(
        Step(
            name="ffn" if rows is None else "experts",
            kernel="linear",
            cycles=finish,
            memory=max(0, finish - computing),
            bound="ports" if finish > 2 * computing else "compute",
            bytes=beats * moe.beat_bits // 8,
            macs=macs,
        )
    )
    return [*steps, _results(machine)]


def _tiles(moe: MoeBlockSizes) -> list[tuple[int, int]]:
    return list(zip(moe.in_tiles, moe.out_tiles, strict=True))


def _job(machine: Machine, rows: int) -> list[tuple[int, int]]:
    """Return load and computation of the first and of the second linear of `rows` rows."""
    moe, ports = machine.sizes.moe, machine.ports
    found = []
    for number, (inputs, outputs) in enumerate(_tiles(moe)):
        load = ports.cycles(moe.linear.load_beats(inputs, outputs))
        compute = int(moe.linear.compute_cycles(rows, inputs, outputs))
        if machine.point.text("linear") == "separate":
            compute = separate_cycles(rows * machine.shape.width * moe.hidden, moe.tile_in)
        if number == 0 and machine.point.text("gelu") == "erf":
            compute += rows * moe.hidden * ERF_GELU_CYCLES
        found.append((load + ports.latency, compute))
    return found


def _norm(machine: Machine) -> Step:
    norm, tokens, ports = machine.sizes.moe.norm, machine.shape.tokens, machine.ports
    if machine.on_chip:  # rows stream on; the first one tells how far behind the next kernel is
        return Step(
            name="post_attention_norm",
            kernel="layer_norm",
            cycles=int(norm.cycles(1)),
            bound="compute",
        )
    features = tokens * ports.beats(machine.shape.width * norm.formats.feature_bits)
    operands = tokens * ports.beats(machine.shape.width * norm.formats.operand_bits)
    return Step.longer(
        "post_attention_norm",
        "layer_norm",
        compute=int(norm.cycles(tokens)),
        memory=ports.cycles(features),
        size=(features + operands) * ports.beat_bytes,
    )


def _gate(machine: Machine) -> Step:
    """Return the gate; the dispatch takes its choices as they come, and gives rows at once."""
    gate, tokens = machine.sizes.moe.gate, machine.shape.tokens
    return Step(
        name="gate",
        kernel="gate",
        cycles=gate.cycles(tokens) - gate.weight_words + 2,
        bound="compute",
        macs=tokens * machine.shape.width * gate.experts,
    )


def _results(machine: Machine) -> Step:
    """Return the results with the residual added, as they leave for the next layer."""
    ports, tokens = machine.ports, machine.shape.tokens
    beats = tokens * ports.beats(machine.shape.width * machine.sizes.moe.formats.feature_bits)
    return Step.longer(
        "combine",
        "combine",
        compute=tokens * machine.sizes.msa.row_beats,
        memory=ports.cycles(beats),
        size=2 * beats * ports.beat_bytes,
    )
