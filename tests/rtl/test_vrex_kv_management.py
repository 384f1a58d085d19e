"""The KV management unit: descriptors against the reference, cycles against the formula."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.vrex.kv_management import KvManagementSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import KvPlacement
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.kv_management import KvManagement

PORTS = ("command", "clusters", "chosen", "writes", "reads")


@dataclass(frozen=True)
class Command:
    """One command: what goes in, what the reference says, and what it says of the cycles."""

    layer: int
    clear: bool = False
    clusters: Any = ()  # of the tokens of an append
    chosen: Any = ()  # clusters of a fetch
    writes: Any = ()  # (slot, moves, lost, place)
    reads: Any = ()  # (place, tokens, staging, last)
    offloaded: Any = ()  # tokens of each chosen cluster

    def cycles(self, sizes):
        if self.chosen:
            return sizes.fetch_cycles(self.offloaded)
        return sizes.append_cycles(len(self.clusters), clear=self.clear)


class Store:
    """The reference of all layers."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.layers = [self._empty(layer) for layer in range(sizes.layers)]

    def _empty(self, layer):
        sizes = self.sizes
        return KvPlacement(
            resident=sizes.resident,
            extent_tokens=sizes.extent_tokens,
            extents=sizes.extents,
            layer=layer,
        )

    def append(self, layer, clusters, clear=False):
        if clear:
            self.layers[layer] = self._empty(layer)
        moved = self.layers[layer].append(clusters)
        writes = [(w.slot, int(w.place is not None), int(w.lost), w.place or 0) for w in moved]
        return Command(layer, clear, clusters=clusters, writes=writes)

    def fetch(self, layer, chosen):
        placement = self.layers[layer]
        offloaded = [len(placement.places(cluster)) for cluster in chosen]
        reads = [(r.place, r.tokens, r.staging, 0) for r in placement.fetch(chosen)]
        if offloaded[-1]:
            reads[-1] = (*reads[-1][:3], 1)
        else:
            reads.append((0, 0, sum(offloaded), 1))
        return Command(layer, chosen=chosen, reads=reads, offloaded=offloaded)


def vectors(sizes, commands, **more):
    """Return the streams of commands."""
    streams: Any = {name: [] for name in PORTS}
    slot, place = sizes.slot_bits, sizes.place_bits
    for one in commands:
        flags = int(one.clear) << 24 | int(bool(one.chosen)) << 25
        streams["command"].append(len(one.clusters) | one.layer << 16 | flags)
        streams["clusters"] += one.clusters
        streams["chosen"] += one.chosen
        if one.chosen:
            streams["chosen"][-1] |= 1 << 16
        streams["writes"] += [
            w[0] | w[1] << slot | w[2] << slot + 1 | w[3] << slot + 2 for w in one.writes
        ]
        streams["reads"] += [
            r[0] | r[1] << place | r[2] << place + 16 | r[3] << place + 32 for r in one.reads
        ]
    results = {name: streams.pop(name) for name in ("writes", "reads")}
    return StreamVectors(streams, results, **more)


def drawn_sizes(rng):
    return KvManagementSizes(
        layers=rng.randint(1, 4),
        resident=rng.choice([1, 2, 3, 8, 13, 30]),
        clusters=rng.randint(2, 20),
        extent_tokens=rng.choice([1, 2, 4, 8]),
        extents=rng.randint(2, 60),
    )


def drawn_clusters(sizes, rng, tokens):
    """Draw the clusters of tokens: in bursts, or some more often than others, or evenly."""
    kind, last = rng.randrange(3), sizes.clusters - 1
    if kind == 0:
        return [min(int(rng.expovariate(0.5)), last) for _ in range(tokens)]
    if kind == 1:
        return [rng.randint(0, last) for _ in range(tokens)]
    clusters = []
    while len(clusters) < tokens:
        clusters += [rng.randint(0, last)] * rng.randint(1, 3 * sizes.extent_tokens)
    return clusters[:tokens]


