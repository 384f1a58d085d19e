"""What surrounds an accelerator in a block design: Zynq's processors, or PCIe and HBM.

Commands are those of UG835, pins and properties those of PG201 (processing system) and, for PCIe,
HBM and the Alveo U280, those that public designs for that card use. See PG195 (XDMA), PG276 (HBM)
and UG1314 (the card).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from headrace.errors import InputError
from headrace.rtl.memory_ports import MemoryPorts
from headrace.tcl import tcl_word

__all__ = ["HOSTS", "Alveo", "Host", "Zynq", "bus", "cell", "net", "smartconnect"]

_RESET = "reset/peripheral_aresetn"
_GP = {"HPC0": 0, "HPC1": 1, "HP0": 2, "HP1": 3, "HP2": 4, "HP3": 5}  # S_AXI_GPn in settings
_HBM_PORTS = 32
_HBM_STACK_PORTS = 16


def net(driver: str, load: str) -> str:
    """Return the command that connects two pins."""
    return f'connect_bd_net [get_bd_pins "{driver}"] [get_bd_pins "{load}"]'


def bus(master: str, slave: str) -> str:
    """Return the command that connects two interfaces."""
    return f'connect_bd_intf_net [get_bd_intf_pins "{master}"] [get_bd_intf_pins "{slave}"]'


def cell(ip: str, name: str, settings: Sequence[tuple[str, object]] = ()) -> list[str]:
    """Return the commands that add an IP and set its properties."""
    lines = [f'create_bd_cell -type ip -vlnv "xilinx.com:ip:{ip}" "{name}"']
    if settings:
        values = " ".join(f"CONFIG.{key} {tcl_word(str(value))}" for key, value in settings)
        lines.append(f'set_property -dict [list {values}] [get_bd_cells "{name}"]')
    return lines


def smartconnect(
    name: str, slaves: int, masters: int, clock: str, second_clock: str | None = None
) -> list[str]:
    """Return the commands that add a SmartConnect; with two clocks it crosses between them."""
    settings = [("NUM_SI", slaves), ("NUM_MI", masters)]
    lines = cell("smartconnect", name, settings + [("NUM_CLKS", 2)] * (second_clock is not None))
    lines += [net(clock, f"{name}/aclk"), net(_RESET, f"{name}/aresetn")]
    return lines + ([net(second_clock, f"{name}/aclk1")] if second_clock else [])


class Host(ABC):
    """What the accelerator is connected to.

    Attributes
    ----------
    clock : str
        Pin of the fabric clock.
    control : str
        AXI4 master that reaches the registers.
    control_clock : str or None
        Its clock, if it is another one.
    constraints : str
        Lines of an XDC file, or nothing.
    """

    clock: str
    control: str
    control_clock: str | None = None
    constraints: str = ""

    @abstractmethod
    def lines(self, ports: MemoryPorts, clock_mhz: int) -> list[str]:
        """Return the commands that add all of it."""

    @abstractmethod
    def port(self, name: str) -> str:
        """Return the AXI slave of a memory port."""


class Zynq(Host):
    """The processing system of a Zynq UltraScale+; the fabric clock is its PL0."""

    clock = "ps/pl_clk0"
    control = "ps/M_AXI_HPM0_FPD"

    def port(self, name: str) -> str:
        """Return the AXI slave of an HP or HPC port."""
        if name not in _GP:
            raise InputError(f"memory port {name!r} is not allowed: one of {', '.join(_GP)}")
        return f"ps/S_AXI_{name}_FPD"

    def lines(self, ports: MemoryPorts, clock_mhz: int) -> list[str]:
        """Return the commands for the processing system, its clock and its reset."""
        settings: list[tuple[str, object]] = [
            ("PSU__FPGA_PL0_ENABLE", 1),
            ("PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ", clock_mhz),
            ("PSU__USE__M_AXI_GP0", 1),
            ("PSU__MAXIGP0__DATA_WIDTH", 32),
            ("PSU__USE__M_AXI_GP1", 0),
            ("PSU__USE__M_AXI_GP2", 0),
        ]
        for name in ports.used:
            settings.append((f"PSU__USE__S_AXI_GP{_GP[name]}", 1))
            settings.append((f"PSU__SAXIGP{_GP[name]}__DATA_WIDTH", 128))
        create, configure = cell("zynq_ultra_ps_e", "ps", settings)
        return [
            "# Processing system, clock and reset.",
            create,
            "if {$with_board} {",
            '    apply_bd_automation -rule "xilinx.com:bd_rule:zynq_ultra_ps_e" '
            '-config [list apply_board_preset "1"] [get_bd_cells "ps"]',
            "}",
            configure,
            *cell("proc_sys_reset", "reset"),
            net(self.clock, "reset/slowest_sync_clk"),
            net("ps/pl_resetn0", "reset/ext_reset_in"),
            net(self.clock, "ps/maxihpm0_fpd_aclk"),
            *(net(self.clock, f"ps/saxi{name.lower()}_fpd_aclk") for name in ports.used),
        ]


class Alveo(Host):
    """PCIe with DMA and the two HBM stacks of a U280.

    The fabric clock is made from the 250 MHz of PCIe and is that of all HBM ports, which take
    bursts of 16 words of AXI3: the SmartConnect in between converts. HBM's own reference is the
    board's 100 MHz clock SYSCLK0. The card's controller switches off the power when CATTRIP is
    high or open.
    """

    clock = "clock/clk_out1"
    control = "xdma/M_AXI_LITE"
    control_clock = "xdma/axi_aclk"
    constraints = """\
