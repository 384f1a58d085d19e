"""V-Rex's ``measure`` face: the rung of a search above the analytic one."""

import time

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.measure import Measurement
from headrace.sim.vrex.machine import simulate
from headrace.sim.workload import Workload

__all__ = ["measure"]


def measure(
    fidelity: str, point: Point, device: Device, network: Network, workload: Workload
) -> Measurement:
    """Run every pass of a point's dialogue on its own trace; see `headrace.search.measure.Measure`.

    Parameters
    ----------
    fidelity : str
        ``cycle``; the units' RTL is held against their closed forms by `headrace verify`.
    point, device, network, workload : Point, Device, Network, Workload

    Returns
    -------
    Measurement

    Raises
    ------
    InputError
        Another fidelity, or what the simulation refuses.
    """
    if fidelity != "cycle":
        raise InputError(f"fidelity {fidelity!r} is not allowed: vrex has analytic and cycle")
    start = time.perf_counter()
    found = simulate(point, device, network, workload, "cycle")
    return Measurement(figures=found.metrics, seconds=time.perf_counter() - start)
