"""``headrace verify``: the witnesses of one point side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import options as o
from headrace.errors import InputError
from headrace.output import Report, results_only, table
from headrace.progress import announce

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.verification.check import Check

__all__ = ["check_table", "verify"]

_MOST_VECTORS = 1_000_000


def verify(
    design: o.DesignArgument,
    point: o.PointOption = None,
    set_: o.SetOption = None,
    kernel: Annotated[
        str, typer.Option("--kernel", help="Kernel to check; all when left out.")
    ] = "",
    witness: Annotated[
        list[str] | None,
        typer.Option(
            "--witness", help="bits, cycles, hls or resources; repeatable, all if left out."
        ),
    ] = None,
    vectors: Annotated[int, typer.Option("--vectors", help="Random input vectors.")] = 256,
    simulator: Annotated[
        str, typer.Option("--simulator", help="icarus, verilator or both.")
    ] = "icarus",
    full_size: Annotated[
        bool, typer.Option("--full-size", help="The point as it is; takes minutes.")
    ] = False,
    seed: o.SeedOption = 0,
    json: o.JsonOption = False,
) -> Report:
    """Check bits, cycles, HLS and resources of a point.

    By default a small instance of the same structure is checked, with --full-size the point
    itself.
    """
    chosen, at = o.design_and_point(design, point, set_)

    from headrace.verification.check import SIMULATORS, WITNESSES

    face = chosen.face("verify")
    kernels = face.kernels if not kernel else (_one_of("--kernel", kernel, face.kernels),)
    witnesses = [_one_of("--witness", w, WITNESSES) for w in witness or WITNESSES]
    _one_of("--simulator", simulator, SIMULATORS)
    if not 1 <= vectors <= _MOST_VECTORS:
        raise InputError(f"--vectors {vectors} is not allowed: 1 to {_MOST_VECTORS}")
    with results_only():
        checks = [
            check
            for name in kernels
            for check in face(
                at,
                kernel=name,
                witnesses=witnesses,
                vectors=vectors,
                seed=seed,
                full_size=full_size,
                simulators=SIMULATORS[:2] if simulator == "both" else (simulator,),
                say=announce,
            )
        ]
    passed = all(check.passed for check in checks)
    return Report(
        command="verify",
        payload={"checks": [_payload(c) for c in checks], "passed": passed},
        show=lambda console: _show(console, checks),
        as_json=json,
        seed=seed,
        exit_code=0 if passed else 1,
    )


def _one_of(option: str, word: str, allowed: Sequence[str]) -> str:
    if word not in allowed:
        raise InputError(f"{option} {word!r} is not allowed: one of {', '.join(allowed)}")
    return word


def _payload(check: "Check") -> dict[str, Any]:
    return {
        "kernel": check.kernel,
        "witness": check.witness,
        "what": check.what,
        "simulator": check.simulator,
        "point": dict(check.point),
        "hash": check.point.hash,
        "passed": check.passed,
        "expected": check.expected,
        "measured": check.measured,
        "error": None if check.expected is None else check.error,
        "tolerance": check.tolerance,
        "note": check.note,
    }


def check_table(checks: Sequence["Check"]) -> Any:
    """Return the checks as a table.

    Parameters
    ----------
    checks : sequence of Check
    """
    heads = ["kernel", "witness", "what", "tool", "expected", "measured", "error", "allowed", ""]
    rows = [[c.kernel, c.witness, c.what, c.simulator, *_figures(c)] for c in checks]
    return table(f"point {checks[0].point.hash[:10]}" if checks else "", heads, rows)


def _figures(check: "Check") -> list[Any]:
    """Return the cells from what is expected to the verdict."""
    if check.expected is None:
        return ["-", check.measured, "-", "-", "fact"]
    verdict = "pass" if check.passed else "FAIL"
    error, allowed = f"{check.error:+.2%}", f"{check.tolerance:.0%}"
    return [check.expected, check.measured, error, allowed, verdict]


def _show(console: "Console", checks: Sequence["Check"]) -> None:
    console.print(check_table(checks))
    for note in sorted({c.note for c in checks if c.note}):
        console.print(note, markup=False)
    failed = sum(not c.passed for c in checks)
    console.print(f"{failed} of {len(checks)} checks FAILED" if failed else "all checks pass")
