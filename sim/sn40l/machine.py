"""The SN40L in time: a network's prefill and decode, and a composition of experts."""

from collections.abc import Mapping
from typing import Protocol

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.models.experts import CompositionOfExperts
from headrace.models.network import Network
from headrace.sim.budget import Phase
from headrace.sim.roofline import Roof
from headrace.sim.simulation import FIDELITIES, Simulation
from headrace.sim.sn40l.composition import composition_metrics, sn40l_host
from headrace.sim.sn40l.generation import PassTime, pass_time
from headrace.sim.sn40l.node import Node, node_of
from headrace.sim.sn40l.workload import Pass
from headrace.sim.workload import Workload

__all__ = ["METRICS", "RequestPass", "hbm_bytes", "request_metrics", "simulate"]

METRICS = (
    "ttft_s",
    "tpot_s",
    "request_s",
    "decode_tok_per_s",
    "prefill_launches",
    "decode_launches",
    "prefill_flop_per_byte",
    "decode_flop_per_byte",
    "hbm_share",
    "coe_batch_s",
    "coe_all_miss_s",
    "coe_miss_share",
    "coe_switching_share",
    "peak_tflops",
    "sram_mib",
)
"""Names of the metrics: seconds to the first token, per output token, of a whole request; tokens
per second of all sequences; launches of a pass; operations per byte over HBM; share of HBM that
weights and KV cache take; of a composition of experts (only with ``experts`` > 1) the mean seconds
of a batch on a Zipf trace, those of a batch that finds no expert in HBM, the share of requests
whose expert is copied, the share of time in which a copy is waited for; peak of all sockets, and
their scratchpads."""


def simulate(
    point: Point,
    device: Device,
    network: Network,
    workload: Workload,
    fidelity: str = "analytic",
) -> Simulation:
    """Simulate the SN40L at `point`, running `network` on `device`.

    Parameters
    ----------
    point, device, network : Point, Device, Network
    workload : Workload
        ``prompt_tokens``, ``output_tokens`` and ``batch`` of a request; a decode step has
        ``context_tokens`` cached.
    fidelity : {"analytic", "cycle"}
        Closed form of every kernel's pipeline, or tile by tile.

    Returns
    -------
    Simulation
        `METRICS`; phases of the stages ``prefill`` and, with a KV cache, ``decode``.

    Raises
    ------
    InputError
        The network does not divide over the sockets, a task does not fit a socket, weights do not
        fit into HBM, or the device is no SN40L.
    """
    if fidelity not in FIDELITIES:
        raise InputError(f"fidelity {fidelity!r} is not allowed: one of {', '.join(FIDELITIES)}")
    node, level = node_of(point, device), point.text("fusion")
    share = _hbm_share(node, network, workload)
    passes = {"prefill": _pass(network, node, workload.prompt_tokens, 0, workload)}
    if network.kv_bytes_per_token:
        passes["decode"] = _pass(network, node, 1, workload.context_tokens, workload)
    times = {stage: pass_time(work, node, level, fidelity) for stage, work in passes.items()}
    clock_hz = node.chip.clock_hz
    phases = {stage: _phases(found, node) for stage, found in times.items()}
    peak = node.sockets * node.chip.peak_flop_per_s
    return Simulation(
        point=point,
        metrics=request_metrics(node, times, workload, share)
        | _composition(point, node, network, workload),
        resources={},
        phases=phases,
        power={},
        roof=Roof(f"sn40l, {node.sockets} sockets", peak, node.sockets * node.hbm_bytes_per_s),
        clock_hz=clock_hz,
    )


def _pass(network: Network, node: Node, tokens: int, context: int, workload: Workload) -> Pass:
    return Pass(
        network=network,
        tokens=tokens,
        context=context,
        batch=workload.batch,
        tensor_parallel=node.sockets,
    )


def hbm_bytes(network: Network, workload: Workload) -> int:
    """Return the bytes of weights and KV cache of a request."""
    cached = max(workload.context_tokens, workload.prompt_tokens + workload.output_tokens)
    return network.weight_bytes() + workload.batch * cached * network.kv_bytes_per_token


