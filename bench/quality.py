"""Print how many evaluations each strategy needs for 99 % of the true hypervolume.

    .venv/bin/python bench/quality.py [--seeds n] [--space name ...] [--strategy name ...]

Spaces are parts of TeLLMe's that can be enumerated, on the KV260 with BitNet b1.58 large and the
default workload: every axis that is not listed keeps the published setting. The true front comes
from evaluating all points. Hypervolumes are exact (moocore); costs are scaled so that the true
front spans 0..1 on each objective, and the reference point is 1.1 on each, a tenth beyond the
worst values on the true front. Only different points count as evaluations, feasible or not.

Per strategy: quartiles of the evaluations over the seeds, as a number and as a share of the
enumeration; how many seeds got there within the cap; and the least, middle and greatest share of
the true hypervolume at the end of the run (at the cap, where 99 % was not reached). A run that
did not get there counts as infinitely many evaluations in the quartiles. ``exhaustive`` visits
the points in their order, ``random`` in a random one; for both the count is rounded up to 1/256
of the space.
"""

import argparse
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # two workers, and batches are small

import moocore
import numpy as np
from numpy.typing import NDArray

from headrace.arch.axis import Value
from headrace.arch.design import load_design
from headrace.models.network import load_network
from headrace.search.pareto import Front
from headrace.search.problem import Evaluated, Problem, network_hash
from headrace.search.spec import Spec
from headrace.search.strategies import make
from headrace.sim.workload import Workload

Choices = Mapping[str, tuple[Value, ...]]

_WHOLE: Choices = {
    "group_size": (2, 3, 4),
    "tables": (16, 20, 24, 28, 32, 40, 48),
    "copies": (8, 16, 32),
    "lookup_method": ("half", "full"),
    "table_buffers": (1, 2),
    "activation_lanes": (1, 4, 16),
    "weight_banks": (4, 8, 16),
    "weight_words": (4096, 8192, 10944, 12288, 16384),
    "weight_slots": (1, 2),
    "weight_layout": ("region", "exact"),
    "weight_ports": (2, 3, 4),
    "prefill_lanes": (4, 8, 16),
    "prefill_adders": (32, 64),
    "prefill_pv_units": (1, 2),
    "decode_lanes": (8, 16, 32),
}
_ENGINE: Choices = {
    "group_size": (1, 2, 3, 4, 5),
    "tables": (16, 20, 24, 28, 32, 36, 40, 48),
    "copies": (8, 16, 32, 64),
    "lookup_method": ("naive", "half", "full"),
    "table_buffers": (1, 2),
    "activation_lanes": (1, 2, 4, 8, 16, 32),
    "weight_banks": (4, 8, 16, 32),
    "weight_slots": (1, 2, 3),
    "weight_layout": ("region", "exact"),
    "weight_packing": ("beat", "group"),
    "weight_ports": (1, 2, 3, 4),
    "port_bits": (128, 256),
}
_SMALL: Choices = {
    "group_size": (2, 3, 4),
    "tables": (16, 24, 28, 32, 40),
    "copies": (8, 16, 32),
    "lookup_method": ("naive", "half", "full"),
    "table_buffers": (1, 2),
    "activation_lanes": (1, 4, 16),
    "weight_banks": (4, 8, 16),
    "weight_slots": (1, 2),
    "weight_layout": ("region", "exact"),
    "weight_ports": (2, 3, 4),
    "prefill_lanes": (4, 8, 16),
    "decode_lanes": (8, 16),
}
SPACES: Mapping[str, tuple[Choices, str]] = {
    "small": (_SMALL, "min ttft_s, max decode_tok_per_s, min lut s.t. uram <= 48"),
    "engine": (_ENGINE, "min ttft_s, min lut, max decode_tok_per_s"),
    "bounds": (
        _WHOLE,
        "min ttft_s, min uram, min power_w s.t. lut <= 95000 and decode_tok_per_s >= 15",
    ),
    "four": (
        _WHOLE,
        "min ttft_s, min lut, min uram, min bram36 s.t. decode_tok_per_s >= 20 and power_w < 5",
    ),
}
CAPS = {"two-stage": 10_000, "nsga2": 10_000, "tpe": 300}
STRATEGIES = ("exhaustive", "random", *CAPS)
TARGET = 0.99
_CHUNK = 1 << 16


