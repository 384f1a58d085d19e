"""Print how fast a study takes results: ``python bench/store.py [DATABASE]``.

DATABASE is a path or a URL; by default a file in a temporary folder.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from headrace.search.spec import Spec
from headrace.search.store import Evaluation, Study, UnitResult, open_store
from headrace.sim.workload import Workload

SPEC = Spec(
    design="tellme",
    device="kv260",
    network="tiny-bitnet",
    network_hash="0" * 64,
    workload=Workload(),
    objective="min lut",
    strategy="random",
    samples=1,
)
FIGURES = {f"metric_{i}": 1.1 * i for i in range(20)}


def _unit(number: int, kept: np.ndarray) -> UnitResult:
    return UnitResult(
        number=number, evaluated=1 << 22, feasible=1, broken=(1,) * 5, kept=kept, seconds=1.0
    )


def sweeps(study: Study) -> None:
    kept = np.sort(np.random.default_rng(1).choice(1 << 22, 100_000, replace=False))
    began = time.perf_counter()
    for _ in range(25):
        (number,) = study.claim("sweep", range(25), "bench")
        study.commit("sweep", number, "bench", _unit(number, kept))
    seconds = time.perf_counter() - began
    print(f"25 sweep units of 100,000 indices: {seconds:.2f} s with claims")


def generations(study: Study, size: int) -> None:
    rung, count = f"generations of {size}", 5000 // size
    began = time.perf_counter()
    for _ in range(count):
        (number,) = study.claim(rung, range(count), "bench")
        points = [
            Evaluation(
                rung=rung, index=number * size + i, hash="a" * 64, feasible=True, agrees=True,
                figures=FIGURES, unit=number,
            )
            for i in range(size)
        ]  # fmt: skip
        study.commit(rung, number, "bench", _unit(number, np.empty(0, np.int64)), points)
    seconds = time.perf_counter() - began
    print(f"{rung}: {5000 / seconds:,.0f} evaluations/s, {count / seconds:,.0f} commits/s")


def claims(study: Study) -> None:
    began = time.perf_counter()
    for number in range(200):
        study.claim("claims", [number], "bench")
    print(f"claims: {200 / (time.perf_counter() - began):,.0f}/s")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        where = sys.argv[1] if len(sys.argv) > 1 else str(Path(folder) / "study.db")
        with open_store(where, create=True) as store:
            study = store.create(f"bench {time.time():.0f}", SPEC)
            sweeps(study)
            generations(study, 50)
            generations(study, 200)
            claims(study)
            began = time.perf_counter()
            count = len(study.evaluations())
            print(f"{count:,} evaluations read back in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
