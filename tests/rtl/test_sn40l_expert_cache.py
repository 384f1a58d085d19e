"""SN40L's expert cache controller: exact LRU, a machine around it that copies and runs, cycles."""

from collections import deque

import numpy as np
import pytest
from amaranth.sim import Simulator

from headrace.arch.sn40l.expert_cache import ExpertCacheSizes
from headrace.errors import InputError
from headrace.models.experts import zipf_trace
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.sn40l.expert_cache import ExpertCache
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.sim.expert_cache import LRU, serve

CLEAR = None
LIMIT = 20_000  # cycles
PORTS = ("request", "copied", "finished", "command", "run")


class Lru:
    """HBM as a list of slots, and for each the number of the request that used it last."""

    def __init__(self, slots):
        self.experts, self.used, self.now = [None] * slots, [0] * slots, 0

    def clear(self):
        self.experts = [None] * len(self.experts)

    def request(self, expert):
        """Return the expert's slot, and whether it was there."""
        self.now += 1
        hit = expert in self.experts
        if hit:
            slot = self.experts.index(expert)
        elif None in self.experts:
            slot = self.experts.index(None)
        else:
            slot = min(range(len(self.used)), key=self.used.__getitem__)
        self.experts[slot], self.used[slot] = expert, self.now
        return slot, hit


def request_word(sizes, expert, last):
    """Return a request's bits, as the manual lists them."""
    if expert is CLEAR:
        return 1 << sizes.expert_bits + 1
    return expert | last << sizes.expert_bits


def vectors(sizes, requests, **more):
    """Return what goes in and comes out for (expert, last) pairs; tokens carry nothing."""
    lru = Lru(sizes.slots)
    streams = {port: [] for port in PORTS}
    for expert, last in requests:
        streams["request"].append(request_word(sizes, expert, last))
        if expert is CLEAR:
            lru.clear()
            continue
        slot, hit = lru.request(expert)
        pair = slot | expert << sizes.slot_bits
        if not hit:
            streams["command"].append(pair)
            streams["copied"].append(0)
        flags = hit | last << 1
        streams["run"].append(pair | flags << sizes.slot_bits + sizes.expert_bits)
        streams["finished"].append(0)
    inputs, outputs = ({n: streams[n] for n in names} for names in (PORTS[:3], PORTS[3:]))
    return StreamVectors(inputs, outputs, **more)


def drawn_sizes(rng):
    return ExpertCacheSizes(
        slots=int(rng.choice([1, 2, 3, 5, 8, 38])),
        experts=int(rng.choice([1, 6, 20, 60, 100, 400])),
        lookahead=int(rng.choice([0, 1, 2, 4, 7, 15])),
    )


