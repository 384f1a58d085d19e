"""AXI shell of the ternary matmul engine."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.tellme.engine import EngineSizes
from headrace.errors import InputError
from headrace.rtl.axi import (
    AxiLiteRegisters,
    connect_ports,
    prefixed,
    read_master_ports,
    register_slave_ports,
    stream_bits,
)
from headrace.rtl.external import instantiate
from headrace.rtl.striped_reader import StripedReader, port_prefix
from headrace.rtl.tellme.engine import TernaryMatmul
from headrace.rtl.tellme.registers import IDENTITY, MAX_PORTS, register_map

__all__ = ["RESULT_BITS", "TellmeShell"]

RESULT_BITS = 32


class TellmeShell(wiring.Component):
    """Put the ternary matmul engine behind AXI.

    A register slave starts loads and computations (`register_map`), `weight_ports` read masters
    stream weights, word p of a beat through port p; activations and results are AXI4-Streams.
    Activation lane i is byte i of a transfer; accumulator q is the signed 32-bit word q of a
    result transfer; spare bits are ignored and 0. The streams go straight to the engine and cost
    no cycle; a beat reaches the engine in the cycle after its last word arrived.

    Parameters
    ----------
    sizes : EngineSizes
    weight_ports : int
        AXI ports, 1 to 4; a beat is ``beat_bits / weight_ports`` bits from each.
    identifier : int
        32 bits shown in the register ``point``.
    external : tuple of str and wiring.Signature, optional
        Name and ports of a Verilog module to instantiate as the engine; without it the engine is
        built in, which simulation in Amaranth needs.

    Attributes
    ----------
    s_axi_control_*, m_axi_weightP_*, s_axis_activations_*, m_axis_results_* : In, Out

    Raises
    ------
    InputError
        The beat cannot be divided over the ports.
    """

    def __init__(
        self,
        sizes: EngineSizes,
        *,
        weight_ports: int,
        identifier: int = 0,
        external: tuple[str, wiring.Signature] | None = None,
    ) -> None:
        port_bits, rest = divmod(sizes.beat_bits, weight_ports)
        if not 1 <= weight_ports <= MAX_PORTS or rest or port_bits & (port_bits - 1):
            raise InputError(
                f"weight_ports = {weight_ports} is not allowed: 1 to {MAX_PORTS} ports whose "
                f"width, {sizes.beat_bits} bits over the ports, is a power of two needed"
            )
        self.sizes = sizes
        self.weight_ports = weight_ports
        self.port_bits = port_bits
        self.identifier = identifier
        self.external = external
        self.registers = register_map(weight_ports)
        ports = prefixed("s_axi_control", register_slave_ports(self.registers.address_bits))
        for port in range(weight_ports):
            ports |= prefixed(f"m_axi_weight{port}", read_master_ports(port_bits))
        ports |= {
            "s_axis_activations_tdata": In(stream_bits(8 * sizes.activation_lanes)),
            "s_axis_activations_tvalid": In(1),
            "s_axis_activations_tready": Out(1),
            "m_axis_results_tdata": Out(stream_bits(RESULT_BITS * sizes.copies)),
            "m_axis_results_tvalid": Out(1),
            "m_axis_results_tready": In(1),
            "m_axis_results_tlast": Out(1),
        }
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.registers = registers = AxiLiteRegisters(self.registers)
        slave = register_slave_ports(self.registers.address_bits)
        connect_ports(m, self, "s_axi_control", registers, slave)
        m.d.comb += [
            registers.read_identity.eq(IDENTITY),
            registers.read_point.eq(self.identifier),
            registers.read_geometry.eq(self._geometry()),
        ]
        engine = self._engine(m)
        bus_error, load_refused = self._load(m, registers, engine)
        active, compute_refused = self._compute(m, registers, engine)
        self._count(m, registers, [bus_error, load_refused, compute_refused], active)
        return m

    def _geometry(self) -> int:
        sizes = self.sizes
        numbers = {
            "group_size": sizes.group_size,
            "tables": sizes.tables,
            "copies": sizes.copies,
            "lanes": sizes.activation_lanes,
            "ports": self.weight_ports,
        }
        return sum(numbers[f.name] << f.low for f in self.registers["geometry"].fields)

    def _engine(self, m: Module) -> Any:
        """Return the engine, as a component or as signals of an instance."""
        if self.external is None:
            m.submodules.engine = engine = TernaryMatmul(self.sizes)
            return engine
        return instantiate(m, "engine", *self.external)

    def _load(self, m: Module, registers: Any, engine: Any) -> tuple[Signal, Signal]:
        """Queue a load; read its weights and tell the engine once the ports are free.

        Returns the pulses bus error and load refused.
        """
        queued, offered, start = Signal(), Signal(), Signal()
        rows, groups, count = Signal(16), Signal(16), Signal(32)
        with m.If(registers.start_load_start & ~queued):
            m.d.sync += [
                queued.eq(1),
                rows.eq(registers.load_rows),
                groups.eq(registers.load_groups),
                count.eq(registers.load_beats),
            ]
        with m.If(start):
            m.d.sync += offered.eq(1)
        with m.If(offered & engine.load.ready):
            m.d.sync += [offered.eq(0), queued.eq(0)]
        reader = self._reader(m, registers)
        bus_error, refused = Signal(), Signal()
        m.d.comb += [
            start.eq(queued & ~reader.busy & ~offered),
            reader.reads.valid.eq(start),
            reader.reads.payload.count.eq(count),
            engine.load.valid.eq(offered),
            engine.load.payload.rows.eq(rows),
            engine.load.payload.groups.eq(groups),
            engine.weights.payload.eq(reader.words.payload),
            engine.weights.valid.eq(reader.words.valid),
            reader.words.ready.eq(engine.weights.ready),
            bus_error.eq(reader.error),
            refused.eq(registers.start_load_start & queued),
            registers.read_status[0].eq(queued | reader.busy),
            registers.read_status[2].eq(queued),
        ]
        return bus_error, refused

    def _reader(self, m: Module, registers: Any) -> StripedReader:
        """Return the read masters, connected to the outside and to their bases."""
        m.submodules.reader = reader = StripedReader(self.weight_ports, self.port_bits)
        ports = read_master_ports(self.port_bits)
        for port, given in enumerate(reader.reads.payload.bases):
            connect_ports(m, self, f"m_axi_weight{port}", reader, ports, f"{port_prefix(port)}_")
            low = getattr(registers, f"base{port}_low")
            high = getattr(registers, f"base{port}_high")
            base = Signal(len(given), name=f"base_{port}")
            with m.If(registers.start_load_start & ~registers.read_status[2]):
                m.d.sync += base.eq(Cat(low, high))
            m.d.comb += given.eq(base)
        return reader

    def _compute(self, m: Module, registers: Any, engine: Any) -> tuple[Signal, Signal]:
        """Queue a computation and pass the streams on.

        Returns the level computation under way and the pulse computation refused.
        """
        queued, active, per_job = Signal(), Signal(), Signal()
        job = Signal.like(engine.compute.payload)
        payload = engine.compute.payload
        group, token = Signal(16), Signal(16)  # results left of this token, tokens left
        refused, accepted, moved = Signal(), Signal(), Signal()
        token_last = Signal()
        with m.If(registers.start_compute_start & ~queued):
            m.d.sync += [
                queued.eq(1),
                job.rows.eq(registers.compute_rows),
                job.groups.eq(registers.compute_groups),
                job.stride.eq(registers.compute_stride),
                job.tokens.eq(registers.compute_tokens),
            ]
        m.d.comb += [
            refused.eq(registers.start_compute_start & queued),
            engine.compute.valid.eq(queued),
            payload.eq(job),
            accepted.eq(queued & engine.compute.ready),
            registers.read_status[1].eq(queued | active),
            registers.read_status[3].eq(queued),
        ]
        groups = Signal(16)
        with m.If(moved):
            m.d.sync += group.eq(Mux(token_last, groups, group - 1))
            with m.If(token_last):
                m.d.sync += [token.eq(token - 1), active.eq(token != 1)]
        with m.If(accepted):
            m.d.sync += [
                queued.eq(0),
                active.eq(1),
                groups.eq(job.groups),
                group.eq(job.groups),
                token.eq(job.tokens),
                per_job.eq(registers.compute_mode),
            ]
        results = [Value.cast(result).as_signed() for result in engine.results.payload]
        words = [Signal(signed(RESULT_BITS), name=f"word_{q}") for q in range(len(results))]
        m.d.comb += [word.eq(result) for word, result in zip(words, results, strict=True)]
        m.d.comb += [
            engine.activations.payload.as_value().eq(self.s_axis_activations_tdata),
            engine.activations.valid.eq(self.s_axis_activations_tvalid),
            self.s_axis_activations_tready.eq(engine.activations.ready),
            self.m_axis_results_tdata.eq(Cat(words)),
            self.m_axis_results_tvalid.eq(engine.results.valid),
            engine.results.ready.eq(self.m_axis_results_tready),
            moved.eq(engine.results.valid & self.m_axis_results_tready),
            token_last.eq(group == 1),
            self.m_axis_results_tlast.eq(token_last & (~per_job | (token == 1))),
        ]
        return active, refused

    def _count(self, m: Module, registers: Any, events: list[Signal], active: Signal) -> None:
        """Keep the sticky errors and the cycle counter."""
        clear = registers.start_clear & registers.data[0]
        errors, cycles = Signal(len(events)), Signal(32)
        m.d.sync += [
            errors.eq(Mux(clear, 0, errors) | Cat(events)),
            cycles.eq(Mux(clear, 0, cycles + active)),
        ]
        m.d.comb += [registers.read_error.eq(errors), registers.read_cycles.eq(cycles)]
