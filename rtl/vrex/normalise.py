"""Numbers shifted until their highest bit is a one."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value

__all__ = ["normalised"]


def normalised(m: Module, value: Value, name: str) -> tuple[Value, Value]:
    """Return an unsigned value without its leading zeros, and their number; no register.

    The value keeps its width. That of zero is 0, with a number that means nothing.
    """
    bits, places = len(value), []
    for power in reversed(range((bits - 1).bit_length())):
        empty = Signal(name=f"{name}_empty_{power}")
        shifted = Signal(bits, name=f"{name}_shifted_{power}")
        m.d.comb += [
            empty.eq(~value[bits - (1 << power) :].any()),
            shifted.eq(Mux(empty, value << (1 << power), value)),
        ]
        value = shifted
        places.append(empty)
    return value, Cat(reversed(places))
