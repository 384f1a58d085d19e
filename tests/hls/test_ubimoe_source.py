"""The folder that UbiMoE's HLS face emits: contents, determinism, its test benches, the scripts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import ONE, draw, flags_of

from headrace.arch.point import Point
from headrace.arch.ubimoe import UBIMOE
from headrace.errors import InputError
from headrace.hls.csim import ap_types, build, execute
from headrace.hls.emit import Tree
from headrace.hls.ubimoe import HLS, rules
from headrace.models.kernels import fixed

KERNELS = [
    "patch_embedding", "layer_norm", "msa_prefetch", "msa_linear", "streaming_attention",
    "msa_combine", "gate", "dispatch", "moe_prefetch", "moe_linear", "moe_combine",
    "msa_block", "moe_block",
]  # fmt: skip
# Every choice of the C++: slots, ports, lanes, several modules, beats that are no whole tiles.
POINTS = [
    {},
    {
        "numerics": "int16", "weight_slots": 1, "attention_modules": 3, "msa_weight_ports": 1,
        "weight_ports": 2, "port_bits": 128, "linear_lanes": 1, "exp_units": "lane",
    },
    {
        "numerics": "int8", "heads": 2, "head_dim": 16, "attention_dims": 4, "tile_in": 32,
        "tile_out": 4, "hidden": 64, "expert_hidden": 32, "experts": 3, "top_k": 3,
        "max_tokens": 4, "attention_lanes": 4, "msa_linear_lanes": 2, "weight_ports": 3,
    },
]  # fmt: skip


PARTS = {
    "msa_block": ["layer_norm", "array", "streaming_attention", "combine"],
    "moe_block": ["layer_norm", "gate", "dispatch", "array", "combine"],
}


def sources(kernel: str) -> list[str]:
    paths = [f"src/{kernel}.cpp", f"src/{kernel}.h", "src/functions.h", "src/sizes.h"]
    narrow = kernel != "dispatch" and not kernel.endswith("prefetch")
    fields = kernel.endswith(("linear", "embedding", "array"))
    return [*paths, *["src/narrow.h"] * narrow, *["src/fields.h"] * fields]


def point(**axes) -> Point:
    return UBIMOE.point(axes)


def constant(tree: Tree, kernel: str, name: str) -> int:
    text = tree[f"{kernel}/src/sizes.h"].decode()
    return int(re.search(rf"constexpr int {name} = (-?\d+);", text)[1])


def test_the_folder_has_all_kernels():
    assert UBIMOE.face("hls") is HLS
    tree = HLS.tree(point())
    expected = ["Makefile", "README.md", "point.toml", "run_hls.tcl"]
    expected += ["sim/hls_stream.h", "sim/hls_streamofblocks.h"]
    for name in KERNELS:
        expected += [f"{name}/{path}" for path in sources(name)]
        expected += [f"{name}/tb/testbench.cpp", f"{name}/tb/vectors.txt"]
        expected += [f"{name}/src/block.h"] * name.endswith("block")
        for part in PARTS.get(name, []):
            expected += [f"{name}/src/{part}/{path[4:]}" for path in sources(part)]
    assert tree.paths() == sorted(expected)
    readme = tree["README.md"].decode()
    assert "`zcu102`" not in readme
    assert "for zcu102 (`xczu9eg-ffvb1156-2-e`) at 300 MHz" in readme
    table = readme.split("| kernel | ports |")[1].splitlines()
    assert [line.split("`")[1] for line in table if line.startswith("| `")] == KERNELS
    assert not re.search(r"@[a-z_]+@", "".join(tree[path].decode() for path in tree.paths()))


def test_published_sizes():
    # Sections 3 and 4 of the paper and the release: M3ViT-T, T_in = T_out = 16, T_a = 8, N_a = 4,
    # N_L = 3.
    tree = HLS.tree(point(linear_lanes=3))
    for kernel, name, value in [
        ("patch_embedding", "IN_TILES", 48), ("layer_norm", "RECIPROCAL", 21845),
        ("streaming_attention", "HEADS", 3), ("streaming_attention", "LANES", 4),
        ("streaming_attention", "SCALE_SHIFT", 3), ("msa_linear", "BIAS_FRACTION", 9),
        ("msa_linear", "MAX_OUT_TILES", 36), ("msa_linear", "LANES", 1),
        ("moe_linear", "BIAS_FRACTION", 11), ("moe_linear", "MAX_TILES", 288),
        ("moe_linear", "LANES", 3), ("gate", "EXPERTS", 16), ("dispatch", "TOP_K", 2),
        ("moe_combine", "LANES", 3), ("msa_combine", "LANES", 1), ("gate", "DIMS", 8),
    ]:  # fmt: skip
        assert constant(tree, kernel, name) == value, (kernel, name)
    source = tree["moe_prefetch/src/moe_prefetch.cpp"].decode()
    assert "LOADS[IMAGES][2] = {\n    {12, 24}, {24, 12},\n}" in source
    assert "mode=m_axi port=port0 bundle=port0 offset=slave depth=4096" in source


def test_the_axes_reach_the_sources():
    tree = HLS.tree(point(**POINTS[1]))
    assert constant(tree, "streaming_attention", "HEADS") == 1
    assert constant(tree, "moe_linear", "BEAT_BITS") == 256
    assert constant(tree, "msa_linear", "BEAT_BITS") == 128
    assert constant(tree, "moe_prefetch", "PORTS") == 2
    assert constant(tree, "msa_prefetch", "PORTS") == 1
    assert b"stream_of_blocks" not in tree["moe_linear/src/moe_linear.cpp"]
    assert b"stream_of_blocks" in HLS.tree(point())["moe_linear/src/moe_linear.cpp"]
    assert constant(HLS.tree(point(**POINTS[2])), "msa_prefetch", "PORTS") == 3


def test_what_has_no_hls_is_refused():
    for axis, value in [("attention", "rows"), ("gelu", "erf"), ("linear", "separate"),
                        ("expert_order", "token")]:  # fmt: skip
        with pytest.raises(InputError, match=rf"{axis} = {value} has no HLS: {axis} = \w+ needed"):
            HLS.tree(point(**{axis: value}))
    with pytest.raises(InputError, match="unknown device"):
        HLS.tree(point(), "zcu103")
    with pytest.raises(InputError, match="'a100' has no Vivado part"):
        HLS.tree(point(), "a100")
    with pytest.raises(InputError, match="beat_bits = 16384 is not allowed: 8 to 4096"):
        HLS.tree(point(weight_ports=32, port_bits=512))


def test_emission_is_deterministic(tmp_path: Path):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from test_ubimoe_source import HLS, POINTS, point\n"
        "print(*(HLS.tree(point(**axes)).hash for axes in POINTS))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    lines = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "77")
    }  # fmt: skip
    assert len(lines) == 1
    assert len(set(lines.pop().split())) == len(POINTS)


def test_emit_writes_a_folder(tmp_path: Path):
    at, out = point(numerics="int8"), tmp_path / "out"
    written = HLS.emit(at, out, device="u280")
    assert written == [out / path for path in HLS.tree(at, "u280").paths()]
    assert sorted(p for p in out.rglob("*") if p.is_file()) == written
    assert HLS.emit(at, out, device="u280") == written
    nested = HLS.emit(at, out / "hls", device="u280", nested=True)
    assert [p.relative_to(out / "hls") for p in nested] == [p.relative_to(out) for p in written]


def program(tree: Tree, kernel: str, cache: Path) -> Path:
    """Compile an emitted kernel with its test bench, without a warning."""
    both = "".join(f'#include "../{kernel}/{path}"\n' for path in (
        f"src/{kernel}.cpp", "tb/testbench.cpp"))  # fmt: skip
    files = {path: tree[path] for path in tree.paths() if path.startswith((f"{kernel}/", "sim/"))}
    whole = Tree({**files, "sim/both.cpp": both})
    return build(whole, ["sim/both.cpp"], flags=flags_of(cache), cache=cache)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("number", range(len(POINTS)))
def test_the_test_benches_pass(number, kernel, cache):
    tree = HLS.tree(point(**POINTS[number]))
    text = tree[f"{kernel}/tb/vectors.txt"].decode()
    code, _, message = execute(program(tree, kernel, cache), text)
    assert (code, message) == (0, "")


def flip_last(text: str) -> str:
    """Return vectors whose last word, one of a result, has another lowest bit."""
    head, last = text.rstrip("\n").rsplit("\n", 1)
    return f"{head}\n{int(last, 16) ^ 1:x}\n"


@pytest.mark.parametrize("kernel", ["layer_norm", "moe_prefetch"])
def test_a_test_bench_sees_a_wrong_bit(kernel, cache):
    tree = HLS.tree(point(**POINTS[2]))
    text = tree[f"{kernel}/tb/vectors.txt"].decode()
    made = program(tree, kernel, cache)
    assert execute(made, text)[::2] == (0, "")
    code, _, message = execute(made, flip_last(text))
    assert code == 1
    assert re.match(r"\w+ \d+: [0-9a-f]+, expected [0-9a-f]+$", message)
    short = text.replace("\nweights 51", "\nweights 52").replace("\nresults 24", "\nresults 25")
    assert execute(made, f"{short}0\n")[0] == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_folder_stands_alone(tmp_path: Path):
    """Follow the README for one of the kernels."""
    out = tmp_path / "out"
    HLS.emit(point(**POINTS[2]), out)

    def call(*command: str) -> "subprocess.CompletedProcess[str]":
        # What a make around the tests hands down would make this one talkative.
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            command, cwd=out, capture_output=True, text=True, check=False, env=plain
        )

    done = call("make", f"AP_TYPES={ap_types()}", "CXXFLAGS=-std=c++14 -O0 -w", "dispatch")
    assert done.returncode == 0, done.stderr
    # two commands of 4 tokens with all 3 experts each: 3 jobs and 12 rows
    assert done.stdout.endswith("30 words compared, 0 differ\n")
    vectors = out / "dispatch" / "tb" / "vectors.txt"
    vectors.write_text(flip_last(vectors.read_text()))
    done = call("build/dispatch", "dispatch/tb/vectors.txt")
    assert (done.returncode, done.stdout) == (1, "30 words compared, 1 differ\n")
    done = call("make")
    assert done.returncode != 0
    assert "AP_TYPES is the folder of ap_int.h" in done.stderr


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")
def test_tcl_runs_with_stub_commands(tmp_path: Path):
    out = tmp_path / "a b [c] $d"  # a folder that only careful quoting survives
    HLS.emit(point(clock_mhz=200), out, device="u280")
    names = ["open_project", "set_top", "add_files", "open_solution", "set_part", "create_clock",
             "csim_design", "csynth_design", "cosim_design", "export_design",
             "close_project"]  # fmt: skip
    stubs = "".join(f"proc {name} args {{ puts [list {name} {{*}}$args] }}\n" for name in names)
    driver = tmp_path / "driver.tcl"
    driver.write_text(f"{stubs}source [file join {{{out}}} run_hls.tcl]\nputs unreached\n")

    def lines(*arguments: str) -> list[str]:
        done = subprocess.run(
            ["tclsh", driver, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    every = lines()
    assert "unreached" not in every
    assert [line.split()[1] for line in every if line.startswith("set_top")] == KERNELS
    assert every.count("set_part xcu280-fsvh2892-2L-e") == len(KERNELS)
    assert every.count("create_clock -period 5.000 -name default") == len(KERNELS)
    for line in every:
        if line.startswith("add_files"):
            assert Path(re.search(r"\{(.*?)\}", line)[1]).is_file()
    for arguments in (["gate", "dispatch"], ["-f", "run_hls.tcl", "-tclargs", "gate", "dispatch"]):
        some = [line for line in lines(*arguments) if line.startswith("set_top")]
        assert some == ["set_top gate", "set_top dispatch"]


# Two readings of one page.
def test_the_functions_equal_the_reference():
    rng = np.random.default_rng(1)
    x = np.concatenate([draw(rng, 32, 2000), [-(1 << 31), 0, 11 * ONE // 2, -11 * ONE // 2]])
    d = -(np.abs(x) >> rng.integers(0, 8, x.shape))
    assert (rules.exponential(d) == fixed.exponential(d)).all()
    assert (rules.gelu(x) == fixed.gelu(x)).all()
    assert (rules.root_reciprocal(x) == fixed.root_reciprocal(x)).all()
    s = np.maximum(np.abs(x) % (1 << 31), ONE)
    assert (rules.reciprocal(s) == fixed.reciprocal(s)).all()