def drawn_requests(rng, sizes, count):
    """Return Zipf requests in batches of about 8, and some clears."""
    exponent = float(rng.choice([0, 0.8, 1.2]))
    experts = zipf_trace(sizes.experts, count, exponent, int(rng.integers(1 << 30))).tolist()
    clears = (rng.random(count) < rng.choice([0, 0.01, 0.05])).tolist()
    lasts = (rng.random(count) < 0.125).tolist()
    return [
        (CLEAR, False) if clear else (expert, last)
        for expert, clear, last in zip(experts, clears, lasts, strict=True)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_slots_copies_and_runs(seed):
    rng = np.random.default_rng(seed)
    sizes = drawn_sizes(rng)
    requests = drawn_requests(rng, sizes, 60)
    streams = vectors(sizes, requests)
    free = simulate_streams(ExpertCache(sizes), streams, LIMIT)
    assert free.results == streams.results
    late = {p: t + np.cumsum(rng.integers(0, 9, len(t))) for p, t in free.times.items()}
    delayed = vectors(sizes, requests, arrivals=late)
    run = simulate_streams(ExpertCache(sizes), delayed, LIMIT)
    assert run.results == streams.results


@pytest.mark.parametrize(("slots", "exponent"), [(4, 1.0), (10, 0.5), (38, 1.2)])
def test_misses_are_those_of_the_model(slots, exponent):
    trace = zipf_trace(100, 250, exponent, seed=slots)
    sizes = ExpertCacheSizes(slots=slots, experts=100)
    streams = vectors(sizes, [(expert, False) for expert in trace.tolist()])
    run = simulate_streams(ExpertCache(sizes), streams, LIMIT)
    assert run.results == streams.results
    misses = serve(trace, slots, LRU).misses
    assert len(run.results["command"]) == misses
    print(f"{slots} slots: {misses} misses of {len(trace)} requests, as in the model")


class Machine:
    """A copy engine and a unit that runs experts one after another, which check what they do.

    Parameters
    ----------
    sizes : ExpertCacheSizes
    requests : list of int
    copy, run : callable
        Cycles of the next one, at least 1.
    """

    def __init__(self, sizes, requests, copy, run):
        self.sizes, self.left, self.copy, self.run = sizes, deque(requests), copy, run
        self.held = {}  # slot -> expert that is there
        self.awaited = []  # experts of requests that have not finished
        self.copying = self.running = None  # (token's cycle, slot, expert), the token's cycle
        self.copies = self.beside = 0  # copies; ends of one thing beside the other
        self.begin = self.end = None

    def moved(self, port, payload, cycle):
        """A transfer took place."""
        pair = self.sizes.slot_bits, self.sizes.expert_bits
        slot, expert = payload & (1 << pair[0]) - 1, payload >> pair[0] & (1 << pair[1]) - 1
        if port == "request":
            self.begin = cycle if self.begin is None else self.begin
            self.awaited.append(self.left.popleft())
            assert len(self.awaited) <= self.sizes.in_flight
        elif port == "command":
            assert self.copying is None
            assert expert not in self.held.values()
            assert self.held.pop(slot, None) not in self.awaited
            self.copies += 1
            self.copying = cycle + self.copy(), slot, expert
        elif port == "copied":
            _, slot, expert = self.copying
            self.held[slot], self.copying = expert, None
            self.beside += self.running is not None
        elif port == "run":
            assert self.held[slot] == expert == self.awaited[0]
            self.running = cycle + self.run()
        else:
            self.awaited.pop(0)
            self.running, self.end = None, cycle
            self.beside += self.copying is not None

    def simulate(self):
        """Return the cycles from the first request to the last finished run, both included."""
        component = ExpertCache(self.sizes)
        simulator = Simulator(component)
        simulator.add_clock(1e-6)
        ports = [getattr(component, name) for name in PORTS]
        outputs = [component.command.payload.as_value(), component.run.payload.as_value()]

        async def bench(context):
            cycle = 0
            while self.left or self.awaited:
                if self.left:
                    word = request_word(self.sizes, self.left[0], False)
                    context.set(component.request.payload.as_value(), word)
                context.set(component.request.valid, bool(self.left))
                done = self.copying is not None and cycle >= self.copying[0]
                context.set(component.copied.valid, done)
                over = self.running is not None and cycle >= self.running
                context.set(component.finished.valid, over)
                context.set(component.command.ready, 1)
                context.set(component.run.ready, self.running is None)
                levels = [s for port in ports for s in (port.valid, port.ready)]
                sampled = (await context.tick().sample(*levels, *outputs))[2:]
                payloads = dict(zip(PORTS[3:], sampled[-2:], strict=True))
                for number, port in enumerate(PORTS):
                    if sampled[2 * number] and sampled[2 * number + 1]:
                        self.moved(port, payloads.get(port, 0), cycle)
                cycle += 1
                assert cycle < LIMIT

        simulator.add_testbench(bench)
        simulator.run()
        return self.end - self.begin + 1


@pytest.mark.parametrize("seed", range(8))
def test_nothing_that_runs_or_is_awaited_is_evicted(seed):
    """A machine with random times: what runs is in HBM, whatever the times."""
    rng = np.random.default_rng(seed)
    sizes = ExpertCacheSizes(slots=1 + seed % 4, experts=9, lookahead=(0, 3, 1, 7, 2)[seed % 5])
    requests = rng.integers(0, 9, 80).tolist()
    machine = Machine(sizes, requests, *(lambda: int(rng.integers(1, 20)) for _ in range(2)))
    machine.simulate()
    assert machine.copies == serve(requests, sizes.slots, LRU).misses
    # The paper's copies are exposed; with lookahead they are beside runs if there is a slot.
    assert (machine.beside > 0) == (sizes.lookahead > 0 and sizes.slots > 1)


@pytest.mark.parametrize("seed", range(12))
def test_cycles_are_those_of_the_formulas(seed):
    rng = np.random.default_rng(seed)
    copy, run = (int(rng.integers(1, 1 + rng.choice([1, 3, 40]))) for _ in range(2))
    sizes = ExpertCacheSizes(slots=int(rng.integers(1, 12)), experts=30)
    requests = rng.integers(0, int(rng.integers(1, 31)), 20).tolist()
    machine = Machine(sizes, requests, lambda: copy, lambda: run)
    cycles = machine.simulate()
    assert cycles == sizes.cycles(20 - machine.copies, machine.copies, copy=copy, run=run)
    ahead = ExpertCacheSizes(slots=17, experts=30, lookahead=int(rng.integers(2, 16)))
    cycles = Machine(ahead, list(range(25)), lambda: copy, lambda: run).simulate()
    assert cycles == ahead.overlapped_cycles(25, copy=copy, run=run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 64))
