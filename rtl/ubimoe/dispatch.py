"""Dispatch of tokens to experts: one queue per expert."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.dispatch import SCORE_BITS, DispatchSizes

__all__ = ["Dispatch", "choices_layout"]


def choices_layout(top_k: int) -> Any:
    """Return the layout of a token's choices: `top_k` times {`expert` 8, `score` 23}, by rank."""
    return data.ArrayLayout(
        data.StructLayout({"expert": unsigned(8), "score": unsigned(SCORE_BITS)}), top_k
    )


def _lowest(mask: Value, number: Signal) -> Module:
    """Return a module that sets `number` to the lowest set bit: the last assignment wins."""
    m = Module()
    for bit in reversed(range(len(mask))):
        with m.If(mask[bit]):
            m.d.comb += number.eq(bit)
    return m


class Dispatch(wiring.Component):
    """Sort the choices of all tokens by expert.

    A queue for each expert in one memory: the choices of a token are appended one per cycle, then
    the queues are read, the lowest expert first. A command of N tokens accepted in cycle 0 takes
    one choice per cycle from cycle 1 on, offers the first job in cycle N top_k + 1, the first row
    in the cycle after, and one row per cycle.

    Parameters
    ----------
    sizes : DispatchSizes

    Attributes
    ----------
    command : In stream
        `tokens` (16 bits), 1 to max_tokens; accepted when the work before it has been given.
    choices : In stream
        `choices_layout`, per token; the experts of a token differ and are below `experts`.
    jobs : Out stream
        `expert` (8), `rows` (16): the experts with at least one row, ascending.
    rows : Out stream
        `token` (16), `score` (23): all rows of the jobs in that order, tokens ascending inside a
        job. Independent of `jobs`.
    """

    def __init__(self, sizes: DispatchSizes) -> None:
        self.sizes = sizes
        command = data.StructLayout({"tokens": unsigned(16)})
        job = data.StructLayout({"expert": unsigned(8), "rows": unsigned(16)})
        row = data.StructLayout({"token": unsigned(16), "score": unsigned(SCORE_BITS)})
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "choices": In(stream.Signature(choices_layout(sizes.top_k))),
                "jobs": Out(stream.Signature(job)),
                "rows": Out(stream.Signature(row)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.queues = queues = Memory(
            shape=unsigned(sizes.queue_word_bits), depth=sizes.queue_words, init=[]
        )
        counts = Array(
            Signal(sizes.token_bits + 1, name=f"count_{expert}") for expert in range(sizes.experts)
        )
        filling = Signal()
        waiting = Signal(sizes.experts)  # experts whose job has not been given
        unread = Signal(sizes.experts)  # experts whose queue has not been read to its end
        idle = ~filling & ~waiting.any() & ~unread.any()
        m.d.comb += self.command.ready.eq(idle)
        left = Signal(16)
        with m.If(self.command.valid & idle):
            m.d.sync += [filling.eq(1), left.eq(self.command.payload.tokens)]
            m.d.sync += [count.eq(0) for count in counts]
        self._fill(m, queues, counts, filling, left, waiting, unread)
        self._give_jobs(m, counts, filling, waiting)
        self._give_rows(m, queues, counts, filling, unread)
        return m

    def _fill(
        self,
        m: Module,
        queues: Any,
        counts: Array,
        filling: Signal,
        left: Signal,
        waiting: Signal,
        unread: Signal,
    ) -> None:
        """Append one choice per cycle; a beat stays at the port until its last choice."""
        sizes = self.sizes
        writer = queues.write_port()
        token = Signal(sizes.token_bits)
        rank = Signal(max(1, (sizes.top_k - 1).bit_length()))
        last = rank == sizes.top_k - 1
        choices = [self.choices.payload[i] for i in range(sizes.top_k)]
        expert = Array(choice.expert[: sizes.expert_bits] for choice in choices)[rank]
        score = Array(choice.score for choice in choices)[rank]
        count = counts[expert]
        m.d.comb += [
            self.choices.ready.eq(filling & last),
            writer.en.eq(filling & self.choices.valid),
            writer.addr.eq(Cat(count[: sizes.token_bits], expert)),
            writer.data.eq(Cat(token, score)),
        ]
        with m.If(writer.en):
            m.d.sync += [
                count.eq(count + 1),
                waiting.bit_select(expert, 1).eq(1),
                unread.bit_select(expert, 1).eq(1),
                rank.eq(rank + 1),
            ]
            with m.If(last):
                m.d.sync += [rank.eq(0), token.eq(token + 1), left.eq(left - 1)]
                with m.If(left == 1):
                    m.d.sync += [filling.eq(0), token.eq(0)]

    def _give_jobs(self, m: Module, counts: Array, filling: Signal, waiting: Signal) -> None:
        expert = Signal(self.sizes.expert_bits, name="job_expert")
        m.submodules.job_order = _lowest(waiting, expert)
        m.d.comb += [
            self.jobs.valid.eq(~filling & waiting.any()),
            self.jobs.payload.expert.eq(expert),
            self.jobs.payload.rows.eq(counts[expert]),
        ]
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += waiting.bit_select(expert, 1).eq(0)

    def _give_rows(
        self, m: Module, queues: Any, counts: Array, filling: Signal, unread: Signal
    ) -> None:
        """Read a row whenever the one at the port leaves; the memory holds it until then."""
        sizes = self.sizes
        reader = queues.read_port()
        expert = Signal(sizes.expert_bits, name="row_expert")
        m.submodules.row_order = _lowest(unread, expert)
        place = Signal(sizes.token_bits)
        full = Signal()
        m.d.comb += [
            reader.en.eq(~filling & unread.any() & (~full | self.rows.ready)),
            reader.addr.eq(Cat(place, expert)),
            self.rows.valid.eq(full),
            self.rows.payload.token.eq(reader.data[: sizes.token_bits]),
            self.rows.payload.score.eq(reader.data[sizes.token_bits :]),
        ]
        with m.If(self.rows.ready):
            m.d.sync += full.eq(0)
        with m.If(reader.en):
            m.d.sync += [full.eq(1), place.eq(place + 1)]
            with m.If(place + 1 == counts[expert]):
                m.d.sync += [place.eq(0), unread.bit_select(expert, 1).eq(0)]
