"""The graph of V-Rex's mean-key unit against its RTL, transfer by transfer."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.vrex.mean_key import MeanKeySizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.mean_key import MeanKey
from headrace.sim.cycle import simulate
from headrace.sim.vrex.mean_key import mean_key_graph

PORTS = ("counts", "keys", "moved")
PACES = (1, 2, 4, 12)  # each transfer is delayed by fewer cycles more than the one before


def draw(rng, tokens=None):
    """Return sizes and vectors; each mean key equals its key, so that it stays what it is."""
    lanes = int(rng.integers(1, 4))
    sizes = MeanKeySizes(
        lanes=lanes,
        coordinates=lanes * int(rng.integers(1, 10)),
        bits_per_stage=int(rng.integers(1, 11)),
    )
    tokens = tokens or int(rng.integers(1, 12))
    counts = np.maximum(1, rng.integers(-2, 6, tokens))
    keys = rng.integers(1, 0x7F80, (tokens, sizes.coordinates))

    def beats(bits):
        return pack(bits.reshape(-1, lanes), 16)

    inputs = {"counts": counts.tolist(), "keys": beats(keys), "means": beats(keys[counts > 1])}
    return sizes, StreamVectors(inputs, {"moved": beats(keys)})


def stalled(sizes, free, rng):
    """Return vectors whose ports come later and later than they would."""
    times = predicted(sizes, free)
    arrivals = {}
    for name, early in (("means", times["means"]), *((name, times[name]) for name in PORTS)):
        steps = rng.integers(0, rng.choice(PACES), len(early)).astype(np.int64)
        arrivals[name] = np.array(early, np.int64) + np.cumsum(steps)
    return replace(free, arrivals=arrivals)


def predicted(sizes, feed):
    counts = feed.inputs["counts"]
    starts = simulate(
        mean_key_graph(sizes, counts, feed.arrivals), iterations=1, starts=True
    ).starts
    times = {name: starts[name].tolist() for name in PORTS}
    beats = np.repeat(np.array(counts) > 1, sizes.beats)
    return {**times, "means": np.array(times["keys"])[beats].tolist()}


def same(times):
    return {name: times[name].tolist() for name in (*PORTS, "means")}


def check(rng, stalls):
    sizes, free = draw(rng)
    feed = stalled(sizes, free, rng) if stalls else free
    run = simulate_streams(MeanKey(sizes), feed)
    assert run.results == feed.results
    assert same(run.times) == predicted(sizes, feed)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    check(np.random.default_rng(seed), stalls)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    check(np.random.default_rng(seed), stalls)


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_every_transfer_of_the_verilog(simulator):
    rng = np.random.default_rng(77)
    sizes, free = draw(rng, 40)
    feed = stalled(sizes, free, rng)
    done = run_regression(to_verilog(MeanKey(sizes), "unit"), "unit", feed, simulator)
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, feed)


@pytest.mark.parametrize("seed", range(40))
def test_formula_is_exact(seed):
    rng = np.random.default_rng(seed)
    sizes = MeanKeySizes(lanes=int(rng.choice([1, 4, 16])), bits_per_stage=int(rng.integers(1, 11)))
    counts = rng.integers(1, 4, int(rng.integers(1, 20))).tolist()
    times = predicted(sizes, StreamVectors({"counts": counts}, {}))
    assert times["moved"][-1] - times["counts"][0] + 1 == sizes.cycles(len(counts))


@pytest.mark.parametrize("counts", [[], [2, 0], [65536]])
def test_work_is_checked(counts):
    with pytest.raises(InputError, match=r"^mean_key: counts \[.*\]; at least one, 1 to 65535"):
        mean_key_graph(MeanKeySizes(), counts)