def test_cycles_of_many(seed):
    test_cycles_are_those_of_the_formulas(seed)


def test_cycles_of_clears():
    """The request after so many clears is taken when the formula says."""
    sizes = ExpertCacheSizes(slots=2, experts=4)
    requests = [(1, False), *[(CLEAR, False)] * 3, (1, False), (1, True)]
    run = simulate_streams(ExpertCache(sizes), vectors(sizes, requests), LIMIT)
    begin, *_, last = run.times["request"].tolist()
    assert len(run.results["command"]) == 2
    assert last - begin == sizes.cycles(hits=0, misses=2, clears=3)


def stalled(sizes, requests, seed):
    chances = np.random.default_rng(seed).uniform(0.05, 0.7, len(PORTS)).tolist()
    return vectors(sizes, requests, stall=dict(zip(PORTS, chances, strict=True)))


def test_verilog_in_icarus():
    rng = np.random.default_rng(5)
    sizes = ExpertCacheSizes(slots=5, experts=12, lookahead=3)
    requests = drawn_requests(rng, sizes, 150)
    streams = stalled(sizes, requests, 5)
    verilog = to_verilog(ExpertCache(sizes), "expert_cache")
    done = run_regression(verilog, "expert_cache", streams, "icarus")
    assert done.passed, done.message
    wrong = streams.results["run"]
    wrong[-1] ^= 1
    done = run_regression(verilog, "expert_cache", streams, "icarus")
    assert "instead of" in done.message


POINTS, REQUESTS = 13, 440


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    """More than 5,000 requests in each simulator, both in the same cycles."""
    rng = np.random.default_rng(2405 + point)
    sizes = drawn_sizes(rng) if point else ExpertCacheSizes(lookahead=2)
    streams = stalled(sizes, drawn_requests(rng, sizes, REQUESTS), point)
    verilog = to_verilog(ExpertCache(sizes), "expert_cache")
    done = [run_regression(verilog, "expert_cache", streams, s, point) for s in SIMULATORS]
    for run in done:
        assert run.passed, f"{sizes}\n{run.message}"
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in done)
    assert one == two
    copies, runs = (len(streams.results[port]) for port in ("command", "run"))
    print(f"{sizes}: {runs} runs, {copies} copies, {done[0].cycles} cycles")


def test_verilog_is_clean():
    for sizes in (ExpertCacheSizes(slots=1, experts=1), ExpertCacheSizes(slots=5, lookahead=2)):
        verilog = to_verilog(ExpertCache(sizes), "expert_cache")
        assert lint(verilog, "expert_cache").findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("lookahead", [0, 2, 15])
def test_netlist(lookahead):
    sizes = ExpertCacheSizes(lookahead=lookahead)
    counts = map_netlist(to_verilog(ExpertCache(sizes), "expert_cache"), "expert_cache")
    print(f"{sizes}: {counts}")
    assert counts.dsp == 0
    assert 0 < counts.lut < 1500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": 0}, "slots = 0 is not allowed: 1 to 1024"),
        ({"experts": 65537}, "experts = 65537 is not allowed: 1 to 65536"),
        ({"lookahead": 16}, "lookahead = 16 is not allowed: 0 to 15"),
        ({"slots": 2.0}, "slots = 2.0 is not allowed: 1 to 1024"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        ExpertCacheSizes(**change)


def test_formulas_refuse_what_they_do_not_hold_for():
    with pytest.raises(InputError, match="^lookahead = 1 is not allowed: 0, without overlap$"):
        ExpertCacheSizes(lookahead=1).cycles(1, 1)
    with pytest.raises(InputError, match="^copy = 0 cycles is not allowed: at least 1$"):
        ExpertCacheSizes().cycles(1, 1, copy=0)
    with pytest.raises(InputError, match="^misses = 0 is not allowed: at least 1$"):
        ExpertCacheSizes(lookahead=2).overlapped_cycles(0)
    for sizes in (ExpertCacheSizes(lookahead=1), ExpertCacheSizes(slots=4, lookahead=3)):
        with pytest.raises(InputError, match=r"^lookahead = \d, slots = \d+ is not allowed: at"):
            sizes.overlapped_cycles(1)
