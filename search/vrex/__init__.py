"""V-Rex's face in the search: every figure of many points.

The figures are the simulator's own. Points that share a trace follow each other, so that what is
slow, the policy's choices on the dialogue, is computed once for all that have them in common.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.vrex import VREX
from headrace.models.kernels.retrieval import MAX_TOKENS
from headrace.models.network import Network
from headrace.models.streaming import VideoDialogue
from headrace.search.evaluator import Batch, Budget
from headrace.search.space import Space
from headrace.sim.vrex.capacity import device_memory
from headrace.sim.vrex.machine import METRICS, analytic_metrics, dialogue_of
from headrace.sim.vrex.platform import memory_tier
from headrace.sim.vrex.traces import TRACE_AXES, counted_tokens
from headrace.sim.workload import Workload

__all__ = ["SPACE", "VrexEvaluator", "VrexSearch"]

_NAMES = [axis.name for axis in VREX.axes]
_ORDER = [
    *(_NAMES.index(name) for name in TRACE_AXES),
    *(number for number, name in enumerate(_NAMES) if name not in TRACE_AXES),
]
_KEPT = [
    _NAMES.index(name) for name in ("policy", "frame_tokens", "resident_tokens", "cache_tokens")
]
_BUDGETS = (
    Budget("device_memory", "bytes", "device memory, for weights and the tokens that stay"),
    Budget("stream_tokens", "tokens", "counts of 16 bits, for the tokens of a stream"),
)


class VrexSearch:
    """The ``search`` face of V-Rex."""

    def evaluator(self, device: Device, network: Network, workload: Workload) -> "VrexEvaluator":
        """Bind device, network and workload.

        Raises
        ------
        InputError
            The network keeps no keys and values, or the device is none that V-Rex or its
            baselines are.
        """
        return VrexEvaluator(device, network, workload)


SPACE = VrexSearch()


class VrexEvaluator:
    """Evaluates points of V-Rex; figures equal those of the ``analytic`` simulation.

    Parameters
    ----------
    device, network, workload : Device, Network, Workload
    """

    metrics = METRICS
    resources: tuple[str, ...] = ()
    budgets = _BUDGETS

    def __init__(self, device: Device, network: Network, workload: Workload):
        self._device, self._space = device, Space(VREX)
        self._dialogue = dialogue_of(VREX.point(), network, workload)
        self._known: dict[bytes, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        memory_tier(device)  # refuses what is no platform

    def evaluate(self, rows: NDArray[Any], *, only: Sequence[str] | None = None) -> Batch:
        """Return the figures of the points in `rows`, shape (n, axes); see `Batch`."""
        wanted = only is None or bool(only)
        figures = np.full((len(METRICS), len(rows)), np.nan)
        broken = np.zeros(len(rows), np.int64)
        for number in np.lexsort(rows[:, _ORDER[::-1]].T).tolist():
            needs, available = self.demands(rows[number])
            broken[number] = (needs > available) @ (1 << np.arange(len(_BUDGETS)))
            if wanted and not broken[number]:
                point = self._space.decode(rows[number])
                found = analytic_metrics(point, self._device, self._dialogue_of(point))
                figures[:, number] = [found[name] for name in METRICS]
        return Batch(dict(zip(METRICS, figures, strict=True)), broken)

    def demands(self, row: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what one point needs of each budget, and what there is."""
        key = row[_KEPT].tobytes()
        if key not in self._known:
            point = self._space.decode(row)
            dialogue = self._dialogue_of(point)
            memory, capacity = device_memory(point, self._device, dialogue)
            tokens = counted_tokens(point, dialogue)
            self._known[key] = (
                np.array([memory, tokens], float),
                np.array([capacity, MAX_TOKENS], float),
            )
        return self._known[key]

    def _dialogue_of(self, point: Point) -> VideoDialogue:
        return replace(self._dialogue, frame_tokens=point.integer("frame_tokens"))
