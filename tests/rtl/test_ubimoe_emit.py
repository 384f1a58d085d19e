"""What is emitted for UbiMoE: the same bytes, true images, projects for ZCU102 and U280."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.arch.ubimoe import UBIMOE
from headrace.arch.ubimoe.images import attention_image, expert_image, parameter_image
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.memory_ports import load_memory_ports
from headrace.rtl.ports import check_ports, verilog_ports
from headrace.rtl.ubimoe import RTL
from headrace.rtl.ubimoe.emission import shell_sizes
from headrace.rtl.ubimoe.registers import register_map
from headrace.rtl.vivado import VivadoProject, vivado_files, vivado_script


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


machine, run = _load("ubimoe_machine"), _load("vivado_stand_in").run

SMALL = {
    "numerics": "int8",
    "attention_lanes": 2,
    "attention_dims": 2,
    "tile_in": 4,
    "tile_out": 4,
    "linear_lanes": 2,
    "weight_ports": 2,
    "max_tokens": 6,
    "heads": 2,
    "head_dim": 4,
    "hidden": 16,
    "expert_hidden": 8,
    "experts": 3,
    "clock_mhz": 200,
    "keys": "chip",
}


@pytest.fixture(scope="module")
def point():
    return UBIMOE.point(SMALL)


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(1)

    def small(*shape: int) -> Any:
        return rng.integers(-128, 128, shape)

    return {
        "layer0_part1_first": small(8, 8),
        "layer0_part1_first_bias": small(8),
        "layer0_part1_second": small(8, 8),
        "layer0_part1_second_bias": small(8),
        "layer0_qkv": small(24, 8),
        "layer0_qkv_bias": small(24),
        "layer0_projection": small(8, 8),
        "layer0_projection_bias": small(8),
        "layer0_norms": small(2, 2, 8),
        "layer1_norms": small(2, 2, 8),
        "layer1_gate": small(3, 8),
    }


@pytest.fixture(scope="module")
def files(point, weights):
    return RTL.files(point, "u280", weights)


def test_folder_is_complete(point, files):
    assert set(files) == {
        "README.md",
        "driver/registers.md",
        "driver/ubimoe_registers.h",
        "point.toml",
        "rtl/encoder_block.v",
        "rtl/ubimoe_shell.v",
        "vivado/board.xdc",
        "vivado/build.tcl",
        "weights/index.json",
        *(f"weights/layer0_part1.port{p}.bin" for p in range(2)),
        *(f"weights/layer0_attention.port{p}.bin" for p in range(2)),
        "weights/layer0_parameters.port0.bin",
        "weights/layer1_parameters.port0.bin",
    }
    text = files["README.md"].decode()
    assert "| `m_axi_weight1` | HBM_AXI_01 |" in text


def test_verilog_of_the_emission_is_clean(point, files):
    outer, inner = (files[f"rtl/{name}.v"].decode() for name in (RTL.shell, RTL.top))
    report = lint(inner + outer, RTL.shell)
    assert report.findings == ()
    assert check_ports(verilog_ports(inner, RTL.top), RTL.ports(point)) == ()
    header = files["driver/ubimoe_registers.h"].decode()
    assert "#define UBIMOE_START 0x2cu" in header
    assert register_map(shell_sizes(point))["start"].offset == machine.START


def test_emitting_again_gives_the_same_folder(point, files, weights, tmp_path):
    written = RTL.emit(point, tmp_path / "out", device="u280", weights=weights)
    assert len(written) == len(files) + 1
    listed = json.loads((tmp_path / "out/manifest.json").read_text())["files"]
    assert {e["path"]: e["sha256"] for e in listed} == {
        path: hashlib.sha256(data).hexdigest() for path, data in files.items()
    }


def test_images_are_striped_over_the_ports(point, files, weights):
    """The first bias is in the first word of port 0, and all of it in the image of arch."""
    index = json.loads(files["weights/index.json"])
    sizes = shell_sizes(point)
    assert index["layer0_part1"]["beats"] == sizes.expert_beats
    assert index["layer0_attention"]["beats"] == sizes.attention_beats
    assert index["layer1_parameters"]["beats"] == sizes.parameter_words(True)
    ports = [files[f"weights/layer0_part1.port{p}.bin"] for p in range(2)]
    assert {len(stripe) for stripe in ports} == {index["layer0_part1"]["bytes"]}
    first = np.frombuffer(ports[0][:8], "<i2")
    assert first.tolist() == weights["layer0_part1_first_bias"][:4].tolist()
    layers = [
        (weights[f"layer0_part1_{n}"], weights[f"layer0_part1_{n}_bias"])
        for n in ("first", "second")
    ]
    image = expert_image(*layers, sizes)
    for beat in (0, 5, len(image) - 1):
        word = sizes.weights.port_bits // 8
        joined = b"".join(stripe[beat * word : (beat + 1) * word] for stripe in ports)
        assert joined == image[beat].tobytes()


@pytest.mark.parametrize("point_", [("int8", 1, 0, 1), ("w16a32", 2, 2, 1), ("int16", 2, 0, 2)])
@pytest.mark.parametrize("experts", [False, True])
def test_images_are_those_the_simulations_read(point_, experts):
    """The packers agree with those of the tests, which the machine was simulated with."""
    sizes = machine.sizes_of(*point_)
    block = machine.draw_layer(sizes, experts, np.random.default_rng(3))
    parts, attention, parameters = machine.layer_images(sizes, block)

    def layer(affine: Any) -> Any:
        return affine.weights, affine.bias

    def beats(image: Any) -> list[int]:
        return [int.from_bytes(beat.tobytes(), "little") for beat in image]

    ffns = block.ffn.experts if experts else block.ffn
    for ffn, expected in zip(ffns if isinstance(ffns, tuple) else (ffns,), parts, strict=True):
        assert beats(expert_image(layer(ffn.first), layer(ffn.second), sizes)) == expected
    made = attention_image(layer(block.attention.qkv), layer(block.attention.projection), sizes)
    assert beats(made) == attention
    norms = [np.stack(layer(n)) for n in (block.attention_norm, block.ffn_norm)]
    gate = block.ffn.gate if experts else None
    assert beats(parameter_image(norms, gate, sizes)) == parameters


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layer0_qkv_bias": None}, "weights layer0_qkv_bias are missing"),
        ({"layer1_norms": None}, "weights layer1_gate belong to no image"),
        ({"layer1_norms": np.zeros((2, 8))}, "layer1_norms \\[2, 8\\] is not allowed"),
        ({"a b_qkv": np.zeros((24, 8))}, "'a b_qkv' is not allowed as a Verilog name"),
        ({"layer0_qkv": np.zeros((8, 24), int)}, "values \\[8, 24\\] are not allowed"),
    ],
)
def test_weights_are_checked(point, weights, change, message):
    given = {name: values for name, values in (weights | change).items() if values is not None}
    with pytest.raises(InputError, match=f"^{message}"):
        RTL.files(point, "zcu102", given)


def test_the_machine_with_keys_behind_the_ports_is_refused():
    with pytest.raises(InputError, match="^keys = ports has no RTL: keys = chip needed$"):
        RTL.verilog(UBIMOE.point({**SMALL, "keys": "ports"}))


def project(device: str, weight_ports: int, attention: int) -> VivadoProject:
    names = [f"m_axi_weight{p}" for p in range(weight_ports)]
    names += [f"m_axi_attention{p}" for p in range(attention)]
    return VivadoProject(
        name="ubimoe",
        top="ubimoe_shell",
        part="xcu280-fsvh2892-2L-e",
        board="xilinx.com:au280:part0:1.1",
        clock_mhz=200,
        sources=["../rtl/a.v"],
        control="s_axi_control",
        ports=load_memory_ports("ubimoe", device, [*names, "m_axi_parameters"]),
        stream_in=("s_axis_features", 256),
        stream_out=("m_axis_features", 256),
    )


def commands(said: list[list[str]], name: str) -> list[list[str]]:
    return [words[1:] for words in said if words[0] == name]


@pytest.mark.parametrize("device, ports", [("zcu102", (2, 1)), ("u280", (8, 2)), ("kv260", (3, 0))])
def test_every_interface_is_connected_once(device, ports, tmp_path):
    made = project(device, *ports)
    code, said, complaint = run(vivado_script(made), tmp_path)
    assert (code, complaint) == (0, "")
    links = commands(said, "connect_bd_intf_net")
    ends = [end for link in links for end in link]
    assert len(ends) == len(set(ends))
    assert {end.split("/")[1] for end in ends if end.startswith("accelerator/")} == {
        "s_axi_control",
        *made.ports.masters,
        "s_axis_features",
        "m_axis_features",
    }
    loads = [load for _, load in commands(said, "connect_bd_net")]
    assert len(loads) == len(set(loads)), "a pin has two drivers"
    clocked = {load.split("/")[0] for load in loads}
    for words in commands(said, "create_bd_cell"):
        if words[1] not in ("ps", "pcie_clock", "hbm_clock"):
            assert words[1] in clocked, f"{words[1]} has no clock"


def test_masters_reach_the_ports_of_the_table(tmp_path):
    """Through one SmartConnect each, from the accelerator to the memory."""
    for device, pin in (("u280", "hbm/SAXI_{}"), ("zcu102", "ps/S_AXI_{}_FPD")):
        made = project(device, 2, 1)
        _, said, _ = run(vivado_script(made), tmp_path)
        links = commands(said, "connect_bd_intf_net")
        memory = {source.split("/")[0]: sink for source, sink in links if "/M00_AXI" in source}
        for master, port in made.ports.masters.items():
            (sink,) = [b for a, b in links if a == f"accelerator/{master}"]
            expected = pin.format(port.removeprefix("HBM_AXI_"))
            assert memory[sink.split("/")[0]] == expected
        assert memory["memory"] == pin.format(made.ports.dma.removeprefix("HBM_AXI_"))


def test_hbm_has_what_its_guide_asks_for(tmp_path):
    made = project("u280", 4, 0)
    _, said, _ = run(vivado_script(made), tmp_path)
    (settings,) = [w[1] for w in commands(said, "set_property") if w[-1] == "hbm"]
    enabled = {f"{n:02d}" for n in range(32) if f"CONFIG.USER_SAXI_{n:02d} true" in settings}
    assert enabled == {"00", "01", "02", "03", "29", "30", "31"}
    assert len(re.findall("CONFIG.USER_SAXI_.. false", settings)) == 25
    assert "USER_CLK_SEL_LIST0 AXI_00_ACLK" in settings
    assert "USER_CLK_SEL_LIST1 AXI_29_ACLK" in settings
    nets = commands(said, "connect_bd_net")
    for port in enabled:
        assert ["clock/clk_out1", f"hbm/AXI_{port}_ACLK"] in nets
        assert ["reset/peripheral_aresetn", f"hbm/AXI_{port}_ARESET_N"] in nets
    for stack in "01":
        assert ["hbm_clock/IBUF_OUT", f"hbm/HBM_REF_CLK_{stack}"] in nets
        assert [f"hbm/DRAM_{stack}_STAT_CATTRIP", f"cattrip/Op{int(stack) + 1}"] in nets
    assert ["cattrip/Res", "port/HBM_CATTRIP"] in nets
    # the host's clock meets the fabric's in these two alone
    crossing = {b for a, b in nets if b.endswith("/aclk1")}
    assert crossing == {"loader/aclk1", "control/aclk1"}
    constraints = vivado_files(made)["board.xdc"]
    assert 'PACKAGE_PIN D32 [get_ports "HBM_CATTRIP"]' in constraints
    names = {words[-1] for words in commands(said, "create_bd_port")}
    names |= {words[-1] for words in commands(said, "create_bd_intf_port")}
    for port in re.findall('get_ports "(.*)"', constraints):
        assert port.removesuffix("_clk_p").removesuffix("_clk_n") in names


def test_without_the_board_only_its_interfaces_are_missing(tmp_path):
    _, said, _ = run(vivado_script(project("u280", 1, 0)), tmp_path, "synth", 0)
    assert not any("BOARD_INTERFACE" in " ".join(words) for words in said)
    assert not commands(said, "report_power")


def test_emitted_script_runs(files, tmp_path):
    script = files["vivado/build.tcl"].decode()
    code, said, complaint = run(script, tmp_path)
    assert (code, complaint) == (0, "")
    assert said[0] == ["create_project", "ubimoe", "xcu280-fsvh2892-2L-e"]
    assert commands(said, "add_files")[-2][1] == "constrs_1"


@pytest.mark.parametrize(
    "device, change, message",
    [
        ("a100", {}, "ubimoe has no memory ports on device 'a100'"),
        ("zcu102", {"weight_ports": 4}, "4 AXI masters 'weight' are not allowed on zcu102: 1 to 3"),
        (
            "zcu102",
            {"weight_ports": 3, "msa_weight_ports": 1},
            "HP3 of zcu102 would have two masters",
        ),
    ],
)
def test_devices_without_room_are_refused(device, change, message):
    with pytest.raises(InputError, match=f"^{message}"):
        RTL.files(UBIMOE.point({**SMALL, **change}), device)


def test_wide_streams_are_refused():
    wide = project("zcu102", 1, 0)
    with pytest.raises(InputError, match="^a stream of 2048 bits is not allowed"):
        vivado_script(VivadoProject(**{**vars(wide), "stream_in": ("s_axis_features", 2048)}))
