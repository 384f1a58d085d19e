"""Print what ReSV keeps and fetches in V-Rex's average dialogue on synthetic video.

    .venv/bin/python bench/retrieval_traces.py [--json] [--history n ...] [--resident n ...]
        [--buckets n] [--cache n] [--layers n] [--seeds n] [--layout time|cluster]

Per cached tokens before the dialogue and newest tokens resident in device memory, means over the
network's layers, passes of a stage and seeds: the share of the cache that the threshold chose and
that attention saw, the tokens that cross the link per layer and KV head, the requests in which
they do, the share of a row's buckets that were walked (of its clusters, if 0 buckets ask
for the exact selection), and the share of KV heads in which a row walked through all of them,
which fetches the whole cache. Also tokens per cluster, and the processor time of one dialogue. Set
OPENBLAS_NUM_THREADS=1 for the time on one core.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import product

import numpy as np

from headrace.models.kernels.retrieval import HashClusterTable, Resv, draw_hyperplanes
from headrace.models.kv_policies import LAYOUTS, ResvPolicy, StepTrace, dialogue_traces
from headrace.models.streaming import VideoDialogue


def chosen_tokens(trace: StepTrace, members: np.ndarray) -> float:
    """Return the share of the cached tokens that the threshold chose, resident or not."""
    return float(trace.chosen[:, members[: trace.cached]].mean())


def measure(
    history: int, resident: int, seed: int, buckets: int, options: dict[str, object]
) -> dict[str, float]:
    dialogue = VideoDialogue(history=history)
    net, policies = dialogue.network, []
    planes = draw_hyperplanes(net.kv_heads * net.head_dim, 32, np.random.default_rng(0))

    def policy(_: int) -> ResvPolicy:
        table = HashClusterTable(net.kv_heads, net.head_dim, planes)
        policies.append(ResvPolicy(Resv(table, buckets=buckets), resident=resident))
        return policies[-1]

    start = time.process_time()
    layers = dialogue_traces(dialogue, policy, seed=seed, **options)
    result = {"processor_s": time.process_time() - start}
    members = [p.resv.table.members for p in policies]
    weights = [layer[0].stands_for for layer in layers]

    def mean(stage: str, of: Callable[[StepTrace, np.ndarray], float]) -> float:
        per_layer = [
            np.mean([of(t, m) for t in layer if t.stage == stage])
            for layer, m in zip(layers, members, strict=True)
        ]
        return float(np.average(per_layer, weights=weights))

    for stage in ("frame", "question", "answer"):
        result[f"{stage}_chosen"] = mean(stage, chosen_tokens)
        result[f"{stage}_kept"] = mean(stage, lambda t, _: t.kept.mean() / t.cached)
        result[f"{stage}_fetched"] = mean(stage, lambda t, _: t.fetched.mean())
        result[f"{stage}_requests"] = mean(stage, lambda t, _: t.requests.mean())
        result[f"{stage}_walked"] = mean(
            stage, lambda t, _: t.walked.mean() / (buckets or t.clusters)
        )
        result[f"{stage}_heads_with_all"] = mean(
            stage, lambda t, _: (t.walked.max(axis=1) == (buckets or t.clusters)).mean()
        )
    clusters = np.average([layer[0].clusters for layer in layers], weights=weights)
    return result | {"tokens_per_cluster": float(history / clusters)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    lengths = [1000, 5000, 10_000, 20_000, 40_000]
    parser.add_argument("--history", type=int, nargs="+", default=lengths)
    parser.add_argument("--resident", type=int, nargs="+", default=[0, 5000, 8192])
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--cache", type=int, default=0)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--layout", choices=LAYOUTS, default="cluster")
    arguments = parser.parse_args()
    options = {key: getattr(arguments, key) for key in ("cache", "layers", "layout")}
    measure(100, 0, 0, arguments.buckets, options)  # compiles
    for history, resident in product(arguments.history, arguments.resident):
        rows = [
            measure(history, resident, seed, arguments.buckets, options)
            for seed in range(arguments.seeds)
        ]
        means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        shown = {key: float(f"{value:.4g}") for key, value in means.items()}
        line = {"history": history, "resident": resident} | shown
        print(json.dumps(line) if arguments.json else line, flush=True)


if __name__ == "__main__":
    main()
