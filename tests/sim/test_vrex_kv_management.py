"""The graph of V-Rex's KV management unit against its RTL, transfer by transfer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import KvPlacement, select_bucketed
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.kv_management import KvManagement
from headrace.sim.cycle import simulate
from headrace.sim.vrex.kv_management import KvManagementWork, kv_management_graph

CLIP = Path(__file__).parents[1] / "rtl" / "golden" / "vrex_frames.npz"
PORTS = ("command", "clusters", "chosen", "writes", "reads")
PACES = (1, 2, 4, 12, 40)  # each transfer is delayed by fewer cycles more than the one before
BURSTS = (1, 1, 4, 9)  # transfers that come no sooner than the last of them


def draw_sizes(rng):
    return KvManagementSizes(
        layers=int(rng.integers(1, 4)),
        resident=int(rng.choice([1, 2, 3, 8, 20])),
        clusters=int(rng.integers(2, 16)),
        extent_tokens=int(rng.choice([1, 2, 4, 8])),
        extents=int(rng.integers(2, 60)),
    )


def draw(rng, commands=None):
    """Return sizes, the works of some commands and their streams."""
    sizes = draw_sizes(rng)
    layers, work, streams = {}, [], {name: [] for name in PORTS}
    for _ in range(commands or rng.integers(2, 12)):
        layer = int(rng.integers(sizes.layers))
        if layer in layers and rng.random() < 0.5:
            chosen = np.flatnonzero(rng.random(sizes.clusters) < rng.choice([0.1, 0.5, 1]))
            chosen = chosen.tolist() or [int(rng.integers(sizes.clusters))]
            work.append(fetch(sizes, layers[layer], chosen, streams))
            streams["command"].append(layer << 16 | 1 << 25)
        else:
            clear = layer not in layers or bool(rng.random() < 0.2)
            if clear:
                layers[layer] = KvPlacement(
                    resident=sizes.resident,
                    extent_tokens=sizes.extent_tokens,
                    extents=sizes.extents,
                    layer=layer,
                )
            tokens = int(rng.choice([0, rng.integers(1, 30), rng.integers(1, 30)]))
            # In bursts, so that some extents of a cluster are adjacent.
            clusters = np.repeat(rng.integers(0, sizes.clusters, tokens), rng.integers(1, 9))
            clusters = clusters[:tokens].tolist()
            streams["command"].append(tokens | layer << 16 | clear << 24)
            streams["clusters"] += clusters
            for write in layers[layer].append(clusters):
                moves, place = write.place is not None, write.place or 0
                flags = (moves | write.lost << 1 | place << 2) << sizes.slot_bits
                streams["writes"].append(write.slot | flags)
            work.append(KvManagementWork(tokens=tokens, clear=clear))
    return sizes, work, streams


def fetch(sizes, placement, chosen, streams):
    """Add the streams of a fetch, return its work."""
    streams["chosen"] += [*chosen[:-1], chosen[-1] | 1 << 16]
    reads = [(read.place, read.tokens, read.staging) for read in placement.fetch(chosen)]
    fetched = [len(placement.places(cluster)) for cluster in chosen]
    if not fetched[-1]:
        reads.append((0, 0, sum(fetched)))
    bits = sizes.place_bits
    beats = [p | tokens << bits | staging << bits + 16 for p, tokens, staging in reads]
    streams["reads"] += [*beats[:-1], beats[-1] | 1 << bits + 32]
    runs = [
        tuple(-(-read.tokens // sizes.extent_tokens) for read in placement.fetch([cluster]))
        for cluster in chosen
    ]
    return KvManagementWork(chosen=tuple(runs))


def vectors(streams):
    inputs = {name: streams[name] for name in PORTS[:3]}
    return StreamVectors(inputs, {name: streams[name] for name in PORTS[3:]})


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
    graph = kv_management_graph(sizes, work, feed.arrivals)
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
    run = simulate_streams(KvManagement(sizes), feed)
    assert run.results == feed.results
    assert same(run.times) == predicted(sizes, work, feed)
    print(f"{sizes}: {run.cycles} cycles, each transfer as in the graph")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_the_points_reach_every_case():
    """Runs of extents, several runs, none; clusters that end a fetch with nothing; no tokens."""
    cases = np.zeros(5, int)
    for seed in range(100, 160):
        _, work, _ = draw(np.random.default_rng(seed))
        runs = [runs for item in work for runs in item.chosen]
        cases += [
            any(max(run, default=0) > 1 for run in runs),
            any(len(run) > 1 for run in runs),
            () in runs,
            any(item.chosen and not item.chosen[-1] for item in work),
            any(not item.chosen and not item.tokens for item in work),
        ]
    assert cases.min() > 5


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_every_transfer_of_the_verilog(simulator):
    rng = np.random.default_rng(77)
    sizes, work, streams = draw(rng, 30)
    feed = stalled(sizes, work, streams, rng)
    verilog = to_verilog(KvManagement(sizes), "kv_management")
    done = run_regression(verilog, "kv_management", feed, simulator)
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, work, feed)


@pytest.mark.parametrize("seed", range(40))
def test_formulas_are_exact(seed):
    rng = np.random.default_rng(seed)
    sizes = KvManagementSizes(clusters=int(rng.integers(2, 2000)))
    tokens, clear = int(rng.integers(1, 500)), bool(rng.integers(2))
    extents = rng.integers(0, 9, rng.integers(1, min(sizes.clusters, 300) + 1))
    runs = tuple(() if not count else (1, count - 1)[: min(2, count)] for count in extents.tolist())
    append, chosen = KvManagementWork(tokens=tokens, clear=clear), KvManagementWork(chosen=runs)
    times = predicted(sizes, [append, chosen], StreamVectors({}, {}))
    begin, then = times["command"]
    assert times["writes"][-1] - begin + 1 == sizes.append_cycles(tokens, clear=clear)
    assert times["reads"][-1] - then + 1 == sizes.fetch_cycles(extents * sizes.extent_tokens)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ([], "kv_management: no work; at least one command"),
        ([KvManagementWork(tokens=65536)], "work 0: tokens = 65536 is not allowed: 0 to 65535"),
        ([KvManagementWork(tokens=1, chosen=((),))], "work 0: either tokens or chosen clusters"),
        ([KvManagementWork(chosen=((),) * 4)], "work 0: 4 chosen clusters .*: at most 3"),
        ([KvManagementWork(chosen=((1, 0),))], r"work 0: runs of \[1, 0\] extents are not allowed"),
        ([KvManagementWork(chosen=((4, 2),))], r"work 0: runs of \[4, 2\] extents .* 5 in all"),
    ],
)
def test_work_is_checked(work, message):
    with pytest.raises(InputError, match=f"^{message}"):
        kv_management_graph(KvManagementSizes(clusters=3, extents=5), work)


def clip():
    """Return sizes, works and streams of 250 frames of a video: each fetches what its rows chose of
    the past, then its tokens enter the store.
    """
    sizes = KvManagementSizes(layers=1, resident=1000, clusters=512, extents=2048)
    placement = KvPlacement(
        resident=sizes.resident, extent_tokens=sizes.extent_tokens, extents=sizes.extents, layer=0
    )
    stored, first = np.load(CLIP), 0
    counts, work, streams = np.zeros(0, np.int64), [], {name: [] for name in PORTS}
    for clusters in stored["clusters"]:
        last = first + 4 * len(counts)
        scores, first = stored["scores"][first:last].reshape(4, -1), last
        if len(counts):
            chosen = select_bucketed(scores, counts.astype(np.uint16), 0.3, 64).mask.any(axis=0)
            work.append(fetch(sizes, placement, np.flatnonzero(chosen).tolist(), streams))
            streams["command"].append(1 << 25)
        streams["command"].append(len(clusters) | (not work) << 24)
        streams["clusters"] += clusters.tolist()
        for write in placement.append(clusters.tolist()):
            moves, place = write.place is not None, write.place or 0
            flags = (moves | write.lost << 1 | place << 2) << sizes.slot_bits
            streams["writes"].append(write.slot | flags)
        work.append(KvManagementWork(tokens=len(clusters), clear=not work))
        counts = np.pad(counts, (0, int(clusters.max()) + 1 - len(counts) if
                                 clusters.max() >= len(counts) else 0))  # fmt: skip
        counts += np.bincount(clusters, minlength=len(counts))
    return sizes, work, streams


@pytest.mark.parametrize("stalls", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_transfer_of_a_clip(stalls):
    sizes, work, streams = clip()
    rng = np.random.default_rng(11)
    feed = stalled(sizes, work, streams, rng) if stalls else vectors(streams)
    verilog = to_verilog(KvManagement(sizes), "kv_management")
    done = run_regression(verilog, "kv_management", feed, "verilator")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, work, feed)
    assert len(work) == 499
    assert len(streams["reads"]) > 10_000
