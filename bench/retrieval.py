"""Print how long ReSV takes over the stream that V-Rex calls an average dialogue.

    .venv/bin/python bench/retrieval.py [--json] [--layers n] [--frames n] [--buckets n]

Every layer starts with 40,000 cached tokens of seeded keys around 1,250 centres; every frame
brings 10 tokens, for which 32 query heads choose, and whose keys are then clustered. Drawing the
keys and filling the tables is not counted. Processor time is that of all threads; on a machine
with other work it says more than the wall clock.
"""

import argparse
import json
import time

import numpy as np

from headrace.models.kernels.retrieval import HashClusterTable, Resv, draw_hyperplanes

TOKENS, CENTRES, FRAME, HEADS, KV_HEADS, HEAD_DIM = 40_000, 1_250, 10, 32, 8, 128


def filled(rng: np.random.Generator, centres: np.ndarray, buckets: int) -> Resv:
    planes = draw_hyperplanes(KV_HEADS * HEAD_DIM, 32, rng)
    stream = Resv(HashClusterTable(KV_HEADS, HEAD_DIM, planes), buckets=buckets)
    for _ in range(0, TOKENS, 1000):
        stream.append(frame(rng, centres, 1000))
    return stream


def frame(rng: np.random.Generator, centres: np.ndarray, tokens: int) -> np.ndarray:
    noise = rng.standard_normal((tokens, KV_HEADS, HEAD_DIM), np.float32)
    return centres[rng.integers(0, CENTRES, tokens)] + np.float32(0.1) * noise


def measure(layers: int, frames: int, buckets: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    wall = processor = ratio = 0.0
    for _ in range(layers):
        centres = rng.standard_normal((CENTRES, KV_HEADS, HEAD_DIM), np.float32)
        stream = filled(rng, centres, buckets)
        for _ in range(frames):
            keys = frame(rng, centres, FRAME)
            queries = rng.standard_normal((FRAME, HEADS, HEAD_DIM), np.float32)
            start, used = time.perf_counter(), time.process_time()
            ratio += stream.select(queries).ratio
            stream.append(keys)
            wall += time.perf_counter() - start
            processor += time.process_time() - used
    return {
        "wall_s": round(wall, 2),
        "processor_s": round(processor, 2),
        "clusters_last_layer": stream.table.clusters,
        "retrieval_ratio": round(ratio / (layers * frames), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--frames", type=int, default=26)
    parser.add_argument("--buckets", type=int, default=0)
    arguments = parser.parse_args()
    measure(1, 1, arguments.buckets)  # compiles
    result = measure(arguments.layers, arguments.frames, arguments.buckets)
    print(json.dumps(result) if arguments.json else result)


if __name__ == "__main__":
    main()
