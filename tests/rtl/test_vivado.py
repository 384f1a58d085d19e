"""The Vivado script: run under tclsh with stand-ins that check commands and arguments."""

import dataclasses
import re
import shutil
import subprocess

import pytest

from headrace.arch.tellme import TELLME
from headrace.errors import InputError
from headrace.rtl.tellme import RTL
from headrace.rtl.vivado import VivadoProject, vivado_script

PROJECT = VivadoProject(
    name="demo",
    top="tellme_shell",
    part="xck26-sfvc784-2LV-c",
    board="xilinx.com:kv260_som:part0:1.4",
    clock_mhz=250,
    sources=["../rtl/a.v", "../rtl/b [exit].v"],
    control="s_axi_control",
    masters=["m_axi_weight0", "m_axi_weight1", "m_axi_weight2"],
    stream_in=("s_axis_activations", 8),
    stream_out=("m_axis_results", 512),
)

# Every command prints itself; pins and cells must be created or known before they are used.
STAND_IN = r"""
set cells [dict create]
proc say {args} { puts [join $args "\t"] }
proc need {cell} {
    global cells
    if {![dict exists $cells $cell]} { error "no cell $cell" }
    return $cell
}
proc pin {pin} { need [lindex [split $pin /] 0]; return $pin }
proc create_project {force name folder dash part} {
    if {$force ne "-force" || $dash ne "-part"} { error "create_project" }
    say create_project $name $part
}
proc create_bd_cell {type_flag type reference_flag what name} {
    global cells
    if {$type_flag ne "-type" || $type ni {ip module}} { error "create_bd_cell" }
    if {$reference_flag ne [dict get {ip -vlnv module -reference} $type]} { error "create_bd_cell" }
    if {[dict exists $cells $name]} { error "two cells $name" }
    dict set cells $name $what
    say create_bd_cell $what $name
}
proc get_bd_cells {name} { need $name }
proc get_bd_pins {name} { pin $name }
proc get_bd_intf_pins {name} { pin $name }
proc connect_bd_net {a b} { say connect_bd_net $a $b }
proc connect_bd_intf_net {a b} { say connect_bd_intf_net $a $b }
proc set_property {args} {
    if {[lindex $args 0] eq "-dict"} {
        if {[llength $args] != 3 || [llength [lindex $args 1]] % 2} { error "set_property" }
    } elseif {[llength $args] != 3} { error "set_property" }
    say set_property {*}$args
}
proc get_board_parts {quiet board} { return [expr {$::has_board ? $board : ""}] }
proc current_project {} { return project }
proc get_files {name} { return $name }
proc get_filesets {name} { return $name }
proc make_wrapper {files design top} { return "system_wrapper.v" }
foreach {name count} {
    add_files 2 update_compile_order 2 create_bd_design 1 assign_bd_address 0 validate_bd_design 0
    save_bd_design 0 generate_target 2 wait_on_runs 1 open_run 1 apply_bd_automation 5
} {
    proc $name {args} "if {\[llength \$args\] != $count} { error $name }; say $name {*}\$args"
}
foreach name {launch_runs report_utilization report_timing_summary report_power} {
    proc $name {args} "say $name {*}\$args"
}
"""


def run(script, tmp_path, target="impl", has_board=1):
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed")
    (tmp_path / "build.tcl").write_text(script)
    (tmp_path / "stand_in.tcl").write_text(
        f"{STAND_IN}\nset has_board {has_board}\nset argv [list {target}]\nsource build.tcl\n"
    )
    done = subprocess.run(
        ["tclsh", "stand_in.tcl"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return done.returncode, [line.split("\t") for line in done.stdout.splitlines()], done.stderr


def test_every_interface_is_connected_once(tmp_path):
    code, said, complaint = run(vivado_script(PROJECT), tmp_path)
    assert (code, complaint) == (0, "")
    assert said[0] == ["create_project", "demo", "xck26-sfvc784-2LV-c"]
    links = [words[1:] for words in said if words[0] == "connect_bd_intf_net"]
    ends = [end for link in links for end in link]
    assert len(ends) == len(set(ends))
    interfaces = {end.split("/")[1] for end in ends if end.startswith("accelerator/")}
    assert interfaces == {
        "s_axi_control",
        "m_axi_weight0",
        "m_axi_weight1",
        "m_axi_weight2",
        "s_axis_activations",
        "m_axis_results",
    }
    # The release streams weights through HP0, HP1 and HP3.
    weights = {link[1] for link in links if link[0].startswith("weight")}
    assert weights == {"ps/S_AXI_HP0_FPD", "ps/S_AXI_HP1_FPD", "ps/S_AXI_HP3_FPD"}
    assert any(words[0] == "launch_runs" and "write_bitstream" in words for words in said)


def test_every_port_that_is_used_has_a_clock_and_is_enabled(tmp_path):
    _, said, _ = run(vivado_script(PROJECT), tmp_path)
    text = "\n".join(" ".join(words) for words in said)
    for port in set(re.findall(r"ps/S_AXI_HP(\d)_FPD", text)):
        assert f"connect_bd_net ps/pl_clk0 ps/saxihp{port}_fpd_aclk" in text
        assert f"CONFIG.PSU__USE__S_AXI_GP{int(port) + 2} 1" in text
    assert "CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 250" in text


def test_sources_are_words_of_their_own(tmp_path):
    _, said, _ = run(vivado_script(PROJECT), tmp_path)
    added = next(words for words in said if words[0] == "add_files")
    assert added[2].endswith("b [exit].v}")


def test_synthesis_alone_without_the_board(tmp_path):
    code, said, _ = run(vivado_script(PROJECT), tmp_path, "synth", 0)
    assert code == 0
    names = {words[0] for words in said}
    assert "apply_bd_automation" not in names
    assert "report_power" not in names
    code, _, complaint = run(vivado_script(PROJECT), tmp_path, "burn")
    assert code != 0
    assert "synth or impl" in complaint


def test_fourth_port_shares_and_wide_results_are_narrowed(tmp_path):
    wide = dataclasses.replace(
        PROJECT,
        masters=[*PROJECT.masters, "m_axi_weight3"],
        stream_out=("m_axis_results", 2048),
    )
    code, said, complaint = run(vivado_script(wide), tmp_path)
    assert (code, complaint) == (0, "")
    links = [words[1:] for words in said if words[0] == "connect_bd_intf_net"]
    assert ["accelerator/m_axi_weight3", "memory/S02_AXI"] in links
    assert ["accelerator/m_axis_results", "narrow/S_AXIS"] in links


@pytest.mark.parametrize(
    "change", [{"top": "a; exit"}, {"masters": []}, {"part": "a\nb"}, {"control": "x]"}]
)
def test_bad_input_is_refused(change):
    with pytest.raises(InputError):
        vivado_script(dataclasses.replace(PROJECT, **change))


def test_emitted_script_runs(tmp_path):
    point = TELLME.point({"tables": 3, "copies": 4, "weight_banks": 4, "weight_words": 64})
    script = RTL.files(point)["vivado/build.tcl"].decode()
    code, said, complaint = run(script, tmp_path)
    assert (code, complaint) == (0, "")
    assert said[0][2] == "xck26-sfvc784-2LV-c"
