"""The retrieval engine against the reference: table, then selection, then placement."""

import random
from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.arch.vrex.retrieval_engine import RetrievalEngineSizes
from headrace.arch.vrex.threshold import ThresholdSizes
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.retrieval_engine import RetrievalEngine
from headrace.verification.vrex_frames import INPUTS, RESULTS, Command, Dialogue, Layer, timed
from headrace.verification.vrex_frames import engine_vectors as vectors

LIMIT = 200_000


def drawn_sizes(rng):
    clusters, lanes = rng.randint(16, 40), rng.choice([4, 8])
    return RetrievalEngineSizes(
        hash_cluster=HashClusterSizes(
            accumulators=rng.choice([1, 4]), clusters=clusters, frame_tokens=rng.choice([2, 8])
        ),
        threshold=ThresholdSizes(
            lanes=lanes, max_clusters=-(-clusters // lanes) * lanes, buckets=rng.choice([3, 8])
        ),
        kv_management=KvManagementSizes(
            layers=rng.randint(2, 4),
            resident=rng.choice([1, 5, 16]),
            clusters=clusters + rng.randint(0, 5),
            extent_tokens=rng.choice([1, 4, 8]),
            extents=rng.randint(4, 40),
        ),
    )


@pytest.mark.parametrize("seed", range(4))
def test_frames_with_and_without_stalls(seed):
    sizes = drawn_sizes(random.Random(seed))
    streams = vectors(sizes, Dialogue(sizes, seed).frames(6))
    free = simulate_streams(RetrievalEngine(sizes), streams, LIMIT)
    assert free.results == streams.results
    rng = np.random.default_rng(seed)
    late = {name: t + np.cumsum(rng.integers(0, 6, len(t))) for name, t in free.times.items()}
    stalling = replace(streams, arrivals=late)
    stalled = simulate_streams(RetrievalEngine(sizes), stalling, LIMIT)
    assert stalled.results == streams.results
    assert stalled.cycles > free.cycles


def check_cycles(seed, frames):
    """Compare the cycles of commands, each given some time after the one before is done."""
    sizes = drawn_sizes(random.Random(seed))
    commands = Dialogue(sizes, seed).frames(frames)
    expected = timed(sizes, commands)
    begins = np.cumsum([0] + [cycles + 15 for cycles, _ in expected[:-1]])
    streams = vectors(sizes, commands, arrivals={"command": begins})
    run = simulate_streams(RetrievalEngine(sizes), streams, LIMIT)
    assert run.results == streams.results
    assert run.times["command"].tolist() == begins.tolist()
    reads, compared = iter(run.times["reads"].tolist()), 0
    for one, begin, (cycles, exact) in zip(commands, begins.tolist(), expected, strict=True):
        ends = [next(reads) for _ in one.reads]
        if exact:
            assert ends[-1] - begin + 1 == cycles
            compared += 1
    return compared


@pytest.mark.parametrize("seed", range(3))
def test_cycles_are_those_of_the_formula(seed):
    assert check_cycles(seed, 6) > 1


@pytest.mark.slow
def test_cycles_of_many_frames():
    assert sum(check_cycles(seed, 10) for seed in range(10, 20)) >= 50


def test_two_layers_take_turns():
    """Each command loads the table of its layer; the other layer's places stay."""
    sizes = RetrievalEngineSizes(
        hash_cluster=HashClusterSizes(clusters=64),
        threshold=ThresholdSizes(lanes=4, max_clusters=64),
        kv_management=KvManagementSizes(resident=6, clusters=64, extent_tokens=4, extents=64),
    )
    dialogue = Dialogue(sizes, 3)
    for frame in range(12):
        dialogue.frame(frame % 2, 5, ahead=False)
    commands = dialogue.commands
    assert all(one.clear and one.rows for one in commands[2:])
    assert {one.layer for one in commands if any(one.offloaded)} == {0, 1}
    streams = vectors(sizes, commands)
    run = simulate_streams(RetrievalEngine(sizes), streams, LIMIT)
    assert run.results == streams.results


@pytest.mark.parametrize("slow", ["assignments", "writes"])
def test_either_sink_of_assignments_may_be_the_later_one(slow):
    sizes = drawn_sizes(random.Random(1))
    streams = vectors(sizes, Dialogue(sizes, 1).frames(3))
    arrivals = {slow: 900 + 40 * np.arange(len(streams.results[slow]))}
    run = simulate_streams(RetrievalEngine(sizes), replace(streams, arrivals=arrivals), LIMIT)
    assert run.results == streams.results
    other = {"assignments": "writes", "writes": "assignments"}[slow]
    assert run.times[other][0] < 900


def test_the_next_frame_is_sorted_while_clusters_are_chosen():
    """The scores of the first frame are late; the second one's assignments do not wait for them."""
    sizes = drawn_sizes(random.Random(2))
    dialogue = Dialogue(sizes, 2)
    for layer in (0, 1):
        dialogue.frame(layer, sizes.hash_cluster.frame_tokens, ahead=False)
    streams = vectors(sizes, dialogue.commands)
    late = {"scores": np.full(len(streams.inputs["scores"]), 1500)}
    run = simulate_streams(RetrievalEngine(sizes), replace(streams, arrivals=late), LIMIT)
    assert run.results == streams.results
    assert run.times["assignments"][-1] < 1500
    half = len(run.times["writes"]) // 2
    assert run.times["writes"][half - 1] < 1500 < run.times["writes"][half]


def stalled(sizes, commands, seed):
    ports = (*INPUTS, *RESULTS)
    chances = np.random.default_rng(seed).uniform(0.05, 0.6, len(ports))
    return vectors(sizes, commands, stall=dict(zip(ports, chances, strict=True)))


def test_one_extent_does_not_hold_up_the_choice():
    sizes = RetrievalEngineSizes()
    chosen = np.zeros(1000, np.bool_)
    chosen[[3, 4, 50, 700]] = True
    walked = np.array([2, 5])
    choosing = sizes.threshold.cycles(walked, chosen)
    assert sizes.cycles(400, walked, chosen, [32, 0, 1, 5]) == 400 + choosing + 5
    assert sizes.cycles(400, walked, chosen, [32, 0, 1, 33]) == 400 + choosing + 6


def test_verilog_in_icarus():
    sizes = drawn_sizes(random.Random(4))
    streams = stalled(sizes, Dialogue(sizes, 4).frames(6), 4)
    verilog = to_verilog(RetrievalEngine(sizes), "retrieval_engine")
    done = run_regression(verilog, "retrieval_engine", streams, "icarus")
    assert done.passed, done.message
    wrong = {**streams.results, "reads": [*streams.results["reads"][:-1], 5]}
    wrong_streams = replace(streams, results=wrong)
    done = run_regression(verilog, "retrieval_engine", wrong_streams, "icarus")
    assert "instead of 5" in done.message


POINTS, FRAMES = 5, 50


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    """250 frames in all; with the same stalls every transfer in the same cycle."""
    sizes = drawn_sizes(random.Random(100 + point))
    commands = Dialogue(sizes, 100 + point).frames(FRAMES)
    assert sum(one.clear and bool(one.rows) for one in commands) > FRAMES // 3
    streams = stalled(sizes, commands, point)
    verilog = to_verilog(RetrievalEngine(sizes), "retrieval_engine")
    done = [run_regression(verilog, "retrieval_engine", streams, s, point) for s in SIMULATORS]
    for run in done:
        assert run.passed, f"{sizes}\n{run.message}"
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in done)
    assert one == two
    tokens, fetched = sum(len(c.codes) for c in commands), sum(sum(c.offloaded) for c in commands)
    print(f"{sizes}: {tokens} tokens, {fetched} fetched, {done[0].cycles} cycles")


