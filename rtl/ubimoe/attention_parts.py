"""Small things that both parts of the streaming attention are built from."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed

from headrace.arch.tree import TREE_LEVELS_PER_STAGE
from headrace.arch.ubimoe.formats import WIDE_BITS

__all__ = ["Ring", "delayed_flags", "one_of", "wide", "wrapping_sum"]


class Ring:
    """Remember the last `length` values of a row that passes again and again.

    A shift register without reset, which becomes LUT shift registers: what was pushed `length`
    values before is `oldest`, what was pushed last is `newest`.

    Parameters
    ----------
    m : Module
    width, length : int
        Bits of a value; values, at least 1.
    name : str
    """

    def __init__(self, m: Module, width: int, length: int, name: str) -> None:
        self._module = m
        self._register = Signal(width * length, name=name, reset_less=True)
        self._width = width
        self.oldest: Value = self._register[:width]
        self.newest: Value = self._register[-width:]

    def push(self, value: Value, enable: Value) -> None:
        """Take in a value of the ring's width in every cycle with `enable`."""
        assert len(value) == self._width
        with self._module.If(enable):
            self._module.d.sync += self._register.eq(Cat(self._register[self._width :], value))


def delayed_flags(
    m: Module, valid: Value, flags: Value, stages: int, enable: Value, name: str
) -> list[tuple[Value, Value]]:
    """Return `valid` and `flags` as they were 0, 1, ..., `stages` enabled cycles before.

    Only `valid` is reset; the flags mean nothing without it.
    """
    track = [(valid, flags)]
    for stage in range(1, stages + 1):
        registers = (
            Signal(name=f"{name}_valid_{stage}"),
            Signal(len(flags), name=f"{name}_flags_{stage}", reset_less=True),
        )
        with m.If(enable):
            m.d.sync += [
                register.eq(value) for register, value in zip(registers, track[-1], strict=True)
            ]
        track.append(registers)
    return track


def one_of(chosen: Value, values: Sequence[Value]) -> Value:
    """Return the value whose bit of `chosen` is set, zero if there is none."""
    selected: Value = Mux(chosen[0], values[0], 0)
    for bit, value in zip(chosen[1:], values[1:], strict=True):
        selected |= Mux(bit, value, 0)
    return selected


def wide(value: Value) -> Value:
    """Return the low 32 bits of a signed value of any length, as a signed value."""
    if len(value) < WIDE_BITS:
        return value.as_signed()
    return value[:WIDE_BITS].as_signed()


def wrapping_sum(m: Module, terms: Sequence[Value], name: str) -> Value:
    """Return the sum of terms, wrapped to 32 bits, ceil(ceil(log2 count) / 2) cycles later.

    A register follows every second level and the last one.
    """
    level = 0
    while len(terms) > 1:
        level += 1
        registered = len(terms) == 2 or level % TREE_LEVELS_PER_STAGE == 0
        sums: list[Value] = []
        for pair in range(0, len(terms), 2):
            node = Signal(signed(WIDE_BITS), name=f"{name}_{level}_{pair // 2}", reset_less=True)
            total = sum(terms[pair + 1 : pair + 2], terms[pair])
            if registered:
                m.d.sync += node.eq(total)
            else:
                m.d.comb += node.eq(total)
            sums.append(node)
        terms = sums
    return terms[0]
