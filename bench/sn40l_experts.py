"""Print how long a composition of experts takes by their number: an SN40L node against DGXs.

    .venv/bin/python bench/sn40l_experts.py [--json] [--requests n] [--seed n] [--plot FILE]

Experts and router are Llama-2-7B in BF16; a chat request is 128 tokens in and 20 out, and 8 of
them are a batch. All miss: the experts are asked for in turn, so with more than fit none is there.
Zipf: expert e in proportion to 1 / (e + 1). LRU copies an expert when its run is due, as in the
paper. With the batch, or the next one too, known from the router, copies go on beside runs and
routers (ours). Belady knows the whole trace: the fewest copies of all that are not early.

The SN40L's times are the model's (one constant is fitted on a ratio of table 5); a DGX's are
NVIDIA's, with copies at the paper's bandwidths and a host of 2 TB (inferred).
"""

import argparse
import json
from math import ceil
from pathlib import Path
from typing import Any

from headrace.arch.device import load_device
from headrace.arch.sn40l import SN40L
from headrace.models.experts import CompositionOfExperts, Requests, all_miss_trace, zipf_trace
from headrace.models.network import load_network
from headrace.sim.expert_cache import BELADY, EAGER, LRU, ReplacementPolicy, Service, serve
from headrace.sim.picture import figure, render
from headrace.sim.sn40l.composition import Host, dgx_host, sn40l_host
from headrace.sim.sn40l.node import node_of

BATCH, OUTPUT, FULL = 8, 20, 850
COUNTS = sorted((1, 10, 30, *range(50, 1000, 50), 148, 979, 1000, 1500, 2000))
TRACES = ("all miss", "Zipf 1.0")
NODE_KINDS = {
    "LRU": (LRU, 0),
    "batch known": (ReplacementPolicy(lookahead=0), EAGER),
    "next known": (ReplacementPolicy(lookahead=1), EAGER),
    "Belady": (BELADY, 0),
}
DGX_KINDS = {"LRU": (LRU, 0)}
NODE, A100, H100 = "SN40L", "DGX A100", "DGX H100"
COLUMNS = {NODE: NODE_KINDS, A100: DGX_KINDS, H100: DGX_KINDS}


def hosts() -> dict[str, Host]:
    llama = load_network("llama-2-7b")
    coe = CompositionOfExperts(expert=llama, router=llama, experts=FULL)
    node = node_of(SN40L.point(), load_device("sn40l-node"))
    return {
        NODE: sn40l_host(node, coe, "full", batch=BATCH, output=OUTPUT),
        A100: dgx_host(load_device("dgx-a100"), coe, batch=BATCH),
        H100: dgx_host(load_device("dgx-h100"), coe, batch=BATCH),
    }


def trace_of(kind: str, experts: int, requests: int, seed: int) -> Requests:
    if kind == "all miss":
        return all_miss_trace(experts, requests)
    return zipf_trace(experts, requests, 1.0, seed)


def run(host: Host, trace: Requests, kind: tuple[ReplacementPolicy, int]) -> Service:
    policy, prefetch = kind
    return serve(trace, host.fast_experts, policy, batch=BATCH, times=host.times, prefetch=prefetch)


def measure(requests: int, seed: int) -> dict[str, Any]:
    known = hosts()
    curves: dict[str, Any] = {}
    for kind in TRACES:
        for experts in COUNTS:
            trace = trace_of(kind, experts, requests, seed)
            for name, host in known.items():
                for what, rule in COLUMNS[name].items():
                    fits = experts <= host.all_experts
                    seconds = run(host, trace, rule).seconds_per_batch if fits else None
                    curves.setdefault(kind, {}).setdefault(f"{name}, {what}", []).append(seconds)
    trace = trace_of("Zipf 1.0", FULL, requests, seed)
    services = {what: run(known[NODE], trace, rule) for what, rule in NODE_KINDS.items()}
    return {
        "requests": requests,
        "experts": COUNTS,
        "limits": {n: {"fast": h.fast_experts, "all": h.all_experts} for n, h in known.items()},
        "seconds_per_batch": curves,
        "switching_share": {what: s.switching_share for what, s in services.items()},
        "copies": {what: s.misses for what, s in services.items()},
        "machines": [
            {
                "experts": experts,
                f"{A100}, all in HBM": known[A100].nodes_for(experts),
                f"{NODE}, all in DDR": ceil(experts / known[NODE].all_experts),
            }
            for experts in COUNTS
        ],
    }


def show(figures: dict[str, Any]) -> None:
    for name, limit in figures["limits"].items():
        print(f"{name}: HBM holds {limit['fast']} experts, all memory {limit['all']}")
    for kind, columns in figures["seconds_per_batch"].items():
        print(f"\nmilliseconds of a batch of {BATCH}, {kind}; -: out of memory")
        print("experts" + "".join(f"{name:>20}" for name in columns))
        for number, experts in enumerate(figures["experts"]):
            cells = (each[number] for each in columns.values())
            told = ("-" if s is None else f"{1e3 * s:.1f}" for s in cells)
            print(f"{experts:7}" + "".join(f"{cell:>20}" for cell in told))
    shares = figures["switching_share"]
    print(f"\nshare of time spent switching, {NODE} node, {FULL} experts, Zipf 1.0")
    for what, share in shares.items():
        of_lru = share / shares["LRU"]
        print(f"{what:24}{share:8.2%}{of_lru:8.1%} of LRU's{figures['copies'][what]:9} copies")
    print("\nmachines that keep all experts at hand")
    names = [name for name in figures["machines"][0] if name != "experts"]
    print("experts" + "".join(f"{name:>24}" for name in names))
    for row in figures["machines"]:
        print(f"{row['experts']:7}" + "".join(f"{row[name]:24}" for name in names))


def plot(figures: dict[str, Any], path: Path) -> None:
    """Draw the seconds of a batch by the number of experts, until memory is full."""
    with figure(width=9, height=4.8) as axes:
        for number, kind in enumerate(TRACES):
            for colour, (name, seconds) in enumerate(figures["seconds_per_batch"][kind].items()):
                held = [(n, s) for n, s in zip(COUNTS, seconds, strict=True) if s is not None]
                label = name if number else None
                axes.plot(*zip(*held, strict=True), color=f"C{colour}",
                          linestyle=("-", "--")[1 - number], label=label)  # fmt: skip
                if held[-1][0] < COUNTS[-1]:
                    axes.plot(*held[-1], "x", color=f"C{colour}")
        axes.set_yscale("log")
        axes.set_xlabel("experts; solid: Zipf 1.0, dashed: all miss; x: more are out of memory")
        axes.set_ylabel(f"seconds of a batch of {BATCH}")
        axes.legend(fontsize="small")
        path.write_bytes(render(axes, path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="picture, .png or .svg")
    options = parser.parse_args()
    figures = measure(options.requests, options.seed)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)
    if options.plot:
        plot(figures, options.plot)


if __name__ == "__main__":
    main()
