"""The closed form of a flash drive against the drive served page by page."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.memories import load_pcie, load_ssd
from headrace.errors import InputError
from headrace.sim.pcie import effective_bandwidth
from headrace.sim.ssd import active_joules, read_seconds, serve, write_seconds

LINK = float(effective_bandwidth(load_pcie("gen3-x4"), 4096, write=True))
KIB = 1024


def served(ssd, size, count, link):
    """Mean seconds of requests at random pages."""
    times = []
    for seed in range(1 + 1000 // count):
        first = np.random.default_rng(seed).integers(0, 2**30, count)
        times.append(serve(ssd, first, size, link_bytes_per_s=link).max() * 1e-9)
    return np.mean(times)


@pytest.mark.parametrize("link", [None, LINK])
@pytest.mark.parametrize("count", [1, 10, 100, 1000])
@pytest.mark.parametrize("size", [4 * KIB, 16 * KIB, 128 * KIB, 1024 * KIB])
@pytest.mark.parametrize("name", ["bg6", "mqsim"])
def test_random_reads_agree(name, size, count, link):
    ssd = load_ssd(name)
    found = read_seconds(ssd, size, count, link_bytes_per_s=link)
    assert found == pytest.approx(served(ssd, size, count, link), rel=0.12)


@pytest.mark.parametrize("count, size", [(100, 16 * KIB), (1000, 16 * KIB), (50, 128 * KIB)])
@pytest.mark.parametrize("name", ["bg6", "mqsim"])
def test_contiguous_reads_agree(name, count, size):
    ssd = load_ssd(name)
    first = np.arange(count) * (size // ssd.page_bytes)
    seconds = serve(ssd, first, size).max() * 1e-9
    assert read_seconds(ssd, size, count, contiguous=True) == pytest.approx(seconds, rel=0.05)


def test_where_planes_and_commands_both_limit_the_closed_form_is_optimistic():
    ssd = load_ssd("bg6")
    ratio = read_seconds(ssd, 4 * KIB, 10000) / served(ssd, 4 * KIB, 10000, None)
    assert 0.8 < ratio < 1


@pytest.mark.parametrize("name", ["bg6", "mqsim"])
def test_one_page_step_by_step(name):
    ssd = load_ssd(name)
    page = ssd.page_bytes
    alone = ssd.command_us + ssd.fixed_us + ssd.t_read_us + page / ssd.channel_mb_per_s
    expected = alone * 1e-6 + page / (ssd.read_gb_per_s * 1e9)
    assert read_seconds(ssd, page) == pytest.approx(expected)
    assert serve(ssd, [0], page)[0] == pytest.approx(expected * 1e9, abs=2)


def test_published_rates_are_reached_but_not_passed():
    ssd = load_ssd("bg6")
    run = 2**30
    assert run / read_seconds(ssd, run, contiguous=True) == pytest.approx(6e9, rel=0.01)
    assert run / read_seconds(ssd, run, link_bytes_per_s=LINK) == pytest.approx(LINK, rel=0.01)
    rate = 1e5 / float(read_seconds(ssd, 4 * KIB, 1e5))
    assert 0.9 * 850e3 < rate <= 850e3
    # Without depth, a read a round trip.
    lonely = 1e3 / float(read_seconds(replace(ssd, queue_depth=1), 4 * KIB, 1e3))
    assert lonely == pytest.approx(1 / float(read_seconds(ssd, 4 * KIB)), rel=1e-6)


def test_reads_on_one_plane_wait_for_each_other():
    ssd = load_ssd("mqsim")
    done = serve(ssd, np.arange(10) * ssd.planes, ssd.page_bytes)
    # The next page is read while the one before moves.
    assert set(np.diff(done)) == {75000}


def test_a_read_waits_for_the_program_on_its_plane():
    ssd = load_ssd("bg6")
    page = ssd.page_bytes
    alone = serve(ssd, [0], page)[0]
    behind = serve(ssd, [0, 0], page, [True, False])[1]
    beside = serve(ssd, [1, 0], page, [True, False])[1]
    move = page / ssd.channel_mb_per_s * 1e3
    # The read's own command passes while the page is programmed.
    assert behind - alone == pytest.approx(ssd.t_program_us * 1e3 + move, abs=2)
    assert beside - alone == pytest.approx(1176, abs=2)


def test_reads_beside_programs_take_the_time_that_is_left():
    ssd = load_ssd("mqsim:mlc")
    rng = np.random.default_rng(5)
    count, page = 20000, ssd.page_bytes
    write = rng.random(count) < 0.02
    seconds = serve(ssd, rng.integers(0, 2**30, count), page, write).max() * 1e-9
    rate = write.sum() * page / seconds
    found = read_seconds(ssd, page, (~write).sum(), write_bytes_per_s=rate)
    assert found == pytest.approx(seconds, rel=0.15)
    assert found > read_seconds(ssd, page, (~write).sum())


def test_writes_fill_the_buffer_then_follow_the_planes():
    ssd = load_ssd("mqsim:mlc")
    assert write_seconds(ssd, 2**20, 100) == pytest.approx(100 * 2**20 / 4e9, rel=1e-6)
    planes = 128 * 8192 / 750e-6
    more = write_seconds(ssd, 2**20, 4000) - write_seconds(ssd, 2**20, 3000)
    assert more == pytest.approx(1000 * 2**20 / planes, rel=1e-6)
    assert write_seconds(ssd, 2**20, 100, link_bytes_per_s=1e9) > write_seconds(ssd, 2**20, 100)


def test_pairs_of_count_and_size_are_batches_of_their_own():
    ssd = load_ssd("bg6")
    found = read_seconds(ssd, [[16384], [4096], [4096]], [[100], [7], [0]])
    assert found.shape == (3,)
    assert found[0] == read_seconds(ssd, 16384, 100)
    assert found[2] == 0
    together = read_seconds(ssd, [16384, 131072], [100, 100])
    apart = read_seconds(ssd, 16384, 100) + read_seconds(ssd, 131072, 100)
    assert 0.8 * apart < together < apart


def test_energy_and_refusals():
    ssd = load_ssd("bg6")
    assert active_joules(ssd, 2.0, 10.0) == pytest.approx(9.5)
    for wrong in [
        lambda: read_seconds(ssd, -1),
        lambda: read_seconds(ssd, 1, write_bytes_per_s=1e12),
        lambda: write_seconds(ssd, 1, -1),
        lambda: serve(ssd, [0], [0]),
    ]:
        with pytest.raises(InputError):
            wrong()
