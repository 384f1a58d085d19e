"""Latency and throughput that the components' docstrings promise, cycle by cycle."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from headrace.arch.tellme.engine import EngineSizes
from headrace.arch.tellme.packing import index_patterns
from headrace.rtl.tellme.accumulator import Accumulator
from headrace.rtl.tellme.buffer import ram_style
from headrace.rtl.tellme.builder import TableBuilder
from headrace.rtl.tellme.lookup import SelectArray, TableArray
from headrace.rtl.tellme.reader import ActivationReader
from headrace.rtl.tellme.unpacker import Unpacker
from headrace.rtl.tree import AdderTree

SIZES = EngineSizes(
    group_size=2,
    tables=2,
    copies=4,
    method="full",
    table_buffers=1,
    activation_lanes=3,
    block_gap=0,
    banks=4,
    words=32,
    slots=1,
    packing="beat",
    beat_bits=64,
    accumulator_bits=16,
    max_groups=4,
)


def run(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 9, 28])
def test_tree_latency(count):
    """ceil(ceil(log2 n) / 2) cycles, one sum per cycle."""
    latency = {2: 1, 3: 1, 4: 1, 5: 2, 8: 2, 9: 2, 28: 3}[count]
    tree = AdderTree(count, 6)
    terms = np.random.default_rng(count).integers(-32, 32, (6, count))
    seen = []

    async def bench(context):
        for cycle in range(len(terms) + latency):
            if cycle < len(terms):
                context.set(tree.terms, terms[cycle].tolist())
            seen.append(context.get(tree.total))
            await context.tick()

    run(tree, bench)
    assert seen[latency:] == terms.sum(axis=1).tolist()


def test_reader_shifts_rows_in():
    """A transfer of cycle t is there in t + 1; spare lanes do not matter."""
    reader = ActivationReader(SIZES)

    async def bench(context):
        context.set(reader.activations.valid, 1)
        context.set(reader.activations.payload, [1, -2, 3])
        assert not context.get(reader.activations.ready)
        context.set(reader.enable, 1)
        assert context.get(reader.activations.ready)
        assert context.get(reader.taken)
        await context.tick()
        context.set(reader.activations.payload, [-127, 99, 99])
        await context.tick()
        assert list(context.get(reader.inputs)) == [1, -2, 3, -127]

    run(reader, bench)


@pytest.mark.parametrize("method", ["half", "full"])
def test_builder_latency(method):
    """The entry asked for in cycle t is written in t + 2, one per cycle."""
    builder = TableBuilder(replace(SIZES, method=method))
    entries = {"half": 4, "full": 8}[method]
    x = [5, -7, 127, 127]
    written = {}

    async def bench(context):
        context.set(builder.inputs, x)
        for cycle in range(entries + 3):
            context.set(builder.enable, int(cycle < entries))
            context.set(builder.index, min(cycle + 1, entries))
            if context.get(builder.write):
                index = context.get(builder.write_index)
                assert cycle == index - 1 + 2
                written[index] = list(context.get(builder.entries))
            await context.tick()

    run(builder, bench)
    patterns = index_patterns(2).astype(int)
    assert written == {
        i: [int(patterns[i] @ x[:2]), int(patterns[i] @ x[2:])] for i in range(1, entries + 1)
    }


@pytest.mark.parametrize("method", ["half", "full"])
@pytest.mark.parametrize("table_buffers", [1, 2])
def test_table_array_latency(method, table_buffers):
    """Indices of cycle t give values in t + 2, in either set of tables."""
    sizes = replace(SIZES, method=method, table_buffers=table_buffers)
    array = TableArray(sizes)
    patterns = index_patterns(2).astype(int)
    rows = np.array([[[3, -4], [10, 20]], [[-5, 6], [127, -127]]])[:table_buffers]
    half_entries = {"half": 4, "full": 8}[method]
    generator = np.random.default_rng(0)
    indices = generator.integers(0, 9, (20, 4, 2))
    sets = generator.integers(0, table_buffers, 20)
    expected = [
        [[int(patterns[i] @ rows[s][t]) for t, i in enumerate(vector)] for vector in vectors]
        for s, vectors in zip(sets, indices, strict=True)
    ]
    seen = []

    async def bench(context):
        context.set(array.write, 1)
        for number, row in enumerate(rows):
            for entry in range(1, half_entries + 1):
                context.set(array.write_half, number)
                context.set(array.write_index, entry)
                context.set(array.entries, [int(patterns[entry] @ x) for x in row])
                await context.tick()
        context.set(array.write, 0)
        for cycle in range(22):
            if cycle < 20:
                context.set(array.indices, indices[cycle].tolist())
                context.set(array.half, int(sets[cycle]))
            seen.append([list(vector) for vector in context.get(array.values)])
            await context.tick()

    run(array, bench)
    assert seen[2:] == expected


def test_select_array_latency():
    """As the tables: indices of cycle t give sums in t + 2."""
    array = SelectArray(replace(SIZES, method="naive"))
    patterns = index_patterns(2).astype(int)
    x = [3, -127, 127, 20]
    indices = np.random.default_rng(0).integers(0, 9, (20, 4, 2))
    seen = []

    async def bench(context):
        context.set(array.inputs, x)
        context.set(array.capture, 1)
        await context.tick()
        context.set(array.capture, 0)
        context.set(array.inputs, [0] * 4)
        for cycle in range(22):
            if cycle < 20:
                context.set(array.indices, indices[cycle].tolist())
            seen.append([list(vector) for vector in context.get(array.values)])
            await context.tick()

    run(array, bench)
    assert seen[2:] == [
        [[int(patterns[v[0]] @ x[:2]), int(patterns[v[1]] @ x[2:])] for v in vectors]
        for vectors in indices
    ]


def test_accumulator_forwards_and_drains():
    """The same group in consecutive cycles adds up; results come from t + 3 on, one per cycle."""
    accumulator = Accumulator(SIZES)
    log = []

    async def bench(context):
        context.set(accumulator.groups, 1)
        context.set(accumulator.results.ready, 1)
        for cycle in range(9):
            context.set(accumulator.enable, int(cycle < 4))
            context.set(accumulator.first, int(cycle == 0))
            context.set(accumulator.last, int(cycle == 3))
            context.set(accumulator.sums, [cycle, -cycle, 10, 100])
            if context.get(accumulator.results.valid):
                log.append((cycle, list(context.get(accumulator.results.payload))))
                assert context.get(accumulator.done)
            await context.tick()

    run(accumulator, bench)
    assert log == [(3 + 3, [1 + 2 + 3 + 4, -10, 40, 400])]


@pytest.mark.parametrize(
    ("packing", "banks", "beat_bits", "intervals"),
    [
        ("beat", 4, 64, [2]),  # 6 vectors of 8 bits beside the norm weight
        ("beat", 1, 64, [6]),
        ("group", 4, 16, [1, 1]),
        ("group", 2, 32, [2]),
        ("group", 1, 16, [2, 2]),
    ],
)
def test_unpacker_interval(packing, banks, beat_bits, intervals):
    """One beat per max(1, c) cycles; loaded in the last write cycle."""
    sizes = replace(SIZES, packing=packing, banks=banks, beat_bits=beat_bits)
    unpacker = Unpacker(sizes)
    groups, rows = 3, 2
    beats = rows * sizes.row_beats(groups)
    taken, writes, loaded = [], [], []

    async def bench(context):
        context.set(unpacker.slot_free, 1)
        context.set(unpacker.load.valid, 1)
        context.set(unpacker.load.payload, {"rows": rows, "groups": groups})
        context.set(unpacker.weights.valid, 1)
        for cycle in range(80):
            if cycle == 1:
                context.set(unpacker.load.valid, 0)
            if context.get(unpacker.weights.ready):
                taken.append(cycle)
            if context.get(unpacker.write):
                writes.append(cycle)
            if context.get(unpacker.loaded):
                loaded.append(cycle)
            await context.tick()

    run(unpacker, bench)
    steps = np.resize(intervals, beats)
    assert taken == [1 + int(s) for s in np.cumsum(steps) - steps]
    assert loaded == [writes[-1]] == [taken[-1] + int(steps[-1])]
    assert loaded[0] + 1 == sizes.load_cycles(rows, groups)


def test_memory_primitives():
    assert [ram_style(words) for words in (1, 64, 65, 512, 513, 10944)] == [
        "distributed",
        "distributed",
        "block",
        "block",
        "ultra",
        "ultra",
    ]
