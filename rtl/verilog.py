"""Amaranth components to Verilog text."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headrace.rtl.names import verilog_identifier

__all__ = ["to_verilog"]

_ZERO_INIT = re.compile(
    r"^  cell \$meminit_v2 \S+\n(?:    parameter .*\n)+    connect \\ADDR .*\n"
    r"    connect \\DATA \{ *\}\n    connect \\EN .*\n  end\n",
    re.MULTILINE,
)
_MEMORY = re.compile(
    r"^(  reg (?:\[\d+:0\] )?(\w+) \[(\d+):0\];\n)(?!  initial begin)", re.MULTILINE
)
_EMPTY_WIRE = re.compile(r"^  (?:wire|reg) \[-1:0\] \S+;\n", re.MULTILINE)


def to_verilog(component: Any, name: str) -> str:
    """Return `component` as one self-contained Verilog-2001 source.

    The text depends on the component alone: the Yosys that writes it is the one pinned with
    Amaranth, and no path or source line goes into it. Ports are the members of the component's
    signature, nested names joined by ``__``, besides ``clk`` and ``rst``.

    Memories of zeros are cleared in simulation alone: FPGA memories power up as zeros, a URAM
    accepts no initial value, and a line per word makes synthesis slow.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
        Not elaborated before; an Amaranth design can be elaborated once.
    name : str
        Name of the top module.

    Raises
    ------
    InputError
        `name` is not a Verilog identifier.
    """
    from amaranth.back import rtlil, verilog  # imported here: slow, and few commands need them

    verilog_identifier(name)
    with _no_zero_rows(rtlil.ModuleEmitter):
        description = _ZERO_INIT.sub("", rtlil.convert(component, name=name, emit_src=False))
    before = os.environ.get("AMARANTH_USE_YOSYS")
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    try:
        text = verilog._convert_rtlil_text(description, strip_internal_attrs=True)
    finally:
        if before is None:
            del os.environ["AMARANTH_USE_YOSYS"]
        else:
            os.environ["AMARANTH_USE_YOSYS"] = before
    # Signals of zero bits have no use but leave a declaration, [-1:0], which means two bits.
    return _MEMORY.sub(_clear_in_simulation, _EMPTY_WIRE.sub("", str(text)))


@contextmanager
def _no_zero_rows(emitter: Any) -> Iterator[None]:
    """Let Amaranth emit memories of zeros without rows.

    It spells every bit out otherwise, for the weight buffer more than all the rest takes, and
    Yosys would take minutes to read them.
    """
    emit = emitter.emit_memory

    def emit_memory(self: Any, index: int, cell: Any) -> None:
        if not any(cell.init):
            cell.init = ()
        emit(self, index, cell)

    emitter.emit_memory = emit_memory
    try:
        yield
    finally:
        emitter.emit_memory = emit


def _clear_in_simulation(match: re.Match[str]) -> str:
    memory, words = match[2], int(match[3]) + 1
    counter = f"{memory}_word"
    return (
        f"{match[1]}`ifndef SYNTHESIS\n"
        f"  integer {counter};\n"
        f"  initial for ({counter} = 0; {counter} < {words}; {counter} = {counter} + 1)"
        f" {memory}[{counter}] = 0;\n"
        "`endif\n"
    )
