"""SN40L's memory unit: bits against a memory in plain Python, cycles against the formulas."""

import importlib.util
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.sn40l.memory_unit import MemoryUnit
from headrace.rtl.sn40l.vector_walk import program_layout
from headrace.rtl.streams import run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "sn40l_memory", Path(__file__).parent / "sn40l_memory.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)
INPUTS, OUTPUTS, Reference = _shared.INPUTS, _shared.OUTPUTS, _shared.Reference
drawn_exchanges, drawn_halves = _shared.drawn_exchanges, _shared.drawn_halves
drawn_packets, drawn_program = _shared.drawn_packets, _shared.drawn_program
drawn_sizes, encoded = _shared.drawn_sizes, _shared.encoded

SMALL = MemoryUnitSizes(banks=4, word_bits=8, depth=16, levels=2, sequence_bits=6, address_bits=8)


def run_of(reference, **more):
    """Run the unit on a reference's streams and compare all results."""
    streams = reference.vectors(**more)
    run = simulate_streams(MemoryUnit(reference.sizes), streams, 20_000)
    assert run.results == streams.results
    return run


def after(reference, ready):
    """Return a free run whose single read begins when the writes are done."""
    return run_of(reference, arrivals={"read": np.full(1, ready)})


@pytest.mark.parametrize("seed", range(30))
def test_any_program_and_its_cycles(seed):
    """A write, then a read, of anything: conflicts, wraps, addresses out of range."""
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    reference = Reference(sizes)
    write, read = drawn_program(sizes, rng), drawn_program(sizes, rng)
    packets = drawn_packets(sizes, write, rng)
    reference.write(write, packets)
    reference.read(read)
    written, results = (reference.rounds[port][0] for port in ("write", "read"))
    assert write.rounds(sizes, [sequence for _, sequence in packets]).ravel().tolist() == written
    assert read.rounds(sizes).ravel().tolist() == results
    begin = sizes.write_cycles(written)
    run = after(reference, begin)
    assert run.times["written"][-1] + 1 == sizes.write_cycles(written)
    assert run.times["results"][-1] - begin + 1 == sizes.read_cycles(results)
    assert run.times["drained"][-1] + 1 == run.times["results"][-1]


@pytest.mark.parametrize("seed", range(6))
def test_results_do_not_depend_on_stalls(seed):
    rng = random.Random(seed)
    reference = drawn_exchanges(drawn_sizes(rng), rng, 3)
    free = run_of(reference)
    delays = np.random.default_rng(seed)
    late = {p: t + np.cumsum(delays.integers(0, 4, len(t))) for p, t in free.times.items()}
    assert run_of(reference, arrivals=late).cycles > free.cycles


@pytest.mark.parametrize("seed", range(12))
def test_two_buffers_and_their_cycles(seed):
    """Runs of both directions overlap, each in the other buffer."""
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    reference = Reference(sizes)
    runs = rng.randint(1, 6)
    write, read = (drawn_halves(sizes, rng, runs, 0) for _ in range(2))
    packets = drawn_packets(sizes, write, rng)
    reference.exchange(write, packets, read)
    run = run_of(reference)
    sequences = [sequence for _, sequence in packets]
    expected = sizes.buffered_cycles(write.rounds(sizes, sequences), read.rounds(sizes))
    assert run.times["results"][-1] + 1 == expected


def test_a_vector_of_both_directions_in_every_cycle():
    """Long runs in two buffers: but for the change of buffers, no cycle is lost."""
    sizes = replace(SMALL, depth=64, address_bits=9)
    halves = MemoryProgram(counts=(32,), strides=(4,), limit=128, runs=6, flip=128, buffered=True)
    reference = Reference(sizes)
    rng = random.Random(1)
    reference.exchange(halves, drawn_packets(sizes, halves, rng), halves)
    run = run_of(reference)
    rounds = np.ones((6, 32), int)
    assert run.times["results"][-1] + 1 == sizes.buffered_cycles(rounds, rounds)
    # The first run is written in cycles 5 to 36 and read from 39 on; then each pair of runs waits
    # for 6 cycles, while the two pipelines change buffers; the result is there 2 cycles later.
    assert sizes.buffered_cycles(rounds, rounds) == 39 + 2 * (2 * 32 + 6) + 2 * 32 + 2


