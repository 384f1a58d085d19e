"""Caches of experts against definitions in plain Python, exhaustive search and theory."""

from collections import Counter, OrderedDict
from itertools import pairwise

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.experts import all_miss_trace, uniform_trace, zipf_trace
from headrace.sim.expert_cache import (
    BELADY,
    EAGER,
    LFU,
    LRU,
    ExpertTimes,
    ReplacementPolicy,
    serve,
)


def cases(count, longest=60, most=9):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        experts = int(rng.integers(1, most))
        trace = rng.integers(0, experts, rng.integers(1, longest)).tolist()
        yield rng, trace, int(rng.integers(1, most + 2))


def lru_misses(trace, capacity):
    cache, misses = OrderedDict(), []
    for expert in trace:
        misses.append(expert not in cache)
        cache[expert] = cache.pop(expert, None)
        if len(cache) > capacity:
            cache.popitem(last=False)
    return misses


def lfu_misses(trace, capacity):
    cache, runs, misses = {}, Counter(), []
    for i, expert in enumerate(trace):
        misses.append(expert not in cache)
        if expert not in cache and len(cache) == capacity:
            del cache[min(cache, key=lambda e: (runs[e], cache[e]))]
        cache[expert] = i
        runs[expert] += 1
    return misses


def fewest_misses(trace, capacity):
    """Try every victim at every miss."""
    states = {frozenset(): 0}
    for expert in trace:
        after = {}
        for cache, misses in states.items():
            if expert in cache:
                choices, misses = [cache], misses
            elif len(cache) < capacity:
                choices, misses = [cache | {expert}], misses + 1
            else:
                choices, misses = [cache - {e} | {expert} for e in cache], misses + 1
            for choice in choices:
                after[choice] = min(after.get(choice, misses), misses)
        states = after
    return min(states.values())


def belady_misses(trace, capacity):
    cache, misses = set(), 0
    for i, expert in enumerate(trace):
        if expert in cache:
            continue
        misses += 1
        if len(cache) == capacity:
            rest = trace[i:]
            cache.remove(max(cache, key=lambda e: rest.index(e) if e in rest else len(rest)))
        cache.add(expert)
    return misses


