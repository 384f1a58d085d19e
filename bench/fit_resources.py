"""Map random engines with Yosys, fit the LUT and FF coefficients, print the model's errors.

    python bench/fit_resources.py map              # map the points that the golden data lacks
    python bench/fit_resources.py map --update-golden    # map all of them again
    python bench/fit_resources.py fit              # fit on the role "fit", write the coefficients
    python bench/fit_resources.py errors           # errors on every role, and leaving one out
    python bench/fit_resources.py calibrate        # what the engine leaves of the published table

Mapping takes about 20 s per point and core; an interrupted run is taken up where it stopped.
"""

import argparse
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tomli_w
from scipy.optimize import nnls

from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes
from headrace.errors import InputError
from headrace.files import write_atomic

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/arch/golden/tellme_netlists.json"
CALIBRATION = ROOT / "arch/calibration.toml"
COEFFICIENTS = ROOT / "arch/tellme/lut_coefficients.toml"
HEADER = "# Written by bench/fit_resources.py fit: factors of the terms in engine_resources.py.\n\n"
FIT_SEEDS = {20251017: 64, 20251122: 26}  # points by seed; the second set was a blind test once
TEST_SEED, TEST_POINTS = 20251123, 24  # drawn and mapped after terms and factors were frozen
# Larger than anything that was fitted: how the model extrapolates.
LARGE: tuple[dict[str, object], ...] = (
    {"tables": 28, "copies": 16, "weight_banks": 8},
    {
        "tables": 64, "copies": 8, "lookup_method": "half", "table_buffers": 2,
        "activation_lanes": 64, "weight_banks": 4, "weight_words": 8192, "weight_slots": 2,
        "weight_layout": "exact", "weight_packing": "group", "weight_ports": 4,
        "port_bits": 128, "accumulator_bits": 20,
    },
)  # fmt: skip


def random_point(rng: np.random.Generator) -> Point:
    """Draw an engine that maps within seconds; every engine axis varies."""
    while True:
        group = int(rng.integers(1, 6))
        tables = int(rng.integers(2, 17))
        copies = int(rng.choice([2, 4, 4, 8, 8, 16, 3, 6, 12]))
        divider = int(rng.choice([d for d in (1, 2, 4) if copies % d == 0]))
        slots = int(rng.integers(1, 4))
        lanes = int(rng.choice([1, 1, 2, 3, 4, 8, 16]))
        values = {
            "group_size": group,
            "tables": tables,
            "copies": copies,
            "lookup_method": str(rng.choice(["naive", "half", "full", "full"])),
            "table_buffers": int(rng.integers(1, 3)),
            "activation_lanes": min(lanes, group * tables),
            "block_gap_cycles": int(rng.choice([0, 108])),
            "weight_banks": copies // divider,
            "weight_words": int(rng.choice([48, 256, 512, 1024, 4096, 6000, 10944])),
            "weight_slots": slots,
            "weight_layout": "exact",
            "weight_packing": str(rng.choice(["beat", "group"])),
            "weight_ports": int(rng.integers(1, 4)),
            "port_bits": int(rng.choice([128, 256])),
            "accumulator_bits": int(rng.choice([20, 24, 32])),
            "max_outputs": copies * int(rng.choice([16, 64, 96, 256, 600])),
        }
        work = tables * copies * (group if values["lookup_method"] == "naive" else 1)
        try:
            point = TELLME.point(values)
        except InputError:
            continue
        if work <= 72:
            return point


def planned_points() -> list[tuple[str, Point]]:
    """Return every point with its role: fit, test or large."""
    planned = []
    draws = [("fit", seed, count) for seed, count in FIT_SEEDS.items()]
    for role, seed, count in (*draws, ("test", TEST_SEED, TEST_POINTS)):
        rng = np.random.Generator(np.random.PCG64(seed))
        planned += [(role, random_point(rng)) for _ in range(count)]
    return planned + [("large", TELLME.point(values)) for values in LARGE]


_AXES = (
    "group_size tables copies lookup_method table_buffers activation_lanes block_gap_cycles "
    "weight_banks weight_words weight_slots weight_layout weight_packing weight_ports port_bits "
    "accumulator_bits max_outputs"
)
ENGINE_AXES = tuple(_AXES.split())


