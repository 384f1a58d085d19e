"""Vivado's commands under tclsh, as far as the scripts use them."""

import shutil
import subprocess

import pytest

# Every command prints itself; pins and cells must be created or known before they are used.
STAND_IN = r"""
set cells [dict create]
set ports [dict create]
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
proc add_files {args} {
    if {[llength $args] != 2 && [lindex $args 0] ne "-fileset"} { error "add_files" }
    say add_files {*}$args
}
proc add_port {name} {
    global ports
    if {[dict exists $ports $name]} { error "two ports $name" }
    dict set ports $name 1
}
proc known_port {name} {
    global ports
    if {![dict exists $ports $name]} { error "no port $name" }
    return port/$name
}
proc create_bd_intf_port {mode_flag mode type_flag type name} {
    if {$mode_flag ne "-mode" || $mode ni {Master Slave} || $type_flag ne "-vlnv"} {
        error "create_bd_intf_port"
    }
    add_port $name
    say create_bd_intf_port $mode $type $name
}
proc create_bd_port {args} {
    set name [lindex $args end]
    if {[lindex $args 0] ne "-dir" || [llength $args] ni {3 5}} { error "create_bd_port" }
    add_port $name
    say create_bd_port {*}$args
}
proc get_bd_ports {name} { known_port $name }
proc get_bd_intf_ports {name} { known_port $name }
foreach {name count} {
    update_compile_order 2 create_bd_design 1 assign_bd_address 0 validate_bd_design 0
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
