"""UbiMoE's points by search: the heuristic against the enumeration, and the paper's own points.

    python bench/ubimoe_search.py heuristic   # two-stage against all points, for both boards
    python bench/ubimoe_search.py published   # the points nearest to the published resources
    python bench/ubimoe_search.py fastest     # the fastest within them; four channels on the U280
    python bench/ubimoe_search.py beyond      # best single-image latency in the same resources

The genome is the paper's: num, T_a, N_a, T_in, T_out, N_L; all else is at its default but for the
board's clock. `published` compares DSP, block RAM, LUT and FF only, the worst of the four errors
against 10, 20, 25 and 25 %, so that latency and power of the points found are predictions.
"""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from headrace.arch.device import Device, load_device
from headrace.arch.ubimoe import UBIMOE
from headrace.models.network import load_network
from headrace.search.explore import explore
from headrace.search.space import Space
from headrace.search.ubimoe import SPACE
from headrace.sim.workload import Workload

GENOME = (
    "attention_modules",
    "attention_dims",
    "attention_lanes",
    "tile_in",
    "tile_out",
    "linear_lanes",
)
CLOCK = {"zcu102": 300, "u280": 200}
PUBLISHED = {
    "zcu102": {"dsp": 1850, "bram36": 458, "lut": 123_400, "ff": 142_600},
    "u280": {"dsp": 3413, "bram36": 974, "lut": 316_100, "ff": 385_900},
}
TOLERANCE = {"dsp": 0.10, "bram36": 0.20, "lut": 0.25, "ff": 0.25}
SEEDS = range(5)
CHIP_GENOME = (*GENOME, "msa_linear_lanes", "exp_units")
NETWORK = load_network("m3vit-tiny")


def choices(board: str, free: Iterable[str], **fixed: Any) -> dict[str, list[Any]]:
    """Return what the search enumerates: the free axes, everything else at one value."""
    values = {"clock_mhz": CLOCK[board], **fixed}
    return {
        axis.name: [values.get(axis.name, axis.default)]
        for axis in UBIMOE.axes
        if axis.name not in set(free)
    }


def limits(board: str) -> list[str]:
    """Return the published resources as conditions."""
    return [f"{name} <= {count}" for name, count in PUBLISHED[board].items()]


def heuristic(device: Device) -> None:
    """Print what the two-stage heuristic finds, and how far it is from the optimum."""
    fixed = choices(device.name, GENOME, overlap="images")
    goal = "min interval_s"
    common: dict[str, Any] = {
        "objective": goal, "constraints": limits(device.name), "fixed": fixed,
    }  # fmt: skip
    whole = explore(UBIMOE, device, NETWORK, Workload(), strategy="exhaustive", **common)
    assert whole.best is not None
    best = whole.best.metrics["interval_s"]
    print(f"\n{device.name}: {goal}")
    print(
        f"  enumeration: {whole.evaluated} points, {whole.feasible} feasible, {best * 1e3:.3f} ms"
    )
    show(whole.best.point, whole.best.metrics, whole.best.resources)
    for samples in (100, 300, 1000):
        gaps = []
        for seed in SEEDS:
            found = explore(
                UBIMOE, device, NETWORK, Workload(), strategy="two-stage", samples=samples,
                seed=seed, **common,
            ).best  # fmt: skip
            gaps.append(np.inf if found is None else found.metrics["interval_s"] / best - 1)
        print(
            f"  two-stage, {samples} points: {min(gaps):.2%} to {max(gaps):.2%} above the optimum, "
            f"median {np.median(gaps):.2%}, {len(gaps)} seeds"
        )


def published(device: Device) -> None:
    """Print the points whose resources are nearest to the published ones."""
    space = Space(UBIMOE, choices(device.name, GENOME))
    evaluator = SPACE.evaluator(device, NETWORK, Workload())
    rows = space.rows(space.range(0, space.size))
    batch = evaluator.evaluate(rows)
    target = PUBLISHED[device.name]
    errors = np.stack([batch.columns[name] / count - 1 for name, count in target.items()])
    near = np.abs(errors[0]) <= TOLERANCE["dsp"]
    largest = ", ".join(
        f"{name} {batch.columns[name][near].max():,.0f} ({errors[i][near].max():+.0%})"
        for i, name in enumerate(target)
    )
    bounds = np.array([[TOLERANCE[name]] for name in target])
    distance = (np.abs(errors) / bounds).max(axis=0)
    distance[batch.broken != 0] = np.inf
    print(f"\n{device.name}: {space.size} points, nearest to {target}")
    print(f"  most of each at a DSP count within 10 % ({near.sum()} points): {largest}")
    for at in np.argsort(distance)[:5]:
        figures = {name: float(values[at]) for name, values in batch.columns.items()}
        told = ", ".join(f"{n} {e:+.1%}" for n, e in zip(target, errors[:, at], strict=True))
        print(f"  {distance[at]:.2f} of the tolerance: {told}")
        show(space.decode(rows[at]), figures, figures)


def fastest(device: Device) -> None:
    """Print the best single image of the published machine in the published resources."""
    ports = 1 if device.name == "zcu102" else 4
    lowest_latency(device, choices(device.name, GENOME, weight_ports=ports))


def beyond(device: Device) -> None:
    """Print the best single image with Q, K and V on chip, in the published resources."""
    ports = 2 if device.name == "zcu102" else 8
    free = set(CHIP_GENOME) - {"attention_modules"}
    lowest_latency(device, choices(device.name, free, keys="chip", weight_ports=ports))


def lowest_latency(device: Device, fixed: Mapping[str, list[Any]]) -> None:
    """Print the point of the lowest latency within the published resources."""
    found = explore(
        UBIMOE, device, NETWORK, Workload(), strategy="exhaustive", fixed=fixed,
        objective="min latency_s", constraints=limits(device.name),
    )  # fmt: skip
    print(f"\n{device.name}: {', '.join(limits(device.name))}")
    print(f"  {found.evaluated} points, {found.feasible} feasible; lowest latency:")
    if found.best is not None:
        show(found.best.point, found.best.metrics, found.best.resources)


def show(
    point: Mapping[str, Any], metrics: Mapping[str, float], resources: Mapping[str, float]
) -> None:
    """Print a point's genome and figures."""
    genes = ", ".join(f"{name} = {point[name]}" for name in CHIP_GENOME)
    counts = ", ".join(f"{name} {resources[name]:,.1f}" for name in PUBLISHED["zcu102"])
    print(f"    {genes}")
    print(
        f"    latency {metrics['latency_s'] * 1e3:.3f} ms, interval "
        f"{metrics['interval_s'] * 1e3:.3f} ms, {metrics['power_w']:.2f} W; {counts}"
    )


def main() -> None:
    """Run one of the four."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = {
        "heuristic": heuristic,
        "published": published,
        "fastest": fastest,
        "beyond": beyond,
    }
    parser.add_argument("what", choices=what)
    parser.add_argument("--device", choices=CLOCK, action="append")
    arguments = parser.parse_args()
    for board in arguments.device or CLOCK:
        what[arguments.what](load_device(board))


if __name__ == "__main__":
    main()
