"""The outcome of simulating one point on one workload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.sim.budget import Phase

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.models.network import Network
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
    """

    point: Point
    metrics: Mapping[str, float]
    resources: Mapping[str, Resources]
    phases: Mapping[str, Sequence[Phase]]


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
