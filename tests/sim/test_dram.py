"""The closed form of a DRAM stream against the channel served command by command."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.memories import load_dram
from headrace.errors import InputError
from headrace.sim.dram import serve, stream_efficiency, stream_joules, stream_seconds

NAMES = ["lpddr5-6400", "hbm2e-1935", "ddr4-3200"]


def clocks_at_peak(dram, bytes_):
    """Clocks in which the data bus of one channel moves so many bytes."""
    return bytes_ * 8 / dram.width_bits / dram.rate_mt_per_s * 1e3 / dram.clock_ns


def served(dram, part, reads=1.0, refresh=None, bursts=12000):
    """Share of the peak of one channel for parts of requests at random places."""
    rng = np.random.default_rng(part)
    count = max(bursts * dram.burst_bytes // max(part, dram.burst_bytes), 12)
    unit = min(max(part, dram.burst_bytes), dram.interleave_bytes)
    address = rng.integers(0, 2**31 // unit, count) * unit
    done = serve(dram, address, part, rng.random(count) >= reads, refresh=refresh)
    return clocks_at_peak(dram, count * part) / done.max()


def formula(dram, part, reads=1.0, refresh=None):
    size = part if part <= dram.interleave_bytes else part * dram.channels
    return float(stream_efficiency(dram, size, reads, refresh=refresh))


@pytest.mark.parametrize("refresh", ["none", "all-bank"])
@pytest.mark.parametrize("part", [32, 128, 256, 1024, 4096, 65536])
@pytest.mark.parametrize("reads", [1.0, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_streams_of_one_direction_agree(name, reads, part, refresh):
    dram = load_dram(name)
    found = formula(dram, part, reads, refresh)
    assert found == pytest.approx(served(dram, part, reads, refresh), rel=0.05)


@pytest.mark.parametrize("part, error", [(1024, 0.1), (4096, 0.06), (65536, 0.03)])
@pytest.mark.parametrize("reads", [0.9, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_mixed_streams_of_long_parts_agree(name, reads, part, error):
    dram = load_dram(name)
    found = formula(dram, part, reads, "none")
    assert found == pytest.approx(served(dram, part, reads, "none"), rel=error)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_streams_of_short_parts_are_bounded_by_the_closed_form(name):
    dram = load_dram(name)
    ratio = formula(dram, 128, 0.5, "none") / served(dram, 128, 0.5, "none")
    assert 1 < ratio < 1.35


def test_where_all_limits_meet_the_closed_form_is_optimistic():
    # Two bursts of LPDDR5 take as long on the bus as their activation: either may wait.
    dram = load_dram("lpddr5-6400")
    ratio = formula(dram, 64, refresh="none") / served(dram, 64, refresh="none")
    assert 1 < ratio < 1.1


@pytest.mark.parametrize("name", NAMES[:2])
def test_refresh_per_bank_hides_behind_a_stream(name):
    dram = load_dram(name)
    count = 4000
    done = serve(dram, np.arange(count) * 1024, 1024, refresh="per-bank")
    assert clocks_at_peak(dram, count * 1024) / done.max() > 0.995


@pytest.mark.parametrize("name", NAMES)
def test_refresh_of_all_banks_loses_its_share(name):
    dram = load_dram(name)
    count = 4000
    done = serve(dram, np.arange(count) * 1024, 1024, refresh="all-bank")
    share = dram.t_rfc_ab_ns / dram.t_refi_ns
    found = clocks_at_peak(dram, count * 1024) / done.max()
    # Besides the refresh itself, rows are closed before and opened after it.
    assert 1 - share - 0.02 < found < 1 - share


@pytest.mark.parametrize("name", NAMES)
def test_single_bursts_are_limited_by_activations(name):
    dram = load_dram(name)
    least = max(dram.cycles("rrd_s"), dram.cycles("faw") / 4)
    share = clocks_at_peak(dram, dram.burst_bytes) / least
    assert served(dram, dram.burst_bytes, refresh="none") == pytest.approx(share, rel=0.04)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_one_bank_come_a_row_cycle_apart(name):
    dram = load_dram(name)
    rows = np.arange(50) * dram.banks * dram.page_bytes
    done = serve(dram, rows, dram.burst_bytes, refresh="none")
    assert set(np.diff(done)) == {dram.cycles("ras") + dram.cycles("rp")}


@pytest.mark.parametrize("name", NAMES)
def test_first_access_and_column_spacing(name):
    dram = load_dram(name)
    one, two = serve(dram, [0, dram.burst_bytes], dram.burst_bytes, refresh="none")
    assert one == dram.cycles("rcd") + dram.cycles("cl") + dram.burst_cycles
    assert two - one == dram.cycles("ccd_l")  # one bank, so one group


def test_turns_of_the_bus():
    dram = load_dram("ddr4-3200")
    same, bus = dram.burst_bytes, dram.burst_cycles
    read, write = serve(dram, [0, same], same, [False, True], refresh="none")
    assert write - read == dram.cycles("rtw") + dram.cycles("cwl") - dram.cycles("cl")
    write, read = serve(dram, [0, same], same, [True, False], window=1, refresh="none")
    assert read - write == dram.cycles("wtr_l") + dram.cycles("cl") + bus


def test_windows_and_channels():
    dram = load_dram("lpddr5-6400")
    assert formula(replace(dram, channels=32), 4096) == pytest.approx(formula(dram, 4096))
    sizes = np.array([256, 4096, 65536])
    narrow = stream_efficiency(dram, sizes, 0.0, window=8)
    assert (narrow <= stream_efficiency(dram, sizes, 0.0)).all()


def test_seconds_and_joules():
    dram = load_dram("lpddr5-6400")
    size, count = 2**20, np.array([0, 1, 1000])
    seconds = stream_seconds(dram, size, count)
    assert seconds[0] == stream_seconds(dram, 0, 5) == 0
    assert seconds[2] > 1000 * 2**20 / 204.8e9
    assert seconds[2] == pytest.approx(1000 * 2**20 / 204.8e9, rel=0.01)
    assert stream_joules(dram, 1e9) == pytest.approx(0.032)


def test_refusals():
    dram = load_dram("ddr4-3200")
    for wrong in [
        lambda: serve(dram, [0], [0]),
        lambda: serve(dram, [-1], [1]),
        lambda: serve(dram, [0], [1], refresh="per-bank"),
        lambda: serve(dram, [0], [1], refresh="sometimes"),
        lambda: stream_efficiency(dram, 0),
        lambda: stream_efficiency(dram, 1, 1.5),
        lambda: stream_seconds(dram, 1, -1),
    ]:
        with pytest.raises(InputError):
            wrong()
    assert serve(dram, [], []).size == 0
