"""Print how fast headrace is, beside SCALE-Sim 3 and ZigZag 3.9 on the same GEMM.

Run `bench/peers.sh` once for the peers, then `.venv/bin/python bench/speed.py [--json]`.

What is compared: the time each tool needs to give a cycle count for one GEMM of
64 x 1536 x 4096 (tokens x inputs x outputs), imports and start of the interpreter left out,
compilation warmed up. The cycles themselves are of three different machines and not comparable:
headrace times TeLLMe's published ternary engine on the KV260, the peers a 32 x 32 array of MACs
as stated in bench/peers/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
GEMM = (64, 1536, 4096)


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Return the median wall clock of `work` after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def rates() -> dict[str, float]:
    """Full analytic evaluations per second: latency, power and resources of each point.

    ``enumerated_per_s`` is the evaluator on points in the order of an exhaustive search,
    ``random_per_s`` on points drawn at random, ``search_per_s`` a whole random search: drawing
    the points, constraints and objective included.
    """
    import numpy as np

    from headrace.arch.design import load_design
    from headrace.arch.device import load_device
    from headrace.models.network import load_network
    from headrace.search.explore import explore
    from headrace.search.space import Space
    from headrace.sim.workload import Workload

    design, device = load_design("tellme"), load_device("kv260")
    network, workload = load_network("bitnet-b1.58-large"), Workload()
    evaluator = design.face("search").evaluator(device, network, workload)
    space = Space(design)

    def evaluated(blocks: list[Any]) -> float:
        took = seconds(lambda: [np.sum(evaluator.evaluate(rows).broken) for rows in blocks], 9)
        return sum(map(len, blocks)) / took

    ahead = space.size // 33
    spread = [space.range(k * ahead, k * ahead + (1 << 15)) for k in range(1, 33)]

    def search(samples: int) -> float:
        found = explore(
            design,
            device,
            network,
            workload,
            objective="min ttft_s s.t. decode_tok_per_s >= 25",
            samples=samples,
            strategy="random",
        )
        return found.evaluations_per_s

    search(100_000)
    return {
        "enumerated_per_s": evaluated([space.rows(indices) for indices in spread]),
        "random_per_s": evaluated(
            [space.rows(space.sample(k << 15, (k + 1) << 15, 0)) for k in range(32)]
        ),
        "search_per_s": statistics.median(search(5_000_000) for _ in range(3)),
    }


def prefill_seconds() -> float:
    """One 24-layer prefill of 128 tokens and one decode step, fidelity cycle, warm."""
    from headrace.arch.design import load_design
    from headrace.arch.device import load_device
    from headrace.models.network import load_network
    from headrace.sim.workload import Workload

    design, device = load_design("tellme"), load_device("kv260")
    network, point = load_network("bitnet-b1.58-large"), load_design("tellme").point()
    simulate = design.face("sim")
    return seconds(lambda: simulate(point, device, network, Workload(), "cycle"), 5)


def gemm(fidelity: str) -> dict[str, float]:
    """Cycles of the GEMM on TeLLMe's published engine, and how long the answer took."""
    from headrace.arch.design import load_design
    from headrace.arch.device import load_device
    from headrace.models.network import network_from_config
    from headrace.sim.workload import Workload

    tokens, inputs, outputs = GEMM
    network = network_from_config(
        {
            "architectures": ["BitnetForCausalLM"],
            "model_type": "llama",
            "hidden_size": inputs,
            "intermediate_size": outputs,
            "num_hidden_layers": 1,
            "num_attention_heads": 16,
            "max_position_embeddings": 2048,
            "vocab_size": 32_002,
        }
    )
    design, device = load_design("tellme"), load_device("kv260")
    simulate, point = design.face("sim"), design.point()
    work = Workload(prompt_tokens=tokens)
    outcome = simulate(point, device, network, work, fidelity)
    (phase,) = (p for p in outcome.phases["prefill"] if p.operator.endswith("up_proj"))
    # The time is that of the whole layer, which holds this GEMM and six others.
    took = seconds(lambda: simulate(point, device, network, work, fidelity), 5)
    return {"cycles": phase.cycles, "seconds": took}


def peer(name: str) -> dict[str, float] | None:
    """Run a peer on the GEMM in its own environment; None if it is not installed."""
    if not PEERS.exists():
        return None
    script = ROOT / "bench" / "peers" / f"{name}_gemm.py"
    run = subprocess.run(
        [PEERS, script, *map(str, GEMM)], capture_output=True, text=True, check=True, timeout=1800
    )
    answer: dict[str, float] = json.loads(run.stdout)
    return answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure headrace and its peers.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-peers", action="store_true", help="SCALE-Sim takes minutes")
    options = parser.parse_args()
    headrace = Path(sys.executable).with_name("headrace")
    help_s = seconds(
        lambda: subprocess.run([headrace, "--help"], check=True, stdout=subprocess.DEVNULL), 5
    )
    result: dict[str, Any] = {
        "cores": os.cpu_count(),
        **rates(),
        "prefill_cycle_s": prefill_seconds(),
        "help_s": help_s,
        "gemm": {"headrace analytic": gemm("analytic"), "headrace cycle": gemm("cycle")},
    }
    if not options.no_peers:
        for name in ("scalesim", "zigzag"):
            result["gemm"][name] = peer(name)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'':34}{'here':>14}{'wanted':>14}   ({result['cores']} cores)")
    print(
        f"{'evaluations per second, enumerated':34}{result['enumerated_per_s']:14,.0f}{1e7:14,.0f}"
    )
    print(f"{'evaluations per second, random':34}{result['random_per_s']:14,.0f}{1e7:14,.0f}")
    print(f"{'points searched per second':34}{result['search_per_s']:14,.0f}")
    print(f"{'prefill 24 x 128, cycle, warm (s)':34}{result['prefill_cycle_s']:14.3f}{0.2:14.3f}")
    print(f"{'headrace --help (s)':34}{help_s:14.3f}{0.4:14.3f}")
    m, k, n = GEMM
    print(f"\nGEMM {m} x {k} x {n}{'':13}{'cycles':>14}{'seconds':>14}{'ratio':>10}")
    base = result["gemm"]["headrace cycle"]["seconds"]
    for name, answer in result["gemm"].items():
        if answer is None:
            print(f"{name:34}{'not installed: bench/peers.sh':>28}")
            continue
        ratio = answer["seconds"] / base
        print(f"{name:34}{answer['cycles']:14,.0f}{answer['seconds']:14.4f}{ratio:10,.1f}")
    print("ratio: time against headrace cycle, which simulates the whole layer around this GEMM")


if __name__ == "__main__":
    main()
