"""Dispatch: jobs and rows against sorting in Python, cycles against the formula."""

import importlib.util
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.ubimoe.dispatch import Dispatch
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_kernels", Path(__file__).parent / "ubimoe_kernels.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
routing = _shared.routing


def expect(sizes, choices):
    """Return the jobs by sorting all choices."""
    pairs = sorted((e, t, score) for t, token in enumerate(choices) for e, score in token)
    return [(e, [p[1:] for p in pairs if p[0] == e]) for e in sorted({p[0] for p in pairs})]


def work(sizes, commands, **more):
    return _shared.dispatch_vectors(sizes, commands, expect, **more)


def drawn(seed):
    """Return sizes and a list of routings, some experts chosen by nobody."""
    rng = random.Random(seed)
    sizes = _shared.dispatch_sizes(rng)
    commands = [_shared.some_routing(sizes, rng) for _ in range(3)]
    # A full queue, and the expert of the highest number.
    last = list(range(sizes.experts))[-sizes.top_k :]
    commands.append(routing(rng, sizes.max_tokens, last, sizes.top_k))
    return sizes, commands


def later(times, seed):
    """Return arrivals that stall every stream, whatever the others do."""
    rng = np.random.default_rng(seed)
    return {name: t + np.cumsum(rng.integers(0, 4, len(t))) for name, t in times.items()}


@pytest.mark.parametrize("seed", range(16))
def test_jobs_and_rows_with_and_without_stalls(seed):
    sizes, commands = drawn(seed)
    free = simulate_streams(Dispatch(sizes), work(sizes, commands), 20_000)
    vectors = work(sizes, commands, arrivals=later(free.times, seed))
    stalled = simulate_streams(Dispatch(sizes), vectors, 20_000)
    assert free.results == vectors.results
    assert stalled.results == vectors.results
    assert stalled.cycles > free.cycles


@pytest.mark.parametrize("held", ["jobs", "rows"])
def test_either_output_goes_on_while_the_other_one_is_held(held):
    sizes = DispatchSizes(max_tokens=6, experts=4, top_k=2)
    vectors = work(sizes, [routing(random.Random(5), 6, [0, 2, 3], 2)])
    late = {held: np.full(len(vectors.results[held]), 200)}
    run = simulate_streams(Dispatch(sizes), replace(vectors, arrivals=late))
    assert run.results == vectors.results
    other = "rows" if held == "jobs" else "jobs"
    assert run.times[other][-1] < 30
    assert run.times[held][0] == 200


@pytest.mark.parametrize("seed", range(16))
def test_cycles_are_those_of_the_formula(seed):
    sizes, commands = drawn(seed)
    vectors = work(sizes, commands)
    run = simulate_streams(Dispatch(sizes), vectors, 20_000)
    ends = np.cumsum([len(choices) * sizes.top_k for choices in commands]) - 1
    for choices, begin, end in zip(
        commands, run.times["command"], run.times["rows"][ends], strict=True
    ):
        assert end - begin + 1 == sizes.cycles(len(choices))
    assert (run.times["command"][1:] == run.times["rows"][ends[:-1]]).all()


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_verilog(simulator):
    rng = random.Random(3)
    sizes = DispatchSizes(max_tokens=20, experts=16, top_k=2)
    commands = [routing(rng, n, rng.sample(range(16), 11), 2) for n in (20, 7, 13)]
    names = ("command", "choices", "jobs", "rows")
    vectors = work(sizes, commands, stall=dict.fromkeys(names, 0.3))
    done = run_regression(to_verilog(Dispatch(sizes), "dispatch"), "dispatch", vectors, simulator)
    assert done.passed, done.message


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(197, 16, 2), (1, 1, 1)])
def test_verilog_is_clean(tokens, experts, top_k):
    sizes = DispatchSizes(max_tokens=tokens, experts=experts, top_k=top_k)
    assert lint(to_verilog(Dispatch(sizes), "dispatch"), "dispatch").findings == ()


def test_wrong_sizes_are_refused():
    good = {"max_tokens": 4, "experts": 3, "top_k": 2}
    for name, value in (("max_tokens", 0), ("experts", 257), ("top_k", 4), ("top_k", 0)):
        with pytest.raises(InputError, match=f"{name} = {value} is not allowed"):
            DispatchSizes(**{**good, name: value})
    with pytest.raises(InputError, match="tokens = 5 is not allowed: 1 to 4"):
        DispatchSizes(**good).check_tokens(5)
