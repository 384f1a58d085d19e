"""The graph of UbiMoE's combine against its RTL, transfer by transfer."""

import numpy as np
import pytest

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.errors import InputError
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.ubimoe.combine import Combine
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.combine import CombineWork, combine_graph

PORTS = ("command", "jobs", "rows", "values", "residual", "results")


def draw(rng):
    """Return small sizes, and for each command the tokens of every job."""
    sizes = CombineSizes(
        formats=FORMATS["int8"],
        dims=1,
        row_beats=int(rng.choice([1, 1, 2, 3, 5])),
        lanes=int(rng.choice([1, 2, 3, 4, 8])),
        max_tokens=int(rng.integers(1, 10)),
    )
    commands = []
    for _ in range(rng.integers(1, 4)):
        experts = int(rng.integers(1, 6))
        choices = int(rng.integers(1, min(3, experts) + 1))
        tokens = int(rng.integers(1, sizes.max_tokens + 1))
        chosen = np.array([rng.permutation(experts)[:choices] for _ in range(tokens)])
        queues = [np.nonzero((chosen == expert).any(1))[0] for expert in range(experts)]
        commands.append([queue.tolist() for queue in queues if queue.size])
    return sizes, commands


def work_of(commands):
    return [
        CombineWork(tokens=1 + max(map(max, jobs)), jobs=tuple(map(len, jobs))) for jobs in commands
    ]


def vectors(sizes, commands, rng=None):
    """Return scores and values of zero; with `rng`, every port stalls at random."""
    work = work_of(commands)
    rows = [token for jobs in commands for job in jobs for token in job]
    beats = sizes.row_beats * sum(item.tokens for item in work)
    inputs = {
        "command": [item.tokens | sum(item.jobs) // item.tokens << 16 for item in work],
        "jobs": [job for item in work for job in item.jobs],
        "rows": rows,
        "values": [0] * len(rows) * sizes.row_beats,
        "residual": [0] * beats,
    }
    results = {"results": [0] * beats}
    if rng is None:
        return StreamVectors(inputs, results)
    arrivals = {
        name: np.cumsum(rng.integers(0, int(rng.choice([1, 2, 4, 12])), len(items)))
        for name, items in {**inputs, **results}.items()
    }
    return StreamVectors(inputs, results, arrivals=arrivals)


def predicted(sizes, commands, feed):
    graph = combine_graph(sizes, work_of(commands), feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, commands = draw(rng)
    feed = vectors(sizes, commands, rng if stalls else None)
    run = simulate_streams(Combine(sizes), feed)
    assert same(run.times) == predicted(sizes, commands, feed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 220))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    test_every_transfer(seed, stalls)


def test_every_transfer_of_the_verilog():
    rng = np.random.default_rng(77)
    sizes, commands = draw(rng)
    feed = vectors(sizes, commands, rng)
    done = run_regression(to_verilog(Combine(sizes), "combine"), "combine", feed, "icarus")
    assert done.passed, done.message
    assert same(done.times) == predicted(sizes, commands, feed)


@pytest.mark.parametrize("seed", range(100))
def test_formula_is_exact(seed):
    sizes, commands = draw(np.random.default_rng(seed))
    times = predicted(sizes, commands, vectors(sizes, commands))
    work = work_of(commands)
    ends = np.cumsum([item.tokens * sizes.row_beats for item in work]) - 1
    cycles = np.array(times["results"])[ends] - times["command"] + 1
    formula = [sizes.cycles(item.tokens, sum(item.jobs) // item.tokens) for item in work]
    assert cycles.tolist() == formula


@pytest.mark.parametrize(
    "tokens, jobs, message",
    [
        (3, (2, 2), r"work 0: jobs of \[2, 2\] rows are not allowed"),
        (3, (3, 0), r"work 0: jobs of \[3, 0\] rows are not allowed"),
        (3, (), "choices = 0 is not allowed"),
        (0, (1,), "tokens = 0 is not allowed"),
        (5, (5,), "tokens = 5 is not allowed: 1 to 4"),
    ],
)
def test_work_is_checked(tokens, jobs, message):
    sizes = CombineSizes(formats=FORMATS["int8"], dims=1, row_beats=2, lanes=2, max_tokens=4)
    with pytest.raises(InputError, match=f"^{message}"):
        combine_graph(sizes, [CombineWork(tokens=tokens, jobs=jobs)])


def test_no_work():
    with pytest.raises(InputError, match="no work"):
        combine_graph(draw(np.random.default_rng(0))[0], [])
