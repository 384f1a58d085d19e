"""UbiMoE's machine: the encoder block behind AXI."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.arch.ubimoe.shell import ShellSizes
from headrace.rtl.axi import (
    ADDRESS_BITS,
    AxiLiteRegisters,
    connect_ports,
    prefixed,
    read_master_ports,
    register_slave_ports,
    stream_bits,
)
from headrace.rtl.external import instantiate
from headrace.rtl.striped_reader import port_prefix
from headrace.rtl.ubimoe.encoder_block import EncoderBlock
from headrace.rtl.ubimoe.parameters import ParameterReader
from headrace.rtl.ubimoe.prefetch import STRIDE_BITS
from headrace.rtl.ubimoe.registers import IDENTITY, address_names, register_map
from headrace.rtl.ubimoe.repack import connect_bits, issue_to_all
from headrace.rtl.ubimoe.shared_prefetch import SharedPrefetch

__all__ = ["UbimoeShell", "feature_stream_bits", "master_names"]


def feature_stream_bits(sizes: ShellSizes) -> int:
    """Return the width of the AXI4-Streams of features."""
    msa = sizes.block.msa
    return stream_bits(msa.dims * msa.formats.feature_bits)


def master_names(sizes: ShellSizes) -> list[str]:
    """Return the prefixes of the AXI4 read masters."""
    found = [f"m_axi_weight{port}" for port in range(sizes.weights.ports)]
    if sizes.attention is not None:
        found += [f"m_axi_attention{port}" for port in range(sizes.attention.ports)]
    return [*found, "m_axi_parameters"]


class UbimoeShell(wiring.Component):
    """Put the encoder block behind AXI: a layer of a sequence per start.

    A register slave holds what a layer needs (`register_map`); a start is handed to all readers
    and the block, each taking it when it can, so that the weights of the next layer are read
    while this one computes. Features come and go as AXI4-Streams straight from and to the block,
    value i in the bits from i x feature_bits on; TLAST is with a sequence's last beat.

    The addresses of experts change when the last result of the layer before is out: its jobs are
    over then, and the next ones cannot have begun.

    Parameters
    ----------
    sizes : ShellSizes
    identifier : int
        32 bits shown in the register ``point``.
    external : tuple of str and wiring.Signature, optional
        Name and ports of a Verilog module to instantiate as the encoder block; without it the
        block is built in, which simulation in Amaranth needs.

    Attributes
    ----------
    s_axi_control_*, m_axi_weightP_*, m_axi_attentionP_*, m_axi_parameters_* : In, Out
        AXI4-Lite slave and AXI4 read masters.
    s_axis_features_*, m_axis_features_* : In, Out
    """

    def __init__(
        self,
        sizes: ShellSizes,
        *,
        identifier: int = 0,
        external: tuple[str, wiring.Signature] | None = None,
    ) -> None:
        self.sizes = sizes
        self.identifier = identifier
        self.external = external
        self.registers = register_map(sizes)
        members = prefixed("s_axi_control", register_slave_ports(self.registers.address_bits))
        for name, group in (("weight", sizes.weights), ("attention", sizes.attention)):
            if group is not None:
                for port in range(group.ports):
                    members |= prefixed(f"m_axi_{name}{port}", read_master_ports(group.port_bits))
        members |= prefixed("m_axi_parameters", read_master_ports(sizes.parameter_bits))
        for prefix, ours, theirs in (("s_axis", In, Out), ("m_axis", Out, In)):
            members |= {
                f"{prefix}_features_tdata": ours(feature_stream_bits(sizes)),
                f"{prefix}_features_tvalid": ours(1),
                f"{prefix}_features_tready": theirs(1),
            }
        super().__init__(members | {"m_axis_features_tlast": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.registers = registers = AxiLiteRegisters(self.registers)
        slave = register_slave_ports(self.registers.address_bits)
        connect_ports(m, self, "s_axi_control", registers, slave)
        block = self._block(m)
        m.submodules.parameters = parameters = ParameterReader(self.sizes)
        ports = read_master_ports(self.sizes.parameter_bits)
        connect_ports(m, self, "m_axi_parameters", parameters, ports)
        for name in ("msa_norm", "moe_norm", "gate_weights"):
            connect_bits(m, getattr(parameters, name), getattr(block, name))
        experts, attention, readers = self._weights(m)
        connect_bits(m, experts["weights"], block.moe_weights)
        connect_bits(m, attention["weights"], block.msa_weights)
        state = self._layers(m, registers, block, parameters, experts["jobs"], attention["jobs"])
        self._features(m, block, state)
        errors = Cat([reader.error for reader in readers], parameters.error).any()
        self._status(m, registers, state, errors)
        return m

    def _block(self, m: Module) -> Any:
        """Return the encoder block, as a component or as signals of an instance."""
        if self.external is not None:
            return instantiate(m, "block", *self.external)
        m.submodules.block = block = EncoderBlock(self.sizes.block)
        return block

    def _weights(self, m: Module) -> tuple[dict[str, Any], dict[str, Any], list[SharedPrefetch]]:
        """Add the readers of weights; return jobs and weights of experts and of MSA, and them."""
        sizes = self.sizes

        def reader(name: str, ports: PrefetchSizes, *beats: int) -> SharedPrefetch:
            m.submodules[f"{name}_reader"] = found = SharedPrefetch(ports, beats)
            members = read_master_ports(ports.port_bits)
            for port in range(ports.ports):
                inner = f"{port_prefix(port)}_"
                connect_ports(m, self, f"m_axi_{name}{port}", found, members, inner)
            return found

        if sizes.attention is None:
            shared = reader("weight", sizes.weights, sizes.expert_beats, sizes.attention_beats)
            experts = {"jobs": shared.jobs0, "weights": shared.weights0}
            return experts, {"jobs": shared.jobs1, "weights": shared.weights1}, [shared]
        first = reader("weight", sizes.weights, sizes.expert_beats)
        second = reader("attention", sizes.attention, sizes.attention_beats)
        experts = {"jobs": first.jobs0, "weights": first.weights0}
        return experts, {"jobs": second.jobs0, "weights": second.weights0}, [first, second]

    def _layers(
        self,
        m: Module,
        registers: Any,
        block: Any,
        parameters: ParameterReader,
        experts: Any,
        attention: Any,
    ) -> dict[str, Signal]:
        """Hand each layer on; return rows left of the present one, its end, and what waits."""
        names = list(address_names(self.sizes))
        fields: dict[str, Any] = {
            "tokens": unsigned(16),
            "mode": unsigned(1),
            "expert_stride": unsigned(STRIDE_BITS),
        }
        layer = data.StructLayout({**fields, **{name: unsigned(ADDRESS_BITS) for name in names}})
        start = stream.Signature(layer).create(path=("start",))
        present = Signal(layer, reset_less=True)  # whose experts are read
        rows, done = Signal(16), Signal()
        offered, accepted = Signal(name="layer_offered"), Signal(name="layer_accepted")
        sinks = {
            "block": (block.command.valid, block.command.ready),
            "parameters": (parameters.command.valid, parameters.command.ready),
            "attention": (attention.valid, attention.ready),
            "present": (offered, accepted),
        }
        following = issue_to_all(m, start, sinks)["payload"]
        m.d.comb += [start.payload[name].eq(getattr(registers, name)) for name in fields]
        for name in names:
            address = Cat(getattr(registers, f"{name}_low"), getattr(registers, f"{name}_high"))
            m.d.comb += start.payload[name].eq(address)
        m.d.comb += [
            start.valid.eq(registers.start_start),
            block.command.payload.tokens.eq(following.tokens),
            block.command.payload.experts.eq(following.mode),
            parameters.command.payload.base.eq(following.parameters),
            parameters.command.payload.experts.eq(following.mode),
            attention.payload.expert.eq(0),
            accepted.eq(rows == 0),
            experts.payload.expert.eq(block.jobs.payload.expert),
            experts.payload.stride.eq(present.expert_stride),
            experts.valid.eq(block.jobs.valid & (rows != 0)),
            block.jobs.ready.eq(experts.ready & (rows != 0)),
        ]
        for port, base in enumerate(experts.payload.bases):
            m.d.comb += base.eq(present[f"weight{port}"])
        for port, base in enumerate(attention.payload.bases):
            m.d.comb += base.eq(following[f"attention{port}"])
        with m.If(done):
            m.d.sync += rows.eq(rows - 1)
        with m.If(offered & accepted):
            m.d.sync += [present.eq(following), rows.eq(following.tokens)]
        refused, waits = Signal(), Signal()
        m.d.comb += [refused.eq(start.valid & ~start.ready), waits.eq(~start.ready)]
        return {"rows": rows, "row_done": done, "refused": refused, "waits": waits}

    def _features(self, m: Module, block: Any, state: dict[str, Signal]) -> None:
        """Lead the features through, and count the rows that are out."""
        row_beats = self.sizes.block.msa.row_beats
        beat, last, goes = Signal(range(max(2, row_beats))), Signal(), Signal()
        m.d.comb += [
            block.inputs.payload.as_value().eq(self.s_axis_features_tdata),
            block.inputs.valid.eq(self.s_axis_features_tvalid),
            self.s_axis_features_tready.eq(block.inputs.ready),
            self.m_axis_features_tdata.eq(block.results.payload.as_value()),
            self.m_axis_features_tvalid.eq(block.results.valid),
            block.results.ready.eq(self.m_axis_features_tready),
            last.eq(beat == row_beats - 1),
            goes.eq(block.results.valid & block.results.ready),
            self.m_axis_features_tlast.eq(last & (state["rows"] == 1)),
            state["row_done"].eq(goes & last),
        ]
        with m.If(goes):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))

    def _status(self, m: Module, registers: Any, state: dict[str, Signal], error: Any) -> None:
        """Show sizes and state; keep the sticky errors and the cycle counter."""
        busy = state["waits"] | (state["rows"] != 0)
        clear = registers.start_clear & registers.data[0]
        errors, cycles = Signal(2), Signal(32)
        m.d.sync += [
            errors.eq(Mux(clear, 0, errors) | Cat(error, state["refused"])),
            cycles.eq(Mux(clear, 0, cycles + busy)),
        ]
        m.d.comb += [
            registers.read_identity.eq(IDENTITY),
            registers.read_point.eq(self.identifier),
            registers.read_expert_beats.eq(self.sizes.expert_beats),
            registers.read_attention_beats.eq(self.sizes.attention_beats),
            registers.read_status.eq(Cat(busy, state["waits"])),
            registers.read_error.eq(errors),
            registers.read_cycles.eq(cycles),
        ]
