from fractions import Fraction

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.sim.cycle import simulate
from headrace.sim.graph import StreamGraph
from headrace.sim.memory import MemoryPort, beat_arrivals, transfer_cycles


def port(**changes):
    return MemoryPort(**{"bytes_per_beat": 16, "clock_hz": 250_000_000, **changes})


def test_unloaded_port_by_hand():
    slow = port(read_latency_cycles=30, burst_beats=4, outstanding=1)
    # One request at a time: four beats, then the next request and its latency.
    assert beat_arrivals(slow, 6).tolist() == [30, 31, 32, 33, 64, 65]
    assert transfer_cycles(slow, 6 * 16) == 66


def test_efficiency_is_whole_cycles_between_bursts():
    arrivals = beat_arrivals(port(burst_beats=4, efficiency=0.8), 12)
    assert arrivals.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]


def test_average_rate():
    for efficiency in (0.37, 0.85, Fraction(9, 10)):
        arrivals = beat_arrivals(port(efficiency=efficiency), 100_000)
        assert 100_000 / (arrivals[-1] + 1) == pytest.approx(float(efficiency), rel=1e-3)
        assert np.all(np.diff(arrivals) >= 1)


def test_tier_is_shared():
    # Three ports of 4 GB/s at a tier of 6 GB/s: each gets a half.
    shared = port(tier_bytes_per_s=6e9)
    assert shared.beats_per_cycle(1) == 1
    assert shared.beats_per_cycle(3) == Fraction(1, 2)
    assert transfer_cycles(shared, 48_000 * 16, ports=3) == pytest.approx(32_000, rel=0.01)


def test_closed_form_within_one_percent():
    rng = np.random.default_rng(31)
    for _ in range(400):
        some = port(
            burst_beats=int(rng.integers(1, 65)),
            outstanding=int(rng.integers(1, 33)),
            read_latency_cycles=int(rng.integers(0, 200)),
            efficiency=float(rng.uniform(0.2, 1)),
            tier_bytes_per_s=float(rng.uniform(1e9, 30e9)),
        )
        ports = int(rng.integers(1, 5))
        beats = int(rng.integers(1000, 20_000))
        exact = int(beat_arrivals(some, beats, ports=ports)[-1]) + 1
        assert transfer_cycles(some, beats * 16 * ports, ports=ports) == pytest.approx(
            exact, rel=0.01
        ), some


def test_random_stalls_are_seeded():
    def stalled(seed):
        rng = np.random.default_rng(seed)
        return beat_arrivals(port(), 20_000, stall_probability=0.25, rng=rng)

    assert stalled(1).tolist() == stalled(1).tolist()
    assert stalled(1).tolist() != stalled(2).tolist()
    assert np.all(np.diff(stalled(1)) >= 1)
    assert 20_000 / stalled(1)[-1] == pytest.approx(0.75, rel=0.02)


def test_arrivals_drive_a_graph():
    arrivals = beat_arrivals(port(efficiency=0.5, read_latency_cycles=10), 64)
    graph = StreamGraph()
    graph.add_node("beats", arrivals=arrivals)
    graph.add_node("unpack", ii=1)
    graph.add_edge("beats", "unpack", depth=2)
    result = simulate(graph, firings={"beats": 64}, starts=True)
    assert result.starts["beats"].tolist() == arrivals.tolist()
    assert result.cycles == arrivals[-1] + 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bytes_per_beat": 0}, "memory port: bytes_per_beat must be at least 1, not 0"),
        ({"outstanding": 0}, "outstanding must be at least 1, not 0"),
        ({"read_latency_cycles": -1}, "read_latency_cycles must be at least 0, not -1"),
        ({"efficiency": 0}, "efficiency must be above 0 and at most 1, not 0"),
        ({"efficiency": float("nan")}, "efficiency must be above 0 and at most 1, not nan"),
        ({"tier_bytes_per_s": 0.0}, "tier_bytes_per_s must be above 0, not 0.0"),
    ],
)
def test_bad_ports(changes, message):
    with pytest.raises(InputError, match=message):
        port(**changes)


def test_bad_transfers():
    assert transfer_cycles(port(), 0) == 0
    assert beat_arrivals(port(), 0).size == 0
    with pytest.raises(InputError, match="-1 bytes by 1 ports"):
        transfer_cycles(port(), -1)
    with pytest.raises(InputError, match="0 ports"):
        beat_arrivals(port(), 1, ports=0)
    with pytest.raises(InputError, match="needs a random generator"):
        beat_arrivals(port(), 1, stall_probability=0.1)
    with pytest.raises(InputError, match="stall_probability must be 0 up to 1"):
        beat_arrivals(port(), 1, stall_probability=1.0)
