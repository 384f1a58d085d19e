"""Counting mapped cells."""

import pytest

from headrace.errors import InputError
from headrace.rtl import netlist
from headrace.rtl.netlist import count_cells, map_netlist

TOY = """
module toy(input clk, input [17:0] a, input [17:0] b, output [35:0] p, input [3:0] x,
           output reg y);
  assign p = $signed(a) * $signed(b);
  always @(posedge clk) y <= ^x;
endmodule
"""


def test_cells_are_weighted():
    cells = {"LUT6": 3, "INV": 1, "RAM32M16": 2, "SRL16E": 5, "FDRE": 7, "FDSE": 1, "CARRY4": 4}
    cells |= {"RAMB18E2": 3, "RAMB36E2": 1, "URAM288": 2, "DSP48E2": 6, "MUXF7": 9}
    counts = count_cells(cells, "x")
    assert (counts.lut, counts.lutram, counts.ff, counts.carry) == (25, 21, 8, 4)
    assert (counts.bram36, counts.uram, counts.dsp) == (2.5, 2, 6)


def test_unknown_cells_are_not_ignored():
    with pytest.raises(RuntimeError, match="GTYE4"):
        count_cells({"GTYE4": 1}, "x")


def test_toy_is_mapped_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    counts = map_netlist(TOY, "toy")
    # One DSP takes the product, one LUT the parity of four inputs, one flip-flop keeps it.
    assert (counts.lut, counts.ff, counts.dsp, counts.uram) == (1, 1, 1, 0)
    monkeypatch.setattr(netlist, "_run_yosys", lambda *_: pytest.fail("mapped twice"))
    assert map_netlist(TOY, "toy") == counts


def test_errors_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"Yosys failed on toy \(exit 1\): .*syntax error"):
        map_netlist("module toy(", "toy")
    with pytest.raises(InputError, match="not allowed as a Verilog name"):
        map_netlist(TOY, "toy; shell rm")


def test_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(netlist, "_run_yosys", lambda *_: {"LUT2": 1})
    assert map_netlist(TOY, "toy").lut == 1


def test_broken_cache_entry_is_mapped_again(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    monkeypatch.setattr(netlist, "_run_yosys", lambda *_: {"LUT2": 1})
    map_netlist(TOY, "toy")
    (entry,) = (tmp_path / "netlists").iterdir()
    entry.write_text("{")
    monkeypatch.setattr(netlist, "_run_yosys", lambda *_: {"LUT2": 2})
    assert map_netlist(TOY, "toy").lut == 2
