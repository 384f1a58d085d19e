"""Emitted folders: same bytes everywhere, whole or not at all, only safe names."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes
from headrace.arch.tellme.packing import unpack_weights
from headrace.errors import InputError
from headrace.rtl.emit import emit_folder, manifest
from headrace.rtl.names import verilog_identifier
from headrace.rtl.registers import Field, Register, RegisterMap
from headrace.rtl.tellme import RTL
from headrace.rtl.verilog import to_verilog
from headrace.tcl import tcl_word

SMALL = {
    "tables": 3,
    "copies": 4,
    "weight_banks": 4,
    "weight_words": 128,
    "weight_ports": 2,
    "port_bits": 128,
    "activation_lanes": 3,
    "max_outputs": 64,
}


class Delay(wiring.Component):
    """A toy: a memory of `words` zeros, written and read at one address."""

    address: In(4)
    data: In(8)
    result: Out(8)

    def __init__(self, words=16, init=()):
        self.words, self.init = words, init
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=self.words, init=list(self.init))
        writer, reader = memory.write_port(), memory.read_port()
        unused = Signal()
        m.d.comb += [
            writer.addr.eq(self.address),
            writer.data.eq(self.data),
            writer.en.eq(1),
            reader.addr.eq(self.address),
            self.result.eq(reader.data),
            unused.eq(self.data[0]),
        ]
        return m


def test_memories_of_zeros_are_cleared_in_simulation_only():
    text = to_verilog(Delay(), "delay")
    assert "module delay(" in text
    before, _, after = text.partition("`ifndef SYNTHESIS\n")
    assert "< 16;" in after.partition("`endif")[0]
    assert "8'h00;" not in before.partition("reg [7:0] memory")[2]


def test_other_initial_values_stay():
    text = to_verilog(Delay(init=[0, 7]), "delay")
    assert "memory[1] = 8'h07;" in text
    assert "SYNTHESIS" not in text


def test_environment_is_left_alone(monkeypatch):
    monkeypatch.delenv("AMARANTH_USE_YOSYS", raising=False)
    to_verilog(Delay(), "delay")
    assert "AMARANTH_USE_YOSYS" not in os.environ


@pytest.mark.parametrize("name", ["", "1a", "a b", "module", "a;b", "a$b", "x" * 65, "ä", "a\n"])
def test_bad_names_are_refused(name):
    with pytest.raises(InputError, match="not allowed as a Verilog name"):
        verilog_identifier(name)


def test_tcl_words_are_inert():
    assert tcl_word('a[exit]$b{"') == '"a\\[exit\\]\\$b\\{\\""'
    with pytest.raises(InputError):
        tcl_word("a\nexit")


# Run a script as the main program in a Python in which headrace cannot be imported.
RUN_BLOCKED = """
import runpy, sys
sys.modules["headrace"] = None
runpy.run_path(sys.argv[1], run_name="__main__")
"""

SCRIPT = """
import hashlib, json, sys
from headrace.arch.tellme import TELLME
from headrace.rtl.tellme import RTL
files = RTL.files(TELLME.point(json.loads(sys.argv[1])))
print(json.dumps({path: hashlib.sha256(data).hexdigest() for path, data in files.items()}))
"""


def test_same_point_same_bytes_in_every_process():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(SMALL)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "4711")
    ]
    assert outputs[0] == outputs[1]
    assert "rtl/ternary_matmul.v" in outputs[0]


def test_folder_is_complete_and_its_manifest_true(tmp_path):
    point = TELLME.point(SMALL)
    rng = np.random.Generator(np.random.PCG64(3))
    weights = rng.integers(-1, 2, (10, 20)).astype(np.int8)
    written = RTL.emit(point, tmp_path / "out", weights={"layer0_q": weights})
    names = [str(path.relative_to(tmp_path / "out")) for path in written]
    assert names == sorted(names)
    assert sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file()) == sorted(written)
    listed = json.loads((tmp_path / "out/manifest.json").read_text())["files"]
    assert {entry["path"] for entry in listed} == set(names) - {"manifest.json"}
    for entry in listed:
        data = (tmp_path / "out" / entry["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    # The packed image holds the weights: join the ports and unpack.
    sizes = engine_sizes(point)
    index = json.loads((tmp_path / "out/weights/index.json").read_text())["layer0_q"]
    ports = [
        np.frombuffer(
            (tmp_path / f"out/weights/layer0_q.port{port}.bin").read_bytes(), np.uint8
        ).reshape(index["beats"], -1)
        for port in range(2)
    ]
    image = np.concatenate(ports, axis=1)
    unpacked = unpack_weights(image, sizes, index["rows"], index["groups"])
    np.testing.assert_array_equal(unpacked[:10, :20], weights)


def test_foreign_folder_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="did not write"):
        emit_folder({"point.toml": b""}, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_paths_stay_inside(tmp_path):
    with pytest.raises(ValueError, match="not a path inside"):
        emit_folder({"point.toml": b"", "../evil": b""}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert manifest({"a": b""})[0]["sha256"].startswith("e3b0c442")


def test_device_without_part_is_refused():
    with pytest.raises(InputError, match="has no Vivado part"):
        RTL.files(TELLME.point(SMALL), device="a100")


def test_register_map_rules():
    def register(name, offset, *fields):
        return Register(name=name, summary="", offset=offset, access="read", fields=fields)

    whole = Field(name="value", summary="all of it")
    with pytest.raises(ValueError, match="ascending multiples of 4"):
        RegisterMap([register("a", 4, whole), register("b", 4, whole)])
    with pytest.raises(ValueError, match="overlap or leave"):
        RegisterMap([register("a", 0, whole, Field(name="more", summary="", low=8, width=1))])
    header = RegisterMap([register("a", 8, Field(name="x", summary="s", low=4, width=3))])
    assert "#define T_A_X_MASK 0x00000070u" in header.c_header("t")
    assert "| 0x08 | a | read | 6:4 | x | s |" in header.markdown()


def test_regression_runs_from_the_emitted_folder_alone(tmp_path):
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    RTL.emit(TELLME.point(SMALL), tmp_path / "out")
    folder = tmp_path / "out/regression"
    for text in ("test_ternary_matmul.py", "cocotb_engine.py"):
        assert "import headrace" not in (folder / text).read_text()
        assert "from headrace" not in (folder / text).read_text()
    command = [sys.executable, "-I", "-c", RUN_BLOCKED, "test_ternary_matmul.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads((folder / "report.json").read_text())["results"] >= 100


def test_regression_fails_when_a_bit_is_wrong(tmp_path):
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    RTL.emit(TELLME.point(SMALL), tmp_path / "out")
    folder = tmp_path / "out/regression"
    vectors = dict(np.load(folder / "vectors.npz"))
    vectors["results"][-1, 0] ^= 1
    np.savez(folder / "vectors.npz", **vectors)
    done = subprocess.run(
        [sys.executable, "test_ternary_matmul.py"], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode != 0
