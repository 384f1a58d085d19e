"""The graph of UbiMoE's streaming attention against its RTL, transfer by transfer."""

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.streaming_attention import StreamingAttention
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.streaming_attention import streaming_attention_graph

PORTS = ("command", "keys", "values", "results")


def draw_sizes(rng):
    """Draw small sizes; few dims per beat, since only cycles are looked at."""
    head_dim = int(rng.choice([1, 4, 16]))
    lanes = int(rng.integers(1, 5))
    return StreamingAttentionSizes(
        formats=FORMATS[str(rng.choice(["w16a32", "int16", "int8"]))],
        heads=int(rng.integers(1, 4)),
        head_dim=head_dim,
        lanes=lanes,
        dims=min(head_dim, int(rng.choice([1, 2, 4]))),
        max_tokens=int(rng.integers(lanes, 13)),
    )


def draw_tokens(sizes, rng, most=4):
    return rng.integers(sizes.lanes, sizes.max_tokens + 1, rng.integers(1, most)).tolist()


def steps(tokens, lanes):
    """Return the steps, and those in which each row begins."""
    begins = [row // lanes * tokens + row % lanes for row in range(tokens)]
    return max(begins) + tokens, begins


def vectors(sizes, tokens, rng=None):
    """Return zeros for all but commands; with `rng`, every port stalls at random."""
    rows = sum(tokens) * sizes.row_beats
    beats = sum(steps(n, sizes.lanes)[0] for n in tokens) * sizes.row_beats
    inputs = {
        "command": tokens,
        "queries": [0] * rows,
        "keys": [0] * beats,
        "values": [0] * beats,
    }
    out = {"results": [0] * rows}
    if rng is None:
        return StreamVectors(inputs, out)
    arrivals = {}
    for name, items in {**inputs, **out}.items():
        # about as long for every port, now this one and now that one the slowest
        pace = rng.choice([0.2, 0.8, 1.5]) * beats / len(items)
        steady = rng.geometric(1 / (1 + pace), len(items)) - 1
        pauses = rng.integers(0, 80, len(items)) * (rng.random(len(items)) < 2 / len(items))
        arrivals[name] = np.cumsum(steady + pauses)
    return StreamVectors(inputs, out, arrivals)


def predicted(sizes, tokens, feed):
    """Return the cycles of every transfer; queries are taken with the keys of their steps."""
    graph = streaming_attention_graph(sizes, tokens, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    times = {name: starts[name].tolist() for name in PORTS}
    taken, before = [], 0
    for count in tokens:
        total, begins = steps(count, sizes.lanes)
        for step in begins:
            first = (before + step) * sizes.row_beats
            taken += times["keys"][first : first + sizes.row_beats]
        before += total
    return {**times, "queries": taken}


def same(times):
    return {name: times[name].tolist() for name in (*PORTS, "queries")}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    tokens = draw_tokens(sizes, rng)
    feed = vectors(sizes, tokens, rng if stalls else None)
    found = predicted(sizes, tokens, feed)
    assert same(simulate_streams(StreamingAttention(sizes), feed).times) == found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_every_transfer_of_the_verilog():
    rng = np.random.default_rng(77)
    sizes = draw_sizes(rng)
    tokens = draw_tokens(sizes, rng)
    feed = vectors(sizes, tokens, rng)
    verilog = to_verilog(StreamingAttention(sizes), "attention")
    # bits are compared elsewhere: zeros give zeros
    done = run_regression(verilog, "attention", feed, "icarus")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, tokens, feed)


@pytest.mark.parametrize("seed", range(20))
def test_formula_is_exact(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    (tokens,) = draw_tokens(sizes, rng, most=2)
    times = predicted(sizes, [tokens], vectors(sizes, [tokens]))
    assert times["command"] == [0]
    assert times["results"][-1] + 1 == sizes.cycles(tokens)
    # each part takes a beat in every cycle
    beats = len(times["keys"])
    assert times["keys"] == list(range(1, beats + 1))
    assert np.ptp(np.diff(times["values"], prepend=times["values"][0] - 1)) == 0


@pytest.mark.parametrize(
    ("tokens", "heads", "lanes", "expected"), [(129, 3, 4, 4257), (197, 6, 4, 9850)]
)
def test_published_sizes(tokens, heads, lanes, expected):
    """Steps of a pass of M3ViT and of ViT-S; a beat of keys per cycle, and no other one."""
    sizes = StreamingAttentionSizes(
        formats=FORMATS["w16a32"],
        heads=heads,
        head_dim=64,
        lanes=lanes,
        dims=16,
        max_tokens=tokens,
    )
    graph = streaming_attention_graph(sizes, [tokens])
    result = simulate(graph, iterations=1)
    assert result.firings["keys"] == expected * sizes.row_beats
    assert result.last_start["keys"] == result.firings["keys"]
    assert result.last_start["results"] + 1 == sizes.cycles(tokens)


def test_bubbles_stay_in_the_pipeline():
    """While a late result stands at the end no value is taken, not even with none behind it."""
    sizes = StreamingAttentionSizes(
        formats=FORMATS["int16"], heads=1, head_dim=4, lanes=1, dims=4, max_tokens=9
    )
    feed = vectors(sizes, [9])
    free = predicted(sizes, [9], feed)
    late = np.array(free["results"])
    late[0] += 15
    found = predicted(sizes, [9], StreamVectors(feed.inputs, feed.results, {"results": late}))
    stands = range(free["results"][0], late[0])
    assert not set(found["values"]) & set(stands)
    assert found["values"][-1] == free["values"][-1] + 15


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "at least one command"),
        ([9, 2], "tokens = 2 is not allowed: 3 to 9"),
        ([10], "tokens = 10 is not allowed: 3 to 9"),
    ],
)
def test_commands_are_checked(tokens, message):
    sizes = StreamingAttentionSizes(
        formats=FORMATS["int16"], heads=1, head_dim=4, lanes=3, dims=4, max_tokens=9
    )
    with pytest.raises(InputError, match=message):
        streaming_attention_graph(sizes, tokens)
