"""What is emitted for V-Rex: units that stand alone, their ports and counts, no board."""

import hashlib
import json
import re
import subprocess
from dataclasses import asdict

import pytest

from headrace.arch.vrex import VREX
from headrace.arch.vrex.units import unit_sizes
from headrace.cli import main
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.netlist import NetlistCounts, map_netlist
from headrace.rtl.ports import check_ports
from headrace.rtl.vrex import RTL, emission

SMALL = {"hcu_lanes": 8, "hcu_accumulators": 2, "wtu_lanes": 2, "wtu_buckets": 4}
NAMES = [
    "hash_cluster",
    "mean_key",
    "score_align",
    "threshold",
    "kv_management",
    "retrieval_engine",
]
COUNTS = NetlistCounts(
    lut=70_123, lutram=20, ff=30, carry=4, dsp=5, bram36=6.5, uram=0, yosys_version="0.0"
)


@pytest.fixture(scope="module")
def point():
    return VREX.point(SMALL)


@pytest.fixture(scope="module")
def mapped():
    """Return what was given to the mapping, which takes minutes, in its place."""
    given = {}

    def counted(verilog, top):
        given[top] = verilog
        return COUNTS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emission, "map_netlist", counted)
        yield given


@pytest.fixture(scope="module")
def files(point, mapped):
    return RTL.files(point)


@pytest.fixture(scope="module")
def folder(mapped, tmp_path_factory):
    """Return what the command has written."""
    out = tmp_path_factory.mktemp("vrex") / "out"
    words = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    assert main(["emit", "vrex", *words, "-o", str(out)]) == 0
    return out


def test_folder_is_complete(point, files, mapped):
    others = {"filelist.f", "ports.json", "netlist.json", "point.toml", "README.md"}
    assert set(files) == {f"rtl/{name}.v" for name in NAMES} | others
    assert files["filelist.f"].decode().split() == [f"rtl/{name}.v" for name in NAMES]
    assert {
        f"rtl/{name}.v": text.encode() for name, text in mapped.items()
    }.items() <= files.items()
    assert VREX.face("rtl") is RTL


def test_counts_are_labelled(files):
    written = json.loads(files["netlist.json"])
    assert written["units"] == {name: asdict(COUNTS) for name in NAMES}
    assert "not cells of an ASIC" in written["what"]
    text = files["README.md"].decode()
    assert "Netlists mapped to UltraScale+ by Yosys to compare variants: not cells of an" in text
    for name in NAMES:
        assert f"| `{name}` | 70123 | 20 | 30 | 5 | 6.5 |" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_unit_is_clean_and_has_its_ports(files, name):
    report = lint(files[f"rtl/{name}.v"].decode(), name)
    assert report.findings == ()
    listed = json.loads(files["ports.json"])[name]
    ports = {port: tuple(what) for port, what in listed.items()}
    assert check_ports(report.ports, ports) == ()


def test_ports_are_those_of_the_point(point, files):
    listed = json.loads(files["ports.json"])
    assert RTL.ports(point) == {n: tuple(w) for n, w in listed[RTL.top].items()}
    # two lanes of 16 bits, and a share of 17
    assert listed["threshold"]["scores__payload"] == ["input", 32]
    assert listed["score_align"]["aligned__payload"] == ["output", 32]
    assert listed["retrieval_engine"]["command__payload"] == ["input", 16 * 3 + 8 + 1 + 17]


def test_files_of_the_list_do_not_clash(files, folder, tmp_path):
    header = re.compile(r"^module (\S+?) *\(", re.MULTILINE)
    sources = [files[f"rtl/{name}.v"].decode() for name in NAMES]
    modules = [module for source in sources for module in header.findall(source)]
    assert len(modules) == len(set(modules)) > 20
    done = subprocess.run(
        ["iverilog", "-o", str(tmp_path / "all"), "-c", "filelist.f"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_gives_the_same_files(files, folder):
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert {entry["path"]: entry["sha256"] for entry in listed} == {
        path: hashlib.sha256(data).hexdigest() for path, data in files.items()
    }
    assert all((folder / path).read_bytes() == data for path, data in files.items())


def test_sizes_are_those_of_the_point():
    values = {"hcu_lanes": 32, "hcu_accumulators": 4, "wtu_lanes": 64, "wtu_buckets": 128}
    sizes = unit_sizes(VREX.point(values))
    assert (sizes.hash_cluster.lanes, sizes.hash_cluster.accumulators) == (32, 4)
    assert (sizes.threshold.lanes, sizes.threshold.buckets) == (64, 128)
    assert (sizes.score_align.lanes, sizes.score_align.max_clusters) == (64, 4096)
    engine = sizes.retrieval_engine
    assert (engine.hash_cluster, engine.threshold) == (sizes.hash_cluster, sizes.threshold)
    assert engine.kv_management == sizes.kv_management


def test_what_an_asic_has_not_is_refused(point):
    for device in ("kv260", "a100"):
        with pytest.raises(InputError, match=f"^device '{device}' is not allowed: .* an ASIC$"):
            RTL.files(point, device)
    with pytest.raises(InputError, match="^weights are not allowed"):
        RTL.files(point, weights={"a": [1]})


@pytest.mark.slow
def test_counts_of_a_small_point(point):
    pytest.importorskip("pyosys")
    counts = json.loads(RTL.files(point)["netlist.json"])["units"]
    verilog = RTL.verilog(point)
    assert counts["retrieval_engine"] == asdict(map_netlist(verilog, "retrieval_engine"))
    # a product per lane, and that of the threshold
    assert counts["threshold"]["dsp"] >= 2
    assert all(counts[name]["lut"] > counts[name]["lutram"] for name in NAMES)
    parts = sum(counts[n]["ff"] for n in ("hash_cluster", "threshold", "kv_management"))
    assert counts["retrieval_engine"]["ff"] > parts
