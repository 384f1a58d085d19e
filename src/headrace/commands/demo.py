"""``headrace demo``: from a network and a board to proven Verilog, once through."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import options as o
from headrace.errors import InputError
from headrace.output import Report, console, results_only, table
from headrace.progress import announce, progress

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.arch.design import Design
    from headrace.search.outcome import Exploration
    from headrace.verification.check import Check

__all__ = ["demo"]

_DESIGN = "tellme"
_GOAL = "min ttft_s s.t. decode_tok_per_s >= 30"
# What the published machine takes of the KV260 (TeLLMe v2, resource table).
_PUBLISHED = "lut <= 98303 and dsp <= 610 and bram36 <= 98.5 and uram <= 60"
_SAMPLES = 5_000_000
_VECTORS = 256
_WITNESSES = ("bits", "cycles", "hls", "resources")


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the emitted hardware.")
    ] = Path("out") / "demo",
    seed: o.SeedOption = 0,
    json: o.JsonOption = False,
) -> Report:
    """Explore, pick a point, emit it, prove it, compare."""
    from headrace.arch.design import load_design

    design = load_design(_DESIGN)
    device, network = o.device_and_network(design, "", "")
    announce(f"1/5 Pareto front: {design.name} running {network.name} on {device.name}")
    front = _search(design, "", (), seed)
    announce(f"2/5 one point: {_GOAL}, within the published resources")
    picked = _search(design, _GOAL, (_PUBLISHED,), seed)
    if picked.best is None:
        raise InputError(f"no point reaches: {picked.goal.text}")
    point = picked.best.point
    if not json:
        _print_choice(front, picked)
    announce(f"3/5 emitting point {point.hash[:16]} into {output}")
    from headrace.commands.emit import emission
    from headrace.rtl.emit import emit_folder

    written = emit_folder(emission(design, point, device.name), output)
    announce("4/5 proving a small instance of it: RTL, HLS, cycles, netlist")
    with results_only():
        checks: list[Check] = design.face("verify")(
            point,
            kernel="ternary_matmul",
            witnesses=_WITNESSES,
            vectors=_VECTORS,
            seed=seed,
            full_size=False,
            simulators=("icarus",),
            say=announce,
        )
    announce("5/5 the paper")
    rows = list(design.face("reproduce")())
    summary = _summary(checks, rows)
    return Report(
        command="demo",
        payload={
            "point": dict(point),
            "hash": point.hash,
            "metrics": picked.best.metrics,
            "resources": picked.best.resources,
            "pareto_points": len(front.pareto),
            "files": len(written),
            "directory": str(output),
            "summary": summary,
            "passed": all(line["passed"] for line in summary),
        },
        show=lambda out: _show(out, checks, rows, summary),
        as_json=json,
        seed=seed,
        exit_code=0 if all(line["passed"] for line in summary) else 1,
    )


def _search(design: "Design", goal: str, constraints: Sequence[str], seed: int) -> "Exploration":
    from headrace.search.explore import explore
    from headrace.search.spec import DEFAULT_OBJECTIVE
    from headrace.sim.workload import Workload

    device, network = o.device_and_network(design, "", "")
    with progress("exploring") as tick:
        return explore(
            design,
            device,
            network,
            Workload(),
            objective=goal or DEFAULT_OBJECTIVE,
            constraints=constraints,
            samples=_SAMPLES,
            seed=seed,
            progress=tick,
        )


def _print_choice(front: "Exploration", picked: "Exploration") -> None:
    """Print the front and the point as soon as they are known: the proof takes minutes."""
    from headrace.commands.explore import difference_table, front_table

    assert picked.best is not None
    out = console()
    out.print(front_table(front))
    figures = [*picked.best.metrics.items(), *picked.best.resources.items()]
    out.print(table(f"the point: {picked.goal.text}", ["figure", "value"], figures))
    out.print(difference_table(picked.best))


def _summary(checks: "Sequence[Check]", rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Return one line per witness: how many comparisons, how many agree, the largest error."""
    lines = []
    for witness in _WITNESSES:
        mine = [c for c in checks if c.witness == witness]
        lines.append(
            {
                "witness": witness,
                "compared": ", ".join(dict.fromkeys(f"{c.what} ({c.simulator})" for c in mine)),
                "checks": len(mine),
                "agree": sum(c.passed for c in mine),
                "largest_error": max(abs(c.error) for c in mine),
                "passed": all(c.passed for c in mine),
            }
        )
    claimed = [row for row in rows if row.met is not None]
    lines.append(
        {
            "witness": "paper",
            "compared": "published figures with a claimed error",
            "checks": len(claimed),
            "agree": sum(row.met for row in claimed),
            "largest_error": max(abs(row.error) for row in claimed),
            "passed": all(row.met for row in claimed),
        }
    )
    return lines


def _show(
    out: "Console",
    checks: "Sequence[Check]",
    rows: Iterable[Any],
    summary: list[Mapping[str, Any]] | list[dict[str, Any]],
) -> None:
    from headrace.commands.reproduce import reproduction_table
    from headrace.commands.verify import check_table

    out.print(check_table(checks))
    out.print(reproduction_table(_DESIGN, rows))
    lines = [
        [
            s["witness"],
            s["compared"],
            s["checks"],
            s["agree"],
            f"{s['largest_error']:.2%}",
            "pass" if s["passed"] else "FAIL",
        ]
        for s in summary
    ]
    heads = ["witness", "compared", "checks", "agree", "largest error", ""]
    out.print(table("all witnesses", heads, lines))
    out.print("Resources: netlist by Yosys, an open proxy of Vivado's counts.")
