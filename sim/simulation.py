"""The outcome of simulating one point on one workload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.models.network import Network
from headrace.sim.budget import Phase, group, total
from headrace.sim.roofline import Roof, RooflinePoint, place
from headrace.sim.workload import Workload

__all__ = ["FIDELITIES", "Simulate", "Simulation"]

FIDELITIES = ("analytic", "cycle")


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Figures of one point.

    Parameters
    ----------
    metrics : mapping of str to float
        SI units, the unit as a suffix of the key (``ttft_s``, ``decode_tok_per_s``, ``power_w``).
    resources : mapping of str to Resources
        By module; they add up to the machine.
    phases : mapping of str to sequence of Phase
        Phases in order, by stage (``prefill``, ``decode``); the cycles of a stage add up to its
        latency.
    power : mapping of str to mapping of str to float
        Average watts in each stage, by consumer (``static``, ``fabric``, ``memory``).
    roof : Roof
        Peak of the arithmetic and of the main memory.
    clock_hz : int
        Clock of the cycles in `phases`.
    """

    point: Point
    metrics: Mapping[str, float]
    resources: Mapping[str, Resources]
    phases: Mapping[str, Sequence[Phase]]
    power: Mapping[str, Mapping[str, float]]
    roof: Roof
    clock_hz: int

    def roofline_points(self) -> list[RooflinePoint]:
        """Place every kernel of every stage that moves data and computes, and every stage."""
        points = []
        for stage, phases in self.phases.items():
            parts = {**group(phases, "kernel"), "all": total(phases)}
            for name, part in parts.items():
                size = sum(part.bytes.values())
                if part.macs and size:
                    points.append(
                        place(
                            self.roof,
                            f"{stage} {name}",
                            flop=2 * part.macs,
                            size=size,
                            seconds=part.cycles / self.clock_hz,
                        )
                    )
        return points


class Simulate(Protocol):
    """The ``sim`` face of a design."""

    def __call__(
        self,
        point: Point,
        device: Device,
        network: Network,
        workload: Workload,
        fidelity: str = "analytic",
    ) -> Simulation:
        """Simulate `point` running `network` on `device`.

        Raises
        ------
        InputError
            The network does not map to the design, or the point not to the device.
        """
        ...
