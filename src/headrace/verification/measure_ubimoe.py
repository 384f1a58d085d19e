"""UbiMoE's ``measure`` face: the rungs of a search above the analytic one.

``cycle`` fires the stream graph of the whole encoder block. ``rtl`` also builds the point's
streaming attention at its full size, compares it with the reference and with its graph, and maps
it. The other modules' cycles and resources are those of ``cycle``.
"""

import time

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.ubimoe.resources import resources
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.measure import Measurement
from headrace.sim.simulation import Simulation
from headrace.sim.ubimoe.machine import simulate
from headrace.sim.workload import Workload

__all__ = ["FIDELITIES", "measure"]

FIDELITIES = ("cycle", "rtl")
_MODULE = "msa_attention"
_COVERS = "a module of the streaming attention; all else as at cycle"


def measure(
    fidelity: str, point: Point, device: Device, network: Network, workload: Workload
) -> Measurement:
    """Measure a point of ``ubimoe``; see `headrace.search.measure.Measure`.

    Parameters
    ----------
    fidelity : {"cycle", "rtl"}
    point, device, network, workload : Point, Device, Network, Workload

    Returns
    -------
    Measurement
        Of ``rtl``, the attention's resources are those of the mapped netlist, once for each of
        its modules, and power and energy follow them. Times are those of ``cycle``: an attention
        that takes other cycles than its graph makes the measurement disagree.

    Raises
    ------
    InputError
        Another fidelity, a point that has no RTL or cannot run this, or a tool that is missing.
    RuntimeError
        A tool fails.
    """
    if fidelity not in FIDELITIES:
        raise InputError(f"fidelity {fidelity!r} is not allowed: one of {', '.join(FIDELITIES)}")
    start = time.perf_counter()
    if fidelity == "cycle":
        simulated = simulate(point, device, network, workload, "cycle")
        return Measurement(figures=_figures(simulated), seconds=time.perf_counter() - start)
    return _rtl(point, device, network, workload)


def _rtl(point: Point, device: Device, network: Network, workload: Workload) -> Measurement:
    """Measure the attention, then simulate the machine with what its netlist takes."""
    simulate(point, device, network, workload, "cycle")  # refuses at once what cannot run
    from headrace.verification.attention import measure_attention  # loads Amaranth

    attention = measure_attention(point)
    start = time.perf_counter()
    modules, count = resources(point), point.integer("attention_modules")
    mapped = sum([attention.mapped] * count, Resources())
    simulated = simulate(point, device, network, workload, "cycle", {**modules, _MODULE: mapped})
    model = Resources(**{n: c / count for n, c in modules[_MODULE].as_dict().items()})
    return Measurement(
        figures=_figures(simulated),
        agrees=attention.agrees,
        detail=attention.detail("attention", _COVERS, model),
        artefacts=attention.artefacts,
        seconds=attention.seconds + time.perf_counter() - start,
        cached=attention.cached,
    )


def _figures(simulated: Simulation) -> dict[str, float]:
    """Return metrics and resources under the names of the search."""
    total = sum(simulated.resources.values(), Resources())
    return {**simulated.metrics, **total.as_dict()}
