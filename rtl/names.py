"""Identifiers that every tool behind us accepts."""

import re

from headrace.errors import InputError

__all__ = ["verilog_identifier"]

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
# Verilog-2001 keywords that look like names someone might choose.
_KEYWORDS = (
    "always and assign begin buf case casex casez cell config deassign default defparam design "
    "disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive "
    "endspecify endtable endtask event for force forever fork function generate genvar if "
    "include initial inout input instance integer join large liblist library localparam "
    "medium module nand negedge nor not or output parameter posedge primitive real realtime reg "
    "release repeat scalared signed small specify specparam strong0 strong1 supply0 supply1 "
    "table task time tran tri unsigned use vectored wait wand while wire wor xnor xor "
    "logic bit byte int interface package program class string"
)
_RESERVED = frozenset(_KEYWORDS.split())


def verilog_identifier(name: str) -> str:
    """Return `name` if it may name a module or port in Verilog, Tcl and file systems alike.

    Raises
    ------
    InputError
        Not a letter followed by at most 63 letters, digits and underscores, or a keyword.
    """
    if not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
        raise InputError(
            f"{name!r} is not allowed as a Verilog name: a letter, then at most 63 letters, "
            "digits and underscores needed, no keyword"
        )
    return name
