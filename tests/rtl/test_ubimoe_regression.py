"""Verilog of UbiMoE's kernels equals the fixed-point reference, while every stream stalls.

A vector is a row: of inputs (linear, layer_norm), a query (streaming_attention), a token's scores
(gate), a token's choices (dispatch), a token's features (combine).
"""

import importlib.util
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.models.kernels import fixed
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.streams import RegressionResult, StreamVectors, run_regression
from headrace.rtl.ubimoe.combine import Combine
from headrace.rtl.ubimoe.dispatch import Dispatch
from headrace.rtl.ubimoe.gate import Gate
from headrace.rtl.ubimoe.layer_norm import LayerNorm
from headrace.rtl.ubimoe.linear import Linear
from headrace.rtl.ubimoe.streaming_attention import StreamingAttention
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_kernels", Path(__file__).parent / "ubimoe_kernels.py"
)
draw = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(draw)

SEED = 2502
POINTS = 12
VECTORS_PER_POINT = 420  # 5,040 over all points
SAMPLE_VECTORS = 20


@dataclass(frozen=True)
class Kernel:
    """A kernel's RTL, how it is drawn, and what the reference says.

    `sizes(formats, rng)` draws a point, `work(sizes, rng)` a command and the number of its vectors,
    `streams(sizes, works, expect, **more)` joins commands, `expect(sizes, work)` are the results.
    """

    rtl: Any
    rng: Callable[[int], Any]
    sizes: Callable[..., Any]
    work: Callable[..., tuple[Any, int]]
    streams: Callable[..., StreamVectors]
    expect: Callable[..., Any]
    sample: int  # the point of the ordinary run


def reference(sizes: Any) -> Any:
    return fixed.FORMATS[sizes.formats.name]


def linear_work(sizes: Any, rng: Any) -> tuple[Any, int]:
    """Numbers of the whole range, their ends alone, or results in the curved part of GELU."""
    kind = rng.choice(["any", "ends", "gelu", "gelu"])
    if kind == "gelu":
        job = draw.gelu_job(sizes, rng, gelu=bool(rng.random() < 0.8))
    else:
        shape = draw.linear_shape(sizes, rng)
        job = draw.linear_job(sizes, shape, rng, extreme=kind == "ends")
    return job, len(job.x)


def linear(sizes: Any, job: Any) -> Any:
    options = {"bias_fraction": sizes.bias_fraction, "gelu": sizes.gelu and job.gelu}
    return fixed.linear(job.x, job.w, job.b, reference(sizes), **options)


def attention_work(sizes: Any, rng: Any) -> tuple[Any, int]:
    """Flat, peaked or overflowing scores."""
    tokens = int(rng.integers(sizes.lanes, sizes.max_tokens + 1))
    spread = float(rng.choice([0.3, 1.0, 3.0, 300.0]))
    return draw.attention_operands(sizes, tokens, rng, spread), tokens


def attention(sizes: Any, operands: Any) -> Any:
    q, k, v = (m.reshape(len(m), sizes.heads, sizes.head_dim) for m in operands)
    return fixed.streaming_attention(q, k, v, reference(sizes), dims=sizes.dims)


def norm_work(sizes: Any, rng: Any) -> tuple[Any, int]:
    tokens = rng.randint(1, 40)
    return draw.norm_command(sizes, tokens, rng), tokens


def layer_norm(sizes: Any, command: Any) -> Any:
    gains, offsets, rows = command
    return fixed.layer_norm(rows, gains, offsets, reference(sizes))


def gate_work(sizes: Any, rng: Any) -> tuple[Any, int]:
    tokens = rng.randint(1, sizes.max_tokens)
    return draw.gate_operands(sizes, tokens, rng), tokens


def gate(sizes: Any, command: Any) -> Any:
    weights, rows = command
    chosen = fixed.gate(rows, weights, reference(sizes), top_k=sizes.top_k)
    return np.stack(chosen, axis=2)


def dispatch_work(sizes: Any, rng: Any) -> tuple[Any, int]:
    choices = draw.some_routing(sizes, rng)
    return choices, len(choices)


def dispatch(sizes: Any, choices: Any) -> Any:
    chosen = fixed.Choices(*np.moveaxis(np.array(choices), 2, 0))
    jobs = fixed.dispatch(chosen, sizes.experts)
    return [(job.expert, np.stack([job.tokens, job.probabilities], axis=1)) for job in jobs]


def combine_work(sizes: Any, rng: Any) -> tuple[Any, int]:
    """By experts, or one job of all rows with the score one."""
    dense = rng.random() < 0.2
    command = draw.combine_command(sizes, rng)
    if dense:
        command = (command[0], 1, 1)
    return draw.mixture(sizes, command, rng, dense), command[0]


def combine(sizes: Any, one: Any) -> Any:
    jobs = [fixed.Job(0, np.array(tokens), np.array(scores)) for tokens, scores, _ in one.jobs]
    return fixed.combine(one.x, jobs, [wide for *_, wide in one.jobs], reference(sizes))


