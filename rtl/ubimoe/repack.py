"""What lies between UbiMoE's kernels inside a block: other beats, and commands for all of them."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Repack", "bits_of", "connect_bits", "issue_to_all", "repacked", "value_of"]


class Repack(wiring.Component):
    """Beats of one width as beats of another one, a multiple or a divisor; the order stays.

    No cycle of latency: a wide beat is offered with the last of its narrow ones, a narrow one out
    of the wide beat that waits at the input.

    Parameters
    ----------
    source_bits, sink_bits : int
        Bits of a beat; one divides the other.

    Attributes
    ----------
    inputs, results : stream
        Unsigned numbers of `source_bits` and `sink_bits`.
    """

    def __init__(self, source_bits: int, sink_bits: int) -> None:
        if source_bits % sink_bits and sink_bits % source_bits:
            raise ValueError("one width must divide the other")
        self.source_bits, self.sink_bits = source_bits, sink_bits
        super().__init__(
            {
                "inputs": In(stream.Signature(unsigned(source_bits))),
                "results": Out(stream.Signature(unsigned(sink_bits))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        beat, result = self.inputs.payload, self.results.payload
        narrow, wide = sorted((self.source_bits, self.sink_bits))
        parts = wide // narrow
        part = Signal(range(max(2, parts)))
        last = part == parts - 1
        step = Signal()
        with m.If(step):
            m.d.sync += part.eq(part + 1)
            with m.If(last):
                m.d.sync += part.eq(0)
        if self.source_bits >= self.sink_bits:
            with m.Switch(part):
                for number in range(parts):
                    with m.Case(number):
                        m.d.comb += result.eq(beat.word_select(number, narrow))
            m.d.comb += [
                self.results.valid.eq(self.inputs.valid),
                self.inputs.ready.eq(self.results.ready & last),
                step.eq(self.results.valid & self.results.ready),
            ]
            return m
        held = Signal(wide - narrow, reset_less=True)
        with m.If(step):
            # shifted in from above: with the last beat the first one is lowest
            m.d.sync += held.eq(Cat(held, beat)[narrow:])
        m.d.comb += [
            result.eq(Cat(held, beat)),
            self.results.valid.eq(self.inputs.valid & last),
            self.inputs.ready.eq(self.results.ready | ~last),
            step.eq(self.inputs.valid & self.inputs.ready),
        ]
        return m


def value_of(port: Any) -> Value:
    """Return the payload of a stream as one value."""
    return Value.cast(port.payload)


def bits_of(port: Any) -> int:
    """Return the bits of the payload of a stream."""
    return len(value_of(port))


def repacked(m: Module, name: str, source: Any, bits: int) -> Any:
    """Return a stream in beats of `bits` bits: the source, or what a `Repack` makes of it."""
    if bits_of(source) == bits:
        return source
    m.submodules[name] = repack = Repack(bits_of(source), bits)
    connect_bits(m, source, repack.inputs)
    return repack.results


def connect_bits(m: Module, source: Any, sink: Any) -> None:
    """Connect two streams whose payloads have the same bits, whatever their layouts are."""
    m.d.comb += [
        sink.valid.eq(source.valid),
        Value.cast(sink.payload).eq(Value.cast(source.payload)),
        source.ready.eq(sink.ready),
    ]


def issue_to_all(m: Module, command: Any, sinks: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Offer each command to all sinks, each taking it when it can.

    The next command is taken when all have taken this one.

    Parameters
    ----------
    m : Module
    command : stream
    sinks : mapping of str to (valid, ready)
        Where it is offered; the payloads are the caller's.

    Returns
    -------
    dict of str to Signal
        Which sinks have not taken the present command, and `payload`, the command.
    """
    pending = {name: Signal(name=f"{name}_pending") for name in sinks}
    held = Signal(command.payload.shape(), name="command_held")
    m.d.comb += command.ready.eq(~Cat(pending.values()).any())
    for name, (valid, ready) in sinks.items():
        m.d.comb += valid.eq(pending[name])
        with m.If(ready):
            m.d.sync += pending[name].eq(0)
    with m.If(command.valid & command.ready):
        m.d.sync += [held.eq(command.payload), *(flag.eq(1) for flag in pending.values())]
    return {**pending, "payload": held}