def tile_programs(columns, bank_shift, stripe_shift):
    """Programs for 8 rows of so many columns: write them, read them, read their transpose."""
    pitch, mapping = 1 << 3, {"bank_shift": bank_shift, "stripe_shift": stripe_shift}
    rows = MemoryProgram(
        counts=(columns // 4, 8), strides=(4, pitch), limit=64, lane_stride=1, **mapping
    )
    transposed = MemoryProgram(
        counts=(2, columns), strides=(4 * pitch, 1), limit=64, lane_stride=pitch, **mapping
    )
    return rows, transposed


def transposed_run(stripe_shift):
    """Write a tile of 8 x 8 by rows and read its columns; return unit, rounds and the run."""
    rows, columns = tile_programs(8, 0, stripe_shift)
    tile = np.random.default_rng(5).integers(0, 256, (8, 8))
    reference = Reference(SMALL)
    reference.write(rows, [(vector.tolist(), 0) for vector in tile.reshape(16, 4)])
    vectors = reference.read(columns)[0]
    assert (np.array(vectors).reshape(8, 8) == tile.T).all()
    rounds = columns.rounds(SMALL)
    run = after(reference, 40)
    assert rows.rounds(SMALL).max() == 1
    assert run.times["results"][-1] - 40 + 1 == SMALL.read_cycles(rounds)
    return rounds, np.diff(run.times["results"])


def test_transpose_at_full_bandwidth():
    """Banks by diagonals, (row + column) mod banks: rows and columns are a vector per cycle."""
    rounds, between = transposed_run(stripe_shift=3)
    assert (rounds == 1).all()
    assert (between == 1).all()


def test_transpose_without_stripes_takes_a_cycle_per_lane():
    rounds, between = transposed_run(stripe_shift=None)
    assert (rounds == 4).all()
    assert (between == 4).all()


def test_sequence_ids_put_packets_in_order():
    """Packets come in any order; the sequence id is the row where they belong."""
    program = MemoryProgram(counts=(16,), strides=(0,), limit=64, sequence_stride=4)
    words = np.random.default_rng(2).integers(0, 256, (16, 4)).tolist()
    order = random.Random(3).sample(range(16), 16)
    reference = Reference(SMALL)
    reference.write(program, [(words[number], number) for number in order])
    linear = MemoryProgram(counts=(16,), strides=(4,), limit=64)
    assert reference.read(linear)[0] == words
    after(reference, 30)


@pytest.mark.parametrize("unit", range(3))
def test_a_tensor_over_units_by_valid_range(unit):
    """All units get all vectors and ask for all; each keeps its third, unaligned to vectors."""
    share = 22
    write = MemoryProgram(counts=(16,), strides=(4,), base=-share * unit, limit=share, origin=7)
    words = np.random.default_rng(4).integers(1, 256, (16, 4))
    reference = Reference(SMALL)
    reference.write(write, [(vector, 0) for vector in words.tolist()])
    vectors = reference.read(write)[0]
    mine = np.arange(64) // share == unit
    assert (np.array(vectors).ravel() == np.where(mine, words.ravel(), 0)).all()
    after(reference, 30)


def test_tokens_and_commands():
    """The next program is taken with the last token; a token that is not taken holds a run up."""
    program = MemoryProgram(counts=(3,), strides=(4,), limit=64, runs=2)
    reference = Reference(SMALL)
    rng = random.Random(1)
    for _ in range(2):
        reference.write(program, drawn_packets(SMALL, program, rng))
    run = run_of(reference)
    begin, again = run.times["write"]
    tokens = run.times["written"]
    assert again == tokens[1] == begin + SMALL.write_cycles(np.ones((2, 3))) - 1
    assert tokens[1] - tokens[0] == 3
    held = run_of(reference, arrivals={"written": np.array([50, 50, 50, 50])})
    assert held.times["written"].tolist()[:2] == [50, 51]
    assert held.times["write"].tolist() == [0, 51]


@pytest.mark.parametrize("seed", range(6))
def test_fields_of_a_command(seed):
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    for sequenced in (False, True):
        program = drawn_program(sizes, rng)
        fields = program.fields(sizes)
        if not sequenced:
            del fields["sequence_stride"]
        value = program_layout(sizes, sequenced=sequenced).const(fields).as_value().value
        assert value == encoded(sizes, program, sequenced=sequenced)


def stalled(reference, seed):
    ports = INPUTS + OUTPUTS
    chances = np.random.default_rng(seed).uniform(0.05, 0.6, len(ports))
    return reference.vectors(stall=dict(zip(ports, chances.tolist(), strict=True)))


def test_verilog_in_icarus():
    rng = random.Random(6)
    reference = drawn_exchanges(SMALL, rng, 8, 30)
    streams = stalled(reference, 6)
    verilog = to_verilog(MemoryUnit(SMALL), "memory_unit")
    done = run_regression(verilog, "memory_unit", streams, "icarus")
    assert done.passed, done.message
    results = [*streams.results["results"][:-1], streams.results["results"][-1] ^ 1]
    wrong = replace(streams, results={**streams.results, "results": results})
    done = run_regression(verilog, "memory_unit", wrong, "icarus")
    assert "instead of" in done.message


POINTS, VECTORS = 13, 420


def point_sizes(point, rng):
    if point:
        return drawn_sizes(rng)
    return MemoryUnitSizes(depth=64, address_bits=16)


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    """5,460 vectors written and as many read; with the same stalls both in the same cycles."""
    rng = random.Random(2405 + point)
    sizes = point_sizes(point, rng)
    count = 8
    reference = drawn_exchanges(sizes, rng, count, 40)
    while min(len(reference.streams[port]) for port in ("packets", "results")) < VECTORS:
        count += 4
        reference = drawn_exchanges(sizes, rng, count, 40)
    streams = stalled(reference, point)
    verilog = to_verilog(MemoryUnit(sizes), "memory_unit")
    done = [run_regression(verilog, "memory_unit", streams, s, point) for s in SIMULATORS]
    for run in done:
        assert run.passed, f"{sizes}\n{run.message}"
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in done)
    assert one == two
    written, read = (len(reference.streams[port]) for port in ("packets", "results"))
    print(f"{sizes}: {written} written, {read} read, {done[0].cycles} cycles")