def drawn(sizes, rng, count=12, least=0, most=30):
    """Draw appends and fetches of all layers in any order."""
    store, fresh, commands = Store(sizes), set(range(sizes.layers)), []
    for _ in range(count):
        layer = rng.randrange(sizes.layers)
        if layer in fresh or rng.random() < 0.6:
            clear = layer in fresh or rng.random() < 0.1
            fresh.discard(layer)
            clusters = drawn_clusters(sizes, rng, rng.randint(least, most))
            commands.append(store.append(layer, clusters, clear))
        else:
            number = rng.choice([1, 2, sizes.clusters, rng.randint(1, sizes.clusters)])
            commands.append(store.fetch(layer, sorted(rng.sample(range(sizes.clusters), number))))
    return commands


def later(times, seed):
    """Return arrivals that stall every stream, whatever the others do."""
    rng = np.random.default_rng(seed)
    return {name: t + np.cumsum(rng.integers(0, 4, len(t))) for name, t in times.items()}


@pytest.mark.parametrize("seed", range(12))
def test_descriptors_with_and_without_stalls(seed):
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    commands = drawn(sizes, rng)
    streams = vectors(sizes, commands)
    free = simulate_streams(KvManagement(sizes), streams, 20_000)
    assert free.results == streams.results
    stalling = replace(streams, arrivals=later(free.times, seed))
    stalled = simulate_streams(KvManagement(sizes), stalling, 20_000)
    assert stalled.results == streams.results
    assert stalled.cycles > free.cycles


@pytest.mark.parametrize("seed", range(50))
def test_cycles_are_those_of_the_formula(seed):
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    commands = drawn(sizes, rng, 8, least=1)
    streams = vectors(sizes, commands)
    run = simulate_streams(KvManagement(sizes), streams, 20_000)
    assert run.results == streams.results
    begins = [*run.times["command"].tolist(), None]
    for port in ("writes", "reads"):
        ends = iter(run.times[port])
        for one, begin, following in zip(commands, begins[:-1], begins[1:], strict=True):
            moved = getattr(one, port)
            if moved:
                end = [next(ends) for _ in moved][-1]
                assert end - begin + 1 == one.cycles(sizes)
                assert following in (None, end if one.chosen else end + 1)


def runs(sizes, commands):
    """Whether the unit does what commands say, and the reference too."""
    store = Store(sizes)
    for one in commands:
        if one.chosen:
            assert store.fetch(one.layer, one.chosen).reads == list(one.reads)
        else:
            assert store.append(one.layer, one.clusters, one.clear).writes == list(one.writes)
    streams = vectors(sizes, commands)
    return simulate_streams(KvManagement(sizes), streams).results == streams.results


def test_a_ring_of_one_token():
    """Every token moves the one before it."""
    sizes = KvManagementSizes(layers=1, resident=1, clusters=3, extent_tokens=2, extents=4)
    writes = [(0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 0, 1), (0, 1, 0, 2), (0, 1, 0, 4)]
    frame = Command(0, True, clusters=[2, 2, 2, 1, 0], writes=writes)
    reads = [(4, 1, 0, 0), (0, 3, 1, 1)]  # extents 0 and 1 of cluster 2 are adjacent
    assert runs(sizes, [frame, Command(0, chosen=[1, 2], reads=reads)])


def test_a_full_store_loses_tokens_and_says_so():
    """What has no extent is lost; what has room in its last extent still finds it."""
    sizes = KvManagementSizes(layers=1, resident=1, clusters=4, extent_tokens=2, extents=2)
    writes = [
        (0, 0, 0, 0),
        (0, 1, 0, 0),  # cluster 0 has extent 0
        (0, 1, 0, 2),  # cluster 1 has extent 1
        (0, 0, 1, 0),  # cluster 2 has none
        (0, 1, 0, 1),
        (0, 0, 1, 0),  # cluster 0 needs a second one
        (0, 1, 0, 3),
        (0, 0, 1, 0),
    ]
    frame = Command(0, True, clusters=[0, 1, 2, 0, 0, 1, 1, 3], writes=writes)
    reads = [(0, 2, 0, 0), (2, 2, 2, 0), (0, 0, 4, 1)]
    fetch = Command(0, chosen=[0, 1, 2], reads=reads)
    assert runs(sizes, [frame, fetch])


