"""Print how fast headrace exhausts 10^8 points of TeLLMe, and how much memory that takes.

    .venv/bin/python bench/exhaustive.py [--json] [--points n] [--unit n]

Everything is included: index, choices, all figures the objective reads, budgets, constraints,
costs and the exact front, in units as a study commits them, each merged into what is known. The
machine code is compiled (or read from disk) on a few points before the clock starts. Seconds are
wall clock; processor seconds are those of all threads, which on a busy machine say more. Memory
is the peak of the process since it began, compilation included; it has no children.

The space is TeLLMe's, thinned to 1.16 x 10^8 points: fixed are the published clock, group size,
accumulators and table of the sequencer's gap 0; tables, activation lanes, prefill adders and
order have fewer values, all else keeps every value. A fifth of the points is feasible, as in the
whole space.
"""

import argparse
import json
import os
import resource
import time
from typing import Any

from headrace.models.network import load_network
from headrace.search.problem import Problem, network_hash
from headrace.search.spec import DEFAULT_OBJECTIVE, Spec
from headrace.search.sweep import Known, sweep
from headrace.sim.workload import Workload

NETWORK = "bitnet-b1.58-large"
FIXED = {
    "clock_mhz": (250,),
    "group_size": (3,),
    "tables": tuple(range(7, 64, 7)),
    "activation_lanes": (1, 16),
    "block_gap_cycles": (0,),
    "accumulator_bits": (24,),
    "prefill_adders": (32, 128),
    "prefill_order": ("reversed",),
    "max_context": (1024,),
}
OBJECTIVES = (
    DEFAULT_OBJECTIVE,
    "max decode_tok_per_s, min ttft_s, min lut",
    "min ttft_s s.t. decode_tok_per_s >= 25 and lut <= 98303",
)


def problem(objective: str) -> Problem:
    """Return the study that is swept."""
    network = load_network(NETWORK)
    return Problem(
        Spec(
            design="tellme", device="kv260", network=NETWORK, network_hash=network_hash(network),
            workload=Workload(), objective=objective, strategy="exhaustive", samples=1,
            fixed=FIXED,
        )
    )  # fmt: skip


def measure(objective: str, points: int | None, unit: int) -> dict[str, Any]:
    """Exhaust the space, or its first `points`."""
    study = problem(objective)
    sweep(study, 0, 50_000, order="range")
    count = min(points or study.space.size, study.space.size)
    known, feasible = Known(study), 0
    start, used = time.perf_counter(), time.process_time()
    for first in range(0, count, unit):
        swept = sweep(study, first, min(first + unit, count), order="range", known=known)
        known.add(swept.kept)
        feasible += swept.feasible
    kept = known.kept
    seconds = time.perf_counter() - start
    return {
        "objective": objective,
        "points": count,
        "feasible": feasible,
        "kept": len(kept),
        "seconds": seconds,
        "processor_s": time.process_time() - used,
        "points_per_s": count / seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--points", type=int, help="sweep only so many")
    parser.add_argument("--unit", type=int, default=1 << 22)
    options = parser.parse_args()
    # Else threads that wait for each other count as processor time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    results = [measure(objective, options.points, options.unit) for objective in OBJECTIVES]
    if options.json:
        print(json.dumps(results))
        return
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; compiled before the clock starts"
    )
    for r in results:
        print(f"\n{r['objective']}")
        print(f"  {r['points']:,} points, {r['feasible']:,} feasible, {r['kept']:,} kept")
        print(f"  {r['seconds']:.1f} s, {r['points_per_s']:,.0f} points per second")
        print(f"  {r['processor_s']:.1f} s of processor time, peak {r['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
