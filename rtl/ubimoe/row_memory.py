"""The memories of Q, K and V between the linear kernel and the streaming attention."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS, Formats
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.arch.ubimoe.row_memory import RowMemorySizes

__all__ = ["GroupWalker", "QkvRows", "RowReader", "operand", "operands_of"]


def operand(value: Any, formats: Formats) -> Any:
    """Return a wide value as an operand: shifted, then wrapped, or saturated where that is so."""
    shifted = value >> formats.operand_shift
    bits = formats.operand_bits
    if not formats.saturates:
        return shifted[:bits].as_signed()
    limit = (1 << (bits - 1)) - 1
    kept = Mux(shifted > limit, limit, Mux(shifted < -limit - 1, -limit - 1, shifted))
    return kept[:bits].as_signed()


def operands_of(values: Any, formats: Formats) -> Any:
    """Return an array of wide values as the bits of so many operands."""
    return Cat(operand(values[i], formats) for i in range(len(values)))


class RowReader(wiring.Component):
    """A memory of rows and what reads them, in order, again and again if asked.

    A row is read when it is whole, one word per cycle; with `lanes` in the order of the steps of
    the streaming attention: row s mod N in step s. The last step is found without a division: the
    last row, N - 1, is the one of lane j in group g, counted in the first pass; it meets its
    last key in step g N + j + N - 1.

    Parameters
    ----------
    sizes : RowMemorySizes
    lanes : int, optional
        Lanes of the attention whose steps are read; by default each row is read once.

    Attributes
    ----------
    begin : In(1)
        Read the rows of a new sequence. Only while not `running`.
    tokens : In(16)
        N, at least `lanes`; stays while `running`.
    rows : In(16)
        Rows of the sequence that are whole.
    write : In(1)
    address, word : In
        What is written, if `write`.
    running : Out(1)
        There are words still to be read.
    results : stream
        Words.
    """

    def __init__(self, sizes: RowMemorySizes, lanes: int | None = None) -> None:
        self.sizes, self.lanes = sizes, lanes
        super().__init__(
            {
                "begin": In(1),
                "tokens": In(16),
                "rows": In(16),
                "write": In(1),
                "address": In(range(sizes.words)),
                "word": In(sizes.word_bits),
                "running": Out(1),
                "results": Out(stream.Signature(unsigned(sizes.word_bits))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.memory = memory = Memory(
            shape=unsigned(sizes.word_bits), depth=sizes.words, init=[]
        )
        writer, reader = memory.write_port(), memory.read_port()
        running, full, step = Signal(), Signal(), Signal()
        row, address = Signal(16), Signal(range(sizes.words), name="read_address")
        tile, again = Signal(range(max(2, sizes.tiles))), Signal()
        end_of_row = tile == sizes.tiles - 1
        end_of_pass = row == self.tokens - 1
        m.d.comb += [
            writer.en.eq(self.write),
            writer.addr.eq(self.address),
            writer.data.eq(self.word),
            self.running.eq(running),
            step.eq(running & (again | (row < self.rows)) & (~full | self.results.ready)),
            reader.en.eq(step),
            reader.addr.eq(address),
            self.results.valid.eq(full),
            self.results.payload.eq(reader.data),
        ]
        last_row = self._last_row(m, row, end_of_pass, step & end_of_row)
        with m.If(self.results.ready):
            m.d.sync += full.eq(0)
        with m.If(step):
            m.d.sync += [full.eq(1), tile.eq(tile + 1), address.eq(address + sizes.rows)]
            with m.If(end_of_row):
                m.d.sync += [tile.eq(0), row.eq(row + 1), address.eq(row + 1)]
                with m.If(end_of_pass):
                    m.d.sync += [row.eq(0), address.eq(0), again.eq(1)]
                with m.If(last_row):
                    m.d.sync += running.eq(0)
        with m.If(self.begin):
            m.d.sync += [running.eq(1), row.eq(0), address.eq(0), again.eq(0)]
        return m

    def _last_row(self, m: Module, row: Signal, end_of_pass: Any, step: Any) -> Any:
        """Return whether the present row is the last one of the sequence to be read."""
        lanes = self.lanes
        if lanes is None:
            return end_of_pass
        lane, group, passes = Signal(range(max(2, lanes))), Signal(16), Signal(16)
        first_pass = passes == 0
        with m.If(step):
            with m.If(end_of_pass):
                m.d.sync += passes.eq(passes + 1)
            with m.Elif(first_pass):
                m.d.sync += lane.eq(lane + 1)
                with m.If(lane == lanes - 1):
                    m.d.sync += [lane.eq(0), group.eq(group + 1)]
        with m.If(self.begin):
            m.d.sync += [lane.eq(0), group.eq(0), passes.eq(0)]
        return Mux(
            lane == 0,
            (passes == group) & end_of_pass,
            (passes == group + 1) & (row == lane - 1),
        )


class GroupWalker(wiring.Component):
    """Follow words in the order in which the linear kernel gives results.

    Group by group; in a group the words of each part (Q, K, V) one after the other, of each word
    the rows of the group.

    Parameters
    ----------
    sizes : RowMemorySizes
    parts : int
        Memories that take their words in turn.

    Attributes
    ----------
    begin, tokens : In(1), In(16)
        A new sequence of rows. Only while not `writing`.
    take : In(1)
        The present word is there. Only while `writing`.
    writing : Out(1)
        Words are still to come.
    address, part : Out
        Of the present word.
    rows : Out(16)
        Those before the present group, which are whole.
    """

    def __init__(self, sizes: RowMemorySizes, parts: int = 1) -> None:
        self.sizes, self.parts = sizes, parts
        super().__init__(
            {
                "begin": In(1),
                "tokens": In(16),
                "take": In(1),
                "writing": Out(1),
                "address": Out(range(sizes.words)),
                "part": Out(range(max(2, parts))),
                "rows": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes, rows, part = self.sizes, self.rows, self.part
        left, lane = Signal(16), Signal(range(max(2, sizes.lanes)))
        tile, base = Signal(range(max(2, sizes.tiles))), Signal(range(sizes.words))
        last_group = left <= sizes.lanes
        group = Mux(last_group, left, sizes.lanes)
        m.d.comb += self.address.eq(base + rows + lane)
        with m.If(self.take):
            m.d.sync += lane.eq(lane + 1)
            with m.If(lane == group - 1):
                m.d.sync += [lane.eq(0), tile.eq(tile + 1), base.eq(base + sizes.rows)]
                with m.If(tile == sizes.tiles - 1):
                    m.d.sync += [tile.eq(0), base.eq(0), part.eq(part + 1)]
                    with m.If(part == self.parts - 1):
                        m.d.sync += [part.eq(0), left.eq(left - group), rows.eq(rows + group)]
                        with m.If(last_group):
                            m.d.sync += self.writing.eq(0)
        with m.If(self.begin):
            m.d.sync += [self.writing.eq(1), rows.eq(0), left.eq(self.tokens)]
        return m


class QkvRows(wiring.Component):
    """Sort the results of the QKV linear into three memories and read them for the attention.

    A result is narrowed to an operand when it is written. Results come group by group, in a group
    the tiles of Q, K and V, of each tile the rows of the group. The next sequence is taken when
    all reads of this one are done.

    Parameters
    ----------
    sizes : MsaBlockSizes

    Attributes
    ----------
    command : stream
        `tokens` (16 bits).
    inputs : stream
        `tile_out` wide values, in the order of the linear kernel.
    writing : Out(1)
        Results of the sequence are still to come.
    queries, keys, values : stream
        `tile_out` operands: N rows of queries, S rows of the others (`RowReader`).
    """

    def __init__(self, sizes: MsaBlockSizes) -> None:
        self.sizes = sizes
        command = data.StructLayout({"tokens": unsigned(16)})
        wide = data.ArrayLayout(signed(WIDE_BITS), sizes.tile_out)
        operands = stream.Signature(unsigned(sizes.row_memory.word_bits))
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "inputs": In(stream.Signature(wide)),
                "writing": Out(1),
                "queries": Out(operands),
                "keys": Out(operands),
                "values": Out(operands),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        ports = {"queries": self.queries, "keys": self.keys, "values": self.values}
        lanes = {"queries": None, "keys": sizes.attention_lanes, "values": sizes.attention_lanes}
        readers = {name: RowReader(sizes.row_memory, lanes[name]) for name in ports}
        m.submodules.walker = walker = GroupWalker(sizes.row_memory, len(ports))
        tokens, begin = Signal(16), Signal()
        busy = walker.writing | Cat(reader.running for reader in readers.values()).any()
        m.d.comb += [
            self.command.ready.eq(~busy),
            begin.eq(self.command.valid & self.command.ready),
            walker.begin.eq(begin),
            walker.tokens.eq(self.command.payload.tokens),
            walker.take.eq(self.inputs.valid & walker.writing),
            self.writing.eq(walker.writing),
            self.inputs.ready.eq(walker.writing),
        ]
        with m.If(begin):
            m.d.sync += tokens.eq(self.command.payload.tokens)
        for number, (name, reader) in enumerate(readers.items()):
            m.submodules[name] = reader
            wiring.connect(m, reader.results, wiring.flipped(ports[name]))
            m.d.comb += [
                reader.begin.eq(begin),
                reader.tokens.eq(tokens),
                reader.rows.eq(walker.rows),
                reader.write.eq(walker.take & (walker.part == number)),
                reader.address.eq(walker.address),
                reader.word.eq(operands_of(self.inputs.payload, sizes.formats)),
            ]
        return m
