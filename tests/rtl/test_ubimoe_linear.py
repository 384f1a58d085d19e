"""UbiMoE's linear kernel against integers written down from docs/ubimoe-numerics.md."""

import importlib.util
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.models.kernels.fixed import linear
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.streams import run_regression, simulate_streams, unpack
from headrace.rtl.ubimoe.linear import Linear
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_kernels", Path(__file__).parent / "ubimoe_kernels.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
Job = _shared.Job
draw_job = _shared.linear_job
draw_shape = _shared.linear_shape
gelu_job = _shared.gelu_job
linear_sizes = _shared.linear_sizes
linear_vectors = _shared.linear_vectors

# Operand bits, weight bits, and the right shift of a product to 22 fraction bits.
PRECISIONS = {"w16a32": (32, 16, 14), "int16": (16, 16, 1), "int8": (8, 8, -8)}

BASE = LinearSizes(
    formats=FORMATS["int16"],
    tile_in=3,
    tile_out=2,
    lanes=2,
    max_in_tiles=3,
    max_out_tiles=4,
    max_tiles=8,
    slots=2,
    beat_bits=64,
    bias_fraction=10,
)

POINTS = {
    "w16a32": replace(BASE, formats=FORMATS["w16a32"], bias_fraction=9, beat_bits=40),
    "int16": BASE,
    "int8": replace(BASE, formats=FORMATS["int8"], tile_in=4, slots=1, lanes=3),
    "one of each": replace(BASE, tile_in=1, tile_out=1, lanes=1, slots=1, bias_fraction=11),
    "smallest": replace(
        BASE, tile_in=1, tile_out=1, lanes=1, slots=1, max_in_tiles=1, max_out_tiles=1, max_tiles=1
    ),
    "bias beats": replace(BASE, tile_in=2, tile_out=5, beat_bits=24, lanes=3),
    "gelu": replace(BASE, tile_out=2, gelu=True),
    "deep tree": replace(BASE, formats=FORMATS["int8"], tile_in=9, tile_out=1, lanes=2),
}


def wrap(values):
    return ((values + 2**31) & (2**32 - 1)) - 2**31


def expected(job, bias_fraction, shift):
    """Rule 1: each product is shifted on its own, sums wrap at 32 bits."""
    products = job.x[:, None, :] * job.w[None]  # below 2^47
    terms = products >> shift if shift >= 0 else products << -shift
    return wrap((job.b << (22 - bias_fraction)) + wrap(terms).sum(axis=2))


@cache
def correction(i):
    """Return G[i]: max(x, 0) less x Phi(x), which is x Phi(-x), at x = i / 32."""
    return math.floor(2**22 * (i / 32) * math.erfc(i / 32 / math.sqrt(2)) / 2 + 0.5)


def gelu(x):
    i, f = divmod(abs(int(x)), 2**17)
    if i >= 176:
        return max(x, 0)
    here, there = correction(i), correction(i + 1)
    return max(x, 0) - (here + ((there - here) * f >> 17))


def results(sizes, job):
    """Return the wide rows of a computation, by the oracle."""
    rows = expected(job, sizes.bias_fraction, PRECISIONS[sizes.formats.name][2])
    if sizes.gelu and job.gelu:
        rows = np.vectorize(gelu, otypes=[np.int64])(rows)
    return rows


def vectors(sizes, jobs, **more):
    return linear_vectors(sizes, jobs, results, **more)


def drawn(sizes, seed, jobs=3, extreme=False, **more):
    rng = np.random.default_rng(seed)
    return vectors(
        sizes,
        [draw_job(sizes, draw_shape(sizes, rng), rng, extreme) for _ in range(jobs)],
        **more,
    )


def with_arrivals(work, seed):
    """Every stream stalls at random."""
    rng = np.random.default_rng(seed)
    ports = {**work.inputs, **work.results}
    gaps = {name: int(rng.integers(1, 5)) for name in ports}
    arrivals = {n: np.cumsum(rng.integers(0, gaps[n], len(items))) for n, items in ports.items()}
    return replace(work, arrivals=arrivals)


def test_oracle_floors_every_product():
    """Two products of -1/2 unit are -2 after their own floors; -1 if they were added first."""
    job = Job(np.array([[-1, -1]]), np.array([[1, 1]]), np.array([0]))
    assert expected(job, 10, 1).tolist() == [[-2]]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("with_gelu", [False, True])
def test_reference_says_the_same(precision, with_gelu):
    sizes = POINTS[precision]
    shift = PRECISIONS[precision][2]
    job = draw_job(sizes, (20, 3, 2), np.random.default_rng(8))
    job = replace(job, w=job.w >> (7 if with_gelu and precision != "int8" else 0))
    mine = expected(job, sizes.bias_fraction, shift)
    if with_gelu:
        mine = np.vectorize(gelu, otypes=[np.int64])(mine)
    reference = linear(
        job.x,
        job.w,
        job.b,
        fixed.FORMATS[precision],
        bias_fraction=sizes.bias_fraction,
        gelu=with_gelu,
    )
    assert (reference == mine).all()


