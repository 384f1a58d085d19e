"""SN40L's switches in a mesh: what arrives, in which order and when; into a memory unit too."""

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.arch.sn40l.switch import FlowEntry, MeshSizes, SwitchSizes
from headrace.errors import InputError
from headrace.rtl.lint import lint
from headrace.rtl.netlist import map_netlist
from headrace.rtl.simulators import SIMULATORS
from headrace.rtl.sn40l.memory_unit import MemoryUnit
from headrace.rtl.sn40l.mesh import Mesh
from headrace.rtl.sn40l.switch import Switch
from headrace.rtl.streams import StreamVectors, run_regression, simulate_streams
from headrace.rtl.verilog import to_verilog
from headrace.sim.sn40l.mesh import Packet, simulate_mesh

BEGIN = 20  # cycles in which the tables are programmed
SMALL = SwitchSizes(flows=16, credits=4, vector_bits=10, sequence_bits=6)


@dataclass(frozen=True)
class Case:
    """Flows of a mesh, and packets with their earliest cycles."""

    sizes: MeshSizes
    flows: Any  # (source, sinks)
    sent: Any  # for each unit (flow number, load), in order
    offered: Any
    accepted: Any

    def streams(self):
        """Return vectors and predicted cycles; check what arrives against what was sent."""
        tables, begins = self.sizes.flow_tables(self.flows)
        packets = [[Packet(begins[f], load) for f, load in sent] for sent in self.sent]
        run = simulate_mesh(self.sizes, tables, packets, self.offered, self.accepted)
        switch, units = self.sizes.switch, range(self.sizes.switches)
        bits = switch.vector_bits + switch.sequence_bits
        inputs = {f"command_{n}": [e.word(switch) for e in tables[n]] for n in units}
        inputs |= {f"source_{n}": [p.load | p.flow << bits for p in packets[n]] for n in units}
        results = {f"sink_{n}": [p.load | p.flow << bits for _, p in run.given[n]] for n in units}
        arrivals = {f"source_{n}": np.array(self.offered[n]) for n in units}
        for n in units:
            self.check_arrivals(n, [packet.load for _, packet in run.given[n]])
            accepted = np.zeros(len(run.given[n]), int)
            known = self.accepted[n][: len(accepted)]
            accepted[: len(known)] = known
            arrivals[f"sink_{n}"] = accepted
        times = {f"source_{n}": run.taken[n] for n in units}
        times |= {f"sink_{n}": [cycle for cycle, _ in run.given[n]] for n in units}
        return StreamVectors(inputs, results, arrivals), times

    def check_arrivals(self, unit, loads):
        """No packet is lost, doubled or overtaken by one of its flow; loads are different."""
        expected = {}
        for sent in self.sent:
            for flow, load in sent:
                if unit in self.flows[flow][1]:
                    expected.setdefault(flow, []).append(load)
        assert Counter(loads) == Counter(load for sent in expected.values() for load in sent)
        for sent in expected.values():
            among = set(sent)
            assert [load for load in loads if load in among] == sent


def drawn_case(rng, packets=40, stalls=True, **change):
    switch = SwitchSizes(
        flows=16, credits=rng.choice([1, 2, 3, 4, 7]), vector_bits=10, sequence_bits=6
    )
    sizes = MeshSizes(width=rng.randint(1, 3), height=rng.randint(1, 2), switch=switch)
    sizes = replace(sizes, **change)
    units = range(sizes.switches)
    flows = [
        (rng.choice(units), rng.sample(units, rng.randint(1, sizes.switches)))
        for _ in range(rng.randint(1, 7))
    ]
    sent: Any = [[] for _ in units]
    for load in rng.sample(range(1 << 16), packets):
        flow = rng.randrange(len(flows))
        sent[flows[flow][0]].append((flow, load))
    return Case(sizes, flows, sent, *_arrivals(rng, sent, packets, stalls))


