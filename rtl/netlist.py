"""Map Verilog to UltraScale+ cells with Yosys and count them.

The counts are an open proxy for Vivado's, not Vivado's: Yosys packs no two functions into one
LUT6_2 and builds carries from CARRY4 cells. Every count carries the version of Yosys it is from.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_type_hints

from headrace.errors import InputError
from headrace.rtl.cache import Kept, content_hash, keep
from headrace.rtl.names import verilog_identifier

__all__ = ["NetlistCounts", "count_cells", "kept_netlist", "map_netlist", "mapping_script"]

_FORMAT = "2"  # of the cached counts; a new one forgets the old

# A Yosys error ends the process, so passes run in one of their own.
_RUNNER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in open(sys.argv[1]).read().split(";"):
    if command.strip():
        libyosys.run_pass(command.strip(), design)
"""

_LUTS = {f"LUT{inputs}": 1 for inputs in range(1, 7)} | {"INV": 1}
# LUTs that one cell of distributed memory takes (UG974); SRLs are LUTs too.
_LUT_RAMS = {
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM128X1S": 2,
    "RAM256X1S": 4,
    "RAM512X1S": 8,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1D": 4,
    "RAM256X1D": 8,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
    "RAM64X8SW": 8,
    "RAM32X16DR8": 8,
    "SRL16E": 1,
    "SRLC32E": 1,
}
_FLIP_FLOPS = frozenset({"FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE"})
_CARRIES = frozenset({"CARRY4", "CARRY8"})
_WIDE_MUXES = frozenset({"MUXF7", "MUXF8", "MUXF9"})  # part of the slice, no LUT of their own
_BLOCK_RAMS = {"RAMB36E2": 1.0, "RAMB18E2": 0.5}
_IGNORED = frozenset({"GND", "VCC", "BUFG", "$scopeinfo"})


@dataclass(frozen=True, kw_only=True)
class NetlistCounts:
    """Cells of a netlist mapped by Yosys, an open proxy for Vivado's counts.

    Parameters
    ----------
    lut : int
        Six-input LUTs: logic and distributed memory.
    lutram : int
        Those of them that are distributed memory or shift registers.
    ff, carry, dsp, uram : int
        Flip-flops, CARRY4 cells, DSP48E2 slices, URAM288 blocks.
    bram36 : float
        36 Kb block RAMs; an 18 Kb half counts 0.5.
    yosys_version : str
        Version of pyosys.
    """

    lut: int
    lutram: int
    ff: int
    carry: int
    dsp: int
    bram36: float
    uram: int
    yosys_version: str


def mapping_script(source: str, top: str, report: str) -> str:
    """Return the Yosys commands that map `source` and write the cell counts to `report`.

    ``proc; flatten; opt_clean -purge`` come first because abc9 of 0.70 stops at the alias wires
    of flattened Amaranth designs (YosysHQ/yosys#4349).
    """
    return (
        f"read_verilog {source}; hierarchy -top {top}; proc; flatten; opt_clean -purge; "
        f"synth_xilinx -family xcup -top {top} -flatten -noiopad -noclkbuf; "
        f"tee -q -o {report} stat -json"
    )


def count_cells(cells: Mapping[str, int], yosys_version: str) -> NetlistCounts:
    """Add up the cells of a mapped netlist.

    Parameters
    ----------
    cells : mapping of str to int
        Number of cells by type.
    yosys_version : str
        Kept beside the counts.

    Raises
    ------
    RuntimeError
        A cell type is not one of UltraScale+ that we know how to count.
    """
    known = set(_LUTS) | set(_LUT_RAMS) | _FLIP_FLOPS | _CARRIES | _WIDE_MUXES | _IGNORED
    known |= set(_BLOCK_RAMS) | {"DSP48E2", "URAM288"}
    unknown = sorted(set(cells) - known)
    if unknown:
        raise RuntimeError(f"cells of unknown cost in the netlist: {', '.join(unknown)}")
    lutram = sum(cells.get(cell, 0) * luts for cell, luts in _LUT_RAMS.items())
    return NetlistCounts(
        lut=lutram + sum(cells.get(cell, 0) * luts for cell, luts in _LUTS.items()),
        lutram=lutram,
        ff=sum(cells.get(cell, 0) for cell in _FLIP_FLOPS),
        carry=sum(cells.get(cell, 0) for cell in _CARRIES),
        dsp=cells.get("DSP48E2", 0),
        bram36=sum(cells.get(cell, 0) * blocks for cell, blocks in _BLOCK_RAMS.items()),
        uram=cells.get("URAM288", 0),
        yosys_version=yosys_version,
    )


@cache
def _yosys_version() -> str:
    try:
        return version("pyosys")
    except PackageNotFoundError as error:
        raise InputError(
            "pyosys is missing: mapping a netlist needs it, pip install 'headrace[verify]'"
        ) from error


def map_netlist(verilog: str, top: str, *, timeout_s: float = 3600.0) -> NetlistCounts:
    """Map `verilog` for UltraScale+ and count its cells.

    Results are kept in the cache, see `kept_netlist`.

    Parameters
    ----------
    verilog : str
        Complete source text.
    top : str
        Name of the top module.
    timeout_s : float
        Seconds after which mapping is given up.

    Raises
    ------
    InputError
        pyosys is not installed, or `top` is not an identifier.
    RuntimeError
        Yosys failed or took too long; the message holds its error line.
    """
    kept: dict[str, Any] = dict(kept_netlist(verilog, top, timeout_s=timeout_s).facts)
    return NetlistCounts(**kept)


def kept_netlist(verilog: str, top: str, *, timeout_s: float = 3600.0) -> Kept:
    """Return the fields of `NetlistCounts`, from the cache or mapped now.

    The key of an entry is the hash of source, script and Yosys version. Parameters and errors are
    those of `map_netlist`.
    """
    verilog_identifier(top)
    key = content_hash(_FORMAT, _yosys_version(), mapping_script("", top, ""), verilog)
    return keep(
        "netlists",
        key,
        get_type_hints(NetlistCounts),
        lambda: asdict(count_cells(_run_yosys(verilog, top, timeout_s), _yosys_version())),
    )


def _run_yosys(verilog: str, top: str, timeout_s: float) -> dict[str, int]:
    """Return the number of cells by type."""
    with tempfile.TemporaryDirectory(prefix="headrace-yosys-") as folder:
        script = Path(folder) / "map.ys"
        (Path(folder) / "source.v").write_text(verilog, "utf-8")
        script.write_text(mapping_script("source.v", top, "counts.json"), "utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-c", _RUNNER, script.name],
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"Yosys did not map {top} within {timeout_s:g} s") from error
        report = Path(folder) / "counts.json"
        if done.returncode != 0 or not report.exists():
            lines = (done.stdout + done.stderr).strip().splitlines()
            errors = [line for line in lines if "ERROR" in line]
            reason = (errors or lines or ["no output"])[-1].strip()
            raise RuntimeError(f"Yosys failed on {top} (exit {done.returncode}): {reason}")
        text = report.read_text("utf-8")
    cells = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]
    return {str(cell): int(number) for cell, number in cells.items()}