def engine_axes(point: Point) -> dict[str, object]:
    """Return the axes that shape the engine; the others and their defaults do not matter here."""
    return {name: point[name] for name in ENGINE_AXES}


def key(axes: dict[str, object]) -> str:
    return json.dumps(axes, sort_keys=True)


def load_golden() -> dict[str, object]:
    if GOLDEN.exists():
        return json.loads(GOLDEN.read_text("utf-8"))
    return {"schema": "headrace/golden-netlists/1", "points": []}


def map_points(update: bool, roles: list[str], limit: int, timeout_s: float) -> None:
    from headrace.rtl.netlist import map_netlist
    from headrace.rtl.tellme.engine import TernaryMatmul
    from headrace.rtl.verilog import to_verilog

    golden = load_golden()
    known = {} if update else {key(e["axes"]): e for e in golden["points"]}
    entries = []
    planned = planned_points()
    for number, (role, point) in enumerate(planned):
        entry = known.get(key(engine_axes(point)))
        if entry is not None:
            entry["role"] = role
        if entry is None and role in roles and limit > 0:
            limit -= 1
            component = TernaryMatmul(engine_sizes(point))
            text = to_verilog(component, "ternary_matmul")
            try:
                counts = map_netlist(text, "ternary_matmul", timeout_s=timeout_s)
            except RuntimeError as error:
                print(f"{number + 1}/{len(planned)} left out: {error}", flush=True)
                continue
            entry = {"role": role, "axes": engine_axes(point)}
            golden["yosys_version"] = counts.yosys_version
            entry["counts"] = {k: v for k, v in vars(counts).items() if k not in ("yosys_version",)}
            print(f"{number + 1}/{len(planned)} {entry['counts']}", flush=True)
            golden["date"] = datetime.now(UTC).date().isoformat()
        if entry is not None:
            entries.append(entry)
            rest = [key(engine_axes(p)) for _, p in planned[number + 1 :]]
            later = [known[k] for k in rest if k in known]
            golden["points"] = entries + later
            write_atomic(GOLDEN, json.dumps(golden, indent=1) + "\n")


# Terms that are counts already; only the rest is fitted.
EXACT = {
    "lut": {
        "table_lutram", "table_mux", "half_lookup", "naive_lookup", "builders",
        "accumulator_lutram", "buffer_lutram", "tree_adders", "accumulators", "buffer_mux",
    },
    "ff": {
        "reader", "builder", "select", "values", "naive_sets", "tree", "latest",
        "accumulator_read", "held", "buffer_registers", "first_half",
    },
}  # fmt: skip