@pytest.mark.slow
def test_a_frame_at_40k_tokens_in_verilator():
    """1,250 rows, a frame of 10 tokens, scores of 4 query heads; nothing is behind the link."""
    sizes = RetrievalEngineSizes(
        hash_cluster=HashClusterSizes(clusters=2048),
        kv_management=KvManagementSizes(clusters=2048),
    )
    rng, layer = random.Random(40), Layer(sizes, 1)
    while layer.table.clusters < 1250:
        layer.table.append_hashed(np.zeros((1, 1, 1), np.float32), np.array([rng.getrandbits(32)]))
    rows = layer.rows()
    codes = [rng.choice(rows)[0] ^ rng.choice([0, 1, 0xFF]) for _ in range(10)]
    assigned, writes = layer.append(codes)
    logits = np.random.default_rng(40).normal(0, 2, (40, layer.table.clusters))
    scores = (16384 * np.exp(logits - logits.max(axis=1, keepdims=True))).astype(np.int16)
    chosen = layer.select(scores, 0.3)
    done = {"codes": codes, "assignments": assigned, "writes": writes, "scores": scores}
    frame = Command(layer=1, clear=True, rows=rows, ratio=0.3, **done, **chosen)
    commands = [Command(layer=1, clear=True), frame]
    streams = vectors(sizes, commands, arrivals={"command": [0, 2100]})
    verilog = to_verilog(RetrievalEngine(sizes), "retrieval_engine")
    run = run_regression(verilog, "retrieval_engine", streams, "verilator")
    assert run.passed, run.message
    cycles = int(run.times["reads"][-1] - run.times["command"][1]) + 1
    assert cycles == timed(sizes, commands)[1][0]
    print(f"{cycles} cycles, {int(chosen['chosen'].sum())} clusters chosen")


def small(**kv_management):
    return RetrievalEngineSizes(
        hash_cluster=HashClusterSizes(clusters=16),
        threshold=ThresholdSizes(lanes=2, max_clusters=16),
        kv_management=KvManagementSizes(resident=8, clusters=16, extents=16, **kv_management),
    )


@pytest.mark.parametrize("sizes", [small(), small(layers=1, extent_tokens=1)])
def test_verilog_is_clean(sizes):
    verilog = to_verilog(RetrievalEngine(sizes), "retrieval_engine")
    assert lint(verilog, "retrieval_engine").findings == ()


@pytest.mark.slow
def test_netlist():
    counts = map_netlist(
        to_verilog(RetrievalEngine(small()), "retrieval_engine"), "retrieval_engine"
    )
    print(counts)
    assert counts.dsp >= 2  # a product per lane
    assert counts.lut > 0


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"threshold": ThresholdSizes(max_clusters=512)},
            "threshold.max_clusters = 512 is not allowed: at least 1024",
        ),
        (
            {"kv_management": KvManagementSizes(clusters=512)},
            "kv_management.clusters = 512 is not allowed: at least 1024",
        ),
        (
            {"threshold": ThresholdSizes(count_bits=12)},
            "threshold.count_bits = 12 is not allowed: 16",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        RetrievalEngineSizes(**change)
