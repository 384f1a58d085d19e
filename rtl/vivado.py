"""Vivado project of an accelerator on a Zynq UltraScale+ board, as one Tcl script.

Commands and properties are those of UG835 and of the IP's product guides (PG021 AXI DMA, PG247
SmartConnect, PG201 processing system). The script is meant for batch mode:
``vivado -mode batch -source build.tcl``, with the target as ``-tclargs synth`` or ``impl``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import InputError
from headrace.rtl.names import verilog_identifier
from headrace.tcl import tcl_word

__all__ = ["VivadoProject", "vivado_script"]

# Ports of the processing system in the order in which weight ports take them; the release uses
# HP0, HP1 and HP3 and leaves HP2 to the rest. Vivado calls HPn S_AXI_GP(n + 2).
_HP_ORDER = (0, 1, 3)
_SHARED_HP = 2
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
    masters : sequence of str
        Prefixes of the AXI4 read masters, at most four.
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
    masters: Sequence[str]
    stream_in: tuple[str, int]
    stream_out: tuple[str, int]


def vivado_script(project: VivadoProject) -> str:
    """Return the Tcl script of `project`.

    Raises
    ------
    InputError
        A name is not an identifier, a text cannot be written in Tcl, or there are more masters
        than ports.
    """
    if not 1 <= len(project.masters) <= len(_HP_ORDER) + 1:
        raise InputError(f"{len(project.masters)} AXI masters are not allowed: 1 to 4 needed")
    for name in (project.name, project.top, project.control, *project.masters):
        verilog_identifier(name)
    for name, _ in (project.stream_in, project.stream_out):
        verilog_identifier(name)
    ports = [*_HP_ORDER, _SHARED_HP][: len(project.masters)]
    shared = len(project.masters) > len(_HP_ORDER)
    sections = [
        _project(project),
        _processor(project, sorted({*ports, _SHARED_HP})),
        _accelerator(project),
        _weights(project, ports, shared),
        _streams(project, shared),
        _finish(),
    ]
    return "\n".join(sections)


def _project(project: VivadoProject) -> str:
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
        'create_bd_design "system"',
        "",
    ]
    return "\n".join(lines)


def _processor(project: VivadoProject, ports: Sequence[int]) -> str:
    settings = [
        ("PSU__FPGA_PL0_ENABLE", "1"),
        ("PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ", str(project.clock_mhz)),
        ("PSU__USE__M_AXI_GP0", "1"),
        ("PSU__MAXIGP0__DATA_WIDTH", "32"),
        ("PSU__USE__M_AXI_GP1", "0"),
        ("PSU__USE__M_AXI_GP2", "0"),
    ]
    for port in ports:
        settings.append((f"PSU__USE__S_AXI_GP{port + 2}", "1"))
        settings.append((f"PSU__SAXIGP{port + 2}__DATA_WIDTH", "128"))
    values = " ".join(f"CONFIG.{name} {tcl_word(value)}" for name, value in settings)
    lines = [
        "# Processing system, clock and reset.",
        'create_bd_cell -type ip -vlnv "xilinx.com:ip:zynq_ultra_ps_e" "ps"',
        "if {$with_board} {",
        '    apply_bd_automation -rule "xilinx.com:bd_rule:zynq_ultra_ps_e" '
        '-config [list apply_board_preset "1"] [get_bd_cells "ps"]',
        "}",
        f'set_property -dict [list {values}] [get_bd_cells "ps"]',
        'create_bd_cell -type ip -vlnv "xilinx.com:ip:proc_sys_reset" "reset"',
        _net("ps/pl_clk0", "reset/slowest_sync_clk"),
        _net("ps/pl_resetn0", "reset/ext_reset_in"),
        _net("ps/pl_clk0", "ps/maxihpm0_fpd_aclk"),
    ]
    lines += [_net("ps/pl_clk0", f"ps/saxihp{port}_fpd_aclk") for port in ports]
    return "\n".join([*lines, ""])


def _accelerator(project: VivadoProject) -> str:
    interfaces = [project.control, *project.masters, project.stream_in[0], project.stream_out[0]]
    associated = tcl_word(":".join(interfaces))
    return "\n".join(
        [
            "# The accelerator and its registers; its reset is active high.",
            f'create_bd_cell -type module -reference {tcl_word(project.top)} "accelerator"',
            f'set_property CONFIG.ASSOCIATED_BUSIF {associated} [get_bd_pins "accelerator/clk"]',
            'set_property CONFIG.POLARITY "ACTIVE_HIGH" [get_bd_pins "accelerator/rst"]',
            _net("ps/pl_clk0", "accelerator/clk"),
            _net("reset/peripheral_reset", "accelerator/rst"),
            *_smartconnect("control", 1, 2),
            _bus("ps/M_AXI_HPM0_FPD", "control/S00_AXI"),
            _bus("control/M00_AXI", f"accelerator/{project.control}"),
            "",
        ]
    )


def _weights(project: VivadoProject, ports: Sequence[int], shared: bool) -> str:
    lines = ["# One SmartConnect per weight port converts its width to that of the HP port."]
    for number, (master, port) in enumerate(zip(project.masters, ports, strict=True)):
        if shared and port == _SHARED_HP:
            continue
        lines += _smartconnect(f"weight{number}", 1, 1)
        lines.append(_bus(f"accelerator/{master}", f"weight{number}/S00_AXI"))
        lines.append(_bus(f"weight{number}/M00_AXI", f"ps/S_AXI_HP{port}_FPD"))
    return "\n".join([*lines, ""])


def _streams(project: VivadoProject, shared: bool) -> str:
    (source, in_bits), (sink, out_bits) = project.stream_in, project.stream_out
    narrow = min(out_bits, _MAX_DMA_STREAM_BITS)
    settings = {
        "c_include_sg": 0,
        "c_sg_length_width": 26,
        "c_include_mm2s": 1,
        "c_include_s2mm": 1,
        "c_m_axis_mm2s_tdata_width": in_bits,
        "c_m_axi_mm2s_data_width": max(_MIN_DMA_MEMORY_BITS, in_bits),
        "c_s_axis_s2mm_tdata_width": narrow,
        "c_m_axi_s2mm_data_width": max(_MIN_DMA_MEMORY_BITS, narrow),
        "c_addr_width": 40,
    }
    values = " ".join(f'CONFIG.{name} "{value}"' for name, value in settings.items())
    lines = [
        "# DMA for activations and results.",
        'create_bd_cell -type ip -vlnv "xilinx.com:ip:axi_dma" "dma"',
        f'set_property -dict [list {values}] [get_bd_cells "dma"]',
        *_smartconnect("memory", 3 if shared else 2, 1),
        _bus("dma/M_AXI_MM2S", "memory/S00_AXI"),
        _bus("dma/M_AXI_S2MM", "memory/S01_AXI"),
        _bus("memory/M00_AXI", f"ps/S_AXI_HP{_SHARED_HP}_FPD"),
        _bus("control/M01_AXI", "dma/S_AXI_LITE"),
        _bus("dma/M_AXIS_MM2S", f"accelerator/{source}"),
    ]
    if shared:
        lines.append(_bus(f"accelerator/{project.masters[-1]}", "memory/S02_AXI"))
    if narrow == out_bits:
        lines.append(_bus(f"accelerator/{sink}", "dma/S_AXIS_S2MM"))
    else:
        lines += [
            'create_bd_cell -type ip -vlnv "xilinx.com:ip:axis_dwidth_converter" "narrow"',
            f'set_property -dict [list CONFIG.M_TDATA_NUM_BYTES "{narrow // 8}"] '
            '[get_bd_cells "narrow"]',
            _net("ps/pl_clk0", "narrow/aclk"),
            _net("reset/peripheral_aresetn", "narrow/aresetn"),
            _bus(f"accelerator/{sink}", "narrow/S_AXIS"),
            _bus("narrow/M_AXIS", "dma/S_AXIS_S2MM"),
        ]
    clocks = ("s_axi_lite_aclk", "m_axi_mm2s_aclk", "m_axi_s2mm_aclk")
    lines += [_net("ps/pl_clk0", f"dma/{clock}") for clock in clocks]
    lines.append(_net("reset/peripheral_aresetn", "dma/axi_resetn"))
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


def _smartconnect(cell: str, slaves: int, masters: int) -> list[str]:
    return [
        f'create_bd_cell -type ip -vlnv "xilinx.com:ip:smartconnect" "{cell}"',
        f'set_property -dict [list CONFIG.NUM_SI "{slaves}" CONFIG.NUM_MI "{masters}"] '
        f'[get_bd_cells "{cell}"]',
        _net("ps/pl_clk0", f"{cell}/aclk"),
        _net("reset/peripheral_aresetn", f"{cell}/aresetn"),
    ]


def _net(driver: str, load: str) -> str:
    return f'connect_bd_net [get_bd_pins "{driver}"] [get_bd_pins "{load}"]'


def _bus(master: str, slave: str) -> str:
    return f'connect_bd_intf_net [get_bd_intf_pins "{master}"] [get_bd_intf_pins "{slave}"]'
