"""Print what switching experts costs an SN40L node and a DGX A100, policy by policy.

    .venv/bin/python bench/expert_cache.py [--json] [--requests n] [--batch 1|8] [--seed n]

850 experts of Llama-2-7B in BF16 behind a router of the same size. Zipf traces of a million
requests with three exponents go through LRU, LFU and Belady with exposed copies as in the paper,
and through LRU with the router's choices known and the copies beside the runs. Then the window of
what is known and the number of requests that copies are ahead grow, and then the number of experts.
The seconds are those of all policies on one trace, one after another, compiled before.

The node's numbers: HBM 512 GiB and DDR 12 TiB, copies at 1 TB/s (paper); an expert runs 67 ms, the
router 65 ms for one prompt and 60 ms for eight (inferred from the paper's ratios). The DGX A100's:
HBM 640 GB, host memory 2 TB (assumed), copies at 32 GB/s (paper), runs as in NVIDIA's table.
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

from headrace.models.experts import (
    CompositionOfExperts,
    Requests,
    all_miss_trace,
    uniform_trace,
    zipf_trace,
)
from headrace.models.network import load_network
from headrace.sim.expert_cache import (
    BELADY,
    EAGER,
    LFU,
    LRU,
    ExpertTimes,
    ReplacementPolicy,
    Service,
    serve,
)

EXPERTS, EXPONENTS, KV_TOKENS = 850, (0.6, 1.0, 1.2), 4096
WINDOWS, EARLY = (0, 1, 2, 4, 8, 16, 32, 64), (0, 1, 2, 8, EAGER)
COUNTS = (10, 38, 50, 100, 148, 300, 600, 850, 978, 1200, 1600)
POLICIES = {
    "LRU": (LRU, 0),
    "LFU": (LFU, 0),
    "batch known": (ReplacementPolicy(lookahead=0), 0),
    "batch known, overlapped": (ReplacementPolicy(lookahead=0), EAGER),
    "1 more known, overlapped": (ReplacementPolicy(lookahead=1), EAGER),
    "32 more known, next copied": (ReplacementPolicy(lookahead=32), 1),
    "Belady": (BELADY, 0),
}


@dataclass(frozen=True)
class Node:
    name: str
    hbm_bytes: int
    store_bytes: int
    copy_bytes_per_s: float
    router_ms: dict[int, float]
    run_ms: float

    def times(self, coe: CompositionOfExperts, batch: int) -> ExpertTimes:
        return ExpertTimes(
            router_s=self.router_ms[batch] / 1e3,
            copy_s=coe.expert_bytes / self.copy_bytes_per_s,
            run_s=self.run_ms / 1e3,
        )


NODES = (
    Node("SN40L node", 512 << 30, 12 << 40, 1e12, {1: 65, 8: 60}, 67),
    Node("DGX A100", 640 * 10**9, 2 * 10**12, 32e9, {1: 136.5, 8: 181.9}, 136.5),
)


def capacities(coe: CompositionOfExperts, prompts: int) -> dict[str, dict[str, int]]:
    kv = coe.kv_bytes(prompts, KV_TOKENS)
    return {
        node.name: {
            "hbm_bytes": node.hbm_bytes,
            "expert_bytes": coe.expert_bytes,
            "weights_alone": node.hbm_bytes // coe.expert_bytes,
            "kv_bytes": kv,
            "beside_router_and_kv": coe.resident_experts(node.hbm_bytes, kv),
            "in_store": node.store_bytes // coe.expert_bytes,
        }
        for node in NODES
    }


def row(service: Service, best: int) -> dict[str, float]:
    return {
        "misses": service.misses,
        "over_belady": service.misses / best - 1,
        "switching_share": service.switching_share,
        "ms_per_batch": 1e3 * service.seconds_per_batch,
    }


def policies(trace: Requests, capacity: int, batch: int, times: ExpertTimes) -> dict[str, Any]:
    services = {
        name: serve(trace, capacity, policy, batch=batch, times=times, prefetch=prefetch)
        for name, (policy, prefetch) in POLICIES.items()
    }
    best, lru = services["Belady"].misses, services["LRU"].switching_share
    return {
        name: {**row(s, best), "share_of_lru": s.switching_share / lru if lru else 0.0}
        for name, s in services.items()
    }


def windows(trace: Requests, capacity: int, batch: int, times: ExpertTimes) -> dict[str, Any]:
    best = serve(trace, capacity, BELADY).misses
    return {
        str(ahead): {
            str(early): row(
                serve(
                    trace, capacity, ReplacementPolicy(lookahead=ahead), batch=batch, times=times,
                    prefetch=early,
                ),
                best,
            )
            for early in EARLY
        }
        for ahead in WINDOWS
    }  # fmt: skip


def curve(coe: CompositionOfExperts, holds: dict[str, Any], batch: int, seed: int) -> list[Any]:
    """Return milliseconds a batch for every number of experts; 10^5 requests each."""
    found = []
    for experts in COUNTS:
        traces = {
            "all miss": all_miss_trace(experts, 100_000),
            "uniform": uniform_trace(experts, 100_000, seed),
            "Zipf 1.0": zipf_trace(experts, 100_000, 1.0, seed),
        }
        entry: dict[str, Any] = {"experts": experts}
        for node in NODES:
            times, held = node.times(coe, batch), holds[node.name]
            entry[node.name] = {"fits": experts <= held["in_store"]} | {
                f"{kind}, {name}": 1e3
                * serve(
                    trace, held["beside_router_and_kv"], policy, batch=batch, times=times,
                    prefetch=prefetch,
                ).seconds_per_batch
                for kind, trace in traces.items()
                for name, (policy, prefetch) in POLICIES.items()
                if name in ("LRU", "batch known, overlapped")
            }  # fmt: skip
        found.append(entry)
    return found


def measure(requests: int, batch: int, seed: int) -> dict[str, Any]:
    llama = load_network("llama-2-7b")
    coe = CompositionOfExperts(expert=llama, router=llama, experts=EXPERTS)
    holds = capacities(coe, 8)
    times = {node.name: node.times(coe, batch) for node in NODES}
    traces = {str(e): zipf_trace(EXPERTS, requests, e, seed) for e in EXPONENTS}
    held = {name: each["beside_router_and_kv"] for name, each in holds.items()}
    first = NODES[0].name
    policies(traces["1.0"][:100], 8, batch, times[first])  # compiles
    begin, used = time.perf_counter(), time.process_time()
    policies(traces["1.0"], held[first], batch, times[first])
    seconds, used = time.perf_counter() - begin, time.process_time() - used
    return {
        "requests": requests,
        "batch": batch,
        "all_policies_s": seconds,
        "processor_s": used,
        "capacity": holds,
        "machines_with_all_in_hbm": {n: -(-EXPERTS // c) for n, c in held.items()},
        "policies": {
            name: {
                exponent: policies(trace, held[name], batch, times[name])
                for exponent, trace in traces.items()
            }
            for name in held
        },
        "windows": {
            name: windows(traces["1.0"][:200_000], held[name], batch, times[name]) for name in held
        },
        "curve": curve(coe, holds, batch, seed),
    }


def show(figures: dict[str, Any]) -> None:
    print(
        f"{figures['requests']} requests, {EXPERTS} experts, all {len(POLICIES)} policies: "
        f"{figures['all_policies_s']:.2f} s, processor {figures['processor_s']:.2f} s"
    )
    for name, held in figures["capacity"].items():
        print(
            f"{name}: ({held['hbm_bytes']} HBM - {held['expert_bytes']} router - "
            f"{held['kv_bytes']} KV) / {held['expert_bytes']} = {held['beside_router_and_kv']} "
            f"experts ({held['weights_alone']} of weights alone); {held['in_store']} in DDR or "
            f"host; {figures['machines_with_all_in_hbm'][name]} machines keep all in HBM"
        )
    for name, exponents in figures["policies"].items():
        for exponent, rows in exponents.items():
            print(f"\n{name}, Zipf {exponent}, batches of {figures['batch']}")
            print(f"{'':30}{'misses':>9}{'over Belady':>12}{'switching':>10}{'of LRU':>8}"
                  f"{'ms a batch':>11}")  # fmt: skip
            for policy, r in rows.items():
                print(f"{policy:30}{r['misses']:9}{r['over_belady']:12.1%}"
                      f"{r['switching_share']:10.2%}{r['share_of_lru']:8.1%}"
                      f"{r['ms_per_batch']:11.1f}")  # fmt: skip
    for name, table in figures["windows"].items():
        print(f"\n{name}, Zipf 1.0, 2 x 10^5 requests: misses over Belady, share of switching")
        heads = ["exposed", *(f"{early} early" for early in EARLY[1:-1]), "all early"]
        print(f"{'batches known ahead':>20}" + "".join(f"{head:>18}" for head in heads))
        for ahead, kinds in table.items():
            cells = (f"{k['over_belady']:10.1%}{k['switching_share']:8.2%}" for k in kinds.values())
            print(f"{ahead:>20}" + "".join(cells))
    print("\nms a batch, by the number of experts; * more than the machine's memory holds")
    for node in NODES:
        columns = [c for c in figures["curve"][0][node.name] if c != "fits"]
        heads = [f"{c.replace('batch known, ', ''):>22}" for c in columns]
        print(f"\n{node.name:12}" + "".join(heads))
        for entry in figures["curve"]:
            mark = " " if entry[node.name]["fits"] else "*"
            print(f"{entry['experts']:11}{mark}"
                  + "".join(f"{entry[node.name][c]:22.1f}" for c in columns))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=8, choices=(1, 8))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figures = measure(options.requests, options.batch, options.seed)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
