"""SN40L's launch controller: words, starts and completions, and a memory unit that it runs."""

import importlib.util
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from headrace.arch.sn40l.launch import Kind, LaunchCommand, LaunchSizes
from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.sn40l.launch import Launch
from headrace.rtl.sn40l.launch_fabric import LaunchFabric
from headrace.rtl.sn40l.memory_unit import MemoryUnit
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog

_SPEC = importlib.util.spec_from_file_location(
    "sn40l_memory", Path(__file__).parent / "sn40l_memory.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)

PORTS = ("store", "host", "done", "completed", "configuration", "start")
PROGRAM, ARGUMENTS, EXECUTE, SCHEDULE = Kind.PROGRAM, Kind.ARGUMENTS, Kind.EXECUTE, Kind.SCHEDULE


class Host:
    """What goes into a controller, and what comes out of it."""

    def __init__(self, sizes, rng):
        self.sizes, self.rng = sizes, rng
        self.streams: Any = {name: [] for name in PORTS}
        depths = (sizes.programs, sizes.arguments)
        self.words = [[rng.getrandbits(sizes.word_bits) for _ in range(d)] for d in depths]
        for table, words in enumerate(self.words):
            for address, word in enumerate(words):
                self.store(table, address, word)

    def store(self, table, address, word):
        self.streams["store"].append(table | address << 2 | word << 2 + self.sizes.address_bits)

    def command(self, command):
        """Give a command, which is no schedule."""
        self.streams["host"].append(payload(self.sizes, command))
        self._run(command)
        self._complete()

    def schedule(self, commands, address):
        """Store commands and give the one that runs them."""
        for number, command in enumerate(commands):
            self.store(2, address + number, payload(self.sizes, command))
            self._run(command)
        begin = LaunchCommand(kind=SCHEDULE, address=address, count=len(commands))
        self.streams["host"].append(payload(self.sizes, begin))
        self._complete()

    def _complete(self):
        self.streams["completed"].append((len(self.streams["completed"]) + 1) % (1 << 16))

    def _run(self, command):
        sizes, mask = self.sizes, units_mask(command)
        if command.kind is EXECUTE:
            self.streams["start"].append(mask)
            self.streams["done"] += self.split(command.units)
            return
        for offset in range(command.count):
            word = self.words[command.kind][command.address + offset]
            index = command.index + offset
            self.streams["configuration"].append(
                mask | index << sizes.units | word << sizes.units + sizes.index_bits
            )

    def split(self, units):
        """Return done tokens: units one by one or several at once."""
        left, tokens = self.rng.sample(units, len(units)), []
        while left:
            number = self.rng.randint(1, len(left))
            tokens.append(sum(1 << unit for unit in left[:number]))
            left = left[number:]
        return tokens

    def vectors(self, **more):
        inputs = {name: self.streams[name] for name in PORTS[:3]}
        return StreamVectors(inputs, {name: self.streams[name] for name in PORTS[3:]}, **more)


def units_mask(command):
    return sum(1 << unit for unit in command.units)


def payload(sizes, command):
    """Return a command's bits, as the manual lists them."""
    a, i = sizes.address_bits, sizes.index_bits
    places = [(int(command.kind), 0), (command.address, 2), (command.count - 1, 2 + a)]
    places += [(command.index, 2 + 2 * a), (units_mask(command), 2 + 2 * a + i)]
    return sum(value << place for value, place in places)


def drawn_sizes(rng):
    return LaunchSizes(
        units=rng.choice([1, 2, 5, 8]),
        word_bits=rng.choice([1, 8, 13, 32]),
        unit_words=rng.choice([2, 3, 8, 16]),
        programs=rng.choice([2, 7, 30]),
        arguments=rng.choice([2, 5, 16]),
        schedule=rng.choice([8, 20]),
    )


def drawn_command(sizes, rng):
    units = tuple(rng.sample(range(sizes.units), rng.randint(1, sizes.units)))
    kind = rng.choice([PROGRAM, ARGUMENTS, EXECUTE])
    if kind is EXECUTE:
        return LaunchCommand(kind=kind, units=units)
    depth = sizes.programs if kind is PROGRAM else sizes.arguments
    address, index = rng.randrange(depth), rng.randrange(sizes.unit_words)
    count = rng.randint(1, min(depth - address, sizes.unit_words - index))
    return LaunchCommand(kind=kind, units=units, address=address, count=count, index=index)


def drawn_host(rng, commands=10, schedules=True, sizes=None):
    """Return a host of random commands; and those of each that it gives."""
    sizes = sizes or drawn_sizes(rng)
    host, given, free = Host(sizes, rng), [], 0
    for _ in range(commands):
        length = rng.randint(1, 6)
        if schedules and rng.random() < 0.5 and free + length <= sizes.schedule:
            given.append([drawn_command(sizes, rng) for _ in range(length)])
            host.schedule(given[-1], free)
            free += length
        else:
            given.append(drawn_command(sizes, rng))
            host.command(given[-1])
    return host, given


def begin_of(host, pace=1):
    """Return the arrivals of commands: when all is stored."""
    return {"host": np.full(len(host.streams["host"]), pace * len(host.streams["store"]))}


@pytest.mark.parametrize("seed", range(12))
def test_words_starts_and_completions(seed):
    host, _ = drawn_host(random.Random(seed))
    begin = begin_of(host)
    free = simulate_streams(Launch(host.sizes), host.vectors(arrivals=begin), 9_000)
    assert free.results == host.vectors().results
    rng = np.random.default_rng(seed)
    late = {p: t + np.cumsum(rng.integers(0, 4, len(t))) for p, t in free.times.items()}
    del late["store"]  # commands come when all is stored
    stalled = simulate_streams(Launch(host.sizes), host.vectors(arrivals=late), 9_000)
    assert stalled.results == free.results
    assert stalled.cycles > free.cycles


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_cycles_are_those_of_the_formula(seed, scheduled):
    """Units are done after so many cycles; all else follows."""
    rng = random.Random(seed)
    sizes = drawn_sizes(rng)
    host = Host(sizes, rng)
    commands = [drawn_command(sizes, rng) for _ in range(8)]
    units = [rng.randint(sizes.units + 1, 30) for _ in commands]
    steps = [c.cycles(n) for c, n in zip(commands, units, strict=True)]
    if scheduled:
        host.schedule(commands, 0)
    else:
        for command in commands:
            host.command(command)
    begin = now = len(host.streams["store"])
    trip = rng.choice([0, 5])
    given, ends = [begin], []
    for command, cycles, step in zip(commands, units, steps, strict=True):
        now += 2 if scheduled and command is commands[0] else 1
        if command.kind is EXECUTE:
            ends += [now + cycles - 1] * len(arrivals_of(host, command, ends))
        now += step if scheduled else step + trip
        given.append(now)
    at = {"host": np.array(given[: len(host.streams["host"])]), "done": one_by_one(ends)}
    streams = host.vectors(arrivals=at)
    run = simulate_streams(Launch(sizes), streams, 9_000)
    assert run.results == streams.results
    expected = sizes.schedule_cycles(steps) if scheduled else sizes.host_cycles(steps, trip)
    assert run.times["completed"][-1] - begin + 1 == expected


def arrivals_of(host, command, before):
    """Return the done tokens of the command whose first one is the next."""
    tokens, seen = [], 0
    for token in host.streams["done"][len(before) :]:
        tokens.append(token)
        seen |= token
        if seen == units_mask(command):
            break
    return tokens


def one_by_one(ends):
    """Let the tokens of a command come in cycles of their own, the last one at its end."""
    times = list(ends)
    for number in reversed(range(len(times) - 1)):
        if ends[number] == ends[number + 1]:
            times[number] = times[number + 1] - 1
    return np.array(times, int)


class Tile(wiring.Component):
    """A controller, its fabric, and the two halves of a memory unit as units 0 and 1."""

    def __init__(self, launch, memory):
        self.launch, self.memory = Launch(launch), MemoryUnit(memory)
        programs = [getattr(self.memory, port).payload.shape() for port in ("write", "read")]
        self.fabric = LaunchFabric(launch, programs)
        ours, theirs = self.launch.signature.members, self.memory.signature.members
        super().__init__(
            {name: ours[name] for name in ("store", "host", "completed")}
            | {name: theirs[name] for name in ("packets", "results")}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.launch, m.submodules.fabric = launch, fabric = self.launch, self.fabric
        m.submodules.memory = memory = self.memory
        for name in ("configuration", "start", "done"):
            wiring.connect(m, getattr(launch, name), getattr(fabric, name))
        for name in self.signature.members:
            unit = launch if hasattr(launch, name) else memory
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(unit, name))
        ports = (("write", "written"), ("read", "drained"))
        for number, (program, token) in enumerate(ports):
            wiring.connect(m, getattr(fabric, f"program_{number}"), getattr(memory, program))
            wiring.connect(m, getattr(memory, token), getattr(fabric, f"token_{number}"))
        return m


def tile_of(scheduled):
    """Return a tile, its streams and its cycles: a kernel twice, with other arguments.

    Each pass writes 8 vectors and reads them backwards; the arguments are both bases.
    """
    memory = MemoryUnitSizes(
        banks=4, word_bits=8, depth=32, levels=1, sequence_bits=4, address_bits=8
    )
    launch = LaunchSizes(units=2, word_bits=8, unit_words=12, programs=24, arguments=4, schedule=16)
    rng = random.Random(7)
    reference, host = _shared.Reference(memory), Host(launch, rng)
    host.streams["store"].clear()
    write = MemoryProgram(counts=(8,), strides=(4,), limit=128)
    read = replace(write, strides=(-4,), base=28)
    images = [_shared.encoded(memory, p, sequenced=p is write) for p in (write, read)]
    for number, image in enumerate(images):
        for index in range(12):
            host.store(0, 12 * number + index, image >> 8 * index & 255)
    steps, commands = [], []
    for number in range(2):
        load = {"kind": PROGRAM, "address": 12 * number, "count": 12}
        commands.append(LaunchCommand(units=(number,), **load))
        steps.append(12 + 1)
    for turn, base in enumerate((0, 64)):
        bases = (base, base + 28)
        for unit in range(2):
            host.store(1, 2 * turn + unit, bases[unit])
            place = {"address": 2 * turn + unit, "units": (unit,)}
            commands += [LaunchCommand(kind=ARGUMENTS, **place)]
            commands += [LaunchCommand(kind=EXECUTE, units=(unit,))]
        program = replace(write, base=base)
        reference.write(program, _shared.drawn_packets(memory, program, rng))
        reference.read(replace(read, base=base + 28))
        # A start, the command, its cycles up to the last token, the token's register.
        steps += [2, memory.write_cycles(np.ones(8)) + 2, 2, memory.read_cycles(np.ones(8)) + 1]
    if scheduled:
        host.schedule(commands, 0)
    else:
        for command in commands:
            host.command(command)
    inputs = {name: host.streams[name] for name in ("store", "host")}
    inputs["packets"] = reference.streams["packets"]
    results = {"completed": host.streams["completed"], "results": reference.streams["results"]}
    cycles = (launch.schedule_cycles if scheduled else launch.host_cycles)(steps)
    return Tile(launch, memory), StreamVectors(inputs, results), cycles


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_kernel_of_a_memory_unit(scheduled):
    tile, streams, cycles = tile_of(scheduled)
    begin = len(streams.inputs["store"])
    at = np.full(len(streams.inputs["host"]), begin)
    run = simulate_streams(tile, replace(streams, arrivals={"host": at}), 9_000)
    assert run.results == streams.results
    assert run.times["completed"][-1] - begin + 1 == cycles


def stalled(host, seed):
    chances = np.random.default_rng(seed).uniform(0.05, 0.5, len(PORTS)).tolist()
    return host.vectors(
        stall=dict(zip(PORTS, chances, strict=True)), arrivals=begin_of(host, pace=5)
    )


def test_verilog_in_icarus():
    host, _ = drawn_host(random.Random(3), 30)
    streams = stalled(host, 3)
    verilog = to_verilog(Launch(host.sizes), "launch")
    done = run_regression(verilog, "launch", streams, "icarus")
    assert done.passed, done.message
    wrong = {**streams.results, "start": [*streams.results["start"][:-1], 0]}
    done = run_regression(verilog, "launch", replace(streams, results=wrong), "icarus")
    assert "instead of 0" in done.message


POINTS, COMMANDS = 13, 200


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_bits_in_both_simulators(point):
    """At least 5,070 commands, most of schedules; both simulators in the same cycles."""
    rng = random.Random(2405 + point)
    sizes = drawn_sizes(rng) if point else LaunchSizes()
    host, given = drawn_host(rng, COMMANDS, sizes=replace(sizes, schedule=1024))
    commands = sum(len(one) if isinstance(one, list) else 1 for one in given)
    assert commands >= 390
    streams = stalled(host, point)
    verilog = to_verilog(Launch(host.sizes), "launch")
    done = [run_regression(verilog, "launch", streams, s, point) for s in SIMULATORS]
    for run in done:
        assert run.passed, f"{host.sizes}\n{run.message}"
    one, two = ({port: times.tolist() for port, times in run.times.items()} for run in done)
    assert one == two
    words = len(streams.results["configuration"])
    print(f"{host.sizes}: {commands} commands, {words} words, {done[0].cycles} cycles")


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_kernel_in_both_simulators(simulator):
    tile, streams, _ = tile_of(scheduled=True)
    at = np.full(1, 10 * len(streams.inputs["store"]))
    ports = [*streams.inputs, *streams.results]
    stalling = replace(streams, arrivals={"host": at}, stall=dict.fromkeys(ports, 0.3))
    done = run_regression(to_verilog(tile, "tile"), "tile", stalling, simulator)
    assert done.passed, done.message


def test_verilog_is_clean():
    verilog = to_verilog(Launch(LaunchSizes(units=3, unit_words=5)), "launch")
    assert lint(verilog, "launch").findings == ()


@pytest.mark.slow
def test_netlist():
    counts = map_netlist(to_verilog(Launch(LaunchSizes()), "launch"), "launch")
    print(counts)
    assert counts.dsp == 0
    assert 0 < counts.lut < 1000


@pytest.mark.parametrize(
    "change, message",
    [
        ({"units": 0}, "units = 0 is not allowed: 1 to 64"),
        ({"word_bits": 65}, "word_bits = 65 is not allowed: 1 to 64"),
        ({"unit_words": 1}, "unit_words = 1 is not allowed: 2 to 256"),
        ({"programs": 1}, "programs = 1 is not allowed: 2 to 65536"),
        ({"schedule": 65537}, "schedule = 65537 is not allowed: 2 to 65536"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        LaunchSizes(**change)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"kind": PROGRAM, "address": 1024}, "program: address = 1024 is not allowed: 0 to 1023"),
        ({"kind": PROGRAM, "count": 17}, "program: count = 17 is not allowed: 1 to 16"),
        (
            {"kind": ARGUMENTS, "index": 15, "count": 2},
            "arguments: count = 2 is not allowed: 1 to 1",
        ),
        ({"kind": EXECUTE, "index": 1}, "execute: index = 1 is not allowed: 0 to 0"),
        ({"kind": EXECUTE, "units": (8,)}, "execute: unit = 8 is not allowed: 0 to 7"),
        ({"kind": EXECUTE, "units": ()}, "execute: 0 units are not allowed: at least one"),
        ({"kind": SCHEDULE}, "schedule: 1 units are not allowed: none"),
        (
            {"kind": SCHEDULE, "units": (), "address": 250, "count": 7},
            "schedule: count = 7 is not allowed: 1 to 6",
        ),
    ],
)
def test_wrong_commands_are_refused(fields, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        LaunchCommand(**{"units": (0,), **fields}).word(LaunchSizes())


def test_words_of_commands():
    rng = random.Random(1)
    for _ in range(20):
        sizes = drawn_sizes(rng)
        command = drawn_command(sizes, rng)
        assert command.word(sizes) == payload(sizes, command)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_cycles_and_programs_that_are_none_are_refused():
    with pytest.raises(InputError, match="^schedule: see schedule_cycles$"):
        LaunchCommand(kind=SCHEDULE).cycles()
    with pytest.raises(InputError, match="^execute: 1 cycles of units are not allowed: at least"):
        LaunchCommand(kind=EXECUTE, units=(0,)).cycles(1)
    with pytest.raises(InputError, match="^1 programs are not allowed: 2 needed$"):
        LaunchFabric(LaunchSizes(units=2), [8])
    with pytest.raises(InputError, match="^program 0: 9 bits are not allowed: 8 at most$"):
        LaunchFabric(LaunchSizes(units=1, word_bits=4, unit_words=2), [9])