def table(entries: list[dict], resource: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return term names, the terms of every entry and the counts."""
    from headrace.arch.tellme import engine_resources as model

    terms = {"lut": model.lut_terms, "ff": model.ff_terms}[resource]
    rows = [terms(model.size_columns(engine_sizes(TELLME.point(e["axes"])))) for e in entries]
    matrix = np.array([[float(value) for value in row.values()] for row in rows])
    return list(rows[0]), matrix, np.array([e["counts"][resource] for e in entries], float)


def factors_of(exact: np.ndarray, matrix: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the factor of every term; relative errors count, so rows are weighted."""
    rest = counts - matrix[:, exact].sum(axis=1)
    factors = np.ones(matrix.shape[1])
    factors[~exact], _ = nnls(matrix[:, ~exact] / counts[:, None], rest / counts)
    return factors


def fit() -> None:
    golden = load_golden()
    entries = [e for e in golden["points"] if e["role"] == "fit"]
    written: dict[str, object] = {
        "provenance": {
            "mapper": f"Yosys synth_xilinx -family xcup, pyosys {golden['yosys_version']}",
            "points": len(entries),
            "seeds": list(FIT_SEEDS),
            "date": datetime.now(UTC).date().isoformat(),
        }
    }
    for resource in ("lut", "ff"):
        names, matrix, counts = table(entries, resource)
        factors = factors_of(np.array([n in EXACT[resource] for n in names]), matrix, counts)
        written[resource] = {n: float(f"{f:.5g}") for n, f in zip(names, factors, strict=True)}
    write_atomic(COEFFICIENTS, HEADER + tomli_w.dumps(written))


def leave_one_out(entries: list[dict], resource: str) -> np.ndarray:
    """Return the relative error at each entry of a fit on the others."""
    names, matrix, counts = table(entries, resource)
    exact = np.array([n in EXACT[resource] for n in names])
    errors = []
    for left in range(len(entries)):
        kept = np.arange(len(entries)) != left
        factors = factors_of(exact, matrix[kept], counts[kept])
        errors.append(abs(matrix[left] @ factors / counts[left] - 1))
    return np.array(errors)


def errors() -> None:
    from headrace.arch.tellme.engine_resources import engine_resources

    golden = load_golden()
    print("role   points  LUT median   worst  FF median   worst  URAM, BRAM, DSP equal")
    for role in ("fit", "test", "large"):
        entries = [e for e in golden["points"] if e["role"] == role]
        if not entries:
            continue
        models = [engine_resources(engine_sizes(TELLME.point(e["axes"]))) for e in entries]
        columns = []
        for resource in ("lut", "ff"):
            error = [
                abs(getattr(m, resource) / e["counts"][resource] - 1)
                for m, e in zip(models, entries, strict=True)
            ]
            columns.append(f"{np.median(error):>10.2%} {max(error):>7.2%}")
        equal = sum(
            all(getattr(m, name) == e["counts"][name] for name in ("uram", "bram36", "dsp"))
            for m, e in zip(models, entries, strict=True)
        )
        print(f"{role:6} {len(entries):6}  {columns[0]}  {columns[1]}  {equal} of {len(entries)}")
    entries = [e for e in golden["points"] if e["role"] == "fit"]
    left = [leave_one_out(entries, resource) for resource in ("lut", "ff")]
    columns = [f"{np.median(error):>10.2%} {error.max():>7.2%}" for error in left]
    print(f"one out{len(entries):6}  {columns[0]}  {columns[1]}")


# Table 3 of the paper.
PUBLISHED = {"ff": 136_721, "bram36": 98.5}
PUBLISHED_FUSED_LUT = 43_137 + 6_885
PUBLISHED_REST_LUT = 20_639


def calibrate() -> None:
    """Write what the modules with a structure leave of the published table to the rest."""
    from headrace.arch.calibration import constant
    from headrace.arch.tellme.resources import resources

    modules = resources(TELLME.point())
    engine = modules["ternary_matmul"] + modules["weight_buffer"]
    shell = modules["axi_shell"]
    total = sum(modules.values(), start=Resources())
    luts = {
        "elementwise": round(PUBLISHED_FUSED_LUT - engine.lut),
        "rms_max": round(PUBLISHED_REST_LUT - shell.lut),
    }
    fabric = sum(luts.values()) + modules["prefill_attention"].lut + modules["decode_attention"].lut
    others = total.bram36 - constant("tellme.rms_max_bram36")
    values = {f"{module}_lut": lut for module, lut in luts.items()} | {
        "rms_max_bram36": PUBLISHED["bram36"] - others,
        "fabric_ff_per_lut": round((PUBLISHED["ff"] - engine.ff - shell.ff) / fabric, 4),
    }
    text = CALIBRATION.read_text("utf-8")
    for name, value in values.items():
        header = re.escape(f"[tellme.{name}]")
        text, found = re.subn(rf"({header}\nvalue = )\S+", rf"\g<1>{value}", text)
        if found != 1:
            raise InputError(f"{CALIBRATION}: one table tellme.{name} expected, found {found}")
        print(f"tellme.{name} = {value}")
    write_atomic(CALIBRATION, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["map", "fit", "errors", "calibrate"])
    parser.add_argument("--update-golden", action="store_true", help="map known points again")
    parser.add_argument("--limit", type=int, default=1000, help="map at most so many points")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds per point")
    parser.add_argument("--roles", default="fit,test,large", help="only points of these roles")
    options = parser.parse_args()
    if options.action == "map":
        map_points(options.update_golden, options.roles.split(","), options.limit, options.timeout)
    else:
        {"fit": fit, "errors": errors, "calibrate": calibrate}[options.action]()


if __name__ == "__main__":
    main()
