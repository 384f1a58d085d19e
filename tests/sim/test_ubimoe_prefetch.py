"""The graph of UbiMoE's prefetch against its RTL, transfer by transfer."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.errors import InputError
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.ubimoe.prefetch import Prefetch
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.prefetch import prefetch_graph

_SPEC = importlib.util.spec_from_file_location(
    "prefetch_vectors", Path(__file__).parents[1] / "rtl" / "prefetch_vectors.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
draw_jobs, draw_sizes = _shared.draw_jobs, _shared.draw_sizes


def bursts_of(sizes, beats):
    return sum(-(-count // sizes.burst_beats) for count in beats)


def drawn(seed, stalls, most_beats=60):
    """Return sizes, vectors, beats of every job and latencies of every port's bursts."""
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    jobs = int(rng.integers(1, 6))
    vectors, beats = draw_jobs(sizes, rng, jobs, most_beats)
    most = int(rng.choice([1, 10, 60]))
    plans, latency, arrivals = {}, [], {}
    for prefix, plan in vectors.memories.items():
        drawn_latency = rng.integers(1, most + 1, bursts_of(sizes, beats)).tolist()
        latency.append(drawn_latency)
        plans[prefix] = replace(plan, latency=drawn_latency)
        if stalls:
            times = {
                "addresses": np.cumsum(rng.integers(0, rng.choice([1, 3, 20]), len(drawn_latency))),
                "words": np.cumsum(rng.integers(0, rng.choice([1, 2, 4]), sum(beats))),
            }
            plans[prefix] = replace(plans[prefix], **{n: t.tolist() for n, t in times.items()})
            arrivals |= {f"{prefix}ar": times["addresses"], f"{prefix}r": times["words"]}
    vectors = replace(vectors, memories=plans)
    if stalls:
        ports = {
            "jobs": np.cumsum(rng.integers(0, rng.choice([1, 40]), jobs)),
            "weights": np.cumsum(rng.integers(0, rng.choice([1, 2, 5]), sum(beats))),
        }
        vectors, arrivals = replace(vectors, arrivals=ports), arrivals | ports
    return sizes, vectors, beats, latency, arrivals


def predicted(sizes, beats, latency, arrivals):
    graph = prefetch_graph(sizes, beats, latency, arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: t.tolist() for name, t in starts.items() if name[:4] not in ("read", "memo")}


def lists(times):
    return {name: found.tolist() for name, found in times.items()}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    sizes, vectors, beats, latency, arrivals = drawn(seed, stalls)
    run = simulate_streams(Prefetch(sizes), vectors)
    assert run.results == vectors.results
    assert lists(run.times) == predicted(sizes, beats, latency, arrivals)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 180))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_every_transfer_of_the_verilog():
    sizes, vectors, beats, latency, arrivals = drawn(7, True)
    done = run_regression(to_verilog(Prefetch(sizes), "prefetch"), "prefetch", vectors, "icarus")
    assert done.passed, done.message
    assert lists(done.times) == predicted(sizes, beats, latency, arrivals)


@pytest.mark.parametrize("seed", range(100))
def test_formula_is_exact(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    beats, latency = int(rng.integers(1, 400)), int(rng.choice([1, 2, 7, 30, 200]))
    each = [[latency] * bursts_of(sizes, [beats])] * sizes.ports
    found = predicted(sizes, [beats], each, {})
    assert sizes.cycles(beats, latency) == found["weights"][-1] - found["jobs"][0] + 1


def test_formula_takes_arrays():
    sizes = PrefetchSizes(outstanding=2)
    beats, latency = np.arange(1, 200)[:, None], np.array([1, 30, 90])
    each = [[sizes.cycles(b, t) for t in (1, 30, 90)] for b in range(1, 200)]
    assert sizes.cycles(beats, latency).tolist() == each


def test_jobs_follow_without_a_gap():
    """With enough bursts under way the memory is waited for once."""
    sizes, latency, beats = PrefetchSizes(ports=2), 100, [96, 320, 48]
    each = [[latency] * bursts_of(sizes, beats)] * 2
    found = predicted(sizes, beats, each, {})["weights"]
    assert found == list(range(found[0], found[0] + sum(beats)))


@pytest.mark.parametrize(
    "beats, latency, message",
    [
        ([], [[]], "beats = \\[\\] is not allowed"),
        ([3, 0], [[1]], "beats = \\[3, 0\\] is not allowed"),
        ([17], [[1]], "latency is not allowed: 2 of each of 1 ports"),
        ([17], [[1, 0]], "latency is not allowed: at least 1 cycle"),
    ],
)
def test_work_is_checked(beats, latency, message):
    with pytest.raises(InputError, match=f"^{message}"):
        prefetch_graph(PrefetchSizes(), beats, latency)
