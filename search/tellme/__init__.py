"""TeLLMe's face in the search: every figure of many points at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.calibration import constant
from headrace.arch.device import Device
from headrace.arch.tellme import TELLME
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.evaluator import Batch, Budget
from headrace.search.tellme import kernel
from headrace.search.tellme.engine_tables import accumulator_table, array_tables, buffer_table
from headrace.search.tellme.module_tables import Parts
from headrace.search.tellme.problem import BUDGETS, METRICS, RESOURCES, Problem, Tables
from headrace.search.tellme.sizes import COLUMN
from headrace.sim.tellme import lm_head_seconds
from headrace.sim.tellme.formulas import norm_cycles
from headrace.sim.tellme.mapping import Shape, memory_rates, network_shape
from headrace.sim.workload import Workload

__all__ = ["SPACE", "TellmeEvaluator", "TellmeSearch"]

_CLOCK = TELLME.axis("clock_mhz")
_WIDTHS = tuple(TELLME.axis("port_bits").choices)
_BUDGETS = (
    Budget("lut", "LUT", "look-up tables"),
    Budget("ff", "FF", "flip-flops"),
    Budget("dsp", "DSP", "multipliers"),
    Budget("bram36", "blocks", "block RAM"),
    Budget("uram", "blocks", "UltraRAM"),
    Budget("weight_ports", "ports", "memory ports for weights"),
    Budget(
        "weight_words", "words per bank", "weight buffer, for the largest tile that cannot be cut"
    ),
    Budget("max_outputs", "output groups", "accumulator memory"),
    Budget("accumulator_bits", "bits", "accumulator, for the longest sum"),
    Budget("max_context", "tokens", "score FIFO of the decode attention"),
)


class TellmeSearch:
    """The ``search`` face of TeLLMe."""

    def evaluator(self, device: Device, network: Network, workload: Workload) -> "TellmeEvaluator":
        """Bind device, network and workload.

        Raises
        ------
        InputError
            The network has no ternary decoder, the workload is longer than it allows, or the
            device is no FPGA with ports.
        """
        return TellmeEvaluator(device, network, workload)


SPACE = TellmeSearch()


class TellmeEvaluator:
    """Evaluates points of TeLLMe; figures equal those of the ``analytic`` simulation.

    Parameters
    ----------
    device, network, workload : Device, Network, Workload
    """

    metrics = METRICS
    resources = RESOURCES
    budgets = _BUDGETS

    def __init__(self, device: Device, network: Network, workload: Workload):
        self._device = device
        shape = network_shape(network)
        _check(workload, shape)
        self._rates = _Rates(device)
        self._depths = _Depths()
        self._parts = Parts()
        self._problem = _problem(shape, workload, self._rates)
        self._tables = _tables(device, shape, workload, self._rates, self._depths, self._parts)
        self._columns = np.empty(0)
        self._broken = np.empty(0, np.int64)

    def evaluate(self, rows: NDArray[Any], *, only: Sequence[str] | None = None) -> Batch:
        """Return the figures of the points in `rows`, shape (n, axes); see `Batch`.

        With `only` these figures alone, and metrics of feasible points alone (else NaN): that
        saves much of the time.
        """
        n = len(rows)
        figures = self.metrics + self.resources
        names = figures if only is None else tuple(only)
        if n > len(self._broken):
            self._broken = np.empty(n, np.int64)
        if n * len(names) > len(self._columns):
            self._columns = np.empty(n * len(names))
        # Always contiguous: numba compiles once more for arrays that are not.
        columns = self._columns[: n * len(names)].reshape(len(names), n)
        broken = self._broken[:n]
        wanted = np.array([figures.index(name) for name in names], np.int64)
        filled = columns, np.empty((0, BUDGETS)), broken
        if not kernel.evaluate(rows, only is None, wanted, self._problem, *self._tables, *filled):
            self._cover(rows)
            kernel.evaluate(rows, only is None, wanted, self._problem, *self._tables, *filled)
        return Batch(dict(zip(names, columns, strict=True)), broken)

    def _cover(self, rows: NDArray[Any]) -> None:
        """Make sure that the tables hold all clocks and depths of `rows`."""
        self._rates.cover(rows[:, COLUMN["clock_mhz"]])
        self._parts.cover(rows)
        self._tables = self._tables._replace(parts=self._parts.table)
        if self._depths.cover(rows):
            self._tables = self._tables._replace(
                accumulators=np.stack(self._depths.accumulators),
                buffers=np.stack(self._depths.buffers),
            )

    def demands(self, row: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what one point needs of each budget, and what there is."""
        need = np.empty((1, BUDGETS))
        self._cover(row[None])
        filled = np.empty((0, 1)), need, np.empty(1, np.int64)
        none = np.empty(0, np.int64)
        kernel.evaluate(row[None], False, none, self._problem, *self._tables, *filled)
        available = self._tables.available.copy()
        available[6:] = (
            row[COLUMN["weight_words"]] // row[COLUMN["weight_slots"]],
            -(-row[COLUMN["max_outputs"]] // row[COLUMN["copies"]]),
            row[COLUMN["accumulator_bits"]],
            row[COLUMN["max_context"]],
        )
        return need[0], available


class _Depths:
    """Tables of accumulators and weight buffers; a depth is added when it is met."""

    def __init__(self) -> None:
        deepest = max(int(TELLME.axis(name).high or 0) for name in ("max_outputs", "weight_words"))
        self.at = np.full((2, deepest + 1), -1)
        self.accumulators: list[NDArray[np.float64]] = []
        self.buffers: list[NDArray[np.float64]] = []

    def cover(self, rows: NDArray[Any]) -> bool:
        """Add the depths that have no table; return whether there were any."""
        added = False
        for kind, (axis, tables, table) in enumerate(
            (
                ("max_outputs", self.accumulators, accumulator_table),
                ("weight_words", self.buffers, buffer_table),
            )
        ):
            depths = rows[:, COLUMN[axis]]
            for depth in np.unique(depths[self.at[kind, depths] < 0]):
                self.at[kind, depth] = len(tables)
                tables.append(table(int(depth)))
                added = True
        return added


class _Rates:
    """Memory rates of every clock, port count and width, from the simulator's own function.

    They depend on three axes alone, so they are tabulated; a clock is added when it is met.
    """

    def __init__(self, device: Device):
        memory_rates(TELLME.point({"weight_ports": 1}), device)  # refuses what has no ports
        link = next(n for n in device.links.values() if n.width_bits is not None)
        assert _CLOCK.low is not None
        assert _CLOCK.high is not None
        high = TELLME.axis("weight_ports").high
        assert high is not None
        self.device, self.ports, self.first = device, link.count, int(_CLOCK.low)
        clocks = int(_CLOCK.high) - self.first + 1
        self.table = np.full((clocks, min(int(high), link.count), len(_WIDTHS), 2), np.nan)

    def cover(self, clocks: NDArray[Any]) -> None:
        """Add the clocks that are not in the table."""
        met = np.flatnonzero(np.bincount(clocks - self.first, minlength=len(self.table)))
        for at in met[np.isnan(self.table[met, 0, 0, 0])]:
            for ports in range(self.table.shape[1]):
                for i, width in enumerate(_WIDTHS):
                    values = {
                        "clock_mhz": int(at) + self.first,
                        "weight_ports": ports + 1,
                        "port_bits": width,
                        "tables": 4,
                    }
                    rates = memory_rates(TELLME.point(values), self.device)
                    self.table[at, ports, i] = rates.weight_bytes_per_cycle, rates.vector_interval


def _check(workload: Workload, shape: Shape) -> None:
    if workload.batch != 1 or workload.frames != 1:
        raise InputError("tellme runs one request at a time: batch = 1 and frames = 1 needed")
    for name in ("prompt_tokens", "context_tokens"):
        value = getattr(workload, name)
        limit = shape.max_positions - (name == "context_tokens")
        if value > limit:
            raise InputError(f"{name} = {value} is not allowed: 1 to {limit}")


def _problem(shape: Shape, workload: Workload, rates: _Rates) -> Problem:
    longest_sum = 127 * max(linear.inputs for linear in shape.linears)
    return Problem(
        layers=shape.layers,
        heads=shape.heads,
        head_vectors=shape.head_vectors,
        kv_vectors=shape.kv_vectors,
        prompt=workload.prompt_tokens,
        context=workload.context_tokens,
        later=workload.output_tokens - 1,
        head_s=lm_head_seconds(shape),
        head_bytes=float(shape.lm_head_bytes),
        first_clock=rates.first,
        latency=int(constant("fpga.read_latency_cycles")),
        static_w=constant("tellme.static_w"),
        lut_w=constant("fpga.lut_w_per_mhz"),
        dsp_w=constant("fpga.dsp_w_per_mhz"),
        bram36_w=constant("fpga.bram36_w_per_mhz"),
        uram_w=constant("fpga.uram_w_per_mhz"),
        idle_share=constant("fpga.idle_share"),
        memory_j=constant("fpga.ddr_j_per_byte"),
        softmax_cycles=constant("tellme.softmax_cycles"),
        accumulator_bits=longest_sum.bit_length() + 1,
    )


def _tables(
    device: Device, shape: Shape, workload: Workload, rates: _Rates, depths: _Depths, parts: Parts
) -> Tables:
    sizes = [(linear.inputs, linear.outputs) for linear in shape.linears]
    different = list(dict.fromkeys(sizes))
    hidden, inner, none = shape.hidden, shape.intermediate, 0
    widths = (hidden, none, none, hidden, hidden, none, inner, hidden)
    norms = [
        [norm_cycles(tokens, width) if width else 0 for width in widths]
        for tokens in (workload.prompt_tokens, 1)
    ]
    assert device.resources is not None
    available = np.full(BUDGETS, np.nan)
    available[:6] = *device.resources.as_dict().values(), rates.ports
    group_size, tables, copies = (
        int(TELLME.axis(name).high or 0) for name in ("group_size", "tables", "copies")
    )
    return Tables(
        rows=_ceilings([*(k for k, _ in different), hidden], group_size * tables),
        groups=_ceilings([*(n for _, n in different), hidden], copies),
        order=np.array([different.index(size) for size in sizes], np.int64),
        norms=np.array(norms, np.int64),
        rates=rates.table,
        available=available,
        **array_tables()._asdict(),
        accumulators=np.empty((0, 1, 1, 3)),
        buffers=np.empty((0, 2, 2, 5, 1, 2, 4)),
        depth_at=depths.at,
        parts=parts.table,
        part_at=parts.at,
    )


def _ceilings(sizes: list[int], most: int) -> NDArray[np.int64]:
    """Return ceil(size / divisor) for every size and every divisor from 1 to `most`."""
    divisors = np.maximum(np.arange(most + 1), 1)
    return np.stack([-(-size // divisors) for size in sizes])