@pytest.mark.parametrize("point", POINTS)
def test_bits_without_stalls(point):
    sizes = POINTS[point]
    work = drawn(sizes, 1)
    assert simulate_streams(Linear(sizes), work).results == work.results


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("seed", range(3))
def test_bits_with_stalls(precision, seed):
    sizes = POINTS[precision]
    work = with_arrivals(drawn(sizes, seed, extreme=seed == 2), seed)
    assert simulate_streams(Linear(sizes), work).results == work.results


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sums_wrap(precision):
    """Extremes on all sides leave 32 bits."""
    sizes = POINTS[precision]
    rng = np.random.default_rng(0)
    job = draw_job(sizes, (2, 2, 2), rng)
    operand_bits, weight_bits, shift = PRECISIONS[precision]
    low, least = -(2 ** (operand_bits - 1)), -(2 ** (weight_bits - 1))
    job = Job(np.full_like(job.x, low), np.full_like(job.w, least), np.full_like(job.b, 2**15 - 1))
    exact = (2**15 - 1) * 2 ** (22 - sizes.bias_fraction) + job.x.shape[1] * (
        low * least >> shift if shift > 0 else low * least << -shift
    )
    work = vectors(sizes, [job])
    run = simulate_streams(Linear(sizes), work)
    if precision != "int8":  # 8 bits are too few to leave 32
        assert exact >= 2**31
    got = unpack(run.results["results"], 32, sizes.tile_out)
    assert set(got.ravel().tolist()) == {(exact + 2**31) % 2**32 - 2**31}


def gelu_vectors(sizes, seed, **more):
    """Draw jobs with and without GELU, many results in its curved part, some beyond."""
    rng = np.random.default_rng(seed)
    jobs = [gelu_job(sizes, rng, number != 1) for number in range(4)]
    shift = PRECISIONS[sizes.formats.name][2]
    values = np.concatenate([expected(j, sizes.bias_fraction, shift).ravel() for j in jobs])
    assert (abs(values) < 5.5 * 2**22).mean() > 0.2
    assert (abs(values) >= 5.5 * 2**22).any()
    return vectors(sizes, jobs, **more)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("seed", range(2))
def test_gelu(precision, seed):
    sizes = replace(POINTS[precision], gelu=True)
    work = gelu_vectors(sizes, seed)
    if seed:
        work = with_arrivals(work, seed)
    assert simulate_streams(Linear(sizes), work).results == work.results


def test_gelu_in_icarus():
    sizes = POINTS["gelu"]
    work = gelu_vectors(sizes, 4, stall={"weights": 0.3, "inputs": 0.3, "results": 0.5})
    done = run_regression(to_verilog(Linear(sizes), "linear"), "linear", work, "icarus", seed=1)
    assert done.passed, done.message


@pytest.mark.parametrize("point", ["w16a32", "int16", "int8", "smallest", "bias beats"])
def test_verilog_in_icarus(point):
    sizes = POINTS[point]
    stall = {"load": 0.5, "compute": 0.5, "weights": 0.3, "inputs": 0.3, "results": 0.4}
    verilog = to_verilog(Linear(sizes), "linear")
    done = run_regression(verilog, "linear", drawn(sizes, 5, stall=stall), "icarus", seed=2)
    assert done.passed, done.message


def test_verilog_in_verilator():
    sizes = POINTS["int8"]
    stall = {"weights": 0.3, "inputs": 0.3, "results": 0.4}
    verilog = to_verilog(Linear(sizes), "linear")
    done = run_regression(verilog, "linear", drawn(sizes, 6, stall=stall), "verilator", seed=3)
    assert done.passed, done.message


@pytest.mark.parametrize("point", ["smallest", "gelu"])
def test_verilog_is_clean(point):
    assert lint(to_verilog(Linear(POINTS[point]), "linear"), "linear").findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_sizes(seed):
    formats = FORMATS[list(FORMATS)[seed % 3]]
    sizes = linear_sizes(formats, np.random.default_rng(seed))
    work = with_arrivals(drawn(sizes, seed, jobs=4, extreme=seed % 4 == 0), seed)
    assert simulate_streams(Linear(sizes), work).results == work.results


@pytest.mark.slow
@pytest.mark.parametrize("precision, dsp_each", [("w16a32", 2), ("int16", 1), ("int8", 1)])
def test_only_multipliers_take_dsp(precision, dsp_each):
    sizes = replace(POINTS[precision], tile_in=2, tile_out=2, lanes=2, gelu=False)
    counts = map_netlist(to_verilog(Linear(sizes), "linear"), "linear")
    assert counts.dsp == 8 * dsp_each


@pytest.mark.parametrize(
    "change",
    [
        {"tile_in": 0},
        {"tile_out": 1025},
        {"lanes": 0},
        {"max_in_tiles": 0},
        {"max_out_tiles": 65536},
        {"max_tiles": 13},
        {"slots": 3},
        {"beat_bits": 7},
        {"bias_fraction": 23},
    ],
)
def test_sizes_are_checked(change):
    (name, value) = next(iter(change.items()))
    with pytest.raises(InputError, match=f"^{name} = {value} is not allowed: "):
        replace(BASE, **change)
