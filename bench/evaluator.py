"""Print how many full evaluations of TeLLMe points the search makes per second.

    .venv/bin/python bench/evaluator.py [--json] [--points n] [--repeats n]

A full evaluation is everything the search knows of one point: latency and rates of prefill and
decode, energy and power, LUT, FF, DSP, block RAM and URAM, and which budgets it exceeds. Points
are those of the whole space that the design's rules allow, none is skipped: once in the order in
which an exhaustive search visits them (stretches spread evenly over the space), where neighbours
share an engine and with it part of the work, and once drawn at random, where they share nothing.
Figures are the best of several runs, compiled before. Processor time is that of all threads, and
includes what a thread spins while it waits for the other. The ratio is to `simulate` in its
analytic mode, scalar Python, run beside it on the first of the random points (those that fit).
"""

import argparse
import json
import os
import time
from collections.abc import Callable

from headrace.arch.design import load_design
from headrace.arch.device import load_device
from headrace.models.network import load_network
from headrace.search.explore import explore
from headrace.search.space import Space
from headrace.sim.tellme import simulate
from headrace.sim.workload import Workload

STRETCHES = 16
CUT_BUDGETS = 0b1111000000  # points over these are refused by the simulator


def best_seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least wall clock and the least processor time of `work`."""
    wall, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return min(wall), min(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--points", type=int, default=1 << 15)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--simulated", type=int, default=50)
    options = parser.parse_args()
    design, device = load_design("tellme"), load_device("kv260")
    network, workload = load_network("bitnet-b1.58-large"), Workload()
    space = Space(design)
    start = time.perf_counter()
    evaluator = design.face("search").evaluator(device, network, workload)
    rows = space.rows(space.sample(0, options.points, seed=0))
    broken = evaluator.evaluate(rows).broken.copy()
    first = time.perf_counter() - start
    wall, processor = best_seconds(lambda: evaluator.evaluate(rows), options.repeats)
    every = space.size // (STRETCHES + 1)
    stretches = [
        space.rows(space.range(k * every, k * every + options.points))
        for k in range(1, STRETCHES + 1)
    ]
    ordered, _ = best_seconds(
        lambda: [evaluator.evaluate(stretch) for stretch in stretches], options.repeats
    )
    fit = rows[broken & CUT_BUDGETS == 0][: options.simulated]
    points = [space.decode(row) for row in fit]
    beside, _ = best_seconds(
        lambda: [simulate(point, device, network, workload) for point in points], 3
    )
    found = explore(
        design, device, network, workload, objective="min ttft_s",
        samples=500_000, strategy="random",
    )  # fmt: skip
    figures = {
        "points_in_space": space.size,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "first_call_s": first,
        "enumerated_per_s": STRETCHES * options.points / ordered,
        "random_per_s": options.points / wall,
        "processor_ns_per_random_point": processor / options.points * 1e9,
        "simulate_per_s": len(points) / beside,
        "ratio_to_simulate": options.points / wall / (len(points) / beside),
        "explored_per_s": found.evaluations_per_s,
        "whole_space_days": space.size / found.evaluations_per_s / 86400,
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:30} {value:,.6g}" if isinstance(value, float) else f"{name:30} {value:,}")


if __name__ == "__main__":
    main()