def test_runs_end_where_extents_are_not_adjacent():
    """Cluster 0 has extents 0, 1, 3; cluster 1 extent 2; cluster 2 nothing."""
    sizes = KvManagementSizes(layers=1, resident=2, clusters=3, extent_tokens=2, extents=4)
    clusters = [0, 0, 0, 0, 1, 0, 0, 2, 2]
    places = [0, 1, 2, 3, 4, 6, 7]
    writes = [(0, 0, 0, 0), (1, 0, 0, 0)]
    writes += [(t % 2, 1, 0, place) for t, place in enumerate(places)]
    frame = Command(0, True, clusters=clusters, writes=writes)
    first = Command(0, chosen=[0], reads=[(0, 4, 0, 0), (6, 2, 4, 1)])
    second = Command(0, chosen=[0, 1], reads=[(0, 4, 0, 0), (6, 2, 4, 0), (4, 1, 6, 1)])
    third = Command(0, chosen=[1, 2], reads=[(4, 1, 0, 0), (0, 0, 1, 1)])
    nothing = Command(0, chosen=[2], reads=[(0, 0, 0, 1)])
    assert runs(sizes, [frame, first, second, third, nothing, first])


def test_layers_take_turns_and_clear_forgets_one():
    """Each layer has its own slots and extents; those of a cleared layer are free again."""
    sizes = KvManagementSizes(layers=2, resident=2, clusters=2, extent_tokens=2, extents=2)
    commands = [
        Command(0, True, clusters=[1, 1, 1], writes=[(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0)]),
        Command(1, True, clusters=[0, 0, 0], writes=[(2, 0, 0, 0), (3, 0, 0, 0), (2, 1, 0, 4)]),
        Command(0, clusters=[0, 0], writes=[(1, 1, 0, 1), (0, 1, 0, 2)]),
        Command(1, clusters=[1], writes=[(3, 1, 0, 5)]),
        Command(0, chosen=[1], reads=[(0, 3, 0, 1)]),
        Command(1, chosen=[0], reads=[(4, 2, 0, 1)]),
        Command(0, True),
        Command(0, chosen=[0, 1], reads=[(0, 0, 0, 1)]),
        Command(1, chosen=[0, 1], reads=[(4, 2, 0, 0), (0, 0, 2, 1)]),
        Command(0, clusters=[1, 0, 0], writes=[(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0)]),
        Command(0, chosen=[1], reads=[(0, 1, 0, 1)]),
    ]
    assert runs(sizes, commands)


def test_writes_stream():
    """A token per cycle, whatever moves; a token waits for the writes' sink."""
    sizes = KvManagementSizes(layers=1, resident=3, clusters=4, extent_tokens=4, extents=40)
    frame = Store(sizes).append(0, drawn_clusters(sizes, random.Random(1), 100), True)
    run = simulate_streams(KvManagement(sizes), vectors(sizes, [frame]))
    assert (np.diff(run.times["writes"]) == 1).all()
    late = vectors(sizes, [frame], arrivals={"writes": 100 + 3 * np.arange(100)})
    run = simulate_streams(KvManagement(sizes), late)
    assert run.results == late.results
    assert (np.diff(run.times["writes"]) == 3).all()


def stalled(sizes, commands, seed):
    chances = np.random.default_rng(seed).uniform(0.05, 0.6, len(PORTS))
    return vectors(sizes, commands, stall=dict(zip(PORTS, chances, strict=True)))


def test_commands_without_tokens():
    sizes = KvManagementSizes(layers=1, resident=2, clusters=9, extent_tokens=2, extents=5)
    store = Store(sizes)
    commands = [store.append(0, [], clear) for clear in (True, False)] + [store.append(0, [3, 3])]
    run = simulate_streams(KvManagement(sizes), vectors(sizes, commands))
    assert run.times["command"].tolist() == [0, 9 + 2, 9 + 4]


