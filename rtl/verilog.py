"""Amaranth components to Verilog text."""

import os
import re
from typing import Any

from headrace.rtl.names import verilog_identifier

__all__ = ["to_verilog"]

_MEMORY_INIT = re.compile(r"  initial begin\n((?:    (\w+)\[\d+\] = \d+'h0+;\n)+)  end\n")

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
    from amaranth.back import verilog  # imported here: it is slow and few commands need it

    verilog_identifier(name)
    before = os.environ.get("AMARANTH_USE_YOSYS")
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    try:
        text = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    finally:
        if before is None:
            del os.environ["AMARANTH_USE_YOSYS"]
        else:
            os.environ["AMARANTH_USE_YOSYS"] = before
    # Signals of zero bits have no use but leave a declaration, [-1:0], which means two bits.
    return _MEMORY_INIT.sub(_clear_in_simulation, _EMPTY_WIRE.sub("", str(text)))


def _clear_in_simulation(match: re.Match[str]) -> str:
    memory, words = match[2], match[1].count("\n")
    counter = f"{memory}_word"
    return (
        "`ifndef SYNTHESIS\n"
        f"  integer {counter};\n"
        f"  initial for ({counter} = 0; {counter} < {words}; {counter} = {counter} + 1)"
        f" {memory}[{counter}] = 0;\n"
        "`endif\n"
    )
