"""The memories of UbiMoE's MoE block: normalised rows by token, hidden rows of a job."""

from typing import Any

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.rtl.ubimoe.row_memory import GroupWalker, RowReader, operands_of

__all__ = ["HiddenRows", "TokenRows"]

_COUNT = data.StructLayout({"tokens": unsigned(16)})


class TokenRows(wiring.Component):
    """Keep the normalised rows of a sequence and give those that are asked for.

    Parameters
    ----------
    sizes : MoeBlockSizes

    Attributes
    ----------
    command : stream
        `tokens` (16 bits): rows to come. Only when none of the rows before is asked for any more.
    inputs : stream
        `tile_in` operands; the rows in order.
    wanted : stream
        A token (16 bits). Its row is read when it is whole; taken with its last word.
    results : stream
        `tile_in` operands; the rows as wanted.
    """

    def __init__(self, sizes: MoeBlockSizes) -> None:
        self.sizes = sizes
        word = stream.Signature(unsigned(sizes.token_memory.word_bits))
        super().__init__(
            {
                "command": In(stream.Signature(_COUNT)),
                "inputs": In(word),
                "wanted": In(stream.Signature(unsigned(16))),
                "results": Out(word),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes.token_memory
        m.submodules.walker = walker = GroupWalker(sizes)
        m.submodules.memory = memory = Memory(
            shape=unsigned(sizes.word_bits), depth=sizes.words, init=[]
        )
        writer, reader = memory.write_port(), memory.read_port()
        tile, base = Signal(range(max(2, sizes.tiles))), Signal(range(sizes.words))
        full, step = Signal(), Signal()
        last = tile == sizes.tiles - 1
        whole = self.wanted.payload < walker.rows
        m.d.comb += [
            self.command.ready.eq(~walker.writing),
            walker.begin.eq(self.command.valid & self.command.ready),
            walker.tokens.eq(self.command.payload.tokens),
            walker.take.eq(self.inputs.valid & walker.writing),
            self.inputs.ready.eq(walker.writing),
            writer.en.eq(walker.take),
            writer.addr.eq(walker.address),
            writer.data.eq(self.inputs.payload),
            step.eq(self.wanted.valid & whole & (~full | self.results.ready)),
            self.wanted.ready.eq(step & last),
            reader.en.eq(step),
            reader.addr.eq(base + self.wanted.payload),
            self.results.valid.eq(full),
            self.results.payload.eq(reader.data),
        ]
        with m.If(self.results.ready):
            m.d.sync += full.eq(0)
        with m.If(step):
            m.d.sync += [full.eq(1), tile.eq(tile + 1), base.eq(base + sizes.rows)]
            with m.If(last):
                m.d.sync += [tile.eq(0), base.eq(0)]
        return m


class HiddenRows(wiring.Component):
    """Keep the hidden rows of a job, narrowed to operands, and give them in order.

    It also knows what the linear's results are: after the last hidden one come as many rows of
    the second linear, which leave by `passed`; then the next job is taken.

    Parameters
    ----------
    sizes : MoeBlockSizes

    Attributes
    ----------
    command : stream
        `tokens` (16 bits): rows of the job.
    inputs : stream
        `tile_out` wide values: results of the first linear, then of the second.
    results : stream
        `tile_out` operands; hidden rows in order.
    passed : stream
        `tile_out` wide values: results of the second linear.
    """

    def __init__(self, sizes: MoeBlockSizes) -> None:
        self.sizes = sizes
        wide = data.ArrayLayout(signed(WIDE_BITS), sizes.tile_out)
        super().__init__(
            {
                "command": In(stream.Signature(_COUNT)),
                "inputs": In(stream.Signature(wide)),
                "results": Out(stream.Signature(unsigned(sizes.hidden_memory.word_bits))),
                "passed": Out(stream.Signature(wide)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.walker = walker = GroupWalker(sizes.hidden_memory)
        m.submodules.reader = reader = RowReader(sizes.hidden_memory)
        wiring.connect(m, reader.results, wiring.flipped(self.results))
        tokens, left, begin = Signal(16), Signal(16), Signal()
        beat = Signal(range(max(2, sizes.out_tiles[1])))
        passing = ~walker.writing & left.any()
        m.d.comb += [
            self.command.ready.eq(~walker.writing & ~left.any() & ~reader.running),
            begin.eq(self.command.valid & self.command.ready),
            walker.begin.eq(begin),
            walker.tokens.eq(self.command.payload.tokens),
            walker.take.eq(self.inputs.valid & walker.writing),
            reader.begin.eq(begin),
            reader.tokens.eq(tokens),
            reader.rows.eq(walker.rows),
            reader.write.eq(walker.take),
            reader.address.eq(walker.address),
            reader.word.eq(operands_of(self.inputs.payload, sizes.formats)),
            self.passed.valid.eq(self.inputs.valid & passing),
            self.passed.payload.eq(self.inputs.payload),
            self.inputs.ready.eq(walker.writing | (passing & self.passed.ready)),
        ]
        with m.If(begin):
            m.d.sync += [tokens.eq(self.command.payload.tokens)]
            m.d.sync += [left.eq(self.command.payload.tokens), beat.eq(0)]
        with m.If(self.passed.valid & self.passed.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == sizes.out_tiles[1] - 1):
                m.d.sync += [beat.eq(0), left.eq(left - 1)]
        return m
