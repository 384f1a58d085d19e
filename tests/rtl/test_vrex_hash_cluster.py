"""The hash-cluster unit: assignments against the reference, cycles against the formula."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.vrex.hash_cluster import HashClusterSizes
from headrace.errors import InputError
from headrace.models.kernels.retrieval import HashClusterTable
from headrace.rtl.lint import lint
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vrex.hash_cluster import HashCluster

PORTS = ("command", "table", "codes", "assignments")


@dataclass(frozen=True)
class Command:
    """One command: rows (code, count) to load, tokens' codes, and what the reference says."""

    rows: Any
    clear: bool
    codes: Any
    assignments: Any  # (cluster, new, forced, count) of every token


class Layer:
    """The reference's table of a layer, by codes alone."""

    def __init__(self, sizes):
        self.sizes = sizes
        planes = np.zeros((1, sizes.code_bits), np.float32)
        self.table = HashClusterTable(1, 1, planes, distance=sizes.threshold)
        self.rows = []

    def append(self, codes):
        """Return the assignments of a frame."""
        codes = np.array(codes, np.uint32)
        counts = [count for _, count in self.rows]
        joined = self.table.append_hashed(np.zeros((len(codes), 1, 1), np.float32), codes)
        given = []
        for cluster in joined:
            new = cluster == len(counts)
            if new:
                counts.append(0)
            counts[cluster] += 1
            given.append((int(cluster), int(new), 0, counts[cluster]))
        assert counts == self.table.counts.tolist()
        self.rows = list(zip(self.table.codes.tolist(), counts, strict=True))
        return given


def vectors(sizes, commands, **more):
    """Return the streams of commands."""
    streams: Any = {name: [] for name in PORTS}
    for one in commands:
        streams["command"].append(len(one.codes) | len(one.rows) << 16 | int(one.clear) << 32)
        streams["table"] += [code | count << sizes.code_bits for code, count in one.rows]
        streams["codes"] += one.codes
        for token, (cluster, new, forced, count) in enumerate(one.assignments):
            beat = token | cluster << 16 | new << 32 | forced << 33 | count << 34
            streams["assignments"].append(beat)
    results = {"assignments": streams.pop("assignments")}
    return StreamVectors(streams, results, **more)


def near(sizes, centres, rng):
    """Draw a code some bits away from one of the centres, often about as far as the threshold."""
    code = rng.choice(centres)
    flips = rng.choice([0, 1, sizes.threshold - 1, sizes.threshold, rng.randint(0, 99)])
    for bit in rng.sample(range(sizes.code_bits), min(flips, sizes.code_bits)):
        code ^= 1 << bit
    return code


