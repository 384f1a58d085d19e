"""From a vector's address to the bank and row of each of its lanes."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.rtl.sn40l.stream_register import StreamRegister
from headrace.rtl.sn40l.vector_walk import walk_layout

__all__ = ["VectorPlaces", "carrying", "places_layout"]


def carrying(layout: data.StructLayout, bits: int) -> data.StructLayout:
    """Return a layout with a field `carried` of so many bits after its own."""
    fields = {name: field.shape for name, field in layout}
    return data.StructLayout({**fields, "carried": unsigned(bits)})


def places_layout(sizes: MemoryUnitSizes) -> data.StructLayout:
    """Return the layout of a vector's places: `banks`, `rows`, `inside`, `end`, `last`."""
    return data.StructLayout(
        {
            "banks": data.ArrayLayout(unsigned(sizes.bank_bits), sizes.banks),
            "rows": data.ArrayLayout(unsigned(sizes.row_bits), sizes.banks),
            "inside": unsigned(sizes.banks),
            "end": unsigned(1),
            "last": unsigned(1),
        }
    )


def _lanes_layout(sizes: MemoryUnitSizes) -> data.StructLayout:
    addresses = data.ArrayLayout(unsigned(sizes.address_bits), sizes.banks)
    bit = unsigned(1)
    return data.StructLayout({"addresses": addresses, "flipped": bit, "end": bit, "last": bit})


class VectorPlaces(wiring.Component):
    """Two stages: the addresses of the lanes; their places, banks and rows. No multiplier.

    Parameters
    ----------
    sizes : MemoryUnitSizes
    program : StructLayout
        Of the program.
    carried_bits : int
        Bits that go with a vector.

    Attributes
    ----------
    program : In
        Stays while its vectors are here.
    vectors : In stream
        `walk_layout` with `carried`.
    places : Out stream
        `places_layout` with `carried`, 2 cycles later.
    """

    def __init__(
        self, sizes: MemoryUnitSizes, program: data.StructLayout, carried_bits: int
    ) -> None:
        self.sizes = sizes
        self._lanes = carrying(_lanes_layout(sizes), carried_bits)
        self._places = carrying(places_layout(sizes), carried_bits)
        vectors = carrying(walk_layout(sizes), carried_bits)
        super().__init__(
            {
                "program": In(program),
                "vectors": In(stream.Signature(vectors)),
                "places": Out(stream.Signature(self._places)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        m.submodules.lanes = lanes = StreamRegister(self._lanes)
        m.submodules.placed = placed = StreamRegister(self._places)
        self._add_lanes(m, lanes)
        m.d.comb += [
            placed.source.valid.eq(lanes.sink.valid),
            lanes.sink.ready.eq(placed.source.ready),
        ]
        one, two, program = lanes.sink.payload, placed.source.payload, self.program
        origin = Signal(self.sizes.place_bits)
        m.d.comb += origin.eq(program.origin ^ Mux(one.flipped, program.flip, 0))
        for lane in range(self.sizes.banks):
            bank, row = self._place(m, lane, one.addresses[lane], origin)
            m.d.comb += [
                two.banks[lane].eq(bank),
                two.rows[lane].eq(row),
                two.inside[lane].eq(one.addresses[lane] < program.limit),
            ]
        m.d.comb += [getattr(two, f).eq(getattr(one, f)) for f in ("end", "last", "carried")]
        wiring.connect(m, placed.sink, wiring.flipped(self.places))
        return m

    def _add_lanes(self, m: Module, lanes: StreamRegister) -> None:
        """Add a multiple of the stride for each lane: double that of another, or one more."""
        source, item = self.vectors.payload, lanes.source.payload
        offsets: list[Value] = [Const(0, self.sizes.address_bits)]
        for lane in range(1, self.sizes.banks):
            offset = Signal(self.sizes.address_bits, name=f"offset_{lane}")
            half = offsets[lane // 2] << 1
            m.d.comb += offset.eq(half + self.program.lane_stride if lane % 2 else half)
            offsets.append(offset)
        m.d.comb += [
            lanes.source.valid.eq(self.vectors.valid),
            self.vectors.ready.eq(lanes.source.ready),
        ]
        m.d.comb += [a.eq(source.address + o) for a, o in zip(item.addresses, offsets, strict=True)]
        m.d.comb += [
            getattr(item, f).eq(getattr(source, f)) for f in ("flipped", "end", "last", "carried")
        ]

    def _place(self, m: Module, lane: int, address: Value, origin: Value) -> tuple[Value, Value]:
        """Return bank and row of an address."""
        sizes, program = self.sizes, self.program
        place = Signal(sizes.place_bits, name=f"place_{lane}")
        m.d.comb += place.eq(address + origin)
        stripe = Mux(program.striped, place >> program.stripe_shift, 0)
        bank = (place >> program.bank_shift) + stripe
        row = [
            Mux(program.bank_shift > bit, place[bit], place[bit + sizes.bank_bits])
            for bit in range(sizes.row_bits)
        ]
        return bank, Cat(row)
