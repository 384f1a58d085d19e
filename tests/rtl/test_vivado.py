"""The Vivado script: run under tclsh with stand-ins that check commands and arguments."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from headrace.arch.tellme import TELLME
from headrace.errors import InputError
from headrace.rtl.memory_ports import load_memory_ports
from headrace.rtl.tellme import RTL
from headrace.rtl.vivado import VivadoProject, vivado_script
from headrace.rtl.vivado_hosts import HOSTS

_SPEC = importlib.util.spec_from_file_location(
    "vivado_stand_in", Path(__file__).parent / "vivado_stand_in.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
run = _shared.run

PROJECT = VivadoProject(
    name="demo",
    top="tellme_shell",
    part="xck26-sfvc784-2LV-c",
    board="xilinx.com:kv260_som:part0:1.4",
    clock_mhz=250,
    sources=["../rtl/a.v", "../rtl/b [exit].v"],
    control="s_axi_control",
    ports=load_memory_ports("tellme", "kv260", ["m_axi_weight0", "m_axi_weight1", "m_axi_weight2"]),
    stream_in=("s_axis_activations", 8),
    stream_out=("m_axis_results", 512),
)


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
        ports=load_memory_ports("tellme", "kv260", [*PROJECT.ports.masters, "m_axi_weight3"]),
        stream_out=("m_axis_results", 2048),
    )
    code, said, complaint = run(vivado_script(wide), tmp_path)
    assert (code, complaint) == (0, "")
    links = [words[1:] for words in said if words[0] == "connect_bd_intf_net"]
    assert ["accelerator/m_axi_weight3", "memory/S02_AXI"] in links
    assert ["accelerator/m_axis_results", "narrow/S_AXIS"] in links


@pytest.mark.parametrize(
    "change",
    [
        {"top": "a; exit"},
        {"ports": dataclasses.replace(PROJECT.ports, masters={})},
        {"part": "a\nb"},
        {"control": "x]"},
    ],
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


def test_emitted_script_of_a_board_with_hbm_runs(tmp_path):
    point = TELLME.point({"tables": 3, "copies": 4, "weight_banks": 4, "weight_words": 64})
    files = RTL.files(point, "u280")
    code, said, complaint = run(files["vivado/build.tcl"].decode(), tmp_path)
    assert (code, complaint) == (0, "")
    links = [words[1:] for words in said if words[0] == "connect_bd_intf_net"]
    assert ["weight0/M00_AXI", "hbm/SAXI_00"] in links
    assert b"HBM_CATTRIP" in files["vivado/board.xdc"]


def test_memory_ports_are_named():
    with pytest.raises(InputError, match="^tellme has no memory ports on device 'a100': one of"):
        load_memory_ports("tellme", "a100", [])
    with pytest.raises(
        InputError, match="^5 AXI masters 'weight' are not allowed on kv260: 1 to 4"
    ):
        load_memory_ports("tellme", "kv260", ["m_axi_weight4"])
    assert load_memory_ports("tellme", "kv260", ["m_axi_weight3"]).shared == ["HP2"]
    for host, wrong in (("zynq", "HP9"), ("alveo", "HBM_AXI_32")):
        with pytest.raises(InputError, match=f"^memory port '{wrong}' is not allowed"):
            HOSTS[host].port(wrong)
