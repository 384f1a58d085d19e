"""The counters of a memory unit's address generator."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.memory_unit import COUNT_BITS, MemoryUnitSizes

__all__ = ["VectorWalk", "program_layout", "walk_layout"]


def program_layout(sizes: MemoryUnitSizes, *, sequenced: bool) -> data.StructLayout:
    """Return the layout of a command (`MemoryProgram.fields`).

    Without `sequenced`, that of a read, there is no `sequence_stride`.
    """
    address, place = unsigned(sizes.address_bits), unsigned(sizes.place_bits)
    count, shift = unsigned(COUNT_BITS), unsigned(sizes.shift_bits)
    fields: dict[str, Any] = {
        "base": address,
        "strides": data.ArrayLayout(address, sizes.levels),
        "lasts": data.ArrayLayout(count, sizes.levels),
        "lane_stride": address,
        "limit": unsigned(sizes.place_bits + 1),
        "origin": place,
        "flip": place,
        "last_run": count,
        "bank_shift": shift,
        "stripe_shift": shift,
        "striped": unsigned(1),
        "buffered": unsigned(1),
    }
    return data.StructLayout(fields | ({"sequence_stride": address} if sequenced else {}))


def walk_layout(sizes: MemoryUnitSizes) -> data.StructLayout:
    """Return the layout of a vector's step.

    `address` of its first lane, `flipped`: whether its run is in the other buffer, `end`: of its
    run, `last`: of its command.
    """
    bit = unsigned(1)
    fields = {"address": unsigned(sizes.address_bits), "flipped": bit, "end": bit, "last": bit}
    return data.StructLayout(fields)


class VectorWalk(wiring.Component):
    """Take programs, and give the address of one vector after another.

    Each counter keeps the address with which its present iteration began; the innermost one's is
    the vector's. A step adds one stride to one of them, and the counters inside begin there.

    Parameters
    ----------
    sizes : MemoryUnitSizes
    sequenced : bool
        Whether programs have a `sequence_stride`.

    Attributes
    ----------
    command : In stream
        `program_layout`; the next one is taken in the cycle after `finished`.
    program : Out
        The present one.
    buffer : In(1)
        A run that waits for a buffer may begin.
    begins : Out(1)
        It does, in this cycle.
    finished : In(1)
        The last vector of the program has left the unit's pipeline.
    vectors : Out stream
        `walk_layout`.
    """

    def __init__(self, sizes: MemoryUnitSizes, *, sequenced: bool) -> None:
        self.sizes = sizes
        self._program = program_layout(sizes, sequenced=sequenced)
        super().__init__(
            {
                "command": In(stream.Signature(self._program)),
                "program": Out(self._program),
                "buffer": In(1),
                "begins": Out(1),
                "finished": In(1),
                "vectors": Out(stream.Signature(walk_layout(sizes))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        active, stepping, begun, flipped = (
            Signal(name=name) for name in ("active", "stepping", "begun", "flipped")
        )
        run = Signal(COUNT_BITS)
        taken, step, last_run = Signal(), Signal(), Signal()
        program, vectors = self.program, self.vectors
        waits = program.buffered & ~begun
        address, end = self._count(m, taken, step)
        m.d.comb += [
            self.command.ready.eq(~active),
            taken.eq(self.command.valid & self.command.ready),
            last_run.eq(run == program.last_run),
            vectors.valid.eq(stepping & (self.buffer | ~waits)),
            step.eq(vectors.valid & vectors.ready),
            self.begins.eq(step & waits),
            vectors.payload.address.eq(address),
            vectors.payload.flipped.eq(flipped),
            vectors.payload.end.eq(end),
            vectors.payload.last.eq(end & last_run),
        ]
        with m.If(taken):
            m.d.sync += [program.eq(self.command.payload), active.eq(1), stepping.eq(1)]
        with m.If(self.finished):
            m.d.sync += active.eq(0)
        with m.If(step):
            m.d.sync += begun.eq(~end)
            with m.If(end):
                m.d.sync += [run.eq(run + 1), flipped.eq(~flipped)]
                with m.If(last_run):
                    m.d.sync += [run.eq(0), flipped.eq(0), stepping.eq(0)]
        return m

    def _count(self, m: Module, taken: Signal, step: Signal) -> tuple[Signal, Signal]:
        """Count the steps of a run; return the present address, and whether the run ends here."""
        sizes, program = self.sizes, self.program
        starts = [Signal(sizes.address_bits, name=f"start_{i}") for i in range(sizes.levels)]
        indices = [Signal(COUNT_BITS, name=f"index_{i}") for i in range(sizes.levels)]
        wraps = [Signal(name=f"wraps_{i}") for i in range(sizes.levels)]
        following, end = Signal(sizes.address_bits), Signal()
        m.d.comb += [
            wrap.eq(index == last)
            for wrap, index, last in zip(wraps, indices, program.lasts, strict=True)
        ]
        m.d.comb += [following.eq(program.base), end.eq(Cat(wraps).all())]
        for level in reversed(range(sizes.levels)):
            with m.If(~wraps[level]):
                m.d.comb += following.eq(starts[level] + program.strides[level])
        for level, (start, index) in enumerate(zip(starts, indices, strict=True)):
            carried = Cat(wraps[:level]).all() if level else 1
            with m.If(step & carried):
                m.d.sync += [start.eq(following), index.eq(Mux(wraps[level], 0, index + 1))]
            with m.If(taken):
                m.d.sync += [start.eq(self.command.payload.base), index.eq(0)]
        return starts[0], end
