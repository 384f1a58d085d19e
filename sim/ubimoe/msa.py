"""The MSA block in time: on chip as in the RTL, or through memory as published."""

from headrace.arch.ubimoe.streaming_attention import attention_steps
from headrace.sim.ubimoe.mapping import Machine
from headrace.sim.ubimoe.serial import SOFTMAX_PASSES_CYCLES, separate_cycles
from headrace.sim.ubimoe.steps import Step

__all__ = ["msa_steps", "msa_weight_cycles"]


def msa_weight_cycles(machine: Machine) -> tuple[int, int]:
    """Return the cycles that the weights of QKV and of the projection take on their ports."""
    msa = machine.sizes.msa
    return tuple(  # type: ignore[return-value]
        machine.ports.cycles(msa.linear.load_beats(msa.in_tiles, n * msa.row_tiles))
        + machine.ports.latency
        for n in (3, 1)
    )


def msa_steps(machine: Machine) -> list[Step]:
    """Return the steps of one MSA block, in order; their cycles add up."""
    return _on_chip(machine) if machine.on_chip else _through_memory(machine)


def _weight_bytes(machine: Machine, outputs: int) -> int:
    msa = machine.sizes.msa
    beats = msa.linear.load_beats(msa.in_tiles, outputs * msa.row_tiles)
    return beats * msa.beat_bits // 8


def _macs(machine: Machine) -> dict[str, int]:
    tokens, width = machine.shape.tokens, machine.shape.width
    return {
        "qkv": 3 * tokens * width * width,
        "attention": 2 * tokens * tokens * width,
        "projection": tokens * width * width,
    }


def _on_chip(machine: Machine) -> list[Step]:
    """Rows stream from kernel to kernel as in the RTL, up to the first result.

    The first N steps of the attention run beside QKV, the projection of all but the last rows
    beside the attention. The weights were loaded during the layer before.
    """
    ends = machine.sizes.msa.milestones(machine.shape.tokens, loaded=True)
    macs = _macs(machine)
    parts = (
        ("input_norm", "layer_norm", 0, 0),
        ("qkv", "linear", _weight_bytes(machine, 3), macs["qkv"]),
        ("attention", "streaming_attention", 0, macs["attention"]),
        ("projection", "linear", _weight_bytes(machine, 1), macs["projection"]),
    )
    begin = 0
    steps = []
    for (name, kernel, size, work), end in zip(parts, ends, strict=True):
        steps.append(
            Step(
                name=name,
                kernel=kernel,
                cycles=end - begin,
                bound="compute",
                bytes=size,
                macs=work,
            )
        )
        begin = end
    return steps


def _through_memory(machine: Machine) -> list[Step]:
    """The released schedule: every kernel reads from memory and writes to it, one after another."""
    msa, ports, shape = machine.sizes.msa, machine.ports, machine.shape
    tokens, formats, macs = shape.tokens, msa.formats, _macs(machine)
    feature_beats = ports.beats(shape.width * formats.feature_bits) * tokens
    operand_beats = ports.beats(shape.width * formats.operand_bits) * tokens
    loads = msa_weight_cycles(machine)

    def linear(outputs: int) -> int:
        if machine.point.text("linear") == "separate":
            return separate_cycles(tokens * shape.width * outputs * shape.width, msa.tile_in)
        tiles = outputs * msa.row_tiles
        return int(msa.linear.compute_cycles(tokens, msa.in_tiles, tiles))

    steps = [
        Step.longer(
            "input_norm",
            "layer_norm",
            compute=int(msa.norm.cycles(tokens)),
            memory=ports.cycles(feature_beats),
            size=(feature_beats + operand_beats) * ports.beat_bytes,
        )
    ]
    for name, outputs, load, moved in (
        ("qkv", 3, loads[0], (operand_beats, 3 * operand_beats)),
        ("projection", 1, loads[1], (operand_beats + feature_beats, feature_beats)),
    ):
        steps.append(
            Step(
                name=f"{name}_weights",
                kernel="linear",
                cycles=load,
                memory=load,
                bound="ports",
                bytes=_weight_bytes(machine, outputs),
            )
        )
        steps.append(
            Step.longer(
                name,
                "linear",
                compute=linear(outputs),
                memory=ports.cycles(max(moved)),
                size=sum(moved) * ports.beat_bytes,
                macs=macs[name],
            )
        )
    steps[3:3] = [_attention(machine, operand_beats // tokens)]
    return steps


def _attention(machine: Machine, row_beats: int) -> Step:
    """Return the attention that streams K and V from memory; `row_beats` of a port make a row."""
    kernel, ports, point = machine.sizes.msa.attention, machine.ports, machine.point
    tokens, modules = machine.shape.tokens, point.integer("attention_modules")
    steps = attention_steps(tokens, kernel.lanes)
    way = point.text("attention")
    rows = tokens * tokens if way == "rows" else steps
    ends = kernel.head_beats + kernel.score_cycles + kernel.result_cycles
    step = kernel.row_beats // modules
    if way == "fused":
        compute = (steps + tokens - 1) * step + ends
        shared = point.integer("key_ports") == 1
        streamed = 2 * steps if shared else steps + tokens - 1
    else:
        compute, streamed = 2 * steps * step + ends, 2 * rows
    memory = ports.cycles(streamed * row_beats)
    if point.text("softmax") == "passes":  # between QK and PV, so that it is beside neither
        passes = tokens * tokens * machine.shape.heads * SOFTMAX_PASSES_CYCLES
        compute, memory = compute + passes, memory + passes
    return Step.longer(
        "attention",
        "streaming_attention",
        compute=compute,
        memory=memory,
        size=(2 * rows + 2 * tokens) * row_beats * ports.beat_bytes,
        macs=_macs(machine)["attention"],
    )
