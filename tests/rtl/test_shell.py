"""The AXI shell end to end in Amaranth's simulator: register writes in, results out."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes
from headrace.arch.tellme.packing import pack_weights
from headrace.errors import InputError
from headrace.rtl.axi import stream_bits
from headrace.rtl.tellme.registers import IDENTITY, register_map
from headrace.rtl.tellme.shell import TellmeShell

POINT = {
    "group_size": 2,
    "tables": 12,
    "copies": 4,
    "weight_banks": 2,
    "weight_words": 256,
    "weight_slots": 2,
    "weight_layout": "exact",
    "weight_ports": 2,
    "port_bits": 128,
    "activation_lanes": 3,
    "block_gap_cycles": 0,
    "accumulator_bits": 20,
    "max_outputs": 64,
}
BASES = (0x10_0000_0000, 0x2000)


class Bench:
    """A host, two memories with random latency and stalls, a source and a sink."""

    def __init__(self, shell, rng, fault_port=None):
        self.shell = shell
        self.rng = rng
        self.map = register_map(shell.weight_ports)
        self.images = {}
        self.bursts = []
        self.activations = []
        self.results = []
        self.fault_port = fault_port

    async def write(self, ctx, name, value):
        s = self.shell
        ctx.set(s.s_axi_control_awaddr, self.map[name].offset)
        ctx.set(s.s_axi_control_wdata, value)
        ctx.set(s.s_axi_control_wstrb, 15)
        ctx.set(s.s_axi_control_awvalid, 1)
        for _ in range(int(self.rng.integers(0, 3))):
            await ctx.tick()
        ctx.set(s.s_axi_control_wvalid, 1)
        await ctx.tick().until(s.s_axi_control_wready)
        ctx.set(s.s_axi_control_awvalid, 0)
        ctx.set(s.s_axi_control_wvalid, 0)
        ctx.set(s.s_axi_control_bready, 1)
        await ctx.tick().until(s.s_axi_control_bvalid)
        ctx.set(s.s_axi_control_bready, 0)

    async def read(self, ctx, name):
        s = self.shell
        ctx.set(s.s_axi_control_araddr, self.map[name].offset)
        ctx.set(s.s_axi_control_arvalid, 1)
        await ctx.tick().until(s.s_axi_control_arready)
        ctx.set(s.s_axi_control_arvalid, 0)
        for _ in range(int(self.rng.integers(0, 3))):
            await ctx.tick()
        ctx.set(s.s_axi_control_rready, 1)
        (value,) = await ctx.tick().sample(s.s_axi_control_rdata).until(s.s_axi_control_rvalid)
        ctx.set(s.s_axi_control_rready, 0)
        return value

    def memory(self, port):
        """Return a process that answers one port's bursts in order."""
        s = self.shell
        signal = lambda name: getattr(s, f"m_axi_weight{port}_{name}")  # noqa: E731
        stall = np.random.Generator(np.random.PCG64(port))
        word_bytes = s.port_bits // 8

        async def requests(ctx):
            while True:
                ctx.set(signal("arready"), int(stall.integers(0, 2)))
                fields = [signal(n) for n in ("araddr", "arlen", "arsize", "arburst")]
                _, _, valid, ready, *got = await ctx.tick().sample(
                    signal("arvalid"), signal("arready"), *fields
                )
                if valid and ready:
                    queue.append(tuple(got))
                    self.bursts.append((port, *got))

        async def answers(ctx):
            while True:
                if not queue:
                    await ctx.tick()
                    continue
                address, length, _, _ = queue.pop(0)
                for word in range(length + 1):
                    ctx.set(signal("rvalid"), 0)
                    for _ in range(int(stall.integers(0, 3))):
                        await ctx.tick()
                    at = address + word * word_bytes
                    ctx.set(signal("rdata"), self.images[port][at])
                    ctx.set(signal("rresp"), 2 if port == self.fault_port and word == 3 else 0)
                    ctx.set(signal("rlast"), word == length)
                    ctx.set(signal("rvalid"), 1)
                    await ctx.tick().until(signal("rready"))
                ctx.set(signal("rvalid"), 0)

        queue = []
        return requests, answers

    async def source(self, ctx):
        s = self.shell
        while True:
            if not self.activations:
                await ctx.tick()
                continue
            ctx.set(s.s_axis_activations_tdata, self.activations.pop(0))
            ctx.set(s.s_axis_activations_tvalid, 1)
            await ctx.tick().until(s.s_axis_activations_tready)
            ctx.set(s.s_axis_activations_tvalid, 0)
            for _ in range(int(self.rng.integers(0, 2))):
                await ctx.tick()

    async def sink(self, ctx):
        s = self.shell
        while True:
            ctx.set(s.m_axis_results_tready, int(self.rng.integers(0, 2)))
            _, _, valid, ready, payload, last = await ctx.tick().sample(
                s.m_axis_results_tvalid,
                s.m_axis_results_tready,
                s.m_axis_results_tdata,
                s.m_axis_results_tlast,
            )
            if valid and ready:
                self.results.append((payload, last))

    def run(self, host):
        simulator = Simulator(self.shell)
        simulator.add_clock(1e-6)
        for port in range(self.shell.weight_ports):
            for process in self.memory(port):
                simulator.add_process(process)
        simulator.add_process(self.source)
        simulator.add_process(self.sink)
        simulator.add_testbench(host)
        simulator.run()


def place(bench, image):
    """Put word p of every beat into memory p; return the words per port."""
    word_bytes = bench.shell.port_bits // 8
    for port, base in enumerate(BASES):
        words = image[:, port * word_bytes : (port + 1) * word_bytes]
        bench.images[port] = {
            base + i * word_bytes: int.from_bytes(word.tobytes(), "little")
            for i, word in enumerate(words)
        }
    return len(image)


