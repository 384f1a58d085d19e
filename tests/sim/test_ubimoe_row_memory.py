"""The graph of the memories of Q, K and V against their RTL, transfer by transfer."""

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, simulate_streams
from headrace.rtl.ubimoe.row_memory import QkvRows
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.row_memory import qkv_rows_graph

PORTS = ("command", "inputs", "queries", "keys", "values")


def draw_sizes(rng):
    """Draw small sizes; one operand per word, since only cycles are looked at."""
    lanes = int(rng.integers(1, 5))
    return MsaBlockSizes(
        formats=FORMATS["int8"],
        heads=int(rng.integers(1, 6)),
        head_dim=1,
        max_tokens=int(rng.integers(lanes, 13)),
        dims=1,
        attention_lanes=lanes,
        tile_in=1,
        tile_out=1,
        linear_lanes=int(rng.integers(1, 5)),
    )


def steps(tokens, lanes):
    return (tokens - 1) // lanes * tokens + (tokens - 1) % lanes + tokens


def vectors(sizes, tokens, rng=None):
    """Return zeros for all but commands; with `rng`, every port stalls at random."""
    rows = sum(tokens) * sizes.heads
    reads = sum(steps(count, sizes.attention_lanes) for count in tokens) * sizes.heads
    inputs = {"command": tokens, "inputs": [0] * 3 * rows}
    out = {"queries": [0] * rows, "keys": [0] * reads, "values": [0] * reads}
    if rng is None:
        return StreamVectors(inputs, out)
    arrivals = {
        name: np.cumsum(rng.integers(0, int(rng.choice([1, 2, 5, 9])), len(items)))
        for name, items in {**inputs, **out}.items()
    }
    return StreamVectors(inputs, out, arrivals)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    most = rng.integers(1, 4)
    tokens = rng.integers(sizes.attention_lanes, sizes.max_tokens + 1, most).tolist()
    feed = vectors(sizes, tokens, rng if stalls else None)
    times = simulate_streams(QkvRows(sizes), feed).times
    starts = simulate(
        qkv_rows_graph(sizes, tokens, feed.arrivals), iterations=1, starts=True
    ).starts
    assert {name: times[name].tolist() for name in PORTS} == {
        name: starts[name].tolist() for name in PORTS
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_commands_are_checked():
    sizes = draw_sizes(np.random.default_rng(0))
    with pytest.raises(InputError, match="at least one command"):
        qkv_rows_graph(sizes, [])
    with pytest.raises(InputError, match="tokens = 13 is not allowed"):
        qkv_rows_graph(sizes, [13])