@pytest.mark.parametrize("change", [{}, {"levels": 1, "word_bits": 1, "banks": 2, "depth": 2}])
def test_verilog_is_clean(change):
    verilog = to_verilog(MemoryUnit(replace(SMALL, **change)), "memory_unit")
    assert lint(verilog, "memory_unit").findings == ()


@pytest.mark.slow
def test_netlist():
    """16 banks of the published capacity: block RAM for the words, DSPs for sequence ids alone."""
    sizes = MemoryUnitSizes()
    counts = map_netlist(to_verilog(MemoryUnit(sizes), "memory_unit"), "memory_unit")
    print(counts)
    assert counts.bram36 + 8 * counts.uram >= sizes.memory_bits / 36_864
    assert counts.dsp <= 2
    assert counts.lutram == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"banks": 3}, "banks = 3 is not allowed: a power of two from 2 to 64"),
        ({"banks": 128}, "banks = 128 is not allowed: a power of two from 2 to 64"),
        ({"depth": 1}, "depth = 1 is not allowed: a power of two from 2 to 65536"),
        ({"word_bits": 0}, "word_bits = 0 is not allowed: 1 to 64"),
        ({"levels": 5}, "levels = 5 is not allowed: 1 to 4"),
        ({"sequence_bits": 17}, "sequence_bits = 17 is not allowed: 1 to 16"),
        ({"address_bits": 17}, "address_bits = 17 is not allowed: 18 to 32"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        MemoryUnitSizes(**change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"counts": ()}, "0 counts and 1 strides are not allowed: as many of both, 1 to 2"),
        ({"counts": (0,)}, r"counts\[0\] = 0 is not allowed: 1 to 65536"),
        ({"strides": (128,)}, r"strides\[0\] = 128 is not allowed: -128 to 127"),
        ({"base": -129}, "base = -129 is not allowed: -128 to 127"),
        ({"limit": 65}, "limit = 65 is not allowed: 0 to 64"),
        ({"origin": 64}, "origin = 64 is not allowed: 0 to 63"),
        ({"flip": -1}, "flip = -1 is not allowed: 0 to 63"),
        ({"runs": 0}, "runs = 0 is not allowed: 1 to 65536"),
        ({"bank_shift": 5}, "bank_shift = 5 is not allowed: 0 to 4"),
        ({"stripe_shift": 6}, "stripe_shift = 6 is not allowed: 0 to 5"),
        (
            {"bank_shift": 1, "stripe_shift": 2},
            "stripe_shift = 2 is not allowed: at least 2 from bank_shift = 1",
        ),
    ],
)
def test_wrong_programs_are_refused(change, message):
    program = replace(MemoryProgram(counts=(4,), strides=(4,), limit=64), **change)
    for check in (program.fields, program.rounds):
        with pytest.raises(InputError, match=f"^{message}$"):
            check(SMALL)


def test_rounds_need_all_packets():
    program = MemoryProgram(counts=(4,), strides=(4,), limit=64, runs=2)
    with pytest.raises(InputError, match="^7 packets are not allowed: 8 needed$"):
        program.rounds(SMALL, range(7))