def transfers(sizes, rows, tokens):
    """Return the words of the activation stream for int8 `tokens` [tokens, inputs]."""
    words = []
    for token, row in itertools.product(tokens, range(rows)):
        block = np.zeros(sizes.read_cycles * sizes.activation_lanes, np.int8)
        piece = token[row * sizes.block_inputs : (row + 1) * sizes.block_inputs]
        block[: len(piece)] = piece
        for chunk in block.reshape(-1, sizes.activation_lanes):
            words.append(int.from_bytes(chunk.tobytes(), "little"))
    return words


def make_shell(**changes):
    sizes = engine_sizes(TELLME.point({**POINT, **changes}))
    return TellmeShell(sizes, weight_ports=2, identifier=0xDEADBEEF)


@pytest.mark.parametrize("packing, per_job", [("beat", 0), ("group", 1)])
def test_load_and_compute_through_axi(packing, per_job):
    rng = np.random.Generator(np.random.PCG64(per_job))
    shell = make_shell(weight_packing=packing)
    sizes = shell.sizes
    bench = Bench(shell, rng)
    outputs, inputs, count = 38, 100, 2  # ten groups and five row blocks, the last ones padded
    weights = rng.integers(-1, 2, (outputs, inputs)).astype(np.int8)
    tokens = rng.integers(-127, 128, (count, inputs)).astype(np.int8)
    rows, groups = sizes.row_blocks(inputs), -(-outputs // sizes.copies)
    beats = place(bench, pack_weights(weights, sizes))
    assert beats > 32  # more than two bursts
    values = {}

    async def host(ctx):
        values["identity"] = await bench.read(ctx, "identity")
        values["point"] = await bench.read(ctx, "point")
        for port, base in enumerate(BASES):
            await bench.write(ctx, f"base{port}_low", base & 0xFFFFFFFF)
            await bench.write(ctx, f"base{port}_high", base >> 32)
        await bench.write(ctx, "load_rows", rows)
        await bench.write(ctx, "load_groups", groups)
        await bench.write(ctx, "load_beats", beats)
        await bench.write(ctx, "load_start", 1)
        await bench.write(ctx, "compute_rows", rows)
        await bench.write(ctx, "compute_groups", groups)
        await bench.write(ctx, "compute_stride", groups)
        await bench.write(ctx, "compute_tokens", count)
        await bench.write(ctx, "compute_mode", per_job)
        await bench.write(ctx, "compute_start", 1)
        bench.activations += transfers(sizes, rows, tokens)
        for _ in range(3_000):
            if not await bench.read(ctx, "status") & 3:
                break
        values["error"] = await bench.read(ctx, "error")
        values["cycles"] = await bench.read(ctx, "cycles")
        await bench.write(ctx, "clear", 1)
        values["cleared"] = await bench.read(ctx, "cycles")

    bench.run(host)
    assert values["identity"] == IDENTITY
    assert values["point"] == 0xDEADBEEF
    assert values["error"] == 0
    assert values["cleared"] == 0
    assert 0 < values["cycles"] < 20_000
    expected = tokens.astype(np.int64) @ weights.astype(np.int64).T
    got = np.array(
        [
            [(payload >> (32 * q)) & 0xFFFFFFFF for q in range(sizes.copies)]
            for payload, _ in bench.results
        ],
        np.uint32,
    ).view(np.int32)
    np.testing.assert_array_equal(got.reshape(count, -1)[:, :outputs], expected)
    lasts = [position for position, (_, last) in enumerate(bench.results) if last]
    assert lasts == ([count * groups - 1] if per_job else [groups - 1, 2 * groups - 1])
    for _, address, length, size, kind in bench.bursts:
        assert (size, kind) == (4, 1)
        assert address // 4096 == (address + 16 * length) // 4096
    per_port = [sum(b[2] + 1 for b in bench.bursts if b[0] == port) for port in (0, 1)]
    assert per_port == [beats, beats]


def test_errors_are_kept_until_cleared():
    rng = np.random.Generator(np.random.PCG64(5))
    shell = make_shell(weight_slots=1)
    bench = Bench(shell, rng, fault_port=1)
    sizes = shell.sizes
    beats = place(bench, pack_weights(np.ones((4, 6), np.int8), sizes))
    values = []

    async def host(ctx):
        await bench.write(ctx, "base0_high", BASES[0] >> 32)
        await bench.write(ctx, "base1_low", BASES[1])
        await bench.write(ctx, "load_rows", 1)
        await bench.write(ctx, "load_groups", 1)
        await bench.write(ctx, "load_beats", beats)
        for _ in range(4):
            await bench.write(ctx, "load_start", 1)  # one slot: the third waits, the rest too
        for _ in range(2):
            await bench.write(ctx, "compute_start", 1)
        values.append(await bench.read(ctx, "status"))
        values.append(await bench.read(ctx, "error"))
        await bench.write(ctx, "clear", 1)
        values.append(await bench.read(ctx, "error"))

    bench.images = {
        port: {base + 16 * i: 1 << (17 * port) for i in range(beats + 16)}
        for port, base in enumerate(BASES)
    }
    bench.run(host)
    assert values[1] & 0b010  # a start while one was queued
    assert values[2] == 0


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_port_count_must_divide_the_beat():
    sizes = engine_sizes(TELLME.point(POINT))
    with pytest.raises(InputError, match="weight_ports = 3 is not allowed"):
        TellmeShell(sizes, weight_ports=3)


@pytest.mark.parametrize("bits, width", [(1, 8), (8, 8), (24, 32), (96, 128), (512, 512)])
def test_stream_widths(bits, width):
    assert stream_bits(bits) == width
