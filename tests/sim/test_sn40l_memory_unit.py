"""The graph of SN40L's memory unit against its RTL, transfer by transfer."""

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.errors import InputError
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.sn40l.memory_unit import MemoryUnit
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.sim.cycle import simulate
from headrace.sim.sn40l.memory_unit import MemoryWork, memory_unit_graph

_SPEC = importlib.util.spec_from_file_location(
    "sn40l_memory", Path(__file__).parents[1] / "rtl" / "sn40l_memory.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)

PORTS = _shared.INPUTS + _shared.OUTPUTS


def works(reference):
    """Return the work of a reference's commands: its own rounds, run by run."""
    found = []
    for port in ("write", "read"):
        programs = zip(reference.programs[port], reference.rounds[port], strict=True)
        found.append(
            [
                MemoryWork(
                    rounds=tuple(map(tuple, np.reshape(rounds, (program.runs, -1)).tolist())),
                    buffered=program.buffered,
                )
                for program, rounds in programs
            ]
        )
    return found


def predicted(reference, arrivals=None):
    graph = memory_unit_graph(*works(reference), arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() if name in starts else [] for name in PORTS}


def same(times):
    return {name: times[name].tolist() for name in PORTS}


def stalled(reference, rng):
    """Return arrivals: each port later and later than it would be, some in bursts."""
    arrivals = {}
    for name, times in predicted(reference).items():
        count, burst = len(times), int(rng.choice([1, 1, 4]))
        if count:
            late = np.array(times) + np.cumsum(rng.integers(0, rng.choice([1, 2, 5]), count))
            last = np.arange(count) // burst * burst + burst - 1
            arrivals[name] = late[np.minimum(last, count - 1)]
    return arrivals


def drawn(seed, count=4):
    rng = random.Random(seed)
    return _shared.drawn_exchanges(_shared.drawn_sizes(rng), rng, count)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer(seed, stalls):
    reference = drawn(seed)
    arrivals = stalled(reference, np.random.default_rng(seed)) if stalls else {}
    streams = reference.vectors(arrivals=arrivals)
    run = simulate_streams(MemoryUnit(reference.sizes), streams, 20_000)
    assert run.results == streams.results
    assert same(run.times) == predicted(reference, arrivals)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_every_transfer_of_many(seed):
    for stalls in (False, True):
        test_every_transfer(seed, stalls)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_every_transfer_of_the_verilog(simulator):
    reference = drawn(77, 20)
    arrivals = stalled(reference, np.random.default_rng(77))
    verilog = to_verilog(MemoryUnit(reference.sizes), "memory_unit")
    streams = reference.vectors(arrivals=arrivals)
    done = run_regression(verilog, "memory_unit", streams, simulator)
    assert done.passed, done.message
    assert same(done.times) == predicted(reference, arrivals)


@pytest.mark.parametrize("seed", range(20))
def test_formulas_are_exact(seed):
    rng = random.Random(seed)
    sizes = MemoryUnitSizes(banks=8, depth=64, address_bits=12)
    runs = rng.randint(1, 6)
    write, read = (_shared.drawn_halves(sizes, rng, runs, 0, 60) for _ in range(2))
    rounds = [program.rounds(sizes) for program in (write, read)]
    work = [MemoryWork.of(program, sizes) for program in (write, read)]
    starts = simulate(memory_unit_graph(work[:1], work[1:]), iterations=1, starts=True).starts
    assert starts["results"][-1] + 1 == sizes.buffered_cycles(*rounds)
    plain = [MemoryWork(rounds=item.rounds) for item in work]
    starts = simulate(memory_unit_graph(plain[:1], []), iterations=1, starts=True).starts
    assert starts["written"][-1] + 1 == sizes.write_cycles(rounds[0])
    starts = simulate(memory_unit_graph([], plain[1:]), iterations=1, starts=True).starts
    assert starts["results"][-1] + 1 == sizes.read_cycles(rounds[1])


def test_wrong_work_is_refused():
    need = "at least one command, and as many runs are needed"
    one = MemoryWork(rounds=((1,),), buffered=True)
    for writes, reads, found in (
        ([], [], "0 writes and 0 reads with 0 and 0"),
        ([one, one], [one], "2 writes and 1 reads with 2 and 1"),
    ):
        with pytest.raises(InputError, match=f"^memory_unit: {found} buffered runs; {need}$"):
            memory_unit_graph(writes, reads)
    for rounds in ((), ((),), ((1, 0),)):
        with pytest.raises(InputError, match="^memory_unit: a run without a vector, or a vector"):
            memory_unit_graph([MemoryWork(rounds=rounds)], [])


def test_work_of_a_program():
    sizes = MemoryUnitSizes(banks=4, depth=16, address_bits=8)
    program = MemoryProgram(counts=(2,), strides=(1,), limit=64, lane_stride=2, runs=2)
    expected = ((2, 2), (2, 2))  # banks 0, 2, 0, 2 and 1, 3, 1, 3
    assert MemoryWork.of(program, sizes) == MemoryWork(rounds=expected)