# Alveo U280: SYSCLK0, the reference of the HBM, and what tells the card that the HBM is too hot.
set_property PACKAGE_PIN BJ43 [get_ports "hbm_refclk_clk_p"]
set_property PACKAGE_PIN BJ44 [get_ports "hbm_refclk_clk_n"]
set_property IOSTANDARD LVDS [get_ports "hbm_refclk_clk_p"]
set_property IOSTANDARD LVDS [get_ports "hbm_refclk_clk_n"]
set_property PACKAGE_PIN D32 [get_ports "HBM_CATTRIP"]
set_property IOSTANDARD LVCMOS18 [get_ports "HBM_CATTRIP"]
set_property PULLTYPE PULLDOWN [get_ports "HBM_CATTRIP"]
"""

    def port(self, name: str) -> str:
        """Return the AXI slave of an HBM port."""
        return f"hbm/SAXI_{self._number(name):02d}"

    def _number(self, name: str) -> int:
        head, _, number = name.rpartition("_")
        if head != "HBM_AXI" or not number.isdecimal() or int(number) >= _HBM_PORTS:
            raise InputError(f"memory port {name!r} is not allowed: HBM_AXI_00 to HBM_AXI_31")
        return int(number)

    def lines(self, ports: MemoryPorts, clock_mhz: int) -> list[str]:
        """Return the commands for PCIe, clocks, resets and HBM."""
        if ports.loader is None:
            raise InputError("the host needs a memory port of its own: loader is missing")
        used = [self._number(name) for name in ports.used]
        return [
            *self._pcie(),
            *self._clocks(clock_mhz),
            *self._memory(used, clock_mhz),
            "# The host writes images and features through a port of its own.",
            *smartconnect("loader", 1, 1, self.clock, "xdma/axi_aclk"),
            bus("xdma/M_AXI", "loader/S00_AXI"),
            bus("loader/M00_AXI", self.port(ports.loader)),
        ]

    def _pcie(self) -> list[str]:
        settings = [
            ("mode_selection", "Advanced"),
            ("pl_link_cap_max_link_width", "X16"),
            ("pl_link_cap_max_link_speed", "8.0_GT/s"),
            ("axi_data_width", "512_bit"),
            ("axisten_freq", 250),
            ("xdma_axi_intf_mm", "AXI_Memory_Mapped"),
            ("xdma_rnum_chnl", 1),
            ("xdma_wnum_chnl", 1),
            ("axilite_master_en", "true"),
            ("axilite_master_size", 1),
            ("axilite_master_scale", "Megabytes"),
        ]
        on_board = [
            ("xdma", "PCIE_BOARD_INTERFACE", "pci_express_x16"),
            ("xdma", "SYS_RST_N_BOARD_INTERFACE", "pcie_perstn"),
            ("pcie_clock", "DIFF_CLK_IN_BOARD_INTERFACE", "pcie_refclk"),
            ("pcie_clock", "USE_BOARD_FLOW", "true"),
        ]
        return [
            "# PCIe with DMA; its pins are those of the board's files.",
            *cell("xdma", "xdma", settings),
            *cell("util_ds_buf", "pcie_clock", [("C_BUF_TYPE", "IBUFDSGTE")]),
            "if {$with_board} {",
            *(
                f'    set_property CONFIG.{key} "{value}" [get_bd_cells "{name}"]'
                for name, key, value in on_board
            ),
            "}",
            *_diff_clock("pcie_refclk", "pcie_clock"),
            net("pcie_clock/IBUF_DS_ODIV2", "xdma/sys_clk"),
            net("pcie_clock/IBUF_OUT", "xdma/sys_clk_gt"),
            "create_bd_intf_port -mode Master -vlnv "
            '"xilinx.com:interface:pcie_7x_mgt_rtl:1.0" "pci_express_x16"',
            'connect_bd_intf_net [get_bd_intf_pins "xdma/pcie_mgt"] '
            '[get_bd_intf_ports "pci_express_x16"]',
            'create_bd_port -dir I -type rst "pcie_perstn"',
            'set_property CONFIG.POLARITY "ACTIVE_LOW" [get_bd_ports "pcie_perstn"]',
            'connect_bd_net [get_bd_ports "pcie_perstn"] [get_bd_pins "xdma/sys_rst_n"]',
        ]

    def _clocks(self, clock_mhz: int) -> list[str]:
        settings = [
            ("PRIM_IN_FREQ", 250),
            ("CLKOUT1_REQUESTED_OUT_FREQ", clock_mhz),
            ("RESET_TYPE", "ACTIVE_LOW"),
            ("RESET_PORT", "resetn"),
            ("USE_LOCKED", "true"),
        ]
        return [
            "# The fabric's clock and reset.",
            *cell("clk_wiz", "clock", settings),
            net("xdma/axi_aclk", "clock/clk_in1"),
            net("xdma/axi_aresetn", "clock/resetn"),
            *cell("proc_sys_reset", "reset"),
            net(self.clock, "reset/slowest_sync_clk"),
            net("xdma/axi_aresetn", "reset/ext_reset_in"),
            net("clock/locked", "reset/dcm_locked"),
        ]

    def _memory(self, used: Sequence[int], clock_mhz: int) -> list[str]:
        settings: list[tuple[str, object]] = [
            ("USER_HBM_DENSITY", "8GB"),
            ("USER_HBM_STACK", 2),
            ("USER_APB_EN", "false"),
            ("USER_HBM_REF_CLK_0", 100),
            ("USER_HBM_REF_CLK_1", 100),
            ("USER_AXI_INPUT_CLK_FREQ", clock_mhz),
            ("USER_AXI_INPUT_CLK1_FREQ", clock_mhz),
        ]
        for stack, low in enumerate(range(0, _HBM_PORTS, _HBM_STACK_PORTS)):
            of_stack = [n for n in used if low <= n < low + _HBM_STACK_PORTS]
            if of_stack:
                settings.append((f"USER_CLK_SEL_LIST{stack}", f"AXI_{of_stack[0]:02d}_ACLK"))
        for number in range(_HBM_PORTS):
            settings.append((f"USER_SAXI_{number:02d}", str(number in used).lower()))
        lines = [
            "# HBM: ports that are used, the reference, and the temperature alarm.",
            *cell("hbm", "hbm", settings),
            *cell("util_ds_buf", "hbm_clock", [("C_BUF_TYPE", "IBUFDS")]),
            *_diff_clock("hbm_refclk", "hbm_clock"),
            *cell("proc_sys_reset", "hbm_reset"),
            net("hbm_clock/IBUF_OUT", "hbm_reset/slowest_sync_clk"),
            net("xdma/axi_aresetn", "hbm_reset/ext_reset_in"),
        ]
        for stack in range(2):
            lines += [
                net("hbm_clock/IBUF_OUT", f"hbm/HBM_REF_CLK_{stack}"),
                net("hbm_clock/IBUF_OUT", f"hbm/APB_{stack}_PCLK"),
                net("hbm_reset/peripheral_aresetn", f"hbm/APB_{stack}_PRESET_N"),
            ]
        for number in used:
            lines += [
                net(self.clock, f"hbm/AXI_{number:02d}_ACLK"),
                net(_RESET, f"hbm/AXI_{number:02d}_ARESET_N"),
            ]
        return [
            *lines,
            *cell("util_vector_logic", "cattrip", [("C_OPERATION", "or"), ("C_SIZE", 1)]),
            net("hbm/DRAM_0_STAT_CATTRIP", "cattrip/Op1"),
            net("hbm/DRAM_1_STAT_CATTRIP", "cattrip/Op2"),
            'create_bd_port -dir O "HBM_CATTRIP"',
            'connect_bd_net [get_bd_pins "cattrip/Res"] [get_bd_ports "HBM_CATTRIP"]',
        ]


def _diff_clock(name: str, buffer: str) -> list[str]:
    """Return the commands that add a differential clock of 100 MHz in front of a buffer."""
    return [
        f'create_bd_intf_port -mode Slave -vlnv "xilinx.com:interface:diff_clock_rtl:1.0" "{name}"',
        f'set_property CONFIG.FREQ_HZ "100000000" [get_bd_intf_ports "{name}"]',
        f'connect_bd_intf_net [get_bd_intf_ports "{name}"] [get_bd_intf_pins "{buffer}/CLK_IN_D"]',
    ]


HOSTS: dict[str, Host] = {"zynq": Zynq(), "alveo": Alveo()}