def _arrivals(rng, sent, packets, stalls):
    """Return the earliest cycles of sources and sinks: at once, or at a random pace."""
    offered, accepted = {}, {}
    for unit, own in enumerate(sent):
        pace, late = (rng.choice([1, 2, 4]) for _ in range(2)) if stalls else (1, 1)
        offered[unit] = np.cumsum([BEGIN, *(rng.randrange(pace) for _ in own)])[: len(own)]
        waits = [rng.randrange(late) for _ in range(packets)] if stalls else []
        accepted[unit] = np.cumsum([BEGIN, *waits]).tolist()
        offered[unit] = offered[unit].tolist()
    return offered, accepted


def check(case):
    streams, times = case.streams()
    run = simulate_streams(Mesh(case.sizes), streams, 20_000)
    assert run.results == streams.results
    assert {name: run.times[name].tolist() for name in times} == times
    return run


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_every_transfer(seed, stalls):
    check(drawn_case(random.Random(seed), stalls=stalls))


@pytest.mark.parametrize("credits", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("switches", [1, 3])
def test_cycles_of_a_flow(credits, switches):
    """The credits of every hop limit the rate, its latency is that of the links."""
    sizes = MeshSizes(width=switches, height=1, switch=replace(SMALL, credits=credits))
    for packets in (1, 2, 11):
        sent: Any = [[(0, load) for load in range(packets)]] + [[]] * (switches - 1)
        idle = {n: [BEGIN] * len(own) for n, own in enumerate(sent)}
        case = Case(sizes, [(0, [switches - 1])], sent, idle, dict.fromkeys(range(switches), ()))
        times = check(case).times
        cycles = times[f"sink_{switches - 1}"][-1] - times["source_0"][0] + 1
        assert sizes.hops(0, switches - 1) == switches
        assert cycles == sizes.switch.stream_cycles(packets, switches)


def test_inputs_take_turns():
    """Four units send to the fifth one without a pause: each has a quarter of the link."""
    sizes = MeshSizes(width=3, height=3, switch=SMALL)
    others = [1, 3, 5, 7]
    flows = [(unit, [4]) for unit in others]
    sent: Any = [[] for _ in range(9)]
    for flow, unit in enumerate(others):
        sent[unit] = [(flow, flow << 8 | number) for number in range(12)]
    offered = {unit: [BEGIN] * len(own) for unit, own in enumerate(sent)}
    run = check(Case(sizes, flows, sent, offered, dict.fromkeys(range(9), ())))
    order = [(payload & 0xFFFF) >> 8 for payload in run.results["sink_4"]]
    assert all(sorted(order[i : i + 4]) == [0, 1, 2, 3] for i in range(0, 48, 4))
    assert (np.diff(run.times["sink_4"]) == 1).all()


def test_branches_of_a_multicast_do_not_wait_within_a_packet():
    """One sink takes nothing: the other one still gets what the buffers on the way hold."""
    sizes = MeshSizes(width=3, height=1, switch=replace(SMALL, credits=2))
    sent = [[], [(0, load) for load in range(20)], []]
    case = Case(
        sizes, [(1, [0, 2])], sent, {0: [], 1: [BEGIN] * 20, 2: []}, {0: [200], 1: [], 2: []}
    )
    times = check(case).times
    # Towards the sink at rest: 2 buffers of 2 packets; one more has left in the other direction.
    assert (times["sink_2"] < 200).sum() == 5


def test_packets_wait_for_the_entry_of_their_flow():
    sizes = MeshSizes(width=1, height=1, switch=SMALL)
    entry = FlowEntry(flow=3, outputs=(4,), following=9).word(SMALL)
    bits = SMALL.vector_bits + SMALL.sequence_bits
    inputs = {"command_0": [entry], "source_0": [7 | 3 << bits, 8 | 3 << bits]}
    results = {"sink_0": [7 | 9 << bits, 8 | 9 << bits]}
    late = {"command_0": np.array([50])}
    run = simulate_streams(Mesh(sizes), StreamVectors(inputs, results, late))
    assert run.results == results
    assert run.times["sink_0"].tolist() == [53, 54]


class Gather(wiring.Component):
    """Two senders at the ends of a row of three switches, a memory unit in the middle."""

    def __init__(self, mesh, memory):
        self.mesh, self.memory = Mesh(mesh), MemoryUnit(memory)
        names = [f"command_{n}" for n in range(3)] + ["source_0", "source_2"]
        members = {name: self.mesh.signature.members[name] for name in names}
        of_memory = self.memory.signature.members
        ports = ("write", "read", "results", "written", "drained")
        super().__init__(members | {name: of_memory[name] for name in ports})

    def elaborate(self, platform):
        m = Module()
        m.submodules.mesh, m.submodules.memory = self.mesh, self.memory
        for name in self.signature.members:
            unit = self.mesh if hasattr(self.mesh, name) else self.memory
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(unit, name))
        packet, to = self.mesh.sink_1, self.memory.packets
        m.d.comb += [
            to.valid.eq(packet.valid),
            packet.ready.eq(to.ready),
            to.payload.words.eq(packet.payload.words),
            to.payload.sequence.eq(packet.payload.sequence),
        ]
        return m


