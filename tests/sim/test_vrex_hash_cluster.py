"""The graph of V-Rex's hash-cluster unit against its RTL, transfer by transfer."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.hash_cluster import HashCluster
from headrace.sim.cycle import simulate
from headrace.sim.vrex.hash_cluster import HashClusterWork, hash_cluster_graph

PORTS = ("command", "table", "codes", "assignments")
PACES = (1, 2, 4, 12, 40)  # each transfer is delayed by fewer cycles more than the one before
BURSTS = (1, 1, 4, 9)  # transfers that come no sooner than the last of them


def draw_sizes(rng):
    bits, accumulators = int(rng.choice([1, 5, 8, 16, 31, 32])), int(rng.choice([1, 1, 2, 4, 8]))
    return HashClusterSizes(
        code_bits=bits,
        lanes=int(rng.choice([1, 4, 7, 16, 32])),
        accumulators=accumulators,
        clusters=int(rng.integers(2 * accumulators, 2 * accumulators + 40)),
        frame_tokens=int(rng.choice([2, 3, 5, 32])),
        threshold=int(rng.integers(1, max(1, bits // 3) + 1)),
    )


def assign(sizes, table, codes):
    """Return the beats of assignments of a frame; `table` holds (code, count) of clusters."""
    beats = []
    for token, code in enumerate(codes):
        distances = [(code ^ other).bit_count() for other, _ in table]
        far = min(distances, default=99) >= sizes.threshold
        new = far and len(table) < sizes.clusters
        if new:
            table.append((code, 0))
        cluster = len(table) - 1 if new else distances.index(min(distances))
        table[cluster] = (table[cluster][0], table[cluster][1] + 1)
        count = table[cluster][1]
        beats.append(token | cluster << 16 | new << 32 | (far and not new) << 33 | count << 34)
    return beats


def draw(rng, commands=None):
    """Return sizes, the works of some commands and their streams."""
    sizes = draw_sizes(rng)
    centres = [int(rng.integers(2**sizes.code_bits)) for _ in range(rng.integers(1, 20))]
    streams = {name: [] for name in PORTS}
    work, table, commands = [], [], commands or int(rng.integers(1, 6))
    for number in range(commands):
        clear = bool(rng.random() < 0.5)
        table = [] if clear else table
        room = sizes.clusters - len(table)
        rows = int(rng.choice([0, rng.integers(room + 1)]))
        loaded = [int(rng.choice(centres)) for _ in range(rows)]
        tokens = 0 if number and rng.random() < 0.25 else int(rng.integers(1, 13))
        codes = [int(c) ^ int(rng.choice([0, 0, 1])) for c in rng.choice(centres, tokens)]
        streams["command"].append(tokens | rows << 16 | clear << 32)
        streams["table"] += [code | 1 << sizes.code_bits for code in loaded]
        streams["codes"] += codes
        table += [(code, 1) for code in loaded]
        beats = assign(sizes, table, codes)
        streams["assignments"] += beats
        opens = tuple(bool(beat >> 32 & 1) for beat in beats)
        work.append(HashClusterWork(opens=opens, rows=rows, clear=clear))
    return sizes, work, streams


def vectors(streams):
    inputs = {name: streams[name] for name in PORTS[:-1]}
    return StreamVectors(inputs, {"assignments": streams["assignments"]})


def stalled(sizes, work, streams, rng):
    """Return vectors whose ports come later and later than they would, and some in bursts."""
    free, arrivals = vectors(streams), {}
    for name, times in predicted(sizes, work, free).items():
        count, burst = len(times), int(rng.choice(BURSTS))
        late = np.array(times, np.int64) + np.cumsum(rng.integers(0, rng.choice(PACES), count))
        last_of_burst = np.arange(count) // burst * burst + burst - 1
        arrivals[name] = late[np.minimum(last_of_burst, count - 1)]
    return replace(free, arrivals=arrivals)


def predicted(sizes, work, feed):
    graph = hash_cluster_graph(sizes, work, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() if name in starts else [] for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, work, streams = draw(rng)
    feed = stalled(sizes, work, streams, rng) if stalls else vectors(streams)
    run = simulate_streams(HashCluster(sizes), feed)
    assert run.results["assignments"] == streams["assignments"]
    assert same(run.times) == predicted(sizes, work, feed)
    print(f"{sizes}: {run.cycles} cycles, each transfer as in the graph")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_the_points_reach_every_case():
    """Rows without tokens, commands for nothing, full tables, frames larger than the buffer."""
    cases = np.zeros(4, int)
    for seed in range(100, 160):
        sizes, work, streams = draw(np.random.default_rng(seed))
        cases += [
            any(item.rows and not item.opens for item in work),
            any(not item.rows and not item.opens for item in work),
            any(beat >> 33 & 1 for beat in streams["assignments"]),
            any(len(item.opens) > sizes.frame_tokens for item in work),
        ]
    assert cases.min() > 5


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_every_transfer_of_the_verilog(simulator):
    rng = np.random.default_rng(77)
    sizes, work, streams = draw(rng, 12)
    feed = stalled(sizes, work, streams, rng)
    verilog = to_verilog(HashCluster(sizes), "hash_cluster")
    done = run_regression(verilog, "hash_cluster", feed, simulator)
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, work, feed)


@pytest.mark.parametrize("seed", range(40))
def test_formula_is_exact(seed):
    rng = np.random.default_rng(seed)
    sizes = HashClusterSizes(accumulators=int(rng.choice([1, 2, 8])))
    shape = (3, int(rng.integers(1, 20)))
    rows, opens = rng.integers(0, 800, shape[0]), rng.random(shape) < 0.3
    work = [
        HashClusterWork(opens=tuple(one), rows=int(count), clear=True)
        for one, count in zip(opens.tolist(), rows, strict=True)
    ]
    times = predicted(sizes, work, StreamVectors({}, {}))
    ends = np.array(times["assignments"])[shape[1] - 1 :: shape[1]]
    assert (ends - times["command"] + 1).tolist() == sizes.cycles(opens, rows=rows).tolist()


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ([], "hash_cluster: no work; at least one token"),
        ([HashClusterWork(opens=(), rows=5)], "hash_cluster: no work"),
        ([HashClusterWork(opens=(True,), rows=8)], "work 0: 8 rows, 1 tokens, then 9 clusters"),
        ([HashClusterWork(opens=(False,), rows=-1)], "work 0: -1 rows"),
        ([HashClusterWork(opens=(True,) * 5)] * 2, "work 1: 0 rows, 5 tokens, then 10 clusters"),
    ],
)
def test_work_is_checked(work, message):
    with pytest.raises(InputError, match=f"^{message}"):
        hash_cluster_graph(HashClusterSizes(clusters=8), work)
