"""TeLLMe's ``measure`` face: the rungs of a search above the analytic one.

``cycle`` fires the timed stream graphs of the whole machine. ``rtl`` also builds the point's
ternary matmul engine at its full size, compares it with the reference and with its graph, and maps
it. The other modules have no RTL here, so theirs are the cycles and resources of ``cycle``.
"""

import time

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.tellme.engine import engine_sizes
from headrace.arch.tellme.resources import resources
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.measure import Measurement
from headrace.sim.simulation import Simulation
from headrace.sim.tellme import simulate
from headrace.sim.workload import Workload

__all__ = ["FIDELITIES", "measure"]

FIDELITIES = ("cycle", "rtl")
_ENGINE, _WEIGHT_BUFFER = "ternary_matmul", "weight_buffer"
_COVERS = "ternary matmul engine with its weight buffer; all else as at cycle"


def measure(
    fidelity: str, point: Point, device: Device, network: Network, workload: Workload
) -> Measurement:
    """Measure a point of ``tellme``; see `headrace.search.measure.Measure`.

    Parameters
    ----------
    fidelity : {"cycle", "rtl"}
    point, device, network, workload : Point, Device, Network, Workload

    Returns
    -------
    Measurement
        Of ``rtl``, the engine's resources are those of the mapped netlist, and power and energy
        follow them. Times are those of ``cycle``: an engine that takes other cycles than its
        graph makes the measurement disagree.

    Raises
    ------
    InputError
        Another fidelity, a point that cannot run this, or a tool that is missing.
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
    """Measure the engine, then simulate the machine with the engine's mapped resources."""
    from headrace.verification.engine import measure_engine  # loads Amaranth

    engine = measure_engine(engine_sizes(point))
    start = time.perf_counter()
    model = resources(point)
    modules = {**model, _ENGINE: engine.mapped, _WEIGHT_BUFFER: Resources()}
    simulated = simulate(point, device, network, workload, "cycle", modules)
    return Measurement(
        figures=_figures(simulated),
        agrees=engine.agrees,
        detail=engine.detail("engine", _COVERS, model[_ENGINE] + model[_WEIGHT_BUFFER]),
        artefacts=engine.artefacts,
        seconds=engine.seconds + time.perf_counter() - start,
        cached=engine.cached,
    )


def _figures(simulated: Simulation) -> dict[str, float]:
    """Return metrics and resources under the names of the search."""
    total = sum(simulated.resources.values(), Resources())
    return {**simulated.metrics, **total.as_dict()}