def gathered(seed, packets=48):
    """Return a `Gather` and its streams: numbered rows, each sent by one of two units."""
    rng = random.Random(seed)
    memory = MemoryUnitSizes(
        banks=4, word_bits=8, depth=64, levels=1, sequence_bits=8, address_bits=10
    )
    switch = SwitchSizes(flows=4, credits=rng.choice([2, 4]), vector_bits=32, sequence_bits=8)
    mesh = MeshSizes(width=3, height=1, switch=switch)
    tables, begins = mesh.flow_tables([(0, [1]), (2, [1])])
    inputs = {f"command_{n}": [e.word(switch) for e in table] for n, table in enumerate(tables)}
    rows = [rng.getrandbits(32) for _ in range(packets)]
    inputs |= {"source_0": [], "source_2": []}
    for number in rng.sample(range(packets), packets):
        side = rng.randrange(2)
        payload = rows[number] | number << 32 | begins[side] << 40
        inputs[f"source_{2 * side}"].append(payload)
    write = MemoryProgram(
        counts=(packets,), strides=(0,), limit=256, sequence_stride=4, buffered=True
    )
    read = MemoryProgram(counts=(packets,), strides=(4,), limit=256, buffered=True)
    unit = Gather(mesh, memory)
    for port, program in (("write", write), ("read", read)):
        fields = program.fields(memory)
        if port == "read":
            del fields["sequence_stride"]
        layout = getattr(unit, port).payload.shape()
        inputs[port] = [layout.const(fields).as_value().value]
    results = {
        "results": [row | number << 32 for number, row in enumerate(rows)],
        "written": [1],
        "drained": [1],
    }
    return unit, StreamVectors(inputs, results)


@pytest.mark.parametrize("seed", range(4))
def test_sequence_ids_order_two_streams(seed):
    """Rows in random order from two units at random paces end in order."""
    unit, streams = gathered(seed)
    rng = np.random.default_rng(seed)
    late = {
        name: np.cumsum(rng.integers(0, 5, len(streams.inputs[name])))
        for name in ("source_0", "source_2")
    }
    run = simulate_streams(unit, replace(streams, arrivals=late))
    assert run.results == streams.results


def test_verilog_in_icarus():
    case = drawn_case(random.Random(4), 80, width=2, height=2)
    streams, times = case.streams()
    verilog = to_verilog(Mesh(case.sizes), "mesh")
    done = run_regression(verilog, "mesh", streams, "icarus")
    assert done.passed, done.message
    assert {name: done.times[name].tolist() for name in times} == times
    name = max(streams.results, key=lambda port: len(streams.results[port]))
    wrong = {**streams.results, name: [*streams.results[name][1:], 0]}
    done = run_regression(verilog, "mesh", replace(streams, results=wrong), "icarus")
    assert "instead of" in done.message


