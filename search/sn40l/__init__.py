"""SN40L's face in the search: every figure of many points.

The figures are the simulator's own. What is slow, cutting passes into kernels and placing them,
depends on a socket's units and on fusion alone; it is done once for each combination of those.
Clock and launches then scale its times, and the cache of experts runs on top; where no copy
is early, once for all times.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil, gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.sn40l import SN40L
from headrace.arch.sn40l.axes import AXES
from headrace.arch.sn40l.chip import ChipSizes
from headrace.models.experts import CompositionOfExperts
from headrace.models.network import Network
from headrace.search.evaluator import Batch, Budget
from headrace.search.space import Space
from headrace.sim.sn40l.buffers import SectionBuffers
from headrace.sim.sn40l.composition import (
    POLICIES,
    TRACE_REQUESTS,
    Host,
    composition_metrics,
    node_host,
)
from headrace.sim.sn40l.generation import TILE_ROWS, PassTime, pass_time
from headrace.sim.sn40l.machine import METRICS, hbm_bytes, request_metrics
from headrace.sim.sn40l.node import Node, chip_of, node_of
from headrace.sim.sn40l.workload import Pass, Segment, segments_of
from headrace.sim.workload import Workload

__all__ = ["SPACE", "Sn40lEvaluator", "Sn40lSearch"]

_NAMES = [axis.name for axis in AXES]


def _columns(*names: str) -> list[int]:
    return [_NAMES.index(name) for name in names]


_NEEDS = _columns("sockets", "pmus", "macs", "pmu_kib", "experts")
_BUFFERS = _columns("sockets", "pmu_kib")
_KERNELS = _columns("sockets", "pcus", "pmus", "macs", "pmu_kib", "fusion")
_TIMES = [*_KERNELS, *_columns("clock_mhz", "launch", "looping")]
_CACHE = _columns("sockets", "experts", "expert_cache")
_ALONE = ("prefill", "decode")
_STAGES = 6
_GIB = 1 << 30
_MOST_UNITS = 1 << 16
_BUDGETS = (
    Budget("hbm", "GiB", "HBM, for weights and KV cache (router and an expert, if several)"),
    Budget("ddr", "experts", "DDR, for all experts"),
    Budget("sockets", "sockets", "sockets that share heads, KV heads and FFN evenly"),
    Budget("pmus", "units", "memory units, for the buffers of a single task"),
    Budget("macs", "multipliers", f"multipliers beyond a multiple of the {_STAGES} stages"),
    Budget("answer", "tokens", "tokens that an expert answers, one without a KV cache"),
)


class _Times(NamedTuple):
    """What is known of a pass: seconds, launches, operations per byte over HBM."""

    seconds: float
    launches: int
    intensity: float


class Sn40lSearch:
    """The ``search`` face of the SN40L."""

    def evaluator(self, device: Device, network: Network, workload: Workload) -> "Sn40lEvaluator":
        """Bind device, network and workload.

        Raises
        ------
        InputError
            The device is no SN40L, or an operator of the network has no task on it.
        """
        return Sn40lEvaluator(device, network, workload)


SPACE = Sn40lSearch()


class Sn40lEvaluator:
    """Evaluates points of the SN40L; figures equal those of the ``analytic`` simulation.

    Parameters
    ----------
    device, network, workload : Device, Network, Workload
    """

    metrics = METRICS
    resources: tuple[str, ...] = ()
    budgets = _BUDGETS

    def __init__(self, device: Device, network: Network, workload: Workload):
        self._device, self._network, self._workload = device, network, workload
        self._space = Space(SN40L)
        self._weights = network.weight_bytes()
        self._hbm_bytes = hbm_bytes(network, workload)
        self._needed: dict[bytes, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self._units: dict[tuple[bool, bytes], int] = {}
        self._kernels: dict[tuple[str, bytes], _Compiled] = {}
        self._times: dict[tuple[str, bytes], _Times] = {}
        self._missed: dict[bytes, float] = {}
        node_of(SN40L.point(), device)  # refuses other devices
        segments_of(self._works(1)["prefill"])  # refuses other networks

    def evaluate(self, rows: NDArray[Any], *, only: Sequence[str] | None = None) -> Batch:
        """Return the figures of the points in `rows`, shape (n, axes); see `Batch`."""
        names = METRICS if only is None else tuple(only)
        composed = any(name.startswith("coe_") for name in names)
        figures = np.full((len(names), len(rows)), np.nan)
        broken = np.zeros(len(rows), np.int64)
        for number, row in enumerate(rows):
            needs, available = self.demands(row)
            broken[number] = (needs > available) @ (1 << np.arange(len(_BUDGETS)))
            if names and not broken[number]:
                found = self._figures(row, composed)
                figures[:, number] = [found.get(name, np.nan) for name in names]
        return Batch(dict(zip(names, figures, strict=True)), broken)

    def demands(self, row: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what one point needs of each budget, and what there is."""
        key = row[_NEEDS].tobytes()
        if key not in self._needed:
            needs, limits = zip(*self._demands(self._space.decode(row), row), strict=True)
            self._needed[key] = np.array(needs, float), np.array(limits, float)
        return self._needed[key]

    def _demands(self, point: Point, row: NDArray[Any]) -> list[tuple[float, float]]:
        """Return need and limit of every budget."""
        macs, sockets = point.integer("macs"), point.integer("sockets")
        experts, output = point.integer("experts"), self._workload.output_tokens
        whole = SN40L.point({**point, "macs": macs // _STAGES * _STAGES or _STAGES})
        node = node_of(whole, self._device)
        hbm = self._hbm_bytes
        if experts > 1:
            hbm = max(hbm, 2 * self._weights + self._answered_kv_bytes())
        parts = _most_parts(self._network, sockets)
        cached = experts == 1 or self._network.kv_bytes_per_token
        answer = (output, output if cached else 1)
        runs = sockets == parts and answer[0] == answer[1]
        return [
            (hbm / _GIB, node.hbm_bytes / _GIB),
            (experts if experts > 1 else 0, node.ddr_bytes // self._weights),
            (sockets, parts),
            (self._least_pmus(row, experts > 1, whole) if runs else 1, point.integer("pmus")),
            (macs % _STAGES, 0),
            answer,
        ]

    def _answered_kv_bytes(self) -> int:
        load = self._workload
        tokens = load.prompt_tokens + load.output_tokens
        return load.batch * tokens * self._network.kv_bytes_per_token

    def _least_pmus(self, row: NDArray[Any], composed: bool, point: Point) -> int:
        """Return the memory units that every task alone fits into."""
        key = composed, row[_BUFFERS].tobytes()
        if key not in self._units:
            works = self._works(point.integer("sockets"), composed)
            segments = dict.fromkeys(s for work in works.values() for s in segments_of(work))
            self._units[key] = _least_pmus(segments, chip_of(point))
        return self._units[key]

    def _works(self, sockets: int, composed: bool = False) -> dict[str, Pass]:
        """Return the passes of a point; those of router and experts if there are several."""
        load, net = self._workload, self._network

        def work(tokens: int, batch: int, context: int = 0) -> Pass:
            return Pass(
                network=net, tokens=tokens, context=context, batch=batch, tensor_parallel=sockets
            )

        works = {"prefill": work(load.prompt_tokens, load.batch)}
        if net.kv_bytes_per_token:
            works["decode"] = work(1, load.batch, load.context_tokens)
        if composed:
            works["expert"] = work(load.prompt_tokens, 1)
            if load.output_tokens > 1:
                middle = load.prompt_tokens + load.output_tokens // 2
                works["router step"] = work(1, load.batch, middle)
                works["expert step"] = work(1, 1, middle)
        return works

    def _figures(self, row: NDArray[Any], composed: bool) -> dict[str, float]:
        """Return the metrics of a point that can run, those of its experts if `composed`."""
        point, load = self._space.decode(row), self._workload
        node = node_of(point, self._device)
        stages = ("prefill", "decode") if self._network.kv_bytes_per_token else ("prefill",)
        times = {stage: self._time(stage, row, node) for stage in stages}
        found = request_metrics(node, times, load, self._hbm_bytes / node.hbm_bytes)
        if composed and point["experts"] != 1:
            found |= self._composition(point, row, node)
        return found

    def _composition(self, point: Point, row: NDArray[Any], node: Node) -> dict[str, float]:
        """Return the metrics of the composition of experts."""
        load, steps = self._workload, self._workload.output_tokens - 1
        router, run = self._time("prefill", row, node), self._time("expert", row, node)
        router_s, run_s = router.seconds, run.seconds
        if steps:
            router_s += steps * self._time("router step", row, node).seconds
            run_s += steps * self._time("expert step", row, node).seconds
        experts = CompositionOfExperts(
            expert=self._network, router=self._network, experts=point.integer("experts")
        )
        host = node_host(
            node, experts, router_s=router_s, run_s=run_s, kv_bytes=self._answered_kv_bytes()
        )
        policy, key = point.text("expert_cache"), row[_CACHE].tobytes()
        overlapped = point.text("copies") == "overlapped"
        is_early = overlapped and POLICIES[policy].lookahead is not None
        if not is_early and key in self._missed:
            return _exposed(host, self._missed[key], load.batch)
        found = composition_metrics(
            host,
            experts,
            policy=policy,
            overlapped=overlapped,
            batch=load.batch,
            skew=load.expert_skew,
        )
        if not is_early:
            self._missed[key] = found["coe_miss_share"]
        return found

    def _time(self, name: str, row: NDArray[Any], node: Node) -> "_Times":
        """Return the times of a pass that `_works` names."""
        key = name, row[_TIMES].tobytes()
        if key not in self._times:
            self._times[key] = self._compiled(name, row, node).times(node)
        return self._times[key]

    def _compiled(self, name: str, row: NDArray[Any], node: Node) -> "_Compiled":
        key = name, row[_KERNELS].tobytes()
        if key not in self._kernels:
            work = self._works(node.sockets, composed=name not in _ALONE)[name]
            level = self._space.decode(row).text("fusion")
            self._kernels[key] = _Compiled(pass_time(work, node, level), node.chip.clock_hz)
        return self._kernels[key]


class _Compiled:
    """A pass compiled and placed, with its times at one clock."""

    def __init__(self, found: PassTime, clock_hz: int):
        self._kernels = [(calls, times) for _, times, calls in found.kernels]
        self._clock_hz = clock_hz
        self._intensity = found.program.intensity
        self._launches = {each: found.program.launches(looping=each) for each in (False, True)}

    def times(self, node: Node) -> _Times:
        """Return the times on a node of the same units, whose clock sets only what they do."""
        ratio = self._clock_hz / node.chip.clock_hz
        launches = self._launches[node.looping]
        busy = sum(
            calls * replace(t, compute_s=ratio * t.compute_s, fill_s=ratio * t.fill_s).seconds
            for calls, t in self._kernels
        )
        return _Times(busy + launches * node.launch_s, launches, self._intensity)


def _exposed(host: Host, miss_share: float, batch: int) -> dict[str, float]:
    """Return a composition's metrics where no copy is early: misses do not depend on times."""
    times, batches = host.times, ceil(TRACE_REQUESTS / batch)
    switching = miss_share * TRACE_REQUESTS * times.copy_s
    seconds = batches * times.router_s + TRACE_REQUESTS * times.run_s + switching
    return {
        "coe_batch_s": seconds / batches,
        "coe_all_miss_s": host.all_miss_s(batch),
        "coe_miss_share": miss_share,
        "coe_switching_share": switching / seconds,
    }


def _most_parts(network: Network, sockets: int) -> int:
    """Return the most sockets, up to `sockets`, that share heads and FFN evenly."""
    widths = (network.heads, network.kv_heads, network.intermediate_size, network.expert_size)
    common = gcd(*widths)
    return next(count for count in range(sockets, 0, -1) if common % count == 0)


def _least_pmus(segments: Iterable[Segment], chip: ChipSizes) -> int:
    """Return the memory units that the largest task needs; more than any chip has if none do."""
    least = 1
    for segment in segments:
        for start in range(len(segment.tasks)):
            buffers = SectionBuffers(segment, start, start + 1, TILE_ROWS)

            def fits(units: int, buffers: SectionBuffers = buffers) -> bool:
                return buffers.fit(replace(chip, pmus=units)) is not None

            if least <= _MOST_UNITS and not fits(least):
                least = 1 + bisect_left(range(1, _MOST_UNITS + 1), True, lo=least, key=fits)
    return least
