"""Scores of the experts: rows of operands times the gate's weights."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.gate import PRODUCT_STAGES, TREE_LEVELS_PER_STAGE, GateSizes

__all__ = ["GateProducts", "command_layout", "inputs_layout", "weights_layout"]


def command_layout() -> Any:
    """Return the layout of a command: `tokens` (16)."""
    return data.StructLayout({"tokens": unsigned(16)})


def inputs_layout(sizes: GateSizes) -> Any:
    """Return the layout of a beat of operands."""
    return data.ArrayLayout(signed(sizes.formats.operand_bits), sizes.dims)


def weights_layout(sizes: GateSizes) -> Any:
    """Return the layout of a beat of weights."""
    return data.ArrayLayout(signed(sizes.formats.weight_bits), sizes.dims)


class GateProducts(wiring.Component):
    """Multiply every beat of a row with the weights of one expert after the other.

    A beat stays at the port for `experts` cycles. The pipeline behind it never waits: a token's
    last beat, which completes the scores, begins only when they have room.

    Parameters
    ----------
    sizes : GateSizes

    Attributes
    ----------
    command, weights, inputs : In streams
        As in `Gate`.
    room : In(1)
        The scores of one more token may come.
    reserve : Out(1)
        They will, from the cycle `product_cycles` later on, one per cycle.
    valid, expert, score : Out
        A complete score, rule 1 without bias.
    """

    def __init__(self, sizes: GateSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "command": In(stream.Signature(command_layout())),
                "weights": In(stream.Signature(weights_layout(sizes))),
                "inputs": In(stream.Signature(inputs_layout(sizes))),
                "room": In(1),
                "reserve": Out(1),
                "valid": Out(1),
                "expert": Out(sizes.expert_bits),
                "score": Out(signed(WIDE_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        word_bits = sizes.dims * sizes.formats.weight_bits
        m.submodules.memory = memory = Memory(
            shape=unsigned(word_bits), depth=max(2, sizes.weight_words), init=[]
        )
        tokens = Signal(16)
        running, issue, last_issue = Signal(), Signal(), Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += tokens.eq(self.command.payload.tokens)
                with m.If(self.command.valid):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.weights.ready.eq(1)
                with m.If(self._load(m, memory.write_port())):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(issue & last_issue):
                    m.d.sync += tokens.eq(tokens - 1)
                    with m.If(tokens == 1):
                        m.next = "IDLE"
        reader = memory.read_port()
        first, last = self._issue(m, reader, running, issue, last_issue)
        terms = self._multiply(m, reader.data)
        self._accumulate(m, self._add(m, terms), Cat(issue, first, last))
        return m

    def _load(self, m: Module, writer: Any) -> Any:
        """Store weights: beat b of expert e in word b experts + e; return when all are."""
        sizes = self.sizes
        expert = Signal(sizes.expert_bits, name="load_expert")
        beat = Signal(16, name="load_beat")
        address = Signal(sizes.address_bits, name="load_address")
        end_of_row = beat == sizes.row_beats - 1
        done = self.weights.valid & end_of_row & (expert == sizes.experts - 1)
        m.d.comb += [
            writer.en.eq(self.weights.valid & self.weights.ready),
            writer.addr.eq(address),
            writer.data.eq(self.weights.payload.as_value()),
        ]
        with m.If(writer.en):
            m.d.sync += [beat.eq(beat + 1), address.eq(address + sizes.experts)]
            with m.If(end_of_row):
                m.d.sync += [beat.eq(0), expert.eq(expert + 1), address.eq(expert + 1)]
            with m.If(done):
                m.d.sync += [expert.eq(0), address.eq(0)]
        return done

    def _issue(
        self, m: Module, reader: Any, running: Signal, issue: Signal, last_issue: Signal
    ) -> tuple[Any, Any]:
        """Walk through experts and beats; return whether the beat is a row's first, or last."""
        sizes = self.sizes
        expert = Signal(sizes.expert_bits, name="issue_expert")
        beat = Signal(16, name="issue_beat")
        address = Signal(sizes.address_bits, name="issue_address")
        first, last = beat == 0, beat == sizes.row_beats - 1
        end_of_beat = expert == sizes.experts - 1
        completes = last & (expert == 0)
        m.d.comb += [
            issue.eq(running & self.inputs.valid & (~completes | self.room)),
            last_issue.eq(last & end_of_beat),
            self.reserve.eq(issue & completes),
            self.inputs.ready.eq(issue & end_of_beat),
            reader.en.eq(issue),
            reader.addr.eq(address),
        ]
        with m.If(issue):
            m.d.sync += [expert.eq(expert + 1), address.eq(address + 1)]
            with m.If(end_of_beat):
                m.d.sync += [expert.eq(0), beat.eq(beat + 1)]
            with m.If(last_issue):
                m.d.sync += [beat.eq(0), address.eq(0)]
        return first, last

    def _multiply(self, m: Module, word: Value) -> list[Value]:
        """Return the products, each shifted to 22 fraction bits."""
        formats = self.sizes.formats
        bits, product_bits = formats.weight_bits, formats.operand_bits + formats.weight_bits
        terms: list[Value] = []
        for i in range(self.sizes.dims):
            operand = Signal(signed(formats.operand_bits), name=f"operand_{i}", reset_less=True)
            m.d.sync += operand.eq(self.inputs.payload[i])
            value: Value = operand * word.word_select(i, bits).as_signed()
            for stage in range(PRODUCT_STAGES):
                product = Signal(signed(product_bits), name=f"product_{i}_{stage}", reset_less=True)
                m.d.sync += product.eq(value)
                value = product
            shift = formats.product_shift
            term = Signal(signed(WIDE_BITS), name=f"term_{i}")
            m.d.comb += term.eq(value >> shift if shift >= 0 else value << -shift)
            terms.append(term)
        return terms

    def _add(self, m: Module, terms: Sequence[Value]) -> Value:
        """Return the wrapped sum, with a register after every second level and the last one."""
        level = 0
        while len(terms) > 1:
            level += 1
            registered = len(terms) == 2 or level % TREE_LEVELS_PER_STAGE == 0
            sums = []
            for pair in range(0, len(terms), 2):
                node = Signal(WIDE_BITS, name=f"sum_{level}_{pair // 2}", reset_less=True)
                domain = m.d.sync if registered else m.d.comb
                domain += node.eq(sum(terms[pair + 1 : pair + 2], terms[pair]))
                sums.append(node)
            terms = sums
        return terms[0]

    def _accumulate(self, m: Module, partial: Value, tag: Value) -> None:
        """Add the beats of a row: a ring of accumulators, one per expert."""
        sizes = self.sizes
        for stage in range(sizes.product_cycles):
            after = Signal(3, name=f"tag_{stage}")
            m.d.sync += after.eq(tag)
            tag = after
        valid, first, last = tag[0], tag[1], tag[2]
        ring = [Signal(WIDE_BITS, name=f"score_{i}", reset_less=True) for i in range(sizes.experts)]
        total = Signal(WIDE_BITS)
        with m.If(first):
            m.d.comb += total.eq(partial)
        with m.Else():
            m.d.comb += total.eq(ring[-1] + partial)
        m.d.comb += [self.valid.eq(valid & last), self.score.eq(total)]
        with m.If(valid):
            m.d.sync += [after.eq(before) for before, after in pairwise([total, *ring])]
        with m.If(self.valid):
            m.d.sync += self.expert.eq(self.expert + 1)
            with m.If(self.expert == sizes.experts - 1):
                m.d.sync += self.expert.eq(0)
