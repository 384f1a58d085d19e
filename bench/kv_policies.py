"""Print what every KV policy keeps, moves and gets wrong on trained attention over real text.

    .venv/bin/python bench/kv_policies.py --text FILE [--json] [--tokens n]

The first tokens of the text go through tiny-bitnet in chunks of 10 that stand for frames, then
25 tokens as a question and 39 one by one as an answer. The model was trained on 256 tokens, so
windows and budgets are scaled to keep about a quarter. Figures are means over the six layers
and over the steps of a stage, without those that find nothing cached; bytes are per step.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.models.checkpoint import example_checkpoint, load_checkpoint
from headrace.models.kernels.retrieval import HashClusterTable, Resv, draw_hyperplanes, hash_keys
from headrace.models.kv_policies import (
    DuoAttention,
    Full,
    InfiniGen,
    InfLlm,
    KvPolicy,
    Outcome,
    ReKv,
    ResvPolicy,
    SirLlm,
    Step,
    StreamingLlm,
    run_policy,
    skewed_columns,
)
from headrace.models.kv_policies.trained import layer_steps
from headrace.models.tokenizer import Tokenizer

QUESTION, ANSWER, FRAME = 25, 39, 10


class GivenCodes(HashClusterTable):
    """Clusters by the hash codes of other keys than the table keeps: of those before RoPE."""

    def __init__(
        self, hashed: NDArray[np.float32], planes: NDArray[np.float32], *, distance: int = 7
    ) -> None:
        super().__init__(*hashed.shape[1:], planes, distance=distance)
        self._given = hash_keys(hashed.reshape(len(hashed), -1), planes)

    def append(self, keys: NDArray[np.float32]) -> NDArray[np.int32]:
        return self.append_hashed(keys, self._given[self.tokens : self.tokens + len(keys)])


def policies(steps: list[Step], budget: int = 64) -> dict[str, Callable[[], KvPolicy]]:
    """Return what makes each policy, its windows scaled to about `budget` cached tokens."""
    kv_heads, dim = steps[0].k.shape[1:]
    columns = skewed_columns(np.concatenate([s.q for s in steps]), kv_heads)
    planes = draw_hyperplanes(kv_heads * dim, 32, np.random.default_rng(0))

    def resv(resident: int = 0, **options: object) -> KvPolicy:
        table = HashClusterTable(kv_heads, dim, planes)
        return ResvPolicy(Resv(table, **options), resident=resident)

    made = {
        "full (FlexGen)": Full,
        "StreamingLLM": lambda: StreamingLlm(recent=budget - 4),
        "InfLLM": lambda: InfLlm(
            initial=4,
            local=budget // 2,
            block=budget // 8,
            top=4,
            representatives=2,
            cached_blocks=8,
        ),
        "ReKV": lambda: ReKv(frames=budget // 12),
        "InfiniGen": lambda: InfiniGen(columns),
        "InfiniGenP": lambda: InfiniGen(columns, prefill_top_k=budget // 8),
        "SirLLM": lambda: SirLlm(budget=budget - 4),
        "DuoAttention": lambda: DuoAttention(
            np.arange(kv_heads) / kv_heads, sink=4, recent=budget // 4
        ),
        "ReSV, exp": resv,
        "ReSV, exp, 16 buckets": lambda: resv(buckets=16),
        "ReSV, exp, 64 buckets": lambda: resv(buckets=64),
        "ReSV, raw": lambda: resv(transform="raw"),
        "ReSV, relu": lambda: resv(transform="relu"),
        "ReSV, exp, ratio 0.7": lambda: resv(ratio=0.7),
        f"ReSV, exp, newest {budget // 2}": lambda: resv(resident=budget // 2),
    }
    if steps[0].surprise is None:  # no model says how likely a token was
        del made["SirLLM"]
    return made


def row(outcomes: list[Outcome], stage: str) -> dict[str, float]:
    found = [o for o in outcomes if o.stage == stage and o.cached]
    return {
        "kept": float(np.mean([o.kept_share for o in found])),
        "link_read": float(np.mean([o.traffic.link_read_bytes for o in found])),
        "link_written": float(np.mean([o.traffic.link_write_bytes for o in found])),
        "device_read": float(np.mean([o.traffic.device_read_bytes for o in found])),
        "device_written": float(np.mean([o.traffic.device_write_bytes for o in found])),
        "macs": float(np.mean([o.work.macs for o in found])),
        "error": float(np.mean([o.error for o in found])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tokens", type=int, default=254)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(example_checkpoint())
    ids = [0, *Tokenizer(example_checkpoint()).encode(arguments.text.read_text("utf-8"))]
    ids = ids[: arguments.tokens]
    frames = (len(ids) - QUESTION - ANSWER) // FRAME
    passes = [("frame", FRAME)] * frames + [("question", QUESTION)] + [("answer", 1)] * ANSWER
    ids = ids[: sum(n for _, n in passes)]
    outcomes: dict[str, list[Outcome]] = {}
    clusters = []
    for layer in range(checkpoint.network.layers):
        steps = layer_steps(checkpoint, layer, ids, passes)
        for name, make in policies(steps).items():
            policy = make()
            outcomes.setdefault(name, []).extend(run_policy(policy, steps))
            if name == "ReSV, exp" and isinstance(policy, ResvPolicy):
                clusters.append(policy.resv.table.clusters)
    rows = {n: {s: row(o, s) for s in ("frame", "answer")} for n, o in outcomes.items()}
    if arguments.json:
        print(json.dumps({"tokens": len(ids), "clusters": clusters, "policies": rows}))
        return
    print(f"{len(ids)} tokens; clusters per layer: {clusters}")
    for name, stages in rows.items():
        for stage, r in stages.items():
            print(
                f"{name:22} {stage:7} kept {r['kept']:6.1%}  link {r['link_read']:8.0f} B  "
                f"device {r['device_read']:8.0f} B  {r['macs']:8.0f} MACs  error {r['error']:.3f}"
            )


if __name__ == "__main__":
    main()
