"""Print how much faster local workers finish the RTL rung than one does.

    .venv/bin/python bench/scale.py [--json] [--points n] [--workers n]

Different points of TeLLMe with small engines are measured at the rung `rtl` (emitted, simulated in
Icarus, mapped by Yosys; nothing is in the cache) by one worker, then by several, then by several of
which one is killed while it measures. Seconds run from before the workers are started until after
they have ended. Large engines go first, so that the last ones to finish are short. Processor time
is that of all processes together: beside other work on the machine, seconds say little, and
processor time still says what several workers cost that one does not.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from headrace.arch.design import load_design
from headrace.arch.tellme.resources import resources
from headrace.models.network import load_network
from headrace.search.cluster import measure_point, open_executor
from headrace.search.measure import Measurement
from headrace.sim.workload import Workload

ENGINES = [
    {"tables": tables, "group_size": group_size, "copies": copies, "weight_banks": copies}
    for tables, group_size, copies in (
        (4, 1, 2), (4, 2, 2), (4, 3, 2), (4, 1, 4), (4, 2, 4), (4, 3, 4), (6, 1, 4), (6, 2, 4),
        (6, 3, 4), (8, 1, 4), (8, 2, 4), (8, 3, 4), (8, 1, 8), (8, 2, 8), (8, 3, 8), (12, 2, 8),
    )
]  # fmt: skip
COMMON = {
    "block_gap_cycles": 0, "weight_words": 16384, "weight_ports": 1, "activation_lanes": 4,
    "max_outputs": 1024,
}  # fmt: skip


def measure(folder: str, number: int, values: dict[str, Any], network: Any) -> Measurement:
    """Note who begins, then measure."""
    Path(folder, f"{number}.{os.getpid()}.{time.monotonic_ns()}").touch()
    return measure_point("rtl", "tellme", values, "kv260", network, Workload(prompt_tokens=8))


def run(points: list[dict[str, Any]], workers: int, kill: bool = False) -> dict[str, Any]:
    """Measure `points` with an empty cache; with `kill`, one worker dies over its second."""
    network = load_network("tiny-bitnet")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        cache, starts = Path(name, "cache"), Path(name, "starts")
        starts.mkdir()
        os.environ["HEADRACE_CACHE"] = str(cache)
        begin, used = time.perf_counter(), processor_s()
        found: dict[int, Measurement] = {}
        with closing(open_executor(None, workers)) as executor:
            for number, values in enumerate(points):
                executor.submit(number, measure, str(starts), number, values, network)
            while len(found) < len(points):
                for key, result in executor.done(0.2):
                    if isinstance(result, Exception):
                        raise result
                    found[key] = result
                begun = sorted(starts.iterdir(), key=lambda p: int(p.name.split(".")[2]))
                if kill and len(begun) > workers:
                    time.sleep(1)
                    os.kill(int(begun[-1].name.split(".")[1]), signal.SIGKILL)
                    kill = False
        seconds, used = time.perf_counter() - begin, processor_s() - used
        started = len(list(starts.iterdir()))
    results = [
        (dict(m.figures), m.agrees, dict(m.artefacts), m.cached)
        for m in (found[n] for n in range(len(points)))
    ]
    return {
        "seconds": seconds,
        "processor_s": used,
        "started": started,
        "load_before": load,
        "results": results,
    }


def processor_s() -> float:
    """Return the processor time of this process and of all that it has waited for."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--points", type=int, default=12, choices=range(1, len(ENGINES) + 1))
    parser.add_argument("--workers", type=int, default=3)
    options = parser.parse_args()
    design = load_design("tellme")
    points = [COMMON | engine for engine in ENGINES]
    points.sort(key=lambda p: -resources(design.point(p))["ternary_matmul"].lut)
    points = points[-options.points :]
    one = run(points, 1)
    several = run(points, options.workers)
    killed = run(points, options.workers, kill=True)
    figures = {
        "measurements": len(points),
        "cores": os.cpu_count(),
        "one_worker_s": one["seconds"],
        "workers": options.workers,
        "workers_s": several["seconds"],
        "speedup": one["seconds"] / several["seconds"],
        "one_worker_processor_s": one["processor_s"],
        "workers_processor_s": several["processor_s"],
        "one_killed_s": killed["seconds"],
        "started": several["started"],
        "started_with_one_killed": killed["started"],
        "equal_results": one["results"] == several["results"] == killed["results"],
        "all_agree": all(agrees and not cached for _, agrees, _, cached in one["results"]),
        "load_before": [r["load_before"] for r in (one, several, killed)],
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:30} {value:,.6g}" if isinstance(value, float) else f"{name:30} {value}")


if __name__ == "__main__":
    main()
