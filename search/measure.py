"""What a rung above the first says of one point."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.models.network import Network
from headrace.sim.workload import Workload

__all__ = ["Measure", "Measurement"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Figures of one point at one fidelity.

    Parameters
    ----------
    figures : mapping of str to float
        Metrics and resources under the names of the analytic fidelity.
    agrees : bool
        Whether all witnesses of this rung agree: equal bits, equal cycles. Always true for
        rungs that simulate only.
    detail : mapping of str to float or str
        What was compared, for people: cycles predicted and measured, versions of tools.
    artefacts : mapping of str to str
        SHA-256 of what was made on the way (Verilog, netlist counts), by name.
    seconds : float
        Time the work took when it was done; a result from the cache keeps it.
    cached : bool
        Whether the result comes from the cache.
    """

    figures: Mapping[str, float]
    agrees: bool = True
    detail: Mapping[str, float | str] = field(default_factory=dict)
    artefacts: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cached: bool = False


class Measure(Protocol):
    """The ``measure`` face of a design."""

    def __call__(
        self, fidelity: str, point: Point, device: Device, network: Network, workload: Workload
    ) -> Measurement:
        """Measure `point` at ``cycle`` or ``rtl``.

        Raises
        ------
        InputError
            A tool is missing, or the design has no such fidelity.
        """
        ...
