"""Walks through the beats of the streaming attention's steps."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes

__all__ = ["StepWalker", "head_numbers"]

TOKEN_BITS = 16


def head_numbers(sizes: StreamingAttentionSizes) -> range:
    """Return the shape of a head's number: of at least one bit."""
    return range(max(sizes.heads, 2))


class StepWalker(wiring.Component):
    """Tell for every beat its place in the schedule of `headrace.arch.ubimoe.streaming_attention`.

    The first beat is there in the cycle after `begin`, the next one after each `advance`, until
    the beats of all S steps are through.

    Parameters
    ----------
    sizes : StreamingAttentionSizes

    Attributes
    ----------
    begin, tokens : In
        Start a pass over N tokens, while not `running`.
    advance : In(1)
        The beat is taken. Ignored while not `running`.
    running : Out(1)
        There is a beat.
    first, last : Out(1)
        It is the first, the last one of a head.
    head : Out
        Its head.
    starts, ends : Out(lanes)
        The lane whose row meets its first, its last key in this step; at most one bit each.
    """

    def __init__(self, sizes: StreamingAttentionSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "begin": In(1),
                "tokens": In(TOKEN_BITS),
                "advance": In(1),
                "running": Out(1),
                "first": Out(1),
                "last": Out(1),
                "head": Out(head_numbers(sizes)),
                "starts": Out(sizes.lanes),
                "ends": Out(sizes.lanes),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        running, wrapped = Signal(), Signal()
        beat, head = Signal(range(max(sizes.head_beats, 2))), Signal(head_numbers(sizes))
        counts = range(sizes.max_tokens + 1)
        key, last_key = Signal(counts), Signal(counts)
        to_start, to_end = Signal(counts), Signal(counts)
        m.d.comb += [
            self.running.eq(running),
            self.head.eq(head),
            self.first.eq(beat == 0),
            self.last.eq(beat == sizes.head_beats - 1),
        ]
        for lane in range(sizes.lanes):
            # The row begun at key j ends at key j - 1 (mod N). Before the last row has ended every
            # row that could end exists; only the keys before the first wrap end none.
            ending = (key == lane - 1) & wrapped if lane else key == last_key
            m.d.comb += [
                self.starts[lane].eq((key == lane) & to_start.any()),
                self.ends[lane].eq(ending),
            ]
        with m.If(running & self.advance):
            m.d.sync += beat.eq(Mux(self.last, 0, beat + 1))
            with m.If(self.last):
                m.d.sync += head.eq(Mux(head == sizes.heads - 1, 0, head + 1))
            with m.If(self.last & (head == sizes.heads - 1)):
                m.d.sync += [
                    key.eq(Mux(key == last_key, 0, key + 1)),
                    wrapped.eq(wrapped | (key == last_key)),
                    to_start.eq(to_start - self.starts.any()),
                    to_end.eq(to_end - self.ends.any()),
                    running.eq(~((to_end == 1) & self.ends.any())),
                ]
        with m.If(self.begin & ~running):
            m.d.sync += [
                running.eq(1),
                wrapped.eq(0),
                key.eq(0),
                last_key.eq(self.tokens - 1),
                to_start.eq(self.tokens),
                to_end.eq(self.tokens),
            ]
        return m
