"""UbiMoE in time: one image alone, and images in a row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.arch.calibration import constant
from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.models.routing import draw_routing, expert_rows, skewed_loads
from headrace.sim.budget import Phase
from headrace.sim.power import fabric_watts, memory_watts
from headrace.sim.roofline import Roof
from headrace.sim.simulation import FIDELITIES, Simulation
from headrace.sim.ubimoe.ffn import ffn_steps
from headrace.sim.ubimoe.mapping import Machine, Shape, machine_of
from headrace.sim.ubimoe.msa import msa_steps
from headrace.sim.ubimoe.steps import Step
from headrace.sim.workload import Workload

__all__ = ["METRICS", "PAPER_FLOP", "Totals", "block_cycles", "rows_of_experts", "simulate"]

PAPER_FLOP = 2.5e9
"""The paper's GOPS count 2.5 GOP per image (ViT-T at 197 tokens), whatever was run."""


def simulate(
    point: Point,
    device: Device,
    network: Network,
    workload: Workload,
    fidelity: str = "analytic",
    modules: Mapping[str, Resources] | None = None,
) -> Simulation:
    """Simulate UbiMoE at `point`, running the encoder layers of `network` on `device`.

    Patch embedding and head run once per image and are left out, as in the paper's own search.

    Parameters
    ----------
    point, device, network : Point, Device, Network
    workload : Workload
        ``expert_skew`` or ``expert_shares`` say how the rows spread over the experts; the routing
        of a layer is drawn from its number, so that it is always the same.
    fidelity : {"analytic", "cycle"}
        Closed forms, or the stream graphs of both blocks (only for ``keys = chip``).
    modules : mapping of str to Resources, optional
        What the modules take, where it is known better than by the model; the power follows it.

    Returns
    -------
    Simulation
        Metrics ``latency_s`` (a single image), ``interval_s`` (between images in a row),
        ``throughput_img_per_s``, ``gflop_per_s`` (what the network needs), ``paper_gflop_per_s``
        (2.5 GOP per image), ``power_w``, ``energy_j`` and ``img_per_j`` (a single image after
        another), ``msa_s`` and ``ffn_s`` (their shares of the latency); phases of the stage
        ``image``.

    Raises
    ------
    InputError
        The network is no vision transformer or does not fit the point, or the device has no
        ports for it.
    """
    if fidelity not in FIDELITIES:
        raise InputError(f"fidelity {fidelity!r} is not allowed: one of {', '.join(FIDELITIES)}")
    if workload.batch != 1 or workload.frames != 1:
        raise InputError("ubimoe runs one image at a time: batch = 1 and frames = 1 needed")
    machine = machine_of(point, device, network)
    rows = rows_of_experts(machine.shape, workload)
    if fidelity == "cycle":
        from headrace.sim.ubimoe.cycle import layer_steps  # compiles with numba

        layers: Layers = layer_steps(machine, rows)
    else:
        layers = _closed_forms(machine, rows)
    phases = list(_phases(machine, layers))
    if modules is None:
        from headrace.arch.ubimoe.resources import resources

        modules = resources(point)
    return _simulation(machine, device, phases, layers, modules)


Layers = Sequence[tuple[list[Step], list[Step]]]


def block_cycles(steps: Sequence[Step]) -> int:
    """Return the cycles of a block's steps."""
    return sum(step.cycles for step in steps)


def rows_of_experts(shape: Shape, workload: Workload) -> list[list[int] | None]:
    """Return the rows of every expert, layer by layer; None where a layer is dense.

    Raises
    ------
    InputError
        The shares do not fit the network.
    """
    with_experts = sum(shape.by_experts)
    shares = workload.expert_shares
    if shares and (len(shares), len(shares[0])) != (with_experts, shape.experts):
        raise InputError(
            f"expert_shares of {len(shares)} layers and {len(shares[0])} experts: {with_experts} "
            f"and {shape.experts} needed"
        )
    found: list[list[int] | None] = []
    for layer, by_experts in enumerate(shape.by_experts):
        if not by_experts:
            found.append(None)
            continue
        if shares:
            loads = np.array(shares[sum(shape.by_experts[:layer])])
        else:
            loads = skewed_loads(shape.experts, workload.expert_skew)
        routing = draw_routing(loads, shape.tokens, shape.top_k, np.random.default_rng(layer))
        found.append(expert_rows(routing, shape.experts).tolist())
    return found


def _closed_forms(machine: Machine, rows: Sequence[Sequence[int] | None]) -> Layers:
    msa = msa_steps(machine)
    start = block_cycles(msa)
    memo = {
        key: ffn_steps(machine, key, start) for key in {r if r is None else tuple(r) for r in rows}
    }
    return [(msa, memo[r if r is None else tuple(r)]) for r in rows]


