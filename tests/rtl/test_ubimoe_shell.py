"""UbiMoE's machine end to end: register writes, weights through AXI, features in, features out."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.ports import check_ports, check_registers, signature_ports
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.ubimoe.encoder_block import EncoderBlock
from headrace.rtl.ubimoe.registers import IDENTITY, register_map
from headrace.rtl.ubimoe.shell import UbimoeShell
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_machine", Path(__file__).parent / "ubimoe_machine.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
CONTROL, START = _shared.CONTROL, _shared.START
machine_vectors, sizes_of = _shared.machine_vectors, _shared.sizes_of

MEMORY = {"latency": [3, 17, 1, 30, 8], "stall": 0.3}
PAUSES = {"s_axis_features": 0.3, "m_axis_features": 0.4, f"{CONTROL}aw": 0.5, f"{CONTROL}w": 0.5}
# precision, ports of weights, ports of MSA's own, parts of a dense FFN
POINTS = {
    "shared port": ("int8", 1, 0, 1),
    "shared stripes, dense parts": ("int16", 2, 0, 2),
    "own ports": ("w16a32", 2, 2, 1),
}


def everything(point, seed, **more):
    """Two layers, dense and by experts, the second one started while the first one computes."""
    sizes = sizes_of(*POINTS[point])
    return sizes, machine_vectors(sizes, [(5, False), (6, True)], seed, MEMORY, **more)


@pytest.mark.parametrize(
    "point", [p if p == "shared port" else pytest.param(p, marks=pytest.mark.slow) for p in POINTS]
)
def test_layers_are_the_reference(point):
    sizes, vectors = everything(point, 1)
    rng = np.random.default_rng(2)
    pauses = {
        name: np.cumsum(rng.integers(0, 3, len(items)))
        for name, items in {**vectors.inputs, **vectors.results}.items()
    }
    run = simulate_streams(UbimoeShell(sizes), replace(vectors, arrivals=pauses), 8_000)
    assert run.results == vectors.results


@pytest.mark.parametrize(
    "point, simulator",
    [
        ("own ports", "icarus"),
        pytest.param("own ports", "verilator", marks=pytest.mark.slow),
        pytest.param("shared port", "icarus", marks=pytest.mark.slow),
        pytest.param("shared port", "verilator", marks=pytest.mark.slow),
        pytest.param("shared stripes, dense parts", "icarus", marks=pytest.mark.slow),
        pytest.param("shared stripes, dense parts", "verilator", marks=pytest.mark.slow),
    ],
)
def test_verilog(point, simulator):
    sizes, vectors = everything(point, 3, stall=PAUSES)
    text = to_verilog(UbimoeShell(sizes), "ubimoe_shell")
    done = run_regression(text, "ubimoe_shell", vectors, simulator, 5)
    assert done.passed, done.message
    if point == "own ports":  # the next layer's weights are read while the first one computes
        before = done.times["m_axi_attention0_r"] < done.times["m_axis_features"][0]
        assert before.sum() > sizes.attention_beats


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 22))
def test_many_layers(seed):
    """Any three layers; the third one is started as soon as the queue has a place again."""
    rng = np.random.default_rng(seed)
    sizes = sizes_of(*POINTS[list(POINTS)[seed % len(POINTS)]])
    layers = [(int(rng.integers(2, 7)), bool(rng.integers(2))) for _ in range(3)]
    two = machine_vectors(sizes, layers[:2], seed, MEMORY)
    times = simulate_streams(UbimoeShell(sizes), two, 8_000).times
    first_done = times["m_axis_features"][layers[0][0] * sizes.block.msa.row_beats - 1]
    three = machine_vectors(sizes, layers, seed, MEMORY)
    writes = len(three.inputs[f"{CONTROL}aw"]) // 3
    arrivals = {f"{CONTROL}aw": np.repeat([0, 0, first_done + 1], writes)}
    run = simulate_streams(UbimoeShell(sizes), replace(three, arrivals=arrivals), 12_000)
    assert run.results == three.results


def with_reads(vectors, late):
    """Start the layer three times, and read registers now and when all is over."""
    aw, w = (vectors.inputs[f"{CONTROL}{name}"] for name in ("aw", "w"))
    reads = [0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x10, 0x14, 0x18]
    more = {f"{CONTROL}aw": [*aw, START, START], f"{CONTROL}w": [*w, 1, 1]}
    beats, results = (vectors.inputs["s_axis_features"], vectors.results["m_axis_features"])
    writes = len(aw) + 2
    arrivals = {
        f"{CONTROL}aw": np.array([*range(len(aw)), 100, 150]),
        f"{CONTROL}ar": np.array([10, 11, 12, 13, 200, 201, late, late, late]),
    }
    levels = {name: level for name, level in vectors.levels.items() if name[-2:] != "dy"}
    return replace(
        vectors,
        inputs={**more, "s_axis_features": beats * 2, f"{CONTROL}ar": reads},
        results={
            f"{CONTROL}b": [0] * writes,
            "m_axis_features": results * 2,
            f"{CONTROL}r": [0] * len(reads),
        },
        arrivals=arrivals,
        levels={k: v for k, v in levels.items() if k[len(CONTROL) :] not in ("araddr", "arvalid")},
    )


def test_registers_tell_what_happens():
    sizes = sizes_of(*POINTS["shared port"])
    plain = machine_vectors(sizes, [(2, False)], 4, {"latency": [5]})
    late = 1_000
    shell = UbimoeShell(sizes, identifier=0xDEADBEEF)
    vectors = with_reads(plain, late)
    run = simulate_streams(shell, vectors, 6_000)
    assert run.results["m_axis_features"] == vectors.results["m_axis_features"]
    assert run.times["m_axis_features"][-1] < late
    busy = run.times["m_axis_features"][-1] - run.times[f"{CONTROL}w"][-3] - 1
    assert run.results[f"{CONTROL}r"] == [
        IDENTITY,
        0xDEADBEEF,
        sizes.expert_beats,
        sizes.attention_beats,
        0b11,  # the second start waits
        0b10,  # the third one was dropped
        0,
        0b10,
        busy,
    ]


@pytest.mark.parametrize(
    "master",
    [
        "m_axi_parameters",
        *(pytest.param(f"m_axi_{n}", marks=pytest.mark.slow) for n in ("weight1", "attention0")),
    ],
)
def test_faults_are_told(master):
    sizes = sizes_of(*POINTS["own ports"])
    plain = machine_vectors(sizes, [(2, False)], 4, {"latency": [5]})
    assert f"{master}_" in plain.memories
    plan = plain.memories[f"{master}_"]
    faulty = replace(plan, faults=list(plan.regions))
    vectors = replace(
        plain,
        memories={**plain.memories, f"{master}_": faulty},
        inputs={**plain.inputs, f"{CONTROL}ar": [0x14]},
        results={**plain.results, f"{CONTROL}r": [1]},
        arrivals={f"{CONTROL}ar": np.array([600])},
        levels={f"{CONTROL}wstrb": 15},
    )
    run = simulate_streams(UbimoeShell(sizes), vectors, 2_000)
    assert run.results == vectors.results


@pytest.mark.slow
@pytest.mark.parametrize("point", ["shared port", "own ports"])
def test_verilog_is_clean(point):
    sizes = sizes_of(*POINTS[point])
    block = EncoderBlock(sizes.block)
    inner = to_verilog(block, "encoder_block")
    shell = UbimoeShell(sizes, external=("encoder_block", block.signature))
    outer = to_verilog(shell, "ubimoe_shell")
    report = lint(inner + outer, "ubimoe_shell")
    assert report.findings == ()
    assert check_ports(report.ports, signature_ports(shell)) == ()
    assert check_registers(outer, "ubimoe_shell.registers", register_map(sizes)) == ()


def test_ports_must_fit_the_block():
    sizes = sizes_of(*POINTS["own ports"])
    with pytest.raises(InputError, match="^beats of 32 bits through the ports of weights"):
        replace(sizes, weights=PrefetchSizes(port_bits=32))
    with pytest.raises(InputError, match="^beats of 256 bits through the ports of attention"):
        replace(sizes, attention=PrefetchSizes())