class Machine:
    """The machine tick by tick, every choice from its definition; all times are whole ticks."""

    def __init__(self, trace, capacity, policy, batch, ticks, ahead):
        self.trace, self.capacity, self.policy, self.batch = trace, capacity, policy, batch
        self.router, self.copy, self.run = ticks
        self.ahead = ahead
        self.batches = -(-len(trace) // batch)
        self.cache = {}  # expert: when its copy ends
        self.used, self.runs = {}, Counter()
        self.routed, self.due, self.running = 0, 0, None
        self.engine_until = self.waited = 0
        self.misses, self.ends = [0] * self.batches, [0] * self.batches

    def program(self):
        for b in range(self.batches):
            while self.routed < min(self.batches, b + 1 + (self.policy.lookahead or 0)):
                yield "router"
            yield from range(b * self.batch, min(len(self.trace), (b + 1) * self.batch))

    def needed(self, expert):
        """Return the next known request for an expert, or None."""
        known = 0 if self.policy.lookahead is None else self.routed * self.batch
        coming = range(self.due, min(known, len(self.trace)))
        return next((j for j in coming if self.trace[j] == expert), None)

    def make_room(self, limit=None):
        """Evict if need be; return whether there is room."""
        if len(self.cache) < self.capacity:
            return True
        idle = [e for e in self.cache if e != self.running]
        free = [e for e in idle if self.needed(e) is None]
        if free:
            order = self.runs if self.policy.frequency else Counter()
            victim = min(free, key=lambda e: (order[e], self.used[e]))
        elif idle:
            victim = max(idle, key=self.needed)
            if limit is not None and self.needed(victim) < limit:
                return False
        else:
            return False
        del self.cache[victim]
        return True

    def fetch(self, i, now):
        self.misses[i // self.batch] += 1
        self.engine_until = self.cache[self.trace[i]] = now + self.copy

    def prefetch(self, now):
        absent = (e for e in dict.fromkeys(self.trace[self.due :]) if e not in self.cache)
        wanted = [self.needed(e) for e in absent]
        wanted = [j for j in wanted if j is not None and j < self.due + self.ahead]
        if wanted and self.make_room(min(wanted)):
            self.fetch(min(wanted), now)

    def simulate(self):
        now, until, steps = 0, None, self.program()
        step = next(steps)
        while step is not None:
            if until == now:
                until = self.finish(step, now)
                step = next(steps, None)
            if step == "router" and until is None:
                until = now + self.router
            elif step is not None and until is None:
                expert = self.trace[step]
                if expert not in self.cache and self.engine_until <= now:
                    assert self.make_room()
                    self.fetch(step, now)
                elif expert in self.cache and self.cache[expert] <= now:
                    self.running, self.due, until = expert, step + 1, now + self.run
            if self.ahead and until is not None and self.engine_until <= now:
                self.prefetch(now)
            self.waited += until is None and step is not None
            now += 1
        return self.misses, self.ends, self.waited

    def finish(self, step, now):
        if step == "router":
            self.routed += 1
            return
        self.running = None
        self.used[self.trace[step]] = step
        self.runs[self.trace[step]] += 1
        self.ends[step // self.batch] = now


def test_lru_and_lfu_request_by_request():
    for _, trace, capacity in cases(150):
        assert serve(trace, capacity).batch_misses.tolist() == lru_misses(trace, capacity)
        assert serve(trace, capacity, LFU).batch_misses.tolist() == lfu_misses(trace, capacity)


def test_belady_is_the_best_there_is():
    for _, trace, capacity in cases(60, longest=18, most=7):
        best = fewest_misses(trace, capacity)
        assert serve(trace, capacity, BELADY).misses == best
        for policy in (LRU, LFU, ReplacementPolicy(lookahead=1)):
            assert serve(trace, capacity, policy, batch=3).misses >= best


def test_a_window_without_end_is_belady():
    for rng, trace, capacity in cases(80, longest=200):
        batch = int(rng.integers(1, 6))
        window = ReplacementPolicy(lookahead=-(-len(trace) // batch) - 1)
        misses = serve(trace, capacity, window, batch=batch).misses
        assert misses == belady_misses(trace, capacity)


def test_every_tick_of_the_machine():
    waited = {"none": 0, "some": 0, "all": 0}
    for rng, trace, capacity in cases(500, longest=40, most=8):
        ahead = [None, 0, 0, 1, 2, 50][rng.integers(6)]
        policy = ReplacementPolicy(lookahead=ahead, frequency=bool(rng.integers(2)))
        batch = int(rng.integers(1, 6))
        ticks = rng.integers(1, 10, 3).tolist()
        for name, prefetch in (("none", 0), ("some", int(rng.integers(1, 6))), ("all", EAGER)):
            found = serve(
                trace, capacity, policy, batch=batch, prefetch=prefetch,
                times=ExpertTimes(router_s=ticks[0], copy_s=ticks[1], run_s=ticks[2]),
            )  # fmt: skip
            machine = Machine(trace, capacity, policy, batch, ticks, prefetch)
            misses, ends, stood = machine.simulate()
            assert found.batch_misses.tolist() == misses
            assert found.batch_end_s.tolist() == ends
            assert found.switching_s == stood
            assert found.seconds == found.router_s + found.run_s + found.switching_s
            waited[name] += stood
    assert 0 < waited["all"] < waited["some"] < waited["none"]


def test_times_as_in_the_paper_when_copies_are_exposed():
    for rng, trace, capacity in cases(40):
        batch = int(rng.integers(1, 5))
        times = ExpertTimes(router_s=0.5, copy_s=0.25, run_s=2)
        found = serve(trace, capacity, batch=batch, times=times)
        routers = np.ceil(len(trace) / batch)
        misses = sum(lru_misses(trace, capacity))
        assert found.seconds == 0.5 * routers + 0.25 * misses + 2 * len(trace)
        assert found.switching_share == 0.25 * misses / found.seconds
        assert found.hits + found.misses == len(trace)


def test_a_copy_needs_its_place_from_the_beginning():
    # 2 may replace 0 only when 0 has run for the last time, unless there is a third place.
    times = ExpertTimes(router_s=1, copy_s=5, run_s=3)
    known = ReplacementPolicy(lookahead=0)
    for capacity, end in ((1, 33), (2, 22), (3, 20)):
        found = serve([0, 1, 0, 2], capacity, known, batch=4, times=times, prefetch=EAGER)
        assert found.seconds == end


def test_one_place_leaves_nothing_to_overlap():
    times = ExpertTimes(router_s=2, copy_s=5, run_s=3)
    policy = ReplacementPolicy(lookahead=2)
    for _, trace, _ in cases(30):
        one, other = (
            serve(trace, 1, policy, batch=3, times=times, prefetch=prefetch)
            for prefetch in (0, EAGER)
        )
        assert one.batch_misses.sum() == other.batch_misses.sum() == one.switches
        # a copy may still go on beside a router that runs before its batch
        assert other.seconds <= one.seconds


@pytest.mark.parametrize("prefetch", [1, 4, EAGER])
def test_short_copies_of_known_experts_hide_behind_runs(prefetch):
    trace = uniform_trace(40, 3000, 5)
    times = ExpertTimes(router_s=60, copy_s=13, run_s=67)
    policy = ReplacementPolicy(lookahead=1)
    found = serve(trace, 8, policy, batch=8, times=times, prefetch=prefetch)
    assert found.misses > 1500
    assert found.switching_s == 0


def test_copies_that_are_not_early_are_as_few_as_beladys():
    # With nothing but the next expert copied, only the one that runs cannot make room.
    trace = zipf_trace(40, 3000, 1.0, 5)
    times = ExpertTimes(router_s=60, copy_s=13, run_s=67)
    best = belady_misses(trace.tolist(), 8)
    next_only, eager = (
        serve(trace, 8, BELADY, batch=8, times=times, prefetch=p) for p in (1, EAGER)
    )
    assert best <= next_only.misses < 1.1 * best
    assert eager.misses > 1.3 * best
    assert next_only.switching_s == eager.switching_s == 0


def test_what_has_run_is_not_copied_again_when_runs_take_no_time():
    times = ExpertTimes(router_s=9, copy_s=1)
    policy = ReplacementPolicy(lookahead=1)
    found = serve(list(range(15)), 2, policy, batch=5, times=times, prefetch=EAGER)
    assert found.misses == 15


def test_lru_includes_what_a_smaller_one_holds():
    trace = zipf_trace(60, 4000, 0.8, 2).tolist()
    recent, distances = [], []
    for expert in trace:
        distances.append(recent.index(expert) if expert in recent else len(trace))
        recent = [expert, *(e for e in recent if e != expert)]
    missed = [serve(trace, c).batch_misses for c in range(1, 62)]
    for capacity, misses in enumerate(missed, 1):
        assert misses.sum() == sum(d >= capacity for d in distances)
    assert all((more <= less).all() for less, more in pairwise(missed))


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.2])
def test_zipf_traces_meet_theory(exponent):
    experts, capacity, requests = 850, 38, 200_000
    shares = np.arange(1.0, experts + 1) ** -exponent
    shares /= shares.sum()
    trace = zipf_trace(experts, requests, exponent, 0)
    # Che: an expert stays for as long as it takes to ask for `capacity` others.
    low, high = 1.0, 1e5
    while high - low > 1e-6 * low:
        stay = (low + high) / 2
        low, high = (stay, high) if -np.expm1(-shares * stay).sum() < capacity else (low, stay)
    hits = -(shares * np.expm1(-shares * low)).sum()
    assert serve(trace, capacity).hits / requests == pytest.approx(hits, rel=0.02)
    # LFU keeps the most popular; one place is for what comes and goes.
    kept = shares[: capacity - 1].sum()
    assert serve(trace, capacity, LFU).hits / requests == pytest.approx(kept, rel=0.02)


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.2])
def test_switching_of_the_node_falls_to_less_than_a_quarter(exponent):
    trace = zipf_trace(850, 80_000, exponent, 1)
    times = ExpertTimes(router_s=0.06, copy_s=0.013476831232, run_s=0.067)
    lru = serve(trace, 38, batch=8, times=times)
    policy = ReplacementPolicy(lookahead=0)
    known = serve(trace, 38, policy, batch=8, times=times, prefetch=EAGER)
    # Only the first copy of a batch cannot hide: a run is longer than a copy.
    assert known.switching_s <= 10_000 * times.copy_s
    assert known.switching_share <= 0.25 * lru.switching_share


@pytest.mark.parametrize(("experts", "capacity"), [(5, 4), (5, 1), (20, 7), (850, 38), (38, 38)])
def test_experts_in_turn(experts, capacity):
    requests = 5 * experts + 3
    trace = all_miss_trace(experts, requests)
    if experts > capacity:
        assert serve(trace, capacity).misses == requests
    else:
        assert serve(trace, capacity).misses == experts
    # Belady: `capacity` at first; then of every experts - 1 requests capacity - 1 are hits.
    rounds, rest = divmod(requests - capacity, experts - 1)
    bound = capacity + rounds * (experts - capacity) + min(rest, experts - capacity)
    assert serve(trace, capacity, BELADY).misses == bound


def test_what_fits_in_is_copied_once():
    trace = uniform_trace(30, 2000, 1)
    for policy in (LRU, LFU, BELADY, ReplacementPolicy(lookahead=1)):
        for prefetch in (0, EAGER):
            assert serve(trace, 30, policy, batch=8, prefetch=prefetch).misses == 30
            assert serve(trace, 4000, policy, prefetch=prefetch).misses == 30


def test_switches_count_changes_of_the_expert():
    assert serve([3, 3, 1, 3, 3, 0], 5).switches == 4
    assert serve([2], 5).switches == 1


def test_published_ratios_of_samba_coe():
    # Table 5: all experts miss. Switching follows from bytes and bandwidths alone; the run of an
    # expert and of the router on the SN40L are fitted, those of the DGX are NVIDIA's.
    size, trace = 13.476831232e9, all_miss_trace(150, 150 * 8)

    def batch_s(batch, bandwidth, router_ms, run_ms, capacity):
        times = ExpertTimes(router_s=router_ms / 1e3, copy_s=size / bandwidth, run_s=run_ms / 1e3)
        return serve(trace, capacity, batch=batch, times=times).seconds_per_batch

    for batch, node_router, a100_router, h100_router, ratios in (
        (1, 65, 136.5, 97.6, (4.8, 2.8)),
        (8, 60, 181.9, 129.1, (6.6, 3.7)),
    ):
        node = batch_s(batch, 1e12, node_router, 67, 38)
        a100 = batch_s(batch, 32e9, a100_router, 136.5, 45)
        h100 = batch_s(batch, 64e9, h100_router, 97.6, 45)
        assert (round(a100 / node, 1), round(h100 / node, 1)) == ratios


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: serve([0], 0), "capacity = 0; an integer from 1 to"),
        (lambda: serve([0], 1.5), "capacity = 1.5"),
        (lambda: serve([0], 1, batch=0), "batch = 0"),
        (lambda: serve([0], 1, prefetch=-1), "prefetch = -1; an integer from 0 to"),
        (lambda: serve([], 1), "requests: one axis"),
        (lambda: serve([-1], 1), "requests: experts from -1"),
        (lambda: ReplacementPolicy(lookahead=-1), "lookahead = -1; None or 0 to"),
        (lambda: ReplacementPolicy(lookahead=1.0), "lookahead = 1.0"),
        (lambda: ExpertTimes(copy_s=-1.0), r"copy_s = -1.0; 0 to 1e\+06 s"),
        (lambda: ExpertTimes(run_s=float("nan")), "run_s = nan"),
        (lambda: ExpertTimes(router_s="1"), "router_s = '1'"),
    ],
)
def test_refusals(call, part):
    with pytest.raises(InputError, match=part):
        call()
