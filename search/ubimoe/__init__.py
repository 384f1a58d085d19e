"""UbiMoE's face in the search: every figure of many points at once.

The figures are the simulator's own. Each part of a point, a block's time or a module's resources,
depends on few axes; it is computed once for each combination of those that occurs among the rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.ubimoe import UBIMOE
from headrace.arch.ubimoe.axes import AXES
from headrace.arch.ubimoe.resources import PARTS
from headrace.models.network import Network
from headrace.search.evaluator import Batch, Budget
from headrace.sim.ubimoe.ffn import ffn_steps
from headrace.sim.ubimoe.machine import METRICS, Totals, block_cycles, rows_of_experts
from headrace.sim.ubimoe.mapping import Machine, machine_of, network_shape, ports_of, ports_used
from headrace.sim.ubimoe.msa import msa_steps
from headrace.sim.ubimoe.steps import Step
from headrace.sim.workload import Workload

__all__ = ["SPACE", "UbimoeEvaluator", "UbimoeSearch"]

_COLUMN = {axis.name: number for number, axis in enumerate(AXES)}
_RESOURCES = tuple(Resources().as_dict())
_CAPACITIES = ("max_tokens", "heads", "head_dim", "hidden", "expert_hidden", "experts", "top_k")
_PORTS = ("clock_mhz", "keys", "weight_ports", "msa_weight_ports", "key_ports", "port_bits")
_SHARED = (*_PORTS, *_CAPACITIES, "numerics", "attention_dims", "tile_in", "tile_out", "linear")
_MSA = (
    *_SHARED,
    "attention_modules",
    "attention_lanes",
    "exp_units",
    "attention",
    "softmax",
    "msa_linear_lanes",
)
_FFN = (*_SHARED, "linear_lanes", "gelu", "expert_order", "weight_slots")
_BUDGETS = (
    Budget("lut", "LUT", "look-up tables"),
    Budget("ff", "FF", "flip-flops"),
    Budget("dsp", "DSP", "multipliers"),
    Budget("bram36", "blocks", "block RAM"),
    Budget("uram", "blocks", "UltraRAM"),
    Budget("ports", "ports", "memory ports for weights, keys and values, and features"),
    Budget("tokens", "tokens", "memories, for the network's tokens"),
    Budget("network", "sizes", "heads, head_dim, hidden and experts, which the network has"),
)


class UbimoeSearch:
    """The ``search`` face of UbiMoE."""

    def evaluator(self, device: Device, network: Network, workload: Workload) -> "UbimoeEvaluator":
        """Bind device, network and workload.

        Raises
        ------
        InputError
            The network is no vision transformer, or the device no FPGA with known ports.
        """
        return UbimoeEvaluator(device, network, workload)


SPACE = UbimoeSearch()


class UbimoeEvaluator:
    """Evaluates points of UbiMoE; figures equal those of the ``analytic`` simulation.

    Parameters
    ----------
    device, network, workload : Device, Network, Workload
    """

    metrics = METRICS
    resources = _RESOURCES
    budgets = _BUDGETS

    def __init__(self, device: Device, network: Network, workload: Workload):
        self._device, self._network = device, network
        self._shape = network_shape(network)
        ports_of(UBIMOE.point(), device)  # refuses what has no ports
        self._rows = rows_of_experts(self._shape, workload)
        self._memo: dict[tuple[str, bytes], NDArray[np.float64]] = {}
        layers = self._shape.by_experts
        width = self._shape.width
        tokens = self._shape.tokens
        attended = len(layers) * (4 * tokens * width * width + 2 * tokens * tokens * width)
        dense = 2 * tokens * width * self._shape.hidden
        routed = tokens * self._shape.top_k * 2 * width * self._shape.expert_hidden
        gated = tokens * width * self._shape.experts
        self._flop = 2 * (attended + sum(routed + gated if e else dense for e in layers))

    def evaluate(self, rows: NDArray[Any], *, only: Sequence[str] | None = None) -> Batch:
        """Return the figures of the points in `rows`, shape (n, axes); see `Batch`."""
        points = _Points(rows, self._memo)
        counts = np.zeros((len(rows), len(_RESOURCES)))
        for group, (axes, build) in enumerate(PARTS):
            counts += points.table(f"resources {group}", axes, lambda p, f=build: _counts(f(p)))
        used = dict(zip(_RESOURCES, counts.T, strict=True))
        needs, available = self._needs(points, counts)
        broken = np.zeros(len(rows), np.int64)
        for bit in range(len(_BUDGETS)):
            broken |= (needs[:, bit] > available[:, bit]).astype(np.int64) << bit
        runs = np.flatnonzero(broken >> len(_RESOURCES) == 0)
        columns = {name: np.full(len(rows), np.nan) for name in METRICS}
        if len(runs):
            for name, values in self._metrics(rows[runs], counts[runs]).items():
                columns[name][runs] = values
        return Batch(columns | used, broken)

    def demands(self, row: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what one point needs of each budget, and what there is."""
        points = _Points(row[None], self._memo)
        counts = sum(_counts(build(points.point(0))) for _, build in PARTS)
        needs, available = self._needs(points, np.atleast_2d(counts))
        return needs[0], available[0]

    def _needs(
        self, points: "_Points", counts: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return needs and limits, shape (n, budgets)."""
        shape, device = self._shape, self._device
        assert device.resources is not None
        link = next(n for n in device.links.values() if n.width_bits is not None)
        ports = points.table("ports", _PORTS, lambda p: np.array([ports_used(p)], float))
        differ = np.zeros(len(counts))
        for name in ("heads", "head_dim", "hidden", "expert_hidden", "experts", "top_k"):
            value = getattr(shape, name)
            if value:
                differ += points.column(name) != value
        tokens = np.full(len(counts), float(shape.tokens))
        short = tokens < points.column("attention_lanes")
        needs = np.column_stack([counts, ports, tokens, differ + short])
        limits = [*device.resources.as_dict().values(), link.count]
        available = np.column_stack(
            [
                np.tile(np.array(limits, float), (len(counts), 1)),
                points.column("max_tokens"),
                np.zeros(len(counts)),
            ]
        )
        return needs, available

    def _metrics(
        self, rows: NDArray[Any], counts: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        points = _Points(rows, self._memo)
        layers = len(self._rows)
        msa = points.table("msa", _MSA, lambda p: _sums(msa_steps(self._machine(p))))
        on_chip = points.column("keys") == AXES[_COLUMN["keys"]].choices.index("chip")
        ffn = points.table("ffn", _FFN, self._ffn, np.where(on_chip, msa[:, 0], 0))
        cycles = ffn[:, :layers]
        overlap = points.column("overlap") == AXES[_COLUMN["overlap"]].choices.index("images")
        pairs = np.where(overlap[:, None], np.maximum(cycles, msa[:, :1]), cycles + msa[:, :1])
        totals = Totals(
            clock_mhz=points.column("clock_mhz"),
            msa=layers * msa[:, 0],
            ffn=cycles.sum(axis=1),
            interval=pairs.sum(axis=1),
            memory=layers * msa[:, 1] + ffn[:, layers],
            size=layers * msa[:, 2] + ffn[:, layers + 1],
            resources=Resources(**dict(zip(_RESOURCES, counts.T, strict=True))),
        )
        tier = ports_of(UBIMOE.point(), self._device).tier
        watts = totals.watts(self._device.name.partition(":")[0], tier)
        return totals.metrics(self._flop, sum(watts.values()))

    def _machine(self, point: Point) -> Machine:
        return machine_of(point, self._device, self._network)

    def _ffn(self, point: Point, head_start: float) -> NDArray[np.float64]:
        """Return the cycles of every layer's FFN, then their memory cycles and bytes."""
        machine = self._machine(point)
        memo = {
            key: _sums(ffn_steps(machine, key, int(head_start)))
            for key in {None if r is None else tuple(r) for r in self._rows}
        }
        found = np.array([memo[None if r is None else tuple(r)] for r in self._rows])
        return np.array([*found[:, 0], found[:, 1].sum(), found[:, 2].sum()])


class _Points:
    """Rows of codes, and tables of functions of some of their axes."""

    def __init__(self, rows: NDArray[Any], memo: dict[tuple[str, bytes], NDArray[np.float64]]):
        self._rows, self._memo = rows, memo

    def column(self, axis: str) -> NDArray[Any]:
        """Return the codes of an axis."""
        return self._rows[:, _COLUMN[axis]].astype(np.float64)

    def point(self, number: int) -> Point:
        """Return one of the points."""
        values = {
            axis.name: axis.choices[int(v)] if type(axis.default) is str else type(axis.default)(v)
            for axis, v in zip(AXES, self._rows[number].tolist(), strict=True)
        }
        return UBIMOE.point(values)

    def table(
        self,
        name: str,
        axes: Sequence[str],
        function: Callable[..., NDArray[np.float64]],
        *more: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return `function` of every point, shape (n, values).

        Parameters
        ----------
        name : str
            Under which results are remembered.
        axes : sequence of str
            All that the function depends on, besides `more`.
        function : callable
            Takes a point and a number of each of `more`.
        """
        keys = self._rows[:, [_COLUMN[axis] for axis in axes]]
        keys = np.column_stack([keys, *more]).astype(np.int64)
        unique, first, back = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        found = []
        for key, number in zip(unique, first.tolist(), strict=True):
            at = name, key.tobytes()
            if at not in self._memo:
                extra = [column[number] for column in more]
                self._memo[at] = function(self.point(number), *extra)
            found.append(self._memo[at])
        return np.asarray(np.stack(found)[back.ravel()])


def _counts(modules: Mapping[str, Resources]) -> NDArray[np.float64]:
    total = sum(modules.values(), Resources())
    return np.array(list(total.as_dict().values()))


def _sums(steps: Sequence[Step]) -> NDArray[np.float64]:
    """Return cycles, memory cycles and bytes of a block."""
    memory, size = sum(s.memory for s in steps), sum(s.bytes for s in steps)
    return np.array([block_cycles(steps), memory, size], np.float64)