def _hbm_share(node: Node, network: Network, workload: Workload) -> float:
    """Return the share of HBM in use; refuse what is more than all of it."""
    needed = hbm_bytes(network, workload)
    if needed > node.hbm_bytes:
        raise InputError(
            f"{network.name}: weights and KV cache take {needed / 2**30:.1f} GiB of "
            f"{node.hbm_bytes / 2**30:.0f} GiB of HBM; fewer sequences or more sockets needed"
        )
    return needed / node.hbm_bytes


def _composition(
    point: Point, node: Node, network: Network, workload: Workload
) -> dict[str, float]:
    """Return the metrics of the composition of experts; none with one expert."""
    experts = point.integer("experts")
    if experts == 1:
        return {}
    composition = CompositionOfExperts(expert=network, router=network, experts=experts)
    host = sn40l_host(
        node,
        composition,
        point.text("fusion"),
        batch=workload.batch,
        prompt=workload.prompt_tokens,
        output=workload.output_tokens,
    )
    return composition_metrics(
        host,
        composition,
        policy=point.text("expert_cache"),
        overlapped=point.text("copies") == "overlapped",
        batch=workload.batch,
        skew=workload.expert_skew,
    )


class RequestPass(Protocol):
    """What the metrics of a request need of a pass."""

    @property
    def seconds(self) -> float:
        """All calls and launches."""
        ...

    @property
    def launches(self) -> int:
        """Kernel launches."""
        ...

    @property
    def intensity(self) -> float:
        """Operations per byte over HBM."""
        ...


def request_metrics(
    node: Node, times: Mapping[str, RequestPass], workload: Workload, share: float
) -> dict[str, float]:
    """Return the metrics of a request; those of a composition of experts are apart.

    Parameters
    ----------
    node : Node
    times : mapping of str to RequestPass
        ``prefill`` and, with a KV cache, ``decode``.
    workload : Workload
    share : float
        Of HBM in use.
    """
    first = times["prefill"].seconds
    found = {"ttft_s": first, "request_s": first}
    if "decode" in times:
        step = times["decode"].seconds
        found |= {
            "tpot_s": step,
            "request_s": first + (workload.output_tokens - 1) * step,
            "decode_tok_per_s": workload.batch / step,
        }
    for stage, each in times.items():
        found[f"{stage}_launches"] = float(each.launches)
        found[f"{stage}_flop_per_byte"] = each.intensity
    found |= {
        "hbm_share": share,
        "peak_tflops": node.sockets * node.chip.peak_flop_per_s / 1e12,
        "sram_mib": node.sockets * node.chip.sram_bytes / 2**20,
    }
    return {name: found[name] for name in METRICS if name in found}


def _phases(times: PassTime, node: Node) -> list[Phase]:
    """Return a phase per kernel, all its calls on all sockets, and one of the launches."""
    phases, clock_hz = [], node.chip.clock_hz
    for number, (kernel, each, calls) in enumerate(times.kernels):
        cycles = round(calls * each.seconds * clock_hz)
        steady = min(cycles, round(calls * (each.seconds - each.fill_s) * clock_hz))
        waits = each.bound != "units"
        name = f"{kernel.segment}.{number}.{kernel.names[0]}"
        phases.append(
            Phase(
                name=name,
                kernel=kernel.segment,
                operator=name,
                cycles=cycles,
                fill=cycles - steady,
                steady=0 if waits else steady,
                memory=steady if waits else 0,
                bound=each.bound,
                bytes={
                    "hbm": node.sockets * calls * kernel.hbm_bytes,
                    "link": node.sockets * calls * kernel.link_bytes,
                },
                macs=node.sockets * calls * kernel.macs,
            )
        )
    cycles = round(times.launches * times.launch_s * clock_hz)
    phases.append(
        Phase(
            name="launches",
            kernel="launch",
            operator="launches",
            cycles=cycles,
            stall=cycles,
            bound="launch",
        )
    )
    return phases