def _phases(machine: Machine, layers: Layers) -> Iterator[Phase]:
    for number, blocks in enumerate(layers):
        for step in (step for block in blocks for step in block):
            yield Phase(
                name=f"layers.{number}.{step.name}",
                kernel=step.kernel,
                operator=f"layers.{number}.{step.name}",
                cycles=step.cycles,
                steady=step.cycles - step.memory,
                memory=step.memory,
                bound=machine.ports.tier if step.bound == "ports" else step.bound,
                bytes={machine.ports.tier: step.bytes},
                macs=step.macs,
                layer=number,
            )


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the layers of a point, or of many points (then arrays).

    Parameters
    ----------
    clock_mhz : int or array
    msa, ffn : int or array, cycles
        All blocks of the kind.
    interval : int or array, cycles
        Between images in a row.
    memory : int or array, cycles
        In which only memory makes progress.
    size : int or array, bytes
        Through the ports.
    resources : Resources
        Of the whole machine; its fields may be arrays too.
    """

    clock_mhz: Any
    msa: Any
    ffn: Any
    interval: Any
    memory: Any
    size: Any
    resources: Resources

    def watts(self, board: str, tier: str) -> dict[str, Any]:
        """Return the average power during an image, by consumer."""
        cycles = self.msa + self.ffn
        busy = 1 - self.memory / cycles
        seconds = cycles / (self.clock_mhz * 1e6)
        return {
            "static": constant(f"ubimoe.{board}_static_w"),
            "fabric": fabric_watts(self.resources, self.clock_mhz, busy),
            "memory": memory_watts(self.size / seconds, tier),
        }

    def metrics(self, flop: int, watts: Any) -> dict[str, Any]:
        """Return the metrics; `flop` is what the network needs for an image."""
        hertz = self.clock_mhz * 1e6
        latency, interval = (self.msa + self.ffn) / hertz, self.interval / hertz
        return {
            "latency_s": latency,
            "interval_s": interval,
            "throughput_img_per_s": 1 / interval,
            "msa_s": self.msa / hertz,
            "ffn_s": self.ffn / hertz,
            "gflop_per_s": flop / latency / 1e9,
            "paper_gflop_per_s": PAPER_FLOP / latency / 1e9,
            "power_w": watts,
            "energy_j": watts * latency,
            "img_per_j": 1 / (watts * latency),
        }


METRICS = (
    "latency_s",
    "interval_s",
    "throughput_img_per_s",
    "msa_s",
    "ffn_s",
    "gflop_per_s",
    "paper_gflop_per_s",
    "power_w",
    "energy_j",
    "img_per_j",
)
"""Names of the metrics, in the order of `Totals.metrics`."""


def _simulation(
    machine: Machine,
    device: Device,
    phases: Sequence[Phase],
    layers: Layers,
    modules: Mapping[str, Resources],
) -> Simulation:
    point = machine.point
    pairs = [(block_cycles(msa), block_cycles(ffn)) for msa, ffn in layers]
    overlaps = point.text("overlap") == "images"
    totals = Totals(
        clock_mhz=point.integer("clock_mhz"),
        msa=sum(msa for msa, _ in pairs),
        ffn=sum(ffn for _, ffn in pairs),
        interval=sum(max(pair) if overlaps else sum(pair) for pair in pairs),
        memory=sum(phase.memory for phase in phases),
        size=sum(size for phase in phases for size in phase.bytes.values()),
        resources=sum(modules.values(), Resources()),
    )
    power = totals.watts(device.name.partition(":")[0], machine.ports.tier)
    tier = device.tiers[machine.ports.tier]
    assert tier.bandwidth_bytes_per_s is not None
    clock_hz = point.integer("clock_mhz") * 1_000_000
    return Simulation(
        point=point,
        metrics=totals.metrics(2 * sum(phase.macs for phase in phases), sum(power.values())),
        resources=modules,
        phases={"image": phases},
        power={"image": power},
        roof=Roof(
            f"ubimoe on {device.name}",
            2 * _multipliers(machine) * clock_hz,
            tier.bandwidth_bytes_per_s,
        ),
        clock_hz=clock_hz,
    )


def _multipliers(machine: Machine) -> int:
    """Return the multipliers of linears and attention."""
    msa, moe = machine.sizes.msa, machine.sizes.moe
    attention = 2 * msa.attention.lanes * msa.attention.dims
    modules = machine.point.integer("attention_modules")
    return msa.linear.multipliers + moe.linear.multipliers + modules * attention