def drawn_sizes(rng):
    bits = rng.choice([1, 5, 8, 16, 31, 32, 32, 32])
    return HashClusterSizes(
        code_bits=bits,
        lanes=rng.choice([1, 4, 7, 16, 16, 32]),
        accumulators=rng.choice([1, 1, 2, 4, 8]),
        clusters=rng.randint(30, 70),
        frame_tokens=rng.choice([2, 3, 32]),
        threshold=rng.randint(1, max(1, bits // 3)),
    )


def drawn(sizes, rng, count=6, least=1):
    """Draw commands of two layers that take turns, or of one that goes on."""
    layers = [Layer(sizes), Layer(sizes)]
    centres = [rng.getrandbits(sizes.code_bits) for _ in range(rng.randint(1, 8))]
    commands, held = [], 0
    for _ in range(count):
        layer = rng.randrange(2)
        if len(layers[layer].rows) > sizes.clusters // 2:
            layers[layer] = Layer(sizes)  # the next video
        rows = layers[layer].rows
        clear = layer != held or not rows or rng.random() < 0.3 or not commands
        held = layer
        room = sizes.clusters - len(rows)
        codes = [near(sizes, centres, rng) for _ in range(rng.randint(least, min(12, room)))]
        given = layers[layer].append(codes)
        commands.append(Command(rows if clear else [], clear, codes, given))
    return commands


def later(times, seed):
    """Return arrivals that stall every stream, whatever the others do."""
    rng = np.random.default_rng(seed)
    return {name: t + np.cumsum(rng.integers(0, 6, len(t))) for name, t in times.items()}


@pytest.mark.parametrize("seed", range(12))
def test_assignments_with_and_without_stalls(seed):
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    commands = drawn(sizes, rng, least=0)
    free = simulate_streams(HashCluster(sizes), vectors(sizes, commands), 50_000)
    stalling = vectors(sizes, commands, arrivals=later(free.times, seed))
    stalled = simulate_streams(HashCluster(sizes), stalling, 50_000)
    assert free.results == stalling.results
    assert stalled.results == stalling.results
    assert stalled.cycles > free.cycles


@pytest.mark.parametrize("seed", range(50))
def test_cycles_are_those_of_the_formula(seed):
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    commands = drawn(sizes, rng, 3)
    streams = vectors(sizes, commands)
    run = simulate_streams(HashCluster(sizes), streams, 50_000)
    assert run.results == streams.results
    ends = run.times["assignments"][np.cumsum([len(one.codes) for one in commands]) - 1]
    held = 0
    for one, begin, end in zip(commands, run.times["command"], ends, strict=True):
        held = 0 if one.clear else held
        opens = [new for _, new, _, _ in one.assignments]
        assert end - begin + 1 == sizes.cycles(opens, clusters=held, rows=len(one.rows))
        held += len(one.rows) + sum(opens)
    assert (run.times["command"][1:] == ends[:-1]).all()


def test_joining_is_strict_and_ties_go_to_the_oldest():
    sizes = HashClusterSizes()
    frame = {
        0x0000_0000: (0, 1, 0, 1),  # an empty table
        0x0000_003F: (0, 0, 0, 2),  # 6 bits away
        0x0000_007F: (1, 1, 0, 1),  # 7 bits away: not below the threshold
        0x0000_000F: (1, 0, 0, 2),  # 4 and 3 bits away: the nearest, not the first match
        0xFF00_0000: (2, 1, 0, 1),
        0x0F00_0000: (0, 0, 0, 3),  # 4 bits away from clusters 0 and 2
        0xFF00_0001: (2, 0, 0, 2),
    }
    assert Layer(sizes).append(list(frame)) == list(frame.values())
    streams = vectors(sizes, [Command([], True, list(frame), list(frame.values()))])
    assert simulate_streams(HashCluster(sizes), streams).results == streams.results


def crowded(sizes, codes):
    """Return the assignments of a stream that outgrows the table, which the reference refuses."""
    table, given = [], []
    for code in codes:
        distances = [(code ^ other).bit_count() for other, _ in table]
        nearest = min(distances, default=99)
        new = nearest >= sizes.threshold and len(table) < sizes.clusters
        forced = nearest >= sizes.threshold and not new
        cluster = len(table) if new else distances.index(nearest)
        if new:
            table.append([code, 0])
        table[cluster][1] += 1
        given.append((cluster, int(new), int(forced), table[cluster][1]))
    return given


@pytest.mark.parametrize("clusters, accumulators", [(2, 1), (5, 2), (11, 4), (16, 8)])
def test_a_full_table_takes_tokens_into_the_nearest_cluster(clusters, accumulators):
    rng = random.Random(clusters)
    sizes = HashClusterSizes(clusters=clusters, accumulators=accumulators)
    codes = [rng.getrandbits(32) for _ in range(30)]
    given = crowded(sizes, codes)
    assert sum(new for _, new, _, _ in given) == clusters
    assert sum(forced for _, _, forced, _ in given) > 10
    streams = vectors(sizes, [Command([], True, codes, given)])
    assert simulate_streams(HashCluster(sizes), streams).results == streams.results


def test_codes_wait_in_the_buffer_for_their_command():
    sizes = HashClusterSizes(frame_tokens=4, clusters=16)
    codes = [0, 0xFFFF, 1, 2, 3, 4]
    streams = vectors(sizes, [Command([], True, codes, Layer(sizes).append(codes))])
    run = simulate_streams(HashCluster(sizes), replace(streams, arrivals={"command": [20]}))
    assert run.results == streams.results
    assert run.times["codes"][:4].tolist() == [0, 1, 2, 3]
    assert run.times["codes"][4] == 22


def stalled(sizes, commands, seed):
    chances = np.random.default_rng(seed).uniform(0.05, 0.6, len(PORTS))
    return vectors(sizes, commands, stall=dict(zip(PORTS, chances, strict=True)))


def test_verilog_in_icarus():
    sizes = HashClusterSizes(clusters=64, accumulators=2)
    streams = stalled(sizes, drawn(sizes, random.Random(8), 12), 8)
    verilog = to_verilog(HashCluster(sizes), "hash_cluster")
    done = run_regression(verilog, "hash_cluster", streams, "icarus")
    assert done.passed, done.message
    wrong = {"assignments": [*streams.results["assignments"][:-1], 1]}
    done = run_regression(verilog, "hash_cluster", replace(streams, results=wrong), "icarus")
    assert "instead of 1" in done.message


def test_a_frame_at_40k_tokens_in_verilator():
    """1,250 clusters of 32 tokens, a frame of 10: 25.0 thousand cycles of comparing."""
    rng = random.Random(40)
    sizes = HashClusterSizes(clusters=2048)
    layer = Layer(sizes)
    while len(layer.rows) < 1250:
        layer.append([rng.getrandbits(32)])
    rows = layer.rows
    codes = [near(sizes, [code for code, _ in rows], rng) for _ in range(10)]
    given = layer.append(codes)
    streams = vectors(sizes, [Command(rows, True, codes, given)])
    verilog = to_verilog(HashCluster(sizes), "hash_cluster")
    done = run_regression(verilog, "hash_cluster", streams, "verilator")
    assert done.passed, done.message
    assert done.cycles == sizes.cycles([new for _, new, _, _ in given], rows=1250)
    assert done.cycles - 1250 == pytest.approx(25_000, rel=0.005)


POINTS, TOKENS = 12, 900


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    """10,800 tokens in all; with the same stalls every transfer in the same cycle."""
    rng = random.Random(2512 + point)
    sizes = drawn_sizes(rng) if point else HashClusterSizes()
    commands, tokens = [], 0
    while tokens < TOKENS:
        commands += drawn(sizes, rng, 10)
        tokens = sum(len(one.codes) for one in commands)
    streams = stalled(sizes, commands, point)
    verilog = to_verilog(HashCluster(sizes), "hash_cluster")
    runs = [run_regression(verilog, "hash_cluster", streams, s, point) for s in SIMULATORS]
    for run in runs:
        assert run.passed, f"{sizes}\n{run.message}"
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in runs)
    assert one == two
    print(f"{sizes}: {tokens} tokens, {runs[0].cycles} cycles")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"code_bits": 7, "lanes": 3, "accumulators": 4, "clusters": 9},
        {"code_bits": 1, "clusters": 2, "frame_tokens": 2, "threshold": 1},
    ],
)
def test_verilog_is_clean(change):
    sizes = HashClusterSizes(**change)
    assert lint(to_verilog(HashCluster(sizes), "hash_cluster"), "hash_cluster").findings == ()


def test_memories_are_those_of_the_paper():
    sizes = HashClusterSizes()
    assert sizes.buffer_bits == 128 * 8
    assert sizes.code_memory_bits == 4096 * 8


@pytest.mark.parametrize(
    "change, message",
    [
        ({"code_bits": 0}, "code_bits = 0 is not allowed: 1 to 64"),
        ({"accumulators": 3}, "accumulators = 3 is not allowed: a power of two"),
        ({"clusters": 65536}, "clusters = 65536 is not allowed: 2 to 65535"),
        ({"clusters": 7, "accumulators": 4}, "clusters = 7 is not allowed: 8 to 65535"),
        ({"frame_tokens": 1}, "frame_tokens = 1 is not allowed: 2 to 1024"),
        ({"code_bits": 8, "threshold": 9}, "threshold = 9 is not allowed: 1 to 8"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}"):
        HashClusterSizes(**change)


@pytest.mark.parametrize("opens, clusters", [([], 0), ([True], 1024), ([False], -1)])
def test_cycles_of_impossible_commands_are_refused(opens, clusters):
    with pytest.raises(InputError, match="tokens, .* clusters are not allowed: at least one"):
        HashClusterSizes().cycles(opens, clusters=clusters)
