"""Lint of emitted Verilog: clean where it should be, and not blind."""

import numpy as np
import pytest

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes
from headrace.errors import InputError
from headrace.rtl.lint import WAIVERS, lint
from headrace.rtl.ports import check_ports, check_registers, signature_ports, verilog_ports
from headrace.rtl.tellme.engine import TernaryMatmul
from headrace.rtl.tellme.registers import register_map
from headrace.rtl.tellme.shell import TellmeShell
from headrace.rtl.verilog import to_verilog

GOOD = """
module good(input clk, input rst, input [3:0] a, output reg [3:0] b);
  always @(posedge clk) if (rst) b <= 0; else b <= a;
endmodule
"""


def random_point(rng):
    copies = int(rng.choice([4, 8]))
    group, tables = int(rng.integers(1, 6)), int(rng.integers(2, 6))
    return TELLME.point(
        {
            "group_size": group,
            "tables": tables,
            "copies": copies,
            "weight_banks": copies // int(rng.choice([1, 2, 4])),
            "lookup_method": str(rng.choice(["naive", "half", "full"])),
            "table_buffers": int(rng.integers(1, 3)),
            "weight_slots": int(rng.integers(1, 3)),
            "weight_layout": "exact",
            "weight_packing": str(rng.choice(["beat", "group"])),
            "weight_ports": int(rng.integers(1, 4)),
            "port_bits": 128,
            "weight_words": int(rng.choice([64, 200, 600])),
            "activation_lanes": int(rng.integers(1, min(8, group * tables) + 1)),
            "max_outputs": 64,
        }
    )


@pytest.mark.parametrize("seed", range(4))
def test_emitted_verilog_is_clean(seed):
    point = random_point(np.random.Generator(np.random.PCG64(seed)))
    sizes, ports = engine_sizes(point), point.integer("weight_ports")
    engine = TernaryMatmul(sizes)
    core = to_verilog(engine, "ternary_matmul")
    report = lint(core, "ternary_matmul")
    assert report.findings == ()
    assert check_ports(report.ports, signature_ports(engine)) == ()
    shell = TellmeShell(sizes, weight_ports=ports, external=("ternary_matmul", engine.signature))
    outer = to_verilog(shell, "tellme_shell")
    report = lint(core + outer, "tellme_shell")
    assert report.findings == ()
    assert check_ports(report.ports, signature_ports(shell)) == ()
    assert check_registers(outer, "tellme_shell.registers", register_map(ports)) == ()


def test_clean_text_needs_no_waiver():
    report = lint(GOOD, "good")
    assert report.clean
    assert set(report.waived) == {"verilator:DECLFILENAME"}  # about the file, not the text
    assert report.ports["b"] == ("output", 4)


@pytest.mark.parametrize(
    "change, codes",
    [
        (("b <= a;", "b <= c;"), {"UndeclaredIdentifier", "error"}),
        (("else b <= a;", "else b <= {a, a};"), {"WIDTHTRUNC", "WidthTruncate"}),
        (("always @(posedge clk) if (rst) b <= 0; else b <= a;", ""), {"UNDRIVEN"}),
        (("always @(posedge clk) if (rst) b <= 0; else", "always @* if (rst)"), {"LATCH"}),
    ],
)
def test_faults_are_found(change, codes):
    found = {finding.code for finding in lint(GOOD.replace(*change), "good").findings}
    assert found & codes


def test_text_that_is_no_verilog_is_a_finding():
    report = lint("module good(input a;", "good")
    assert {finding.tool for finding in report.findings} == {"verilator", "pyslang", "pyverilog"}


def test_wrong_top_is_a_finding():
    assert not lint(GOOD, "other").clean


def test_every_waiver_has_a_reason():
    assert all(len(waiver.reason) > 20 for waiver in WAIVERS)
    assert not any(waiver.code in ("LATCH", "UNDRIVEN", "MULTIDRIVEN") for waiver in WAIVERS)


def test_ports_that_differ_are_named():
    ports = verilog_ports(GOOD, "good")
    expected = {**ports, "a": ("input", 8)}
    (finding,) = check_ports(ports, expected)
    assert finding.message == "port a: ('input', 4) in Verilog, ('input', 8) expected"


def test_register_that_the_rtl_lacks_is_named():
    sizes = engine_sizes(random_point(np.random.Generator(np.random.PCG64(0))))
    ports = 1 if sizes.beat_bits == 128 else sizes.beat_bits // 128
    text = to_verilog(TellmeShell(sizes, weight_ports=ports), "tellme_shell")
    wider = register_map(ports + 1)
    messages = [f.message for f in check_registers(text, "tellme_shell.registers", wider)]
    assert any(f"base{ports}_low" in message for message in messages)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        lint(tmp_path / "none.v", "good")