class Truth:
    """A space with the costs of all its points, and what its true front is worth."""

    def __init__(self, space: str):
        self.problem = problem(space)
        size = self.problem.space.size
        self.costs = np.empty((size, len(self.problem.goal.objectives)))
        self.violation = np.empty(size)
        for start in range(0, size, _CHUNK):
            found = self.problem.evaluate(self.problem.space.range(start, start + _CHUNK))
            self.costs[found.indices] = found.costs
            self.violation[found.indices] = found.violation
        self.front = Front(self.costs.shape[1])
        feasible = np.flatnonzero(self.violation == 0)
        self.feasible = len(feasible)
        self.front.update(self.costs[feasible], feasible)
        self._low = self.front.costs.min(axis=0)
        self._span = np.ptp(self.front.costs, axis=0)
        self._whole = self._volume(self.front.costs)

    def evaluate(self, indices: NDArray[np.int64]) -> Evaluated:
        """Return what `Problem.evaluate` returned for these points."""
        return Evaluated(indices, self.costs[indices], self.violation[indices])

    def _volume(self, costs: NDArray[np.float64]) -> float:
        scaled = (costs - self._low) / np.where(self._span > 0, self._span, 1)
        return float(moocore.hypervolume(scaled, ref=np.full(scaled.shape[1], 1.1)))

    def share(self, batches: Iterator[NDArray[np.int64]]) -> tuple[float, float]:
        """Evaluate batches until the target; return evaluations needed and the share at the end."""
        front, share, seen = Front(self.costs.shape[1]), 0.0, 0
        for batch in batches:
            seen += len(batch)
            feasible = batch[self.violation[batch] == 0]
            before = front.ids
            front.update(self.costs[feasible], feasible)
            if not np.array_equal(front.ids, before):
                share = self._volume(front.costs) / self._whole
            if share >= TARGET:
                return seen, share
        return np.inf, share


def problem(space: str, strategy: str = "exhaustive", samples: int = 1, seed: int = 0) -> Problem:
    """Return the problem of one of `SPACES`."""
    free, objective = SPACES[space]
    axes = load_design("tellme").axes
    network = load_network("bitnet-b1.58-large")
    spec = Spec(
        design="tellme",
        device="kv260",
        network="bitnet-b1.58-large",
        network_hash=network_hash(network),
        workload=Workload(),
        objective=objective,
        strategy=strategy,
        samples=samples,
        seed=seed,
        fixed={axis.name: free.get(axis.name, (axis.default,)) for axis in axes},
    )
    return Problem(spec, network=network)


truth = lru_cache(maxsize=1)(Truth)


def batches(space: str, strategy: str, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the points that a strategy asks for."""
    known = truth(space)
    size = known.problem.space.size
    if strategy in CAPS:
        asking = make(problem(space, strategy, CAPS[strategy], seed))
        while len(batch := asking.ask()):
            yield batch
            asking.tell(known.evaluate(batch))
        return
    step = -(-size // 256)
    for start in range(0, size, step):
        if strategy == "exhaustive":
            yield known.problem.space.range(start, start + step)
        else:
            yield known.problem.space.sample(start, start + step, seed)


@dataclass(frozen=True)
class Run:
    space: str
    strategy: str
    seed: int

    def __call__(self) -> tuple[float, float]:
        return truth(self.space).share(batches(self.space, self.strategy, self.seed))


def work(run: Run) -> tuple[float, float]:
    return run()


def line(strategy: str, size: int, results: Sequence[tuple[float, float]], seconds: float) -> str:
    needed, shares = (np.array(column) for column in zip(*results, strict=True))
    # Values of actual runs, so that infinity (not reached) needs no interpolation.
    quartiles = np.quantile(needed, (0.25, 0.5, 0.75), method="inverted_cdf")
    counts = " ".join(f"{q:>9,.0f}" if np.isfinite(q) else "        -" for q in quartiles)
    portion = " ".join(f"{q / size:>7.2%}" if np.isfinite(q) else "      -" for q in quartiles)
    ends = " ".join(f"{v:.3f}" for v in (shares.min(), np.median(shares), shares.max()))
    reached = f"{np.isfinite(needed).sum()}/{len(needed)}"
    return f"{strategy:11}{counts}   {portion}   {reached:>6}   {ends}   {seconds:6.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--space", action="append", choices=SPACES)
    parser.add_argument("--strategy", action="append", choices=STRATEGIES)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for space in options.space or SPACES:
            known = truth(space)
            size = known.problem.space.size
            print(
                f"{space}: {SPACES[space][1]}\n{size:,} points, {known.feasible:,} feasible, "
                f"{len(known.front)} on the front; caps: "
                + ", ".join(f"{name} {cap:,}" for name, cap in CAPS.items())
            )
            print(
                f"{'':11}{'evaluations, quartiles':^29}   {'of the enumeration':^23}   "
                "within   hypervolume at end    wall s"
            )
            for strategy in options.strategy or STRATEGIES:
                seeds = 1 if strategy == "exhaustive" else options.seeds
                begin = time.perf_counter()
                results = list(pool.map(work, [Run(space, strategy, s) for s in range(seeds)]))
                seconds = time.perf_counter() - begin
                print(line(strategy, size, results, seconds), flush=True)
            print()


if __name__ == "__main__":
    main()
