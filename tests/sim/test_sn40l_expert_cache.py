"""The graph of SN40L's expert cache controller against its RTL, transfer by transfer."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.sn40l.expert_cache import ExpertCacheSizes
from headrace.errors import InputError
from headrace.rtl.sn40l.expert_cache import ExpertCache
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.graph import StreamGraph
from headrace.sim.parts import Part
from headrace.sim.sn40l.expert_cache import add_expert_cache, expert_cache_graph

INPUTS, OUTPUTS = ("request", "copied", "finished"), ("command", "run")
PACES = (1, 2, 4, 12, 40)  # each transfer is delayed by fewer cycles more than the one before
BURSTS = (1, 1, 4, 9)  # transfers that come no sooner than the last of them


def draw(rng):
    """Return sizes and requests; each tenth case has clears only."""
    sizes = ExpertCacheSizes(
        slots=int(rng.choice([1, 2, 3, 4, 7, 16])),
        experts=int(rng.choice([1, 2, 5, 12, 40])),
        lookahead=int(rng.choice([0, 0, 1, 2, 3, 7])),
    )
    count = int(rng.integers(1, 50))
    clears = rng.random(count) < rng.choice([0, 0.1, 0.3, 1], p=[0.4, 0.3, 0.2, 0.1])
    ranks = np.minimum(rng.zipf(1.4, count) - 1, sizes.experts - 1)
    pairs = zip(ranks.tolist(), clears.tolist(), strict=True)
    return sizes, [None if clear else expert for expert, clear in pairs]


def streams_of(sizes, requests):
    """Return the vectors of requests: slots by a plain list, the oldest expert first."""
    bits, slot_bits = sizes.expert_bits, sizes.slot_bits
    held, streams = [], {name: [] for name in (*INPUTS, *OUTPUTS)}
    for expert in requests:
        streams["request"].append(1 << bits + 1 if expert is None else expert)
        if expert is None:
            held = []
            continue
        entry = next((pair for pair in held if pair[0] == expert), None)
        if entry:
            held.remove(entry)
        hit = entry is not None
        if not hit:
            slot = held.pop(0)[1] if len(held) == sizes.slots else len(held)
            entry = (expert, slot)
            streams["command"].append(slot | expert << slot_bits)
            streams["copied"].append(0)
        held.append(entry)
        streams["run"].append(entry[1] | expert << slot_bits | hit << slot_bits + bits)
        streams["finished"].append(0)
    return StreamVectors(*({n: streams[n] for n in names} for names in (INPUTS, OUTPUTS)))


def predicted(sizes, requests, arrivals):
    graph = expert_cache_graph(sizes, requests, arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {n: starts[n].tolist() if n in starts else [] for n in (*INPUTS, *OUTPUTS)}


def stalled(sizes, requests, rng):
    """Return arrivals that are later and later than without stalls, and some in bursts."""
    arrivals = {}
    for name, times in predicted(sizes, requests, {}).items():
        count, burst = len(times), int(rng.choice(BURSTS))
        if count:
            delays = np.cumsum(rng.integers(0, rng.choice(PACES), count))
            last_of_burst = np.arange(count) // burst * burst + burst - 1
            late = np.array(times, np.int64) + delays
            arrivals[name] = late[np.minimum(last_of_burst, count - 1)]
    return arrivals


def same(times):
    return {name: times[name].tolist() for name in (*INPUTS, *OUTPUTS)}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, requests = draw(rng)
    arrivals = stalled(sizes, requests, rng) if stalls else {}
    feed = replace(streams_of(sizes, requests), arrivals=arrivals)
    run = simulate_streams(ExpertCache(sizes), feed)
    assert run.results == feed.results
    assert same(run.times) == predicted(sizes, requests, arrivals)
    print(f"{sizes}: {len(requests)} requests, each transfer as in the graph")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 170))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_the_points_reach_every_case():
    """Hits, evictions, victims that may be in flight, clears in between, nothing but clears."""
    cases = np.zeros(5, int)
    for seed in range(100, 170):
        sizes, requests = draw(np.random.default_rng(seed))
        feed = streams_of(sizes, requests)
        misses, runs = len(feed.results["command"]), len(feed.results["run"])
        evicts = misses > sizes.slots and None not in requests
        cases += [
            runs > misses,
            evicts,
            evicts and sizes.slots <= sizes.lookahead,
            None in requests and runs > 0,
            not runs,
        ]
    assert cases.min() > 3, cases


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_every_transfer_of_the_verilog(simulator):
    rng = np.random.default_rng(77)
    sizes, requests = ExpertCacheSizes(slots=3, experts=9, lookahead=3), rng.integers(0, 9, 200)
    requests = [None if k % 70 == 69 else e for k, e in enumerate(requests.tolist())]
    arrivals = stalled(sizes, requests, rng)
    feed = replace(streams_of(sizes, requests), arrivals=arrivals)
    verilog = to_verilog(ExpertCache(sizes), "expert_cache")
    done = run_regression(verilog, "expert_cache", feed, simulator)
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, requests, arrivals)


def machine(sizes, requests, copy, run):
    """Return cycles of the graph with a copy engine and runs one after another."""
    graph = StreamGraph("machine")
    part = Part(graph)
    add_expert_cache(part, sizes, requests)
    runs, copies = len(requests), len(streams_of(sizes, requests).results["command"])
    # A run's token can be used a cycle after it, that of a command in the same cycle.
    for name, start, end, latency, count in (
        ("copy", "command", "copied", copy, copies),
        ("execution", "run", "finished", run - 1, runs),
    ):
        part.add_node(name, phases=count, latency=latency)
        part.add_edge(start, name)
        part.add_edge(name, end)
    part.add_edge("finished", "run", initial=1)
    starts = simulate(graph, iterations=1, starts=True).starts
    return int(starts["finished"][-1]) + 1


@pytest.mark.parametrize("seed", range(60))
def test_formulas_are_exact(seed):
    """At sizes and times that are too large for the RTL's bench."""
    rng = np.random.default_rng(seed)
    copy, run = (int(rng.integers(1, 1 + rng.choice([2, 5, 10_000]))) for _ in range(2))
    sizes = ExpertCacheSizes(slots=int(rng.integers(1, 60)), experts=400)
    requests = rng.integers(0, int(rng.integers(1, 400)), 300).tolist()
    misses = len(streams_of(sizes, requests).results["command"])
    formula = sizes.cycles(300 - misses, misses, copy=copy, run=run)
    assert machine(sizes, requests, copy, run) == formula
    ahead = ExpertCacheSizes(slots=int(rng.integers(17, 60)), experts=400, lookahead=2 + seed % 14)
    every = list(range(300))
    assert machine(ahead, every, copy, run) == ahead.overlapped_cycles(300, copy=copy, run=run)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "expert_cache: no request; at least one is needed"),
        ([3, None, 4], "request 2: expert = 4 is not allowed: 0 to 3"),
        ([-1], "request 0: expert = -1 is not allowed: 0 to 3"),
    ],
)
def test_requests_are_checked(requests, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        expert_cache_graph(ExpertCacheSizes(experts=4), requests)