arrays, numbers = np.random.default_rng, random.Random
KERNELS = {
    "linear": Kernel(
        Linear, arrays, draw.linear_sizes, linear_work, draw.linear_vectors, linear, 9
    ),
    "streaming_attention": Kernel(
        StreamingAttention,
        arrays,
        draw.attention_sizes,
        attention_work,
        draw.attention_vectors,
        attention,
        2,
    ),
    "layer_norm": Kernel(
        LayerNorm, numbers, draw.norm_sizes, norm_work, draw.norm_vectors, layer_norm, 10
    ),
    "gate": Kernel(Gate, numbers, draw.gate_sizes, gate_work, draw.gate_vectors, gate, 1),
    "dispatch": Kernel(
        Dispatch,
        numbers,
        lambda _, rng: draw.dispatch_sizes(rng),
        dispatch_work,
        draw.dispatch_vectors,
        dispatch,
        8,
    ),
    "combine": Kernel(
        Combine, numbers, draw.combine_sizes, combine_work, draw.combine_vectors, combine, 3
    ),
}


def drawn_sizes(name: str, point: int) -> tuple[Any, Any]:
    """Return a point's sizes and what draws its work; precisions take turns."""
    kernel = KERNELS[name]
    rng = kernel.rng(SEED + point)
    return kernel.sizes(list(FORMATS.values())[point % len(FORMATS)], rng), rng


def drawn_streams(name: str, point: int, least: int) -> tuple[Any, StreamVectors, int]:
    """Return sizes, streams of at least so many vectors, all with stalls, and how many."""
    kernel = KERNELS[name]
    sizes, rng = drawn_sizes(name, point)
    works, count = [], 0
    while count < least:
        work, vectors = kernel.work(sizes, rng)
        works.append(work)
        count += vectors
    streams = kernel.streams(sizes, works, kernel.expect)
    ports = (*streams.inputs, *streams.results)
    stall = dict(zip(ports, arrays(point).uniform(0.05, 0.6, len(ports)), strict=True))
    return sizes, replace(streams, stall=stall), count


def check(
    name: str, point: int, simulator: str, least: int, totals: dict[tuple[str, str], Any]
) -> RegressionResult:
    sizes, streams, count = drawn_streams(name, point, least)
    verilog = to_verilog(KERNELS[name].rtl(sizes), name)
    begin = time.perf_counter()
    done = run_regression(verilog, name, streams, simulator, SEED + point)
    assert done.passed, f"{sizes}\n{done.message}"
    figures = np.array([1, count, done.cycles, time.perf_counter() - begin])
    totals[name, simulator] = totals.get((name, simulator), 0) + figures
    print(f"{name} {point}, {simulator}: {count} vectors, {done.cycles} cycles")
    return done


@pytest.fixture(scope="module")
def totals() -> Iterator[dict[tuple[str, str], Any]]:
    """Add up points, vectors, cycles and seconds of each kernel in each simulator."""
    sums: dict[tuple[str, str], Any] = {}
    yield sums
    for (name, simulator), (points, vectors, cycles, seconds) in sorted(sums.items()):
        print(
            f"total {name}, {simulator}: {points:.0f} points, {vectors:.0f} vectors, "
            f"{cycles:.0f} cycles, {seconds:.0f} s"
        )


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
@pytest.mark.parametrize("name", KERNELS)
def test_bits_in_both_simulators(name: str, point: int, totals: Any) -> None:
    """The same bits, and with the same stalls every transfer in the same cycle."""
    one, two = (check(name, point, s, VECTORS_PER_POINT, totals).times for s in SIMULATORS)
    assert {port: times.tolist() for port, times in one.items()} == {
        port: times.tolist() for port, times in two.items()
    }


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("name", KERNELS)
def test_sample_of_bits(name: str, simulator: str, totals: Any) -> None:
    check(name, KERNELS[name].sample, simulator, SAMPLE_VECTORS, totals)


def test_a_wrong_expectation_fails() -> None:
    sizes, streams, _ = drawn_streams("combine", 1, 5)
    results = list(streams.results["results"])
    results[-1] ^= 1
    verilog = to_verilog(Combine(sizes), "combine")
    wrong = replace(streams, results={"results": results})
    done = run_regression(verilog, "combine", wrong, "icarus")
    assert not done.passed
    assert "instead of" in done.message


def test_drawn_points_cover_what_matters() -> None:
    points = {name: [drawn_sizes(name, p)[0] for p in range(POINTS)] for name in KERNELS}

    def seen(name: str, size: str) -> set[Any]:
        return {getattr(sizes, size) for sizes in points[name]}

    assert seen("linear", "slots") == {1, 2}
    assert seen("linear", "gelu") == {False, True}
    assert seen("linear", "lanes") == {1, 2, 3, 4}
    assert seen("streaming_attention", "heads") == {1, 2, 3}
    assert seen("streaming_attention", "head_dim") == {4, 16}
    assert seen("streaming_attention", "lanes") == {1, 2, 3, 4}
    assert len(seen("layer_norm", "row_beats")) > 4
    assert {1, 16} <= seen("gate", "experts")
    assert seen("dispatch", "top_k") == {1, 2, 3, 4}
    assert {1, 5} <= seen("combine", "row_beats")
    for name in KERNELS:
        if name != "dispatch":
            assert {s.formats.name for s in points[name]} == set(FORMATS)
