"""What lanes of bfloat16 arithmetic share: registers, parts of a number, shifts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

__all__ = ["held", "lost", "normalised", "shifted", "unpacked"]


def held(m: Module, enable: Value, name: str, *values: Value) -> list[Value]:
    """Return the values of the enabled cycle before."""
    registers: list[Value] = []
    for number, value in enumerate(values):
        register = Signal(value.shape(), name=f"{name}_{number}", reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(value)
        registers.append(register)
    return registers


def unpacked(number: Value) -> tuple[Value, Value]:
    """Return mantissa and exponent of a bfloat16: mantissa * 2^(exponent - 134) is its magnitude.

    A subnormal number, and zero, has a mantissa below 128 and the exponent 1.
    """
    exponent = number[7:15]
    return Cat(number[:7], exponent.any()), exponent | ~exponent.any()


def lost(value: Value, amount: Value) -> Value:
    """Return whether a shift to the right loses a one."""
    return (value & ((Const(1, 1) << amount) - 1)[: len(value)]).any()


def shifted(value: Value, amount: Value) -> Value:
    """Return the value shifted to the right, with a one in its lowest bit if it loses any."""
    return (value >> amount) | lost(value, amount)


def normalised(m: Module, value: Value, name: str) -> tuple[Value, Value]:
    """Return an unsigned value without its leading zeros, and their number; no register.

    The value keeps its width. That of zero is 0, with a number that means nothing.
    """
    bits, places = len(value), []
    for power in reversed(range((bits - 1).bit_length())):
        empty = Signal(name=f"{name}_empty_{power}")
        moved = Signal(bits, name=f"{name}_moved_{power}")
        m.d.comb += [
            empty.eq(~value[bits - (1 << power) :].any()),
            moved.eq(Mux(empty, value << (1 << power), value)),
        ]
        value = moved
        places.append(empty)
    return value, Cat(reversed(places))
