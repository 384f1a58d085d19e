"""Which KV policy wins on which link: time of a frame and of a token of the answer.

    OPENBLAS_NUM_THREADS=1 python bench/vrex_policies.py    # V-Rex8, V-Rex48, AGX Orin
    OPENBLAS_NUM_THREADS=1 python bench/vrex_policies.py --device vrex8 --plot FILE.svg

Every policy runs on the published machine with the same newest tokens in device memory, one
stream, 1,000 to 40,000 cached tokens, links of 1 to 32 GB/s (raw). V-Rex8 and AGX Orin fetch from
a drive that reads 6 GB/s at most, V-Rex48 from the CPU's memory. Policies that drop tokens for
good use no link; they stand apart, with the share of the cache that they attend to. InfLLM is
left out beyond `INF_LLM_MOST` tokens: its history takes minutes here. All at ``analytic``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.arch.device import load_device
from headrace.arch.vrex import VREX
from headrace.models.network import load_network
from headrace.search.space import Space
from headrace.search.vrex import SPACE
from headrace.sim.picture import figure, render
from headrace.sim.workload import Workload

LINKS = (1000, 2000, 4000, 8000, 16_000, 32_000)
LENGTHS = (1000, 5000, 10_000, 20_000, 40_000)
REACHING = ("full", "infinigen", "infinigen_p", "inf_llm", "rekv", "resv")
DROPPING = ("streaming_llm", "duo_attention", "sir_llm")
INF_LLM_MOST = 1000
DEVICES = {"vrex8": 8, "vrex48": 48, "agx-orin": 8}
TIE = 0.02
METRICS = {"frame_s": "a frame", "tpot_s": "a token of the answer"}

Figures = dict[tuple[str, int, int], dict[str, float]]
"""By policy, cached tokens and link."""


def evaluate(device: str, options: dict[str, Any]) -> Figures:
    """Return the figures of every policy, length and link on a device."""
    found: Figures = {}
    points = Space(VREX, {"link_mb_per_s": LINKS})
    for cached in LENGTHS:
        keys = [
            (policy, cached, link)
            for policy in (*REACHING, *DROPPING)
            for link in LINKS
            if policy != "inf_llm" or cached <= INF_LLM_MOST
        ]
        values = {"cores": DEVICES[device], **options}
        rows = points.encode(
            VREX.point({**values, "policy": policy, "link_mb_per_s": link})
            for policy, _, link in keys
        )
        workload = Workload(
            context_tokens=cached, frames=26, prompt_tokens=25, output_tokens=39
        )  # fmt: skip
        evaluator = SPACE.evaluator(load_device(device), load_network("llama-3-8b"), workload)
        batch = evaluator.evaluate(rows)
        for number, key in enumerate(keys):
            if batch.broken[number] == 0:
                found[key] = {name: float(c[number]) for name, c in batch.columns.items()}
    return found


def winners(found: Figures, metric: str, cached: int, link: int) -> list[str]:
    """Return the policies that reach every token and are within 2 % of the fastest, in order."""
    times = {p: found[p, cached, link][metric] for p in REACHING if (p, cached, link) in found}
    least = min(times.values())
    return sorted((p for p in times if times[p] <= least * (1 + TIE)), key=lambda p: times[p])


def print_times(found: Figures, metric: str, policies: Sequence[str]) -> None:
    """Print the milliseconds of every cell, and the kept share of policies that drop tokens."""
    share = {"frame_s": "frame_kept_share", "tpot_s": "answer_kept_share"}[metric]
    print("  cached policy        " + "".join(f"{link // 1000:7d} GB/s" for link in LINKS), " kept")
    for cached in LENGTHS:
        for policy in policies:
            cells = [found.get((policy, cached, link)) for link in LINKS]
            if cells[0] is None:
                continue
            told = "".join(f"{c[metric] * 1e3:12.1f}" for c in cells if c is not None)
            print(f"  {cached:6d} {policy:14}{told}  {cells[0][share]:5.1%}")


def print_winners(found: Figures, metric: str) -> None:
    """Print who wins each cell, with those that tie."""
    print("  winner, ties within 2 % behind it")
    for cached in LENGTHS:
        for links, names in _equal_neighbours(found, metric, cached):
            print(f"  {cached:6d} tokens, {links:>13} GB/s: {', '.join(names)}")


def _equal_neighbours(found: Figures, metric: str, cached: int) -> list[tuple[str, list[str]]]:
    """Return ranges of links with the same winner and ties."""
    ranges: list[tuple[list[int], list[str]]] = []
    for link in LINKS:
        names = winners(found, metric, cached, link)
        if ranges and ranges[-1][1] == names:
            ranges[-1][0].append(link // 1000)
        else:
            ranges.append(([link // 1000], names))
    return [(str(g[0]) if len(g) == 1 else f"{g[0]} to {g[-1]}", names) for g, names in ranges]


def plot(found: Figures, device: str, path: Path) -> None:
    """Draw a map of the winners, a frame on the left and a token of the answer on the right."""
    with figure(width=13, height=4.2) as axes:
        for side, (metric, what) in enumerate(METRICS.items()):
            left = side * (len(LINKS) + 0.5)
            axes.text(left + len(LINKS) / 2 - 0.5, len(LENGTHS) - 0.35, what, ha="center")
            for x, link in enumerate(LINKS):
                for y, cached in enumerate(LENGTHS):
                    names = winners(found, metric, cached, link)
                    colour = f"C{REACHING.index(names[0])}"
                    milliseconds = found[names[0], cached, link][metric] * 1e3
                    axes.add_patch(_cell(left + x, y, colour))
                    told = names[0] if len(names) == 1 else f"{names[0]} +{len(names) - 1}"
                    axes.text(left + x, y, f"{told}\n{milliseconds:.0f} ms", ha="center",
                              va="center", fontsize=7)  # fmt: skip
        places = [s * (len(LINKS) + 0.5) + x for s in range(2) for x in range(len(LINKS))]
        axes.set_xticks(places, [str(link // 1000) for link in LINKS] * 2)
        axes.set_yticks(range(len(LENGTHS)), [f"{cached:,}" for cached in LENGTHS])
        axes.set_xlim(-0.5, places[-1] + 0.5)
        axes.set_ylim(-0.5, len(LENGTHS) - 0.1)
        axes.set_xlabel("link, GB/s; +n: so many more policies within 2 %")
        axes.set_ylabel("cached tokens")
        axes.set_title(f"fastest policy that reaches every token, {device}")
        for side_of in axes.spines.values():
            side_of.set_visible(False)
        path.write_bytes(render(axes, path))


def _cell(x: float, y: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=0.45, edgecolor="white")


def main() -> None:
    """Print tables for each device, and draw the map of one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=DEVICES, action="append")
    parser.add_argument("--resident", type=int, default=VREX.point()["resident_tokens"])
    parser.add_argument("--evict", choices=("token", "page"), default="token")
    parser.add_argument("--plot", type=Path, help="map of the first device, .png or .svg")
    arguments = parser.parse_args()
    options = {"resident_tokens": arguments.resident, "evict": arguments.evict}
    for number, device in enumerate(arguments.device or DEVICES):
        found = evaluate(device, options)
        for metric, what in METRICS.items():
            print(f"\n{device}: milliseconds of {what}, policies that reach every token")
            print_times(found, metric, REACHING)
            print_winners(found, metric)
            print(f"\n{device}: milliseconds of {what}, policies that drop tokens")
            print_times(found, metric, DROPPING)
        if arguments.plot and number == 0:
            plot(found, device, arguments.plot)


if __name__ == "__main__":
    main()
