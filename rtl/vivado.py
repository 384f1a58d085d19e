"""Vivado project of an accelerator on an FPGA board, as one Tcl script.

Commands and properties are those of UG835 and of the IP's product guides (PG021 AXI DMA, PG247
SmartConnect; `headrace.rtl.vivado_hosts` has those around). The script is meant for batch mode:
``vivado -mode batch -source build.tcl``, with the target as ``-tclargs synth`` or ``impl``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import InputError
from headrace.rtl.memory_ports import MemoryPorts
from headrace.rtl.names import verilog_identifier
from headrace.rtl.vivado_hosts import HOSTS, Host, bus, cell, net, smartconnect
from headrace.tcl import tcl_word

__all__ = ["CONSTRAINTS", "VivadoProject", "vivado_files", "vivado_script"]

CONSTRAINTS = "board.xdc"
"""Name of the constraints beside the script, where there are any."""

_MAX_DMA_STREAM_BITS = 1024
_MIN_DMA_MEMORY_BITS = 32


@dataclass(frozen=True, kw_only=True)
class VivadoProject:
    """What the script builds.

    Parameters
    ----------
    name, top : str
        Project, and the Verilog module that becomes a cell of the block design.
    part : str
        Vivado part.
    board : str or None
        Board part, used if the installation has it: its preset configures the DDR memory.
    clock_mhz : int
        Fabric clock.
    sources : sequence of str
        Verilog files, relative to the script.
    control : str
        Prefix of the AXI4-Lite slave.
    ports : MemoryPorts
        Memory ports of the AXI4 read masters, by prefix, and of the DMA.
    stream_in, stream_out : (str, int)
        Prefix and width in bits of the AXI4-Streams.
    """

    name: str
    top: str
    part: str
    board: str | None
    clock_mhz: int
    sources: Sequence[str]
    control: str
    ports: MemoryPorts
    stream_in: tuple[str, int]
    stream_out: tuple[str, int]


def vivado_files(project: VivadoProject) -> dict[str, str]:
    """Return the script as ``build.tcl``, and the board's constraints if there are any.

    Raises
    ------
    InputError
        As `vivado_script`.
    """
    files = {"build.tcl": vivado_script(project)}
    constraints = HOSTS[project.ports.host].constraints
    return files | ({CONSTRAINTS: constraints} if constraints else {})


def vivado_script(project: VivadoProject) -> str:
    """Return the Tcl script of `project`.

    Raises
    ------
    InputError
        A name is not an identifier, a text cannot be written in Tcl, there is no master, a stream
        is too wide, or the board has no such memory port.
    """
    masters = list(project.ports.masters)
    if not masters:
        raise InputError("there are no AXI masters: at least 1 needed")
    streams = (project.stream_in[0], project.stream_out[0])
    for name in (project.name, project.top, project.control, *masters, *streams):
        verilog_identifier(name)
    if project.stream_in[1] > _MAX_DMA_STREAM_BITS:
        raise InputError(
            f"a stream of {project.stream_in[1]} bits is not allowed: the DMA gives at most "
            f"{_MAX_DMA_STREAM_BITS}"
        )
    host = HOSTS[project.ports.host]
    sections = [
        _project(project, host),
        "\n".join([*host.lines(project.ports, project.clock_mhz), ""]),
        _accelerator(project, host),
        _streams(project, host),
        _memory(project.ports, host),
        _finish(),
    ]
    return "\n".join(sections)


def _project(project: VivadoProject, host: Host) -> str:
    files = " ".join(f"[file join $here {tcl_word(source)}]" for source in project.sources)
    lines = [
        "# Build the block design, synthesise, implement. Arguments: synth or impl (default).",
        "set here [file dirname [file normalize [info script]]]",
        'set target [expr {[llength $argv] > 0 ? [lindex $argv 0] : "impl"}]',
        'if {$target ni {synth impl}} { error "target must be synth or impl, not $target" }',
        f"create_project -force {tcl_word(project.name)} [file join $here project] "
        f"-part {tcl_word(project.part)}",
        "set with_board 0",
    ]
    if project.board is not None:
        board = tcl_word(project.board)
        lines += [
            f"if {{[llength [get_board_parts -quiet {board}]] > 0}} {{",
            f"    set_property board_part {board} [current_project]",
            "    set with_board 1",
            "}",
        ]
    lines += [
        f"add_files -norecurse [list {files}]",
        "update_compile_order -fileset sources_1",
    ]
    if host.constraints:
        place = f'[file join $here "{CONSTRAINTS}"]'
        lines.append(f'add_files -fileset "constrs_1" -norecurse {place}')
    return "\n".join([*lines, 'create_bd_design "system"', ""])


def _accelerator(project: VivadoProject, host: Host) -> str:
    streams = (project.stream_in[0], project.stream_out[0])
    interfaces = [project.control, *project.ports.masters, *streams]
    associated = tcl_word(":".join(interfaces))
    return "\n".join(
        [
            "# The accelerator and its registers; its reset is active high.",
            f'create_bd_cell -type module -reference {tcl_word(project.top)} "accelerator"',
            f'set_property CONFIG.ASSOCIATED_BUSIF {associated} [get_bd_pins "accelerator/clk"]',
            'set_property CONFIG.POLARITY "ACTIVE_HIGH" [get_bd_pins "accelerator/rst"]',
            net(host.clock, "accelerator/clk"),
            net("reset/peripheral_reset", "accelerator/rst"),
            *smartconnect("control", 1, 2, host.clock, host.control_clock),
            bus(host.control, "control/S00_AXI"),
            bus("control/M00_AXI", f"accelerator/{project.control}"),
            "",
        ]
    )


def _memory(ports: MemoryPorts, host: Host) -> str:
    lines = ["# One SmartConnect per memory port converts widths; the DMA's is `memory`."]
    for name in ports.used:
        masters = [master for master, port in ports.masters.items() if port == name]
        slave = masters[0].removeprefix("m_axi_") if masters else ""
        sources = [f"accelerator/{master}" for master in masters]
        if name == ports.dma:
            slave, sources = "memory", ["dma/M_AXI_MM2S", "dma/M_AXI_S2MM", *sources]
        if not sources:  # the host's own
            continue
        lines += smartconnect(slave, len(sources), 1, host.clock)
        lines += [bus(source, f"{slave}/S{n:02d}_AXI") for n, source in enumerate(sources)]
        lines.append(bus(f"{slave}/M00_AXI", host.port(name)))
    return "\n".join([*lines, ""])


def _streams(project: VivadoProject, host: Host) -> str:
    (source, in_bits), (sink, out_bits) = project.stream_in, project.stream_out
    narrow = min(out_bits, _MAX_DMA_STREAM_BITS)
    settings = [
        ("c_include_sg", 0),
        ("c_sg_length_width", 26),
        ("c_include_mm2s", 1),
        ("c_include_s2mm", 1),
        ("c_m_axis_mm2s_tdata_width", in_bits),
        ("c_m_axi_mm2s_data_width", max(_MIN_DMA_MEMORY_BITS, in_bits)),
        ("c_s_axis_s2mm_tdata_width", narrow),
        ("c_m_axi_s2mm_data_width", max(_MIN_DMA_MEMORY_BITS, narrow)),
        ("c_addr_width", 40),
    ]
    lines = [
        "# DMA for features or activations, and for results.",
        *cell("axi_dma", "dma", settings),
        bus("control/M01_AXI", "dma/S_AXI_LITE"),
        bus("dma/M_AXIS_MM2S", f"accelerator/{source}"),
    ]
    if narrow == out_bits:
        lines.append(bus(f"accelerator/{sink}", "dma/S_AXIS_S2MM"))
    else:
        lines += [
            *cell("axis_dwidth_converter", "narrow", [("M_TDATA_NUM_BYTES", narrow // 8)]),
            net(host.clock, "narrow/aclk"),
            net("reset/peripheral_aresetn", "narrow/aresetn"),
            bus(f"accelerator/{sink}", "narrow/S_AXIS"),
            bus("narrow/M_AXIS", "dma/S_AXIS_S2MM"),
        ]
    clocks = ("s_axi_lite_aclk", "m_axi_mm2s_aclk", "m_axi_s2mm_aclk")
    lines += [net(host.clock, f"dma/{clock}") for clock in clocks]
    lines.append(net("reset/peripheral_aresetn", "dma/axi_resetn"))
    return "\n".join([*lines, ""])


def _finish() -> str:
    return "\n".join(
        [
            "# Addresses, wrapper, runs, reports.",
            "assign_bd_address",
            "validate_bd_design",
            "save_bd_design",
            'set design [get_files "system.bd"]',
            "generate_target all $design",
            "set wrapper [make_wrapper -files $design -top]",
            "add_files -norecurse $wrapper",
            'set_property top "system_wrapper" [get_filesets "sources_1"]',
            "update_compile_order -fileset sources_1",
            'launch_runs "synth_1" -jobs 4',
            'wait_on_runs "synth_1"',
            'open_run "synth_1"',
            'report_utilization -hierarchical -file [file join $here "utilization_synth.rpt"]',
            'if {$target eq "impl"} {',
            '    launch_runs "impl_1" -to_step write_bitstream -jobs 4',
            '    wait_on_runs "impl_1"',
            '    open_run "impl_1"',
            '    report_utilization -hierarchical -file [file join $here "utilization_impl.rpt"]',
            '    report_timing_summary -file [file join $here "timing_impl.rpt"]',
            '    report_power -file [file join $here "power_impl.rpt"]',
            "}",
            "",
        ]
    )
