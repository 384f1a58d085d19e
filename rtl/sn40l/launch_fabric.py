"""Between the launch controller and the units: registers of programs, starts, done tokens."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Shape, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.launch import LaunchSizes
from headrace.errors import InputError
from headrace.rtl.sn40l.launch import configuration_layout

__all__ = ["LaunchFabric"]


class LaunchFabric(wiring.Component):
    """Keep a program for each unit, and hand it to the unit when it is started.

    Parameters
    ----------
    sizes : LaunchSizes
    programs : sequence of shape-like
        Of each unit's program, which lies in its words from the lowest bit on.

    Attributes
    ----------
    configuration, start, done : In, In, Out stream
        As the controller (`Launch`) has them.
    program_0, ... : Out stream
        To each unit, once per start.
    token_0, ... : In stream
        1 bit, from each unit: it is done if 1; a 0 has no effect.

    Raises
    ------
    InputError
        There are not as many programs as units, or one has more bits than the words.
    """

    def __init__(self, sizes: LaunchSizes, programs: Sequence[Any]) -> None:
        if len(programs) != sizes.units:
            raise InputError(f"{len(programs)} programs are not allowed: {sizes.units} needed")
        self.sizes = sizes
        members: dict[str, Any] = {
            "configuration": In(stream.Signature(configuration_layout(sizes))),
            "start": In(stream.Signature(unsigned(sizes.units))),
            "done": Out(stream.Signature(unsigned(sizes.units))),
        }
        for number, shape in enumerate(programs):
            bits, most = Shape.cast(shape).width, sizes.unit_words * sizes.word_bits
            if bits > most:
                raise InputError(f"program {number}: {bits} bits are not allowed: {most} at most")
            members[f"program_{number}"] = Out(stream.Signature(shape))
            members[f"token_{number}"] = In(stream.Signature(1))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes, item = self.sizes, self.configuration.payload
        reached = Signal(sizes.units)
        m.d.comb += [
            self.configuration.ready.eq(1),
            self.start.ready.eq(1),
            self.done.valid.eq(reached.any()),
            self.done.payload.eq(reached),
        ]
        tokens = []
        for number in range(sizes.units):
            program, token = (getattr(self, f"{name}_{number}") for name in ("program", "token"))
            words = Signal(
                data.ArrayLayout(unsigned(sizes.word_bits), sizes.unit_words),
                name=f"words_{number}",
            )
            m.d.comb += [program.payload.eq(words.as_value()), token.ready.eq(1)]
            with m.If(self.configuration.valid & item.units[number]):
                m.d.sync += words[item.index].eq(item.word)
            with m.If(program.ready):
                m.d.sync += program.valid.eq(0)
            with m.If(self.start.valid & self.start.payload[number]):
                m.d.sync += program.valid.eq(1)
            tokens.append(token.valid & token.payload)
        kept = Signal(sizes.units)
        with m.If(~self.done.ready):
            m.d.comb += kept.eq(reached)
        m.d.sync += reached.eq(kept | Cat(tokens))
        return m