POINTS, PACKETS = 13, 400


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_transfers_in_both_simulators(point):
    """5,200 packets in all, every transfer in the cycle of the model, stalled too."""
    case = drawn_case(random.Random(2405 + point), PACKETS)
    streams, times = case.streams()
    verilog = to_verilog(Mesh(case.sizes), "mesh")
    for simulator in SIMULATORS:
        done = run_regression(verilog, "mesh", streams, simulator)
        assert done.passed, f"{case.sizes}\n{done.message}"
        assert {name: done.times[name].tolist() for name in times} == times
    given = sum(len(items) for items in streams.results.values())
    print(f"{case.sizes}: {PACKETS} packets sent, {given} given, {done.cycles} cycles")


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_two_streams_in_order_in_both_simulators(simulator):
    for seed in range(3):
        unit, streams = gathered(seed, 64)
        ports = [*streams.inputs, *streams.results]
        stalling = replace(streams, stall=dict.fromkeys(ports, 0.3))
        verilog = to_verilog(unit, "gather")
        done = run_regression(verilog, "gather", stalling, simulator, seed)
        assert done.passed, done.message


def test_verilog_is_clean():
    assert lint(to_verilog(Switch(SMALL), "switch"), "switch").findings == ()


@pytest.mark.slow
def test_netlist():
    counts = map_netlist(to_verilog(Switch(SwitchSizes()), "switch"), "switch")
    print(counts)
    assert counts.dsp == counts.bram36 == counts.uram == 0
    assert 5 * 530 < counts.ff < 6000


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ports": 9}, "ports = 9 is not allowed: 2 to 8"),
        ({"flows": 24}, "flows = 24 is not allowed: a power of two is needed"),
        ({"flows": 1}, "flows = 1 is not allowed: 2 to 256"),
        ({"credits": 0}, "credits = 0 is not allowed: 1 to 64"),
        ({"vector_bits": 0}, "vector_bits = 0 is not allowed: 1 to 4096"),
        ({"sequence_bits": 17}, "sequence_bits = 17 is not allowed: 1 to 16"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        SwitchSizes(**change)


def test_wrong_meshes_flows_and_entries_are_refused():
    with pytest.raises(InputError, match="^width = 0 is not allowed: 1 to 64$"):
        MeshSizes(width=0)
    with pytest.raises(InputError, match="^ports = 4 is not allowed: 5$"):
        MeshSizes(switch=SwitchSizes(ports=4))
    mesh = MeshSizes(switch=SwitchSizes(flows=2))
    with pytest.raises(InputError, match="^switch 4 is not allowed: 0 to 3$"):
        mesh.flow_tables([(0, [4])])
    with pytest.raises(InputError, match="^a flow from switch 0 has no sink$"):
        mesh.flow_tables([(0, [])])
    with pytest.raises(InputError, match="^more flows than the 2 entries of a table meet$"):
        mesh.flow_tables([(0, [1])] * 3)
    with pytest.raises(InputError, match="^flow = 64 is not allowed: 0 to 63$"):
        FlowEntry(flow=64, outputs=(), following=0).word(SwitchSizes())
    with pytest.raises(InputError, match="^output 5 is not allowed: 0 to 4$"):
        FlowEntry(flow=0, outputs=(5,), following=0).word(SwitchSizes())
    with pytest.raises(InputError, match="^0 packets are not allowed: at least 1$"):
        SwitchSizes().stream_cycles(0, 1)


def test_packets_without_an_entry_are_told():
    mesh = MeshSizes(width=1, height=1, switch=SMALL)
    with pytest.raises(InputError, match="^packets are left in the mesh after 100 cycles$"):
        simulate_mesh(mesh, [[]], [[Packet(0, 0)]], limit_cycles=100)