def test_verilog_in_icarus():
    sizes = KvManagementSizes(layers=3, resident=20, clusters=12, extent_tokens=4, extents=50)
    streams = stalled(sizes, drawn(sizes, random.Random(8), 30), 8)
    verilog = to_verilog(KvManagement(sizes), "kv_management")
    done = run_regression(verilog, "kv_management", streams, "icarus")
    assert done.passed, done.message
    wrong = {**streams.results, "writes": [*streams.results["writes"][:-1], 3]}
    done = run_regression(verilog, "kv_management", replace(streams, results=wrong), "icarus")
    assert "instead of 3" in done.message


POINTS, TOKENS = 12, 900


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    """10,800 tokens in all; with the same stalls every transfer in the same cycle."""
    rng = random.Random(2512 + point)
    sizes = drawn_sizes(rng) if point else KvManagementSizes(resident=256)
    commands = drawn(sizes, rng, 6 * TOKENS // 40, most=40) if point else long_run(sizes, rng)
    tokens = sum(len(one.clusters) for one in commands)
    assert tokens >= TOKENS
    streams = stalled(sizes, commands, point)
    verilog = to_verilog(KvManagement(sizes), "kv_management")
    done = [run_regression(verilog, "kv_management", streams, s, point) for s in SIMULATORS]
    for run in done:
        assert run.passed, f"{sizes}\n{run.message}"
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in done)
    assert one == two
    fetched = sum(len(one.chosen) for one in commands)
    print(f"{sizes}: {tokens} tokens, {fetched} clusters fetched, {done[0].cycles} cycles")


def long_run(sizes, rng):
    """Frames of 100 tokens of two layers, with a fetch after each."""
    store, commands = Store(sizes), []
    for frame in range(16):
        layer = frame % sizes.layers
        clusters = [min(int(rng.expovariate(0.02)), 1023) for _ in range(100)]
        commands.append(store.append(layer, clusters, frame < sizes.layers))
        commands.append(store.fetch(layer, sorted(rng.sample(range(250), 60))))
    return commands


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"layers": 3, "resident": 5, "clusters": 7, "extent_tokens": 4, "extents": 9},
        {"layers": 1, "resident": 1, "clusters": 2, "extent_tokens": 1, "extents": 2},
    ],
)
def test_verilog_is_clean(change):
    verilog = to_verilog(KvManagement(KvManagementSizes(**change)), "kv_management")
    assert lint(verilog, "kv_management").findings == ()


@pytest.mark.slow
def test_netlist():
    """At the defaults every large memory is of block RAM, the layers' states of LUTs."""
    sizes = KvManagementSizes()
    counts = map_netlist(to_verilog(KvManagement(sizes), "kv_management"), "kv_management")
    print(counts)
    assert counts.bram36 >= sum(sizes.memory_bits.values()) / 36_864
    assert counts.dsp == 0
    assert 0 < counts.lutram < counts.lut < 2000


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layers": 257}, "layers = 257 is not allowed: 1 to 256"),
        ({"resident": 0}, "resident = 0 is not allowed: 1 to 65535"),
        ({"clusters": 1}, "clusters = 1 is not allowed: 2 to 65535"),
        ({"extent_tokens": 2048}, "extent_tokens = 2048 is not allowed: 1 to 1024"),
        ({"extent_tokens": 24}, "extent_tokens = 24 is not allowed: a power of two"),
        ({"extents": 1}, "extents = 1 is not allowed: 2 to 65535"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}"):
        KvManagementSizes(**change)


def test_cycles_of_empty_commands_are_refused():
    with pytest.raises(InputError, match="0 tokens are not allowed: at least 1"):
        KvManagementSizes().append_cycles(0)
    with pytest.raises(InputError, match="0 chosen clusters are not allowed: at least 1"):
        KvManagementSizes().fetch_cycles([])
