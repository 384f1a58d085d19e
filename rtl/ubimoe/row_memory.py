"""The memories of Q, K and V between the linear kernel and the streaming attention."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS, Formats
from headrace.arch.ubimoe.msa_block import MsaBlockSizes

__all__ = ["QkvRows", "RowReader", "operand"]


def operand(value: Any, formats: Formats) -> Any:
    """Return a wide value as an operand: shifted, then wrapped, or saturated where that is so."""
    shifted = value >> formats.operand_shift
    bits = formats.operand_bits
    if not formats.saturates:
        return shifted[:bits].as_signed()
    limit = (1 << (bits - 1)) - 1
    kept = Mux(shifted > limit, limit, Mux(shifted < -limit - 1, -limit - 1, shifted))
    return kept[:bits].as_signed()


class RowReader(wiring.Component):
    """A memory of rows and what reads them, in order, again and again if asked.

    A row is read when it is whole, one word per cycle; with `replay` in the order of the steps of
    the streaming attention: row s mod N in step s. The last step is found without a division: the
    last row, N - 1, is the one of lane j in group g, counted in the first pass; it meets its
    last key in step g N + j + N - 1.

    Parameters
    ----------
    sizes : MsaBlockSizes
    replay : bool
        Read all steps; otherwise each row once.

    Attributes
    ----------
    begin : In(1)
        Read the rows of a new sequence. Only while not `running`.
    tokens : In(16)
        N, at least `attention_lanes`; stays while `running`.
    rows : In(16)
        Rows of the sequence that are whole.
    write : In(1)
    address, word : In
        What is written, if `write`.
    running : Out(1)
        There are words still to be read.
    results : stream
        Words of `tile_out` operands.
    """

    def __init__(self, sizes: MsaBlockSizes, replay: bool) -> None:
        self.sizes, self.replay = sizes, replay
        super().__init__(
            {
                "begin": In(1),
                "tokens": In(16),
                "rows": In(16),
                "write": In(1),
                "address": In(range(sizes.row_memory_words)),
                "word": In(sizes.row_memory_word_bits),
                "running": Out(1),
                "results": Out(stream.Signature(unsigned(sizes.row_memory_word_bits))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.memory = memory = Memory(
            shape=unsigned(sizes.row_memory_word_bits), depth=sizes.row_memory_words, init=[]
        )
        writer, reader = memory.write_port(), memory.read_port()
        running, full, step = Signal(), Signal(), Signal()
        row, address = Signal(16), Signal(range(sizes.row_memory_words), name="read_address")
        tile, again = Signal(range(max(2, sizes.row_tiles))), Signal()
        end_of_row = tile == sizes.row_tiles - 1
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
            m.d.sync += [full.eq(1), tile.eq(tile + 1), address.eq(address + sizes.max_tokens)]
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
        if not self.replay:
            return end_of_pass
        lanes = self.sizes.attention_lanes
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
        operands = stream.Signature(unsigned(sizes.row_memory_word_bits))
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
        readers = {name: RowReader(sizes, replay=name != "queries") for name in ports}
        tokens, rows = Signal(16), Signal(16)
        writing, begin = Signal(), Signal()
        take = Signal()
        address, part = self._walk(m, begin, take, rows, writing)
        busy = writing | Cat(reader.running for reader in readers.values()).any()
        word = Cat(operand(self.inputs.payload[i], sizes.formats) for i in range(sizes.tile_out))
        m.d.comb += [
            self.command.ready.eq(~busy),
            begin.eq(self.command.valid & self.command.ready),
            self.writing.eq(writing),
            self.inputs.ready.eq(writing),
            take.eq(self.inputs.valid & writing),
        ]
        with m.If(begin):
            m.d.sync += tokens.eq(self.command.payload.tokens)
        for number, (name, reader) in enumerate(readers.items()):
            m.submodules[name] = reader
            wiring.connect(m, reader.results, wiring.flipped(ports[name]))
            m.d.comb += [
                reader.begin.eq(begin),
                reader.tokens.eq(tokens),
                reader.rows.eq(rows),
                reader.write.eq(take & (part == number)),
                reader.address.eq(address),
                reader.word.eq(word),
            ]
        return m

    def _walk(
        self, m: Module, begin: Signal, take: Signal, rows: Signal, writing: Signal
    ) -> tuple[Any, Signal]:
        """Follow the order of the results: return the present one's address and which of Q, K, V.

        `rows`: those before the present group, which are whole.
        """
        sizes = self.sizes
        left, lane = Signal(16), Signal(range(max(2, sizes.linear_lanes)), name="row_lane")
        tile, base = Signal(range(max(2, sizes.row_tiles))), Signal(range(sizes.row_memory_words))
        part = Signal(2)
        last_group = left <= sizes.linear_lanes
        group = Mux(last_group, left, sizes.linear_lanes)
        with m.If(take):
            m.d.sync += lane.eq(lane + 1)
            with m.If(lane == group - 1):
                m.d.sync += [lane.eq(0), tile.eq(tile + 1), base.eq(base + sizes.max_tokens)]
                with m.If(tile == sizes.row_tiles - 1):
                    m.d.sync += [tile.eq(0), base.eq(0), part.eq(part + 1)]
                    with m.If(part == 2):
                        m.d.sync += [part.eq(0), left.eq(left - group), rows.eq(rows + group)]
                        with m.If(last_group):
                            m.d.sync += writing.eq(0)
        with m.If(begin):
            m.d.sync += [writing.eq(1), rows.eq(0), left.eq(self.command.payload.tokens)]
        return (base + rows + lane)[: base.shape().width], part
