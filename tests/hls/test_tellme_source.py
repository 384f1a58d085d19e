"""The emitted files: structure, pragmas, determinism, lint, the Tcl script."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.packing import index_patterns
from headrace.errors import InputError
from headrace.hls.csim import ap_types, compiler
from headrace.hls.tellme import HLS
from headrace.hls.tellme.tables import patterns

FILES = [
    "README.md",
    "point.toml",
    "run_hls.tcl",
    "sim/hls_stream.h",
    "sim/hls_streamofblocks.h",
    "src/sizes.h",
    "src/ternary_matmul.cpp",
    "src/ternary_matmul.h",
    "tb/testbench.cpp",
    "tb/vectors.txt",
]
EXACT = {"weight_layout": "exact"}


def kernel(**axes) -> str:
    return HLS.tree(TELLME.point(axes))["src/ternary_matmul.cpp"].decode()


def test_the_design_names_this_face():
    assert TELLME.face("hls") is HLS


def test_index_order_of_the_paper():
    # Section 3.1: a, b, c, a+b, a-b, a+c, a-c, b+c, b-c, a+b+c, a+b-c, a-b+c, -a+b+c of (5, -3, 7)
    sums = [sum(w * x for w, x in zip(p, (5, -3, 7), strict=True)) for p in patterns(3)]
    assert sums[:14] == [0, 5, -3, 7, 2, 8, 12, -2, 4, -10, 9, -5, 15, -1]
    assert sums[14:] == [-value for value in sums[1:14]]


@pytest.mark.parametrize("group_size", range(1, 6))
def test_index_order_equals_the_packers(group_size):
    assert [list(p) for p in patterns(group_size)] == index_patterns(group_size).tolist()


def test_published_sizes():
    text = HLS.tree(TELLME.point())["src/sizes.h"].decode()
    values = dict(re.findall(r"constexpr int (\w+) = (\d+);", text))
    expected = {
        "GROUP_SIZE": 3, "TABLES": 28, "COPIES": 16, "PATTERNS": 27, "INDEX_BITS": 5,
        "VECTOR_BITS": 140, "ENTRY_BITS": 10, "SUM_BITS": 15, "ACCUMULATOR_BITS": 24,
        "BEAT_BITS": 768, "VECTORS_PER_BEAT": 5, "BANKS": 8, "SLOT_WORDS": 10944,
        "READ_CYCLES": 84, "BUILD_CYCLES": 26, "ENTRIES": 27, "MAX_GROUPS": 256,
    }  # fmt: skip
    assert {name: int(values[name]) for name in expected} == expected


def test_pragmas_of_the_published_point():
    text = kernel()
    assert "PIPELINE II=1\n#pragma HLS DEPENDENCE variable=sums inter false" in text
    assert "BIND_STORAGE variable=slot type=ram_t2p impl=uram" in text
    assert "ARRAY_PARTITION variable=slot dim=1 complete" in text
    assert "BIND_STORAGE variable=block type=ram_s2p impl=lutram" in text
    assert "HLS DATAFLOW" not in text
    for port in ("load", "compute", "weights", "activations", "results"):
        assert f"#pragma HLS INTERFACE mode=axis port={port}\n" in text
    assert "#pragma HLS INTERFACE mode=s_axilite port=return" in text


def test_pragmas_follow_the_axes():
    assert kernel(table_buffers=2).count("#pragma HLS DATAFLOW") == 1
    overlapped = kernel(weight_slots=3, **EXACT)
    assert "hls::stream_of_blocks<slot_t, 3> slots;" in overlapped
    assert overlapped.count("#pragma HLS DATAFLOW") == 1
    assert kernel(table_buffers=2, weight_slots=2, **EXACT).count("#pragma HLS DATAFLOW") == 2
    assert "PIPELINE II=2\n#pragma HLS DEPENDENCE" in kernel(weight_banks=4)
    naive = kernel(lookup_method="naive")
    assert "lutram" not in naive
    assert "build:" not in naive
    assert "const bool negative" in kernel(lookup_method="half")
    assert "beat < BEATS_PER_GROUP" in kernel(weight_packing="group")


def test_unsuitable_devices():
    with pytest.raises(InputError, match="unknown device"):
        HLS.tree(TELLME.point(), "kv261")
    with pytest.raises(InputError, match="'a100' has no Vivado part"):
        HLS.tree(TELLME.point(), "a100")


def test_emit_writes_a_folder(tmp_path: Path):
    point = TELLME.point({"copies": 8, "weight_banks": 4})
    written = HLS.emit(point, tmp_path / "out")
    assert written == [tmp_path / "out" / name for name in FILES]
    assert sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file()) == written
    assert type(point).load(tmp_path / "out" / "point.toml", TELLME) == point
    assert HLS.emit(point, tmp_path / "out") == written
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_emit_nested_keeps_its_neighbours(tmp_path: Path):
    (tmp_path / "top.v").write_text("module top; endmodule")
    written = HLS.emit(TELLME.point(), tmp_path / "hls", nested=True)
    assert [p.relative_to(tmp_path / "hls").as_posix() for p in written] == FILES
    assert (tmp_path / "top.v").exists()


def test_emission_is_deterministic():
    code = (
        "from headrace.arch.tellme import TELLME\nfrom headrace.hls.tellme import HLS\n"
        "print(HLS.tree(TELLME.point({'lookup_method': 'half', 'table_buffers': 2})).hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }  # fmt: skip
    assert len(hashes) == 1
    assert re.fullmatch(r"[0-9a-f]{64}\n", hashes.pop())


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"lookup_method": "half", "weight_packing": "group", "table_buffers": 2},
        {"lookup_method": "naive", "weight_slots": 2, "activation_lanes": 8, **EXACT},
    ],
)
def test_sources_are_clean_cpp14(axes, tmp_path: Path):
    HLS.emit(TELLME.point(axes), tmp_path / "out")
    command = [
        compiler(), "-std=c++14", "-fsyntax-only", "-Wall", "-Wextra", "-Wshadow", "-Werror",
        # HLS pragmas and the loop labels that name loops in its reports
        "-Wno-unknown-pragmas", "-Wno-unused-label",
        "-I", "sim", "-isystem", str(ap_types()), "src/ternary_matmul.cpp", "tb/testbench.cpp",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_folder_stands_alone(tmp_path: Path):
    """Follow the README: compile in the folder, run on its vectors, from both directions."""
    out = tmp_path / "out"
    HLS.emit(TELLME.point({"tables": 4, "copies": 4, "weight_banks": 2}), out)
    command = [
        compiler(), "-std=c++14", "-O1", "-w", "-Isim", "-isystem", str(ap_types()),
        "src/ternary_matmul.cpp", "tb/testbench.cpp", "-o", "testbench",
    ]  # fmt: skip
    subprocess.run(command, cwd=out, check=True)
    run = [out / "testbench", "tb/vectors.txt"]
    done = subprocess.run(run, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # 2 tiles of 2 rows and 2 tokens: a beat per row, 12 activations per row, 2 groups per token
    assert done.stdout == (
        "32 accumulators compared, 0 differ\n"
        "largest occupancy: weights 4, activations 96, results 8\n"
    )

    vectors = out / "tb" / "vectors.txt"
    lines = vectors.read_text().splitlines()
    assert lines[-1].split()[-1].lstrip("-").isdigit()
    last = lines[-1].split()
    lines[-1] = " ".join([*last[:-1], str(int(last[-1]) + 1)])
    vectors.write_text("\n".join(lines))
    done = subprocess.run(run, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("32 accumulators compared, 1 differ\n")


TCL_COMMANDS = [
    "open_project -reset",
    "set_top ternary_matmul",
    "add_files",
    "add_files -tb",
    "add_files -tb",
    "open_solution -reset solution -flow_target vivado",
    "set_part",
    "create_clock -period 6.667 -name default",
    "csim_design",
    "csynth_design",
    "cosim_design -rtl verilog",
    "export_design -format ip_catalog -output",
    "exit",
]


def script(**axes) -> str:
    return HLS.tree(TELLME.point(axes), "zcu102")["run_hls.tcl"].decode()


def test_tcl_structure():
    lines = [line for line in script(clock_mhz=150).splitlines() if line and line[0] != "#"]
    commands = [line for line in lines if not line.startswith("set ")]
    assert len(commands) == len(TCL_COMMANDS)
    for line, start in zip(commands, TCL_COMMANDS, strict=True):
        assert line.startswith(start)
    assert 'set_part "xczu9eg-ffvb1156-2-e"' in commands


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")
def test_tcl_runs_with_stub_commands(tmp_path: Path):
    out = tmp_path / "a b [c] $d"  # a folder that only careful quoting survives
    HLS.emit(TELLME.point({"clock_mhz": 200}), out)
    names = sorted({line.split()[0] for line in TCL_COMMANDS} - {"exit"})
    stubs = "".join(f"proc {name} args {{ puts [list {name} {{*}}$args] }}\n" for name in names)
    driver = tmp_path / "driver.tcl"
    driver.write_text(f"{stubs}source [file join {{{out}}} run_hls.tcl]\nputs unreached\n")
    done = subprocess.run(["tclsh", driver], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "unreached" not in lines
    assert lines[0] == f"open_project -reset {{{out}/ternary_matmul_project}}"
    assert lines[2] == f"add_files {{{out}/src/ternary_matmul.cpp}} -cflags -std=c++14"
    assert f"add_files -tb {{{out}/tb/vectors.txt}}" in lines
    assert "create_clock -period 5.000 -name default" in lines
    assert lines[-1].startswith("export_design -format ip_catalog -output")
    for line in lines[2:5]:
        assert Path(re.search(r"\{(.*)\}", line)[1]).is_file()
