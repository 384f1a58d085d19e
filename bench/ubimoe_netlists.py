"""Map random UbiMoE kernels with Yosys, fit the LUT factors, print the models' errors.

    python bench/ubimoe_netlists.py map [KERNEL ...]    # map the points that the data lacks
    python bench/ubimoe_netlists.py map --roles fit     # only points of these roles
    python bench/ubimoe_netlists.py map --update-golden # map all of them again
    python bench/ubimoe_netlists.py fit                 # on the role "fit", write the factors
    python bench/ubimoe_netlists.py errors              # by kernel, fitted and blind apart

Sizes are drawn from the seeds in ubimoe_points.py. Mapping takes 10 to 60 s per point; an
interrupted run is taken up where it stopped.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from scipy.optimize import nnls
from ubimoe_points import KERNELS, Axes, Kernel, planned

from headrace.errors import InputError
from headrace.files import write_atomic

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/arch/golden"
COEFFICIENTS = ROOT / "arch/ubimoe/lut_coefficients.toml"
HEADER = "# Written by bench/ubimoe_netlists.py fit: factors of LUT terms of UbiMoE's kernels.\n\n"
BLOCKS = ("dsp", "bram36", "uram")
ROLES = ("fit", "blind", "large")


def golden_path(name: str) -> Path:
    return GOLDEN / f"ubimoe_{name}.json"


def load(name: str) -> Axes:
    path = golden_path(name)
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def counts_of(kernel: Kernel, name: str, axes: Axes, timeout_s: float) -> Axes:
    """Map one point."""
    from headrace.rtl.netlist import map_netlist
    from headrace.rtl.verilog import to_verilog

    verilog = to_verilog(kernel.build(kernel.sizes(axes)), name)
    return dict(vars(map_netlist(verilog, name, timeout_s=timeout_s)))


def map_points(name: str, update: bool, roles: Sequence[str], timeout_s: float) -> None:
    """Map what the golden data of a kernel lacks."""
    kernel, stored = KERNELS[name], load(name)
    known = {json.dumps(entry["axes"]): entry for entry in stored.get("points", [])}
    points = [(draw.role, draw.seed, axes) for draw, axes in planned(kernel)]
    points += [("large", None, axes) for axes in kernel.large]
    entries = []
    for number, (role, seed, axes) in enumerate(points):
        entry = known.get(json.dumps(axes))
        if role in roles and (entry is None or update):
            counts = counts_of(kernel, name, axes, timeout_s)
            stored["yosys_version"] = counts.pop("yosys_version")
            stored["date"] = datetime.now(UTC).date().isoformat()
            entry = {"axes": axes, "counts": counts}
            print(f"{name} {number + 1}/{len(points)} {role} {counts}", flush=True)
        if entry is None:
            continue
        entries.append({"role": role, "seed": seed, **{k: entry[k] for k in ("axes", "counts")}})
        later = [known[key] for _, _, a in points[number + 1 :] if (key := json.dumps(a)) in known]
        golden = {
            "schema": "headrace/golden-netlists/2",
            "mapper": "Yosys synth_xilinx -family xcup, pyosys " + stored["yosys_version"],
            "yosys_version": stored["yosys_version"],
            "date": stored["date"],
            "points": entries + later,
        }
        write_atomic(golden_path(name), json.dumps(golden, indent=1) + "\n")


def of_role(name: str, role: str) -> list[Axes]:
    return [entry for entry in load(name).get("points", []) if entry["role"] == role]


def fit(name: str) -> dict[str, float]:
    """Return the factors of a kernel's fitted terms by non-negative least squares.

    Relative errors count. What is not fitted is a count already.
    """
    kernel, entries = KERNELS[name], of_role(name, "fit")
    names = kernel.fitted
    sizes = [kernel.sizes(entry["axes"]) for entry in entries]
    terms = [kernel.terms(s) for s in sizes]
    counts = np.array([entry["counts"]["lut"] for entry in entries], float)
    matrix = np.array([[t[n].lut if n in t else 0.0 for n in names] for t in terms])
    exact = np.array(
        [
            kernel.blocks(s).lut + sum(term.lut for n, term in t.items() if n not in names)
            for s, t in zip(sizes, terms, strict=True)
        ]
    )
    factors, _ = nnls(matrix / counts[:, None], (counts - exact) / counts)
    return {n: float(f"{factor:.4g}") for n, factor in zip(names, factors, strict=True)}


def write_factors() -> None:
    written: dict[str, Any] = {}
    for name, kernel in KERNELS.items():
        if kernel.fitted:
            written.setdefault(kernel.section, {}).update(fit(name))
    write_atomic(COEFFICIENTS, HEADER + tomli_w.dumps(written))


def relative(name: str, entries: Sequence[Axes]) -> tuple[NDArray[Any], int]:
    """Return the relative errors of LUT and FF, and how many points have exact blocks."""
    kernel = KERNELS[name]
    models = [kernel.resources(kernel.sizes(entry["axes"])).as_dict() for entry in entries]
    pairs = list(zip(models, [entry["counts"] for entry in entries], strict=True))
    found = [[model[kind] / counts[kind] - 1 for kind in ("lut", "ff")] for model, counts in pairs]
    exact = sum(all(model[b] == counts[b] for b in BLOCKS) for model, counts in pairs)
    return np.array(found).reshape(-1, 2), exact


def errors(names: Sequence[str]) -> None:
    """Print the errors by role and kernel."""
    print(
        "role   kernel               points  LUT median   worst  FF median   worst  DSP, BRAM equal"
    )
    for role in ROLES:
        everything, equal = [], 0
        for name in names:
            entries = of_role(name, role)
            if entries:
                found, exact = relative(name, entries)
                everything.append(found)
                equal += exact
                print_row(role, name, found, exact)
        if len(everything) > 1:
            print_row(role, "all", np.concatenate(everything), equal)


def print_row(role: str, name: str, found: NDArray[Any], exact: int) -> None:
    size = abs(found)
    columns = [f"{np.median(size[:, i]):>10.2%} {size[:, i].max():>7.2%}" for i in (0, 1)]
    equal = f"{exact} of {len(found)}"
    print(f"{role:6} {name:20} {len(found):6}  {columns[0]} {columns[1]}  {equal:>9}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["map", "fit", "errors"])
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=", ".join(KERNELS))
    parser.add_argument("--update-golden", action="store_true", help="map known points again")
    parser.add_argument("--roles", default=",".join(ROLES), help="map only points of these roles")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds per point")
    options = parser.parse_args()
    unknown = sorted(set(options.kernels) - set(KERNELS))
    if unknown:
        raise InputError(f"no such kernel: {', '.join(unknown)}; there are {', '.join(KERNELS)}")
    names = options.kernels or list(KERNELS)
    if options.action == "fit":
        write_factors()
    elif options.action == "errors":
        errors(names)
    else:
        for name in names:
            map_points(name, options.update_golden, options.roles.split(","), options.timeout)


if __name__ == "__main__":
    main()
