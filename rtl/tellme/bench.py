"""Run the engine in Amaranth's simulator, cycle by cycle."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tellme.engine import EngineSizes
from headrace.arch.tellme.job import EngineJob, check_job
from headrace.errors import InputError
from headrace.rtl.tellme.engine import TernaryMatmul

__all__ = ["EngineRun", "activation_transfers", "simulate_engine"]


@dataclass(frozen=True)
class EngineRun:
    """What the engine did.

    Attributes
    ----------
    results : int64 array, shape (results, Q)
    cycles : int
        From the first accepted command to the last result, both included.
    """

    results: NDArray[np.int64]
    cycles: int


def activation_transfers(inputs: NDArray[Any], sizes: EngineSizes) -> NDArray[np.int8]:
    """Cut padded rows of activations into transfers.

    Parameters
    ----------
    inputs : int array, shape (tokens, rows x G x T)
    sizes : EngineSizes

    Returns
    -------
    int8 array, shape (tokens x rows x read_cycles, activation_lanes)
        Spare lanes of a row block's last transfer are 0.
    """
    blocks = np.asarray(inputs, np.int8).reshape(-1, sizes.block_inputs)
    padded = np.zeros((len(blocks), sizes.read_cycles * sizes.activation_lanes), np.int8)
    padded[:, : sizes.block_inputs] = blocks
    return padded.reshape(-1, sizes.activation_lanes)


def simulate_engine(
    sizes: EngineSizes,
    job: EngineJob,
    beats: NDArray[np.uint8],
    activations: NDArray[np.int8],
    limit_cycles: int = 1_000_000,
) -> EngineRun:
    """Run a job in Amaranth's simulator.

    Parameters
    ----------
    sizes : EngineSizes
    job : EngineJob
    beats : uint8 array, shape (beats, beat_bits / 8)
        Weight images of all loads, one after the other (`pack_weights`).
    activations : int8 array, shape (transfers, activation_lanes)
        See `activation_transfers`.
    limit_cycles : int
        Give up after so many cycles.

    Returns
    -------
    EngineRun

    Raises
    ------
    InputError
        The engine cannot do the job, or is not done within the limit.
    """
    from amaranth.sim import Simulator  # imported here: slow, and only simulation needs it

    check_job(job, sizes)
    engine = TernaryMatmul(sizes)
    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    results: list[list[int]] = []
    times: list[int] = []
    sources = _sources(engine, job, beats, activations)
    result_arrivals = _arrivals(job.result_arrivals, job.results)

    async def bench(context: Any) -> None:
        port = engine.results
        sampled = [signal for source in sources for signal in source.handshake]
        for cycle in range(limit_cycles):
            for source in sources:
                source.offer(context, cycle)
            context.set(port.ready, int(result_arrivals[len(results)] <= cycle))
            _, _, *levels, valid, ready, payload = await context.tick().sample(
                *sampled, port.valid, port.ready, port.payload
            )
            for source, sent in zip(sources, _pairs(levels), strict=True):
                source.advance(sent)
            if levels[0] and levels[1] and not times:
                times.append(cycle)
            if valid and ready:
                results.append(list(payload))
            if len(results) == job.results:
                times.append(cycle)
                return

    simulator.add_testbench(bench)
    simulator.run()
    if len(results) < job.results:
        raise InputError(
            f"engine job: {len(results)} of {job.results} results after {limit_cycles} cycles"
        )
    return EngineRun(np.array(results, np.int64), times[1] - times[0] + 1)


class _Source:
    """Offers the items of a stream, each from its arrival on."""

    def __init__(self, stream: Any, items: Sequence[Any], arrivals: NDArray[np.int64]) -> None:
        self.stream = stream
        self.items = items
        self.arrivals = arrivals
        self.sent = 0
        self.offered = -1
        self.handshake = (stream.valid, stream.ready)

    def offer(self, context: Any, cycle: int) -> None:
        there = self.sent < len(self.items) and self.arrivals[self.sent] <= cycle
        if there and self.offered != self.sent:
            context.set(self.stream.payload, self.items[self.sent])
            self.offered = self.sent
        context.set(self.stream.valid, int(there))

    def advance(self, sent: bool) -> None:
        self.sent += sent


def _sources(
    engine: TernaryMatmul,
    job: EngineJob,
    beats: NDArray[np.uint8],
    activations: NDArray[np.int8],
) -> list[_Source]:
    offers: list[tuple[Any, Sequence[Any], NDArray[np.int64] | None]] = [
        (engine.load, [vars(load) for load in job.loads], None),
        (engine.compute, [vars(compute) for compute in job.computes], None),
        (
            engine.weights,
            [int.from_bytes(beat.tobytes(), "little") for beat in beats],
            job.weight_arrivals,
        ),
        (engine.activations, activations.tolist(), job.activation_arrivals),
    ]
    return [_Source(port, items, _arrivals(at, len(items))) for port, items, at in offers]


def _arrivals(arrivals: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    if arrivals is None:
        return np.zeros(count, np.int64)
    if len(arrivals) != count:
        raise InputError(f"engine job: {len(arrivals)} arrivals for {count} transfers")
    return arrivals


def _pairs(levels: Sequence[int]) -> Iterator[bool]:
    return (bool(v and r) for v, r in zip(levels[::2], levels[1::2], strict=True))
