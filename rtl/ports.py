"""Ports: of emitted Verilog, of a component, and what a register map wants."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import InputError
from headrace.rtl.registers import RegisterMap

__all__ = [
    "Finding",
    "Ports",
    "check_ports",
    "check_registers",
    "signature_ports",
    "verilog_ports",
]

Ports = Mapping[str, tuple[str, int]]  # name to ("input" or "output", width)

_ATTRIBUTE = re.compile(r"\(\*(?!\)).*?\*\)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a tool complains about.

    Parameters
    ----------
    tool, code, message : str
        Who, the tool's name of the complaint, and its words.
    line : int
        Line of the text, 0 if there is none.
    """

    tool: str
    code: str
    message: str
    line: int = 0


def verilog_ports(text: str, module: str) -> dict[str, tuple[str, int]]:
    """Return direction and width of the ports of `module`, parsed by pyverilog.

    Raises
    ------
    InputError
        pyverilog or the preprocessor it calls, iverilog, is not installed.
    ValueError
        The text cannot be parsed or has no such module.
    """
    try:
        from pyverilog.vparser import ast
        from pyverilog.vparser.parser import ParseError, VerilogCodeParser
    except ImportError as error:
        raise InputError(
            "pyverilog is missing: lint needs it, pip install 'headrace[verify]'"
        ) from error
    with tempfile.TemporaryDirectory(prefix="headrace-lint-") as folder:
        source = Path(folder) / "source.v"
        # pyverilog does not know attributes inside statements; ports have none.
        source.write_text(_ATTRIBUTE.sub("", text), "utf-8")
        parser = VerilogCodeParser(
            [str(source)],
            preprocess_output=str(Path(folder) / "preprocessed.v"),
            outputdir=folder,
            debug=False,
        )
        try:
            description = parser.parse().description
        except FileNotFoundError as error:
            raise InputError("iverilog is missing: pyverilog preprocesses with it") from error
        except ParseError as error:
            raise ValueError(f"pyverilog: {error}") from error
    wanted = {module, f"\\{module}"}
    for definition in description.definitions:
        if isinstance(definition, ast.ModuleDef) and definition.name.strip() in wanted:
            return _declared(definition, ast)
    raise ValueError(f"there is no module {module}")


def _declared(definition: Any, ast: Any) -> dict[str, tuple[str, int]]:
    found = {}
    declarations = [port.first for port in definition.portlist.ports if hasattr(port, "first")]
    for item in definition.items:
        declarations += item.list if isinstance(item, ast.Decl) else ()
    for declaration in declarations:
        if isinstance(declaration, (ast.Input, ast.Output, ast.Inout)):
            bounds = declaration.width
            width = int(bounds.msb.value) - int(bounds.lsb.value) + 1 if bounds else 1
            found[declaration.name] = (type(declaration).__name__.lower(), width)
    return found


def signature_ports(component: Any) -> dict[str, tuple[str, int]]:
    """Return the ports that the Verilog of an Amaranth component must have.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
    """
    from amaranth.hdl import Shape
    from amaranth.lib.wiring import In

    found = {"clk": ("input", 1), "rst": ("input", 1)}
    for path, member, _ in component.signature.flatten(component):
        direction = "input" if member.flow is In else "output"
        found["__".join(map(str, path))] = (direction, Shape.cast(member.shape).width)
    return found


def check_ports(actual: Ports, expected: Ports) -> tuple[Finding, ...]:
    """Return one finding for each port that differs between the two lists."""
    found = []
    for name in sorted({*actual, *expected}):
        if actual.get(name) != expected.get(name):
            message = f"port {name}: {actual.get(name)} in Verilog, {expected.get(name)} expected"
            found.append(Finding(tool="pyverilog", code="port", message=message))
    return tuple(found)


def check_registers(text: str, module: str, registers: RegisterMap) -> tuple[Finding, ...]:
    """Compare the ports of an emitted `AxiLiteRegisters` with its register map.

    Every register that software writes must be an output of the right width; one that hardware
    drives an input, or no port at all if it is constant.
    """
    ports = verilog_ports(text, module)
    found = list(
        check_ports(
            {"araddr": ports.get("araddr", ("missing", 0))},
            {"araddr": ("input", registers.address_bits)},
        )
    )
    for register in registers:
        expected = ("output", register.width)
        name = register.name
        if register.access == "read":
            name, expected = f"read_{register.name}", ("input", register.width)
            if name not in ports:
                continue
        elif register.access == "command":
            name, expected = f"start_{register.name}", ("output", 1)
        found += check_ports({name: ports.get(name, ("missing", 0))}, {name: expected})
    return tuple(found)
