"""TeLLMe in time: prefill and decode, layer by layer, in both fidelities."""

from collections.abc import Mapping, Sequence

from headrace.arch.calibration import constant
from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.tellme.engine import engine_sizes
from headrace.arch.tellme.resources import resources
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.sim.budget import Phase
from headrace.sim.power import fabric_watts, memory_watts
from headrace.sim.roofline import Roof
from headrace.sim.simulation import FIDELITIES, Simulation
from headrace.sim.tellme.kernels import ClosedForm, Kernels
from headrace.sim.tellme.mapping import MemoryRates, Shape, memory_rates, network_shape
from headrace.sim.tellme.phases import Stage, stage_phases
from headrace.sim.workload import Workload

__all__ = ["lm_head_seconds", "simulate"]


def simulate(
    point: Point,
    device: Device,
    network: Network,
    workload: Workload,
    fidelity: str = "analytic",
    modules: Mapping[str, Resources] | None = None,
) -> Simulation:
    """Simulate TeLLMe at `point`, running `network` on `device`.

    Parameters
    ----------
    point, device, network, workload : Point, Device, Network, Workload
        Prefill reads ``prompt_tokens``; a decode step attends to ``context_tokens`` cached
        tokens and itself.
    fidelity : {"analytic", "cycle"}
        Closed form, or the timed stream graphs of the units fired one by one.
    modules : mapping of str to Resources, optional
        What the modules take, where it is known better than by the model; the power follows it.

    Returns
    -------
    Simulation
        Metrics ``ttft_s`` (LM head included), ``prefill_tok_per_s``, ``decode_s``,
        ``decode_tok_per_s``, ``latency_s``, ``prefill_attention_s`` (one layer),
        ``lm_head_s``, ``weight_bytes`` (one pass), ``power_w`` (the higher stage),
        ``prefill_power_w``, ``decode_power_w``, ``prefill_tok_per_j``, ``decode_tok_per_j``,
        ``energy_j`` (the whole request); phases of the stages ``prefill`` and ``decode``.

    Raises
    ------
    InputError
        The network has no ternary decoder, does not fit the buffers, the workload is longer
        than network or score FIFO allow, or the device has no ports for it.
    """
    if fidelity not in FIDELITIES:
        raise InputError(f"fidelity {fidelity!r} is not allowed: one of {', '.join(FIDELITIES)}")
    shape = network_shape(network)
    _check_workload(workload, point, shape)
    rates = memory_rates(point, device)
    kernels = _kernels(fidelity, point, shape, rates)
    stages = (
        Stage(name="prefill", tokens=workload.prompt_tokens, context=0),
        Stage(name="decode", tokens=1, context=workload.context_tokens),
    )
    phases = {s.name: stage_phases(s, point, shape, rates, kernels) for s in stages}
    modules = modules or resources(point)
    total = sum(modules.values(), Resources())
    power = {name: _watts(point, total, passes, shape) for name, passes in phases.items()}
    return Simulation(
        point=point,
        metrics=_metrics(point, shape, workload, phases, power),
        resources=modules,
        phases=phases,
        power=power,
        roof=_roof(point, device, rates),
        clock_hz=point.integer("clock_mhz") * 1_000_000,
    )


def _roof(point: Point, device: Device, rates: MemoryRates) -> Roof:
    """Peak of the lookup array, and of the memory behind the ports."""
    sizes = engine_sizes(point)
    macs_per_cycle = sizes.block_inputs * sizes.copies / sizes.lookup_cycles
    bandwidth = device.tiers[rates.tier].bandwidth_bytes_per_s
    assert bandwidth is not None
    return Roof(
        f"tellme on {device.name}", 2 * macs_per_cycle * point.integer("clock_mhz") * 1e6, bandwidth
    )


def _kernels(fidelity: str, point: Point, shape: Shape, rates: MemoryRates) -> Kernels:
    if fidelity == "analytic":
        return ClosedForm(point, shape, rates)
    from headrace.sim.tellme.cycle import Simulated  # compiles with numba, so only on demand

    return Simulated(point, shape, rates)


def _check_workload(workload: Workload, point: Point, shape: Shape) -> None:
    if workload.batch != 1 or workload.frames != 1:
        raise InputError("tellme runs one request at a time: batch = 1 and frames = 1 needed")
    longest = {
        "prompt_tokens": (workload.prompt_tokens, shape.max_positions),
        "context_tokens": (
            workload.context_tokens,
            min(shape.max_positions, point.integer("max_context")) - 1,
        ),
    }
    for name, (value, limit) in longest.items():
        if value > limit:
            raise InputError(f"{name} = {value} is not allowed: 1 to {limit}")


def lm_head_seconds(shape: Shape) -> float:
    """Time of the LM head on the CPU, in proportion to its INT8 bytes.

    The reference is the published time at the 49,155,072 bytes of BitNet b1.58-large.
    """
    return constant("tellme.lm_head_s") * shape.lm_head_bytes / constant("tellme.lm_head_bytes")


def _metrics(
    point: Point,
    shape: Shape,
    workload: Workload,
    phases: dict[str, list[Phase]],
    power: Mapping[str, Mapping[str, float]],
) -> dict[str, float]:
    hertz = point.integer("clock_mhz") * 1e6
    head = lm_head_seconds(shape)
    ttft = _cycles(phases["prefill"]) / hertz + head
    step = _cycles(phases["decode"]) / hertz + head
    prefill_power = sum(power["prefill"].values())
    decode_power = sum(power["decode"].values())
    attention = next(p for p in phases["prefill"] if p.kernel == "prefill_attention")
    later = workload.output_tokens - 1
    return {
        "ttft_s": ttft,
        "prefill_tok_per_s": workload.prompt_tokens / ttft,
        "decode_s": step,
        "decode_tok_per_s": 1 / step,
        "latency_s": ttft + later * step,
        "prefill_attention_s": attention.cycles / hertz,
        "lm_head_s": head,
        "weight_bytes": float(
            _bytes([p for p in phases["decode"] if p.kernel == "ternary_matmul"])
        ),
        "power_w": max(prefill_power, decode_power),
        "prefill_power_w": prefill_power,
        "decode_power_w": decode_power,
        "prefill_tok_per_j": workload.prompt_tokens / ttft / prefill_power,
        "decode_tok_per_j": 1 / step / decode_power,
        "energy_j": ttft * prefill_power + later * step * decode_power,
    }


def _watts(
    point: Point, total: Resources, phases: Sequence[Phase], shape: Shape
) -> dict[str, float]:
    """Average power over one pass and its LM head, by consumer."""
    clock_mhz = point.integer("clock_mhz")
    seconds = _cycles(phases) / (clock_mhz * 1e6) + lm_head_seconds(shape)
    busy = (_cycles(phases) - sum(p.memory for p in phases)) / (clock_mhz * 1e6) / seconds
    return {
        "static": constant("tellme.static_w"),
        "fabric": fabric_watts(total, clock_mhz, busy),
        "memory": memory_watts((_bytes(phases) + shape.lm_head_bytes) / seconds),
    }


def _cycles(phases: Sequence[Phase]) -> int:
    return sum(p.cycles for p in phases)


def _bytes(phases: Sequence[Phase]) -> int:
    return sum(count for p in phases for count in p.bytes.values())
