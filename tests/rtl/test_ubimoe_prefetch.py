"""UbiMoE's prefetch against memories behind AXI, in all simulators."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.errors import InputError
from headrace.rtl.axi import AxiReader
from headrace.rtl.axi_memory import ReadMemory, ReadPlan
from headrace.rtl.lint import lint
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.prefetch import Prefetch
from headrace.rtl.ubimoe.shared_prefetch import SharedPrefetch
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "prefetch_vectors", Path(__file__).parent / "prefetch_vectors.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
draw_jobs, draw_sizes, job_word = _shared.draw_jobs, _shared.draw_sizes, _shared.job_word

POINTS = {
    "one port": PrefetchSizes(),
    "striped": PrefetchSizes(ports=2, port_bits=128),
    "three ports, short bursts": PrefetchSizes(ports=3, port_bits=64, burst_beats=2, outstanding=3),
    "long bursts": PrefetchSizes(port_bits=512, burst_beats=64, buffer_beats=4),
    "words alone": PrefetchSizes(port_bits=32, burst_beats=1, outstanding=1, buffer_beats=2),
}
STALL = {"jobs": 0.5, "weights": 0.3}


def latencies(seed):
    return np.random.default_rng(seed).integers(1, 40, 37).tolist()


def drawn(sizes, seed, jobs, most_beats, **more):
    """Memories stall at random and answer after random times."""
    rng = np.random.default_rng(seed)
    plan = {"latency": latencies(seed), "stall": 0.3}
    vectors, _ = draw_jobs(sizes, rng, jobs, most_beats, **plan)
    return replace(vectors, **more)


@pytest.mark.parametrize("point", POINTS)
def test_every_word_in_order(point):
    sizes = POINTS[point]
    vectors = drawn(sizes, 1, 5, 100)
    run = simulate_streams(Prefetch(sizes), vectors)
    assert run.results == vectors.results
    addresses = len(run.times["port0_ar"])
    assert all(len(run.times[f"port{p}_ar"]) == addresses for p in range(sizes.ports))


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_verilog(simulator):
    sizes = POINTS["striped"]
    vectors = drawn(sizes, 2, 6, 200, stall=STALL)
    done = run_regression(to_verilog(Prefetch(sizes), "prefetch"), "prefetch", vectors, simulator)
    assert done.passed, done.message


def sweep_point(seed):
    """Return sizes of a seed; together they have 1 to 4 ports and bursts of 1 to 64 words."""
    return draw_sizes(np.random.default_rng(1000 + seed))


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize("seed", range(13))
def test_many_beats(seed, simulator):
    """More than 5,000 beats in all of 13 points, in each simulator."""
    sizes = sweep_point(seed)
    vectors, _ = draw_jobs(
        sizes, np.random.default_rng(seed), 12, 100, latency=latencies(seed), stall=0.2
    )
    vectors = replace(vectors, stall=STALL)
    assert len(vectors.results["weights"]) > 400
    done = run_regression(to_verilog(Prefetch(sizes), "prefetch"), "prefetch", vectors, simulator)
    assert done.passed, done.message


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_sizes(seed):
    sizes = sweep_point(100 + seed)
    vectors = drawn(sizes, seed, 6, 120)
    assert simulate_streams(Prefetch(sizes), vectors).results == vectors.results


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_clients_share_the_ports(clients):
    """Each has its own images in the order of its jobs, whoever is served in between."""
    sizes = POINTS["three ports, short bursts"]
    rng = np.random.default_rng(clients)
    beats, word = [5, 9, 2][:clients], sizes.port_bits // 8
    regions, inputs, results = [{} for _ in range(sizes.ports)], {}, {}
    for client, count in enumerate(beats):
        jobs, expected = [], []
        for number in range(4):
            image = rng.integers(0, 256, (count, sizes.ports, word), np.uint8)
            expert, stride = int(rng.integers(3)), 8 * sizes.burst_bytes
            bases = [(number << 30) + (client << 20) + (port << 16) for port in range(sizes.ports)]
            for port, base in enumerate(bases):
                regions[port][base + expert * stride] = image[:, port].tobytes().hex()
            job = job_word(sizes, expert, stride, 0, bases)
            jobs.append(job & (1 << 40) - 1 | job >> 72 << 40)  # without the beats
            expected += [int.from_bytes(beat.tobytes(), "little") for beat in image]
        inputs[f"jobs{client}"], results[f"weights{client}"] = jobs, expected
    memories = {
        f"port{p}_": ReadPlan(word_bytes=word, regions=held, seed=p, stall=0.2, latency=[3, 20, 9])
        for p, held in enumerate(regions)
    }
    arrivals = {
        name: np.cumsum(rng.integers(0, 4, len(items)))
        for name, items in {**inputs, **results}.items()
    }
    vectors = StreamVectors(inputs, results, memories=memories, arrivals=arrivals)
    run = simulate_streams(SharedPrefetch(sizes, beats), vectors, 5_000)
    assert run.results == results


def test_largest_address():
    """Expert 255 with the largest stride; the sum keeps 40 bits."""
    sizes = PrefetchSizes(port_bits=32)
    stride, base = (1 << 32) - sizes.burst_bytes, (1 << 40) - 300 * sizes.burst_bytes
    address = (base + 255 * stride) % (1 << 40)
    assert address + 64 <= 1 << 40
    words = np.arange(3, dtype="<u4") + 77
    memory = ReadPlan(word_bytes=4, regions={address: words.tobytes().hex()})
    vectors = StreamVectors(
        {"jobs": [job_word(sizes, 255, stride, 3, [base])]},
        {"weights": words.tolist()},
        memories={"port0_": memory},
    )
    assert simulate_streams(Prefetch(sizes), vectors).results == vectors.results


class Watched(wiring.Component):
    """A prefetch whose error pulses are the items of one more stream."""

    def __init__(self, sizes):
        self.inner = Prefetch(sizes)
        members = dict(self.inner.signature.members.items())
        super().__init__(members | {"errors": Out(stream.Signature(1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        for name, member in self.inner.signature.members.items():
            outer, inner = getattr(self, name), getattr(self.inner, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        m.d.comb += self.errors.valid.eq(self.inner.error)
        return m


def test_errors_are_pulses():
    words = np.arange(20, dtype="<u4")
    memory = ReadPlan(word_bytes=4, regions={0: words.tobytes().hex()}, faults=[12, 64])
    sizes = PrefetchSizes(port_bits=32)
    vectors = StreamVectors(
        {"jobs": [job_word(sizes, 0, 0, 20, [0])]},
        {"weights": words.tolist(), "errors": [0, 0]},
        memories={"port0_": memory},
    )
    run = simulate_streams(Watched(sizes), vectors)
    assert run.results == vectors.results
    assert run.times["errors"].tolist() == run.times["port0_r"][[3, 16]].tolist()


class Checks:
    """Requests to a memory, without any hardware."""

    def __init__(self):
        self.memory = ReadMemory(ReadPlan(word_bytes=4, regions={4080: "00" * 32}))

    def ask(self, address, length, size=2, burst=1, valid=1):
        self.memory.drive(0)
        self.memory.sample(0, valid, address, length, size, burst, 1)


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"address": 4088, "length": 3}, "crosses 4 KB"),
        ({"address": 4112, "length": 0}, "nothing is at 1010"),
        ({"address": 4082, "length": 0}, "within a word"),
        ({"address": 4080, "length": 0, "size": 3}, "size 3"),
        ({"address": 4080, "length": 0, "burst": 2}, "burst type 2"),
    ],
)
def test_the_memory_sees_faults(request_, message):
    with pytest.raises(AssertionError, match=message):
        Checks().ask(**request_)


def test_the_memory_sees_a_withdrawn_address():
    checks = Checks()
    checks.memory = ReadMemory(replace(checks.memory.plan, addresses=[5]))
    checks.ask(4080, 0)
    with pytest.raises(AssertionError, match="withdrawn"):
        checks.ask(4080, 0, valid=0)


@pytest.mark.parametrize("point", ["one port", "three ports, short bursts", "words alone"])
def test_verilog_is_clean(point):
    assert lint(to_verilog(Prefetch(POINTS[point]), "prefetch"), "prefetch").findings == ()


def test_stripes_are_what_the_ports_read():
    sizes = PrefetchSizes(ports=2, port_bits=64, burst_beats=4)
    image = np.arange(5 * 16, dtype=np.uint8).reshape(5, 16)
    first, second = sizes.stripes(image)
    assert len(first) == len(second) == sizes.stride(5) == 64
    assert first[:16].tolist() == [*range(8), *range(16, 24)]
    assert second[32:40].tolist() == list(range(72, 80))
    assert not second[40:].any()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ports": 0}, "ports = 0 is not allowed: 1 to 16"),
        ({"ports": 17}, "ports = 17 is not allowed: 1 to 16"),
        ({"port_bits": 48}, "port_bits = 48 is not allowed: a power of two, 32 to 1024"),
        ({"burst_beats": 256}, "burst_beats = 256 is not allowed: a power of two, 1 to 128"),
        ({"burst_beats": 3}, "burst_beats = 3 is not allowed: a power of two, 1 to 128"),
        ({"outstanding": 0}, "outstanding = 0 is not allowed: 1 to 64"),
        ({"buffer_beats": 1}, "buffer_beats = 1 is not allowed: a power of two, 2 to 64"),
    ],
)
def test_sizes_are_checked(change, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        PrefetchSizes(**change)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_readers_refuse_bursts_beyond_a_boundary():
    with pytest.raises(ValueError, match="bursts of 128 x 512 bits"):
        AxiReader(512, burst_beats=128)
