"""The command line from inside one process: contract, refusals, property-based bad input."""

import errno
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace import __version__
from headrace.cli import main

# Folders and captured output are shared by the examples of one test; each rewrites its own.
shared = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


def run(capsys, *words):
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *words):
    """Run a command that must be refused; return its one line."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"headrace: [^\n]+\n", err), err
    assert "Traceback" not in err
    return err


def accepted(capsys, *words):
    """Run a command with --json; return its object after checking the envelope."""
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    assert out.count("\n") == 1
    body = json.loads(out)
    assert body["schema"] == f"headrace/{words[0]}/1"
    assert body["version"] == __version__
    assert type(body["seed"]) is int
    assert 0 < body["seconds"] < 600
    return body


@pytest.mark.parametrize("command, name", [("devices", "kv260"), ("designs", "tellme"),
                                           ("models", "bitnet-b1.58-large")])  # fmt: skip
def test_lists(capsys, command, name):
    items = accepted(capsys, command)["items"]
    assert name in [item["name"] for item in items]
    assert all(item["summary"] for item in items)
    (one,) = accepted(capsys, command, name)["items"]
    assert one["name"] == name
    code, out, err = run(capsys, command)
    assert (code, err) == (0, "")
    assert name in out


def test_device_lists_the_source_of_every_figure(capsys):
    (kv260,) = accepted(capsys, "devices", "kv260")["items"]
    assert kv260["resources"] == {
        "lut": 117_120,
        "ff": 234_240,
        "dsp": 1_248,
        "bram36": 144,
        "uram": 64,
    }
    assert all(figure["source"] for figure in kv260["figures"])


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"headrace {__version__}\n", "")


@pytest.mark.parametrize(
    "words, part",
    [
        ([], "a command is needed"),
        (["grind"], "grind"),
        (["--json"], "--json"),
        (["simulate"], "DESIGN"),
        (["simulate", "tellme", "--batch", "x"], "--batch"),
        (["simulate", "tellme", "--bogus"], "--bogus"),
        (["simulate", "tellme", "extra"], "extra"),
        (["simulate", "mill"], "unknown design 'mill': one of "),
        (["simulate", "tellme", "--device", "kv261"], "unknown device 'kv261': one of kv260"),
        (["simulate", "tellme", "--device", "kv260:x"], "no alternative 'x': one of ddr4-2400"),
        (["simulate", "tellme", "--network", "gpt"], "unknown network 'gpt': one of bitnet"),
        (["simulate", "tellme", "--network", "vit-tiny"], "vit"),
        (["simulate", "tellme", "--point", "none.toml"], "cannot read none.toml"),
        (["simulate", "tellme", "--set", "tables"], "axis=value needed"),
        (["simulate", "tellme", "--set", "table=3"], "has no axis 'table': one of clock_mhz"),
        (["simulate", "tellme", "--set", "tables=999"], "tables = 999 is not allowed: 1 to 128"),
        (["simulate", "tellme", "--set", "tables=3", "--set", "tables=4"], "twice"),
        (["simulate", "tellme", "--set", "copies=64"], "weight_banks = copies"),
        (["simulate", "tellme", "--fidelity", "exact"], "one of analytic, cycle"),
        (["simulate", "tellme", "--prompt-tokens", "0"], "prompt_tokens = 0"),
        (["simulate", "tellme", "--context-tokens", "-4"], "context_tokens = -4"),
        (["simulate", "tellme", "--batch", "9999999999999"], "batch = 9999999999999"),
        (["simulate", "tellme", "--trace", "no/such/folder.json"], "no/such/folder.json"),
        (["simulate", "tellme", "--budget-plot", "plot.bmp"], "plot.bmp"),
        (["roofline", "tellme", "-o", "plot.pdf"], ".png or .svg"),
        (["run", "tellme", "--prompt", "a", "--checkpoint", "nowhere"], "nowhere"),
        (["run", "tellme", "--prompt", "a", "--precision", "int4"], "int4"),
        (["run", "tellme", "--prompt", "a", "--max-tokens", "0"], "max_new_tokens = 0"),
        (["run", "tellme", "--prompt", "a", "--temperature", "nan"], "nan"),
        (["run", "tellme", "--prompt", "a", "--seed", "-1"], "--seed"),
        (["explore", "tellme", "--objective", "min speed"], "speed"),
        (["explore", "tellme", "--objective", "fast please"], "fast"),
        (["explore", "tellme", "--constraint", "lut <"], "lut <"),
        (["explore", "tellme", "--strategy", "luck"], "luck"),
        (["explore", "tellme", "--samples", "0"], "0"),
        (["verify", "tellme", "--vectors", "0"], "0"),
        (["verify", "tellme", "--kernel", "fft"], "fft"),
        (["verify", "tellme", "--simulator", "spice"], "spice"),
        (["reproduce", "mill"], "unknown design 'mill'"),
    ],
)
def test_refusals_are_one_line_with_the_reason(capsys, tmp_path, monkeypatch, words, part):
    monkeypatch.chdir(tmp_path)
    assert part in refused(capsys, *words)
    assert os.listdir(tmp_path) == []


def test_refusal_of_a_hostile_name_cannot_drive_the_terminal(capsys):
    err = refused(capsys, "simulate", "\x1b[2Jtellme\r\n\udcff")
    assert err.isprintable() or err[:-1].isprintable()


@given(st.binary(max_size=200))
@example(b"design = 'tellme'\n[axes]\ntables = 1e400")
@shared
def test_any_point_file(capsys, tmp_path, raw):
    path = tmp_path / "p.toml"
    path.write_bytes(raw)
    assert str(path) in refused(capsys, "simulate", "tellme", "--point", str(path))


@given(st.text(max_size=30))
@example("tables=28\x00")
@example("=")
@example("block_gap_cycles=1_0")
@shared
def test_any_assignment(capsys, text):
    code, out, err = run(capsys, "simulate", "tellme", "--set", text)
    assert code == 0 or (code == 2 and out == "" and err.count("\n") == 1)


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.integers(), max_size=2),
)
_KEYS = [
    "architectures",
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rope_theta",
]
_VALID = {
    "architectures": ["BitnetForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 50,
}


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, min_size=1, max_size=3))
@shared
def test_any_value_in_a_network_config(capsys, tmp_path, changes):
    (tmp_path / "config.json").write_text(json.dumps({**_VALID, **changes}))
    code, out, err = run(capsys, "simulate", "tellme", "--network", str(tmp_path))
    assert code == 0 or (code == 2 and out == "" and err.count("\n") == 1), err


@given(st.binary(max_size=200))
@shared
def test_any_bytes_as_network_config(capsys, tmp_path, raw):
    (tmp_path / "config.json").write_bytes(raw)
    refused(capsys, "simulate", "tellme", "--network", str(tmp_path))


@given(st.text(max_size=40))
@example("min __import__('os').system('true')")
@example("min ttft_s s.t. " + "(" * 200)
@example("min 1/0*ttft_s")
@shared
def test_any_objective(capsys, text):
    words = ["explore", "tellme", "--strategy", "random", "--samples", "2", "--objective", text]
    code, out, err = run(capsys, *words)
    # 1: it is an objective, and neither of the two points reaches it.
    assert code in (0, 1) or (code == 2 and out == "" and err.count("\n") == 1)


_METRICS = {"ttft_s", "decode_tok_per_s", "latency_s", "power_w", "energy_j"}
_TERMS = ("fill", "steady", "drain", "memory", "stall")


@pytest.mark.parametrize("fidelity", ["analytic", "cycle"])
def test_simulate_keeps_the_contract(capsys, fidelity):
    body = accepted(capsys, "simulate", "tellme", "--fidelity", fidelity)
    assert body["point"]["tables"] == 28
    assert set(body["metrics"]) >= _METRICS
    assert set(body["resources"]) == {"lut", "ff", "dsp", "bram36", "uram"}
    assert body["phases"]
    for phase in body["phases"]:
        assert sum(phase[term] for term in _TERMS) == phase["cycles"]
        assert phase["name"]
        assert phase["bound"]
    for name, total in body["resources"].items():
        assert sum(m[name] for m in body["modules"].values()) == pytest.approx(total)


def test_set_goes_over_the_file(capsys, tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('design = "tellme"\n[axes]\ntables = 32\nactivation_lanes = 4\n')
    words = ["simulate", "tellme", "--point", str(path), "--set", "activation_lanes=8"]
    point = accepted(capsys, *words)["point"]
    assert (point["tables"], point["activation_lanes"]) == (32, 8)


def test_trace_and_pictures_are_written(capsys, tmp_path):
    trace, plot, roof = tmp_path / "t.json", tmp_path / "b.svg", tmp_path / "r.png"
    words = ["--trace", str(trace), "--budget-plot", str(plot)]
    assert accepted(capsys, "simulate", "tellme", *words)["files"] == [str(trace), str(plot)]
    assert json.loads(trace.read_text())["traceEvents"]
    assert "<svg" in plot.read_text()
    body = accepted(capsys, "roofline", "tellme", "-o", str(roof))
    assert roof.read_bytes().startswith(b"\x89PNG")
    for point in body["points"]:
        roof_here = min(
            body["roof"]["flop_per_s"],
            body["roof"]["bytes_per_s"] * point["intensity_flop_per_byte"],
        )
        assert 0 < point["attained_flop_per_s"] <= roof_here * (1 + 1e-9)
    assert sorted(os.listdir(tmp_path)) == ["b.svg", "r.png", "t.json"]


def test_run_prints_what_json_holds(capsys):
    words = ["run", "tellme", "--prompt", "ROMEO:", "--max-tokens", "5"]
    body = accepted(capsys, *words)
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert body["text"]
    assert out == "ROMEO:" + body["text"] + "\n"


def test_reproduce_rows(capsys):
    rows = accepted(capsys, "reproduce", "tellme")["rows"]
    keys = {"id", "what", "published", "predicted", "unit", "error", "fitted", "source", "note"}
    assert all(set(row) >= keys for row in rows)
    assert len({row["id"] for row in rows}) == len(rows) >= 10


def test_explore_keeps_the_contract(capsys, tmp_path):
    output = tmp_path / "best.toml"
    words = ["explore", "tellme", "--strategy", "random", "--samples", "500", "--seed", "3"]
    words += ["--objective", "min ttft_s s.t. decode_tok_per_s >= 20"]
    body = accepted(capsys, *words, "-o", str(output))
    assert body["seed"] == 3
    assert body["evaluated"] >= 500  # and the neighbours of what was found
    assert body["evaluations_per_s"] > 0
    assert body["best"]["metrics"]["decode_tok_per_s"] >= 20
    assert all(set(p) >= {"point", "metrics", "resources", "hash"} for p in body["pareto"])
    again = accepted(capsys, *words)
    assert again["best"] == body["best"]
    assert again["pareto"] == body["pareto"]
    same = accepted(capsys, "simulate", "tellme", "--point", str(output))
    assert same["hash"] == body["best"]["hash"]
    for name in ("ttft_s", "decode_tok_per_s", "power_w"):
        assert same["metrics"][name] == pytest.approx(body["best"]["metrics"][name], rel=1e-9)


SMALL = ["--set", "tables=2", "--set", "copies=4", "--set", "weight_banks=4",
         "--set", "weight_words=64", "--set", "max_outputs=64"]  # fmt: skip


def test_emit_is_deterministic_and_lists_its_files(capsys, tmp_path):
    import hashlib

    first = accepted(capsys, "emit", "tellme", *SMALL, "-o", str(tmp_path / "a"))
    second = accepted(capsys, "emit", "tellme", *SMALL, "-o", str(tmp_path / "b"))
    assert first["files"] == second["files"]
    listed = {f["path"]: f["sha256"] for f in first["files"]}
    found = {
        path.relative_to(tmp_path / "a").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "a").rglob("*")
        if path.is_file()
    }
    assert listed == found
    assert "point.toml" in found
    assert first["top"]
    assert first["ports"]


def test_emit_refuses_a_folder_of_other_files(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "thesis" not in refused(capsys, "emit", "tellme", *SMALL, "-o", str(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    path = tmp_path / "thesis.tex"
    assert "it is a file" in refused(capsys, "emit", "tellme", *SMALL, "-o", str(path))


@pytest.mark.parametrize(
    "words",
    [
        ["simulate", "tellme", "--trace", "out"],
        ["simulate", "tellme", "--budget-plot", "out.png"],
        ["roofline", "tellme", "-o", "out.svg"],
        ["explore", "tellme", "--strategy", "random", "--samples", "500", "-o", "out"],
        ["emit", "tellme", *SMALL, "-o", "out"],
    ],
)
def test_full_disk_leaves_nothing(capsys, tmp_path, monkeypatch, words):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    # Where a full disk shows at the latest: data reach it when the file is synchronised.
    monkeypatch.setattr(os, "fsync", no_space)
    assert "No space left on device" in refused(capsys, *words)
    assert os.listdir(tmp_path) == []


def test_package_data_needs_no_checkout():
    import headrace.models

    assert (Path(headrace.models.__file__).parent / "presets" / "tiny-bitnet.json").is_file()
