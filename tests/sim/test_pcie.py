"""The packet arithmetic of a link against packets sent one by one, and against known rates."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.arch.memories import load_pcie
from headrace.errors import InputError
from headrace.sim.pcie import effective_bandwidth, transfer_joules, transfer_seconds

EDGE, SERVER = load_pcie("gen3-x4"), load_pcie("gen4-x16")


def packet_by_packet(link, sizes):
    """Seconds of reads in order: a request leaves when its tag is free, completions queue."""
    rate = link.lanes * link.rate_gt_per_s * 1e9 / 8 * 128 / 130 * (1 - link.dllp_share)
    ends = []
    for size in sizes:
        while size > 0:
            request = min(size, link.max_read_request_bytes)
            size -= request
            sent = ends[-link.tags] if len(ends) >= link.tags else 0.0
            at = max(sent + link.round_trip_ns * 1e-9, ends[-1] if ends else 0.0)
            while request > 0:
                payload = min(request, link.max_payload_bytes)
                request -= payload
                at += (payload + link.data_header_bytes) / rate
            ends.append(at)
    return ends[-1]


@pytest.mark.parametrize("tags", [1, 2, 8, 32])
@pytest.mark.parametrize("count, size", [(1, 64), (3, 512), (40, 4096), (100, 256), (1000, 16384)])
def test_batches_of_one_size_are_exact(tags, count, size):
    link = replace(EDGE, tags=tags)
    expected = packet_by_packet(link, [size] * count)
    assert transfer_seconds(link, size, count) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tags", [4, 32])
def test_mixed_batches_are_close(tags):
    rng = np.random.default_rng(3)
    link = replace(SERVER, tags=tags)
    sizes = rng.integers(1, 40, 300) * 256
    expected = packet_by_packet(link, sizes.tolist())
    assert transfer_seconds(link, sizes) == pytest.approx(expected, rel=0.04)


def test_known_rates():
    # 256 of 276 bytes are data: 92.7 %, as AN 456 says of a 5-dword overhead; the rest is the
    # line code and the link layer.
    assert effective_bandwidth(EDGE, 512) == pytest.approx(
        4e9 * 128 / 130 * (1 - EDGE.dllp_share) * 256 / 276, rel=1e-6
    )
    for link in (EDGE, SERVER):
        raw = link.lanes * link.rate_gt_per_s / 8 * 1e9
        assert 0.8 < effective_bandwidth(link, 4096) / raw < 0.9
        assert effective_bandwidth(link, 4096, write=True) < effective_bandwidth(link, 4096)
    # Neugebauer et al.: 57.88 Gb/s of a Gen3 x8 link are left to packets.
    wide = replace(EDGE, lanes=8, dllp_share=8 / 203 + 8 / 203 + 4 / 1538)
    left = wide.bytes_per_s * (1 - wide.dllp_share) * 8e-9
    assert left == pytest.approx(57.88, abs=0.1)


def test_smaller_payloads_and_few_tags_cost():
    small = load_pcie("gen3-x4:payload128")
    assert effective_bandwidth(small, 512) < 0.93 * effective_bandwidth(EDGE, 512)
    one = replace(EDGE, tags=1)
    # One request at a time: 512 bytes per round trip and own time.
    assert effective_bandwidth(one, 512) == pytest.approx(512 / (550e-9 + 552 / 3.6337e9), rel=1e-3)


def test_measured_rate_is_an_option():
    seconds = transfer_seconds(SERVER, 1e9, measured=True)
    assert seconds == pytest.approx(1 / 25.13, rel=1e-4)
    assert effective_bandwidth(SERVER, 65536, measured=True) < effective_bandwidth(SERVER, 65536)
    with pytest.raises(InputError, match="no measured rate"):
        transfer_seconds(EDGE, 512, measured=True)


def test_pairs_of_count_and_size_are_batches_of_their_own():
    sizes, counts = np.array([[512], [4096], [4096]]), np.array([[10], [3], [0]])
    found = transfer_seconds(EDGE, sizes, counts)
    assert found.shape == (3,)
    assert found[0] == transfer_seconds(EDGE, 512, 10)
    assert found[2] == 0
    assert transfer_seconds(EDGE, [512, 4096], [10, 3]) < found[0] + found[1]


def test_energy_and_refusals():
    assert transfer_joules(EDGE, 2.0) == 24.0
    with pytest.raises(InputError):
        transfer_seconds(EDGE, -1)
    with pytest.raises(InputError):
        effective_bandwidth(EDGE, 0)
