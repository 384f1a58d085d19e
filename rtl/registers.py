"""Register maps: one table gives the RTL, the C header and the documentation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace.rtl.names import verilog_identifier

__all__ = ["WORD_BYTES", "Field", "Register", "RegisterMap", "flags", "number"]

WORD_BYTES = 4
_WORD_BITS = 32
_ACCESSES = ("read", "read/write", "command")


@dataclass(frozen=True, kw_only=True)
class Field:
    """Bits of a register.

    Parameters
    ----------
    name, summary : str
        Identifier, and what the bits mean in one line.
    low, width : int
        Lowest bit and number of bits.
    """

    name: str
    summary: str
    low: int = 0
    width: int = _WORD_BITS


@dataclass(frozen=True, kw_only=True)
class Register:
    """A 32-bit register on the control bus.

    Parameters
    ----------
    name, summary : str
        Identifier in lower case, and what it is for in one line.
    offset : int
        Byte offset, a multiple of 4.
    access : str
        ``read``: hardware drives it, writes are ignored. ``read/write``: software sets it, 0
        after reset, bits outside the fields read as 0. ``command``: a write is a pulse that
        carries the data, reads return 0.
    fields : tuple of Field
        From low to high, not overlapping.
    """

    name: str
    summary: str
    offset: int
    access: str
    fields: tuple[Field, ...]

    @property
    def width(self) -> int:
        """Bits up to the highest field."""
        return max(field.low + field.width for field in self.fields)

    @property
    def mask(self) -> int:
        """The bits that belong to a field."""
        return sum(((1 << field.width) - 1) << field.low for field in self.fields)


def number(
    name: str, offset: int, summary: str, access: str = "read/write", width: int = 16
) -> Register:
    """Return a register that holds one number of `width` bits."""
    return Register(
        name=name,
        offset=offset,
        access=access,
        summary=summary,
        fields=(Field(name="value", width=width, summary=summary),),
    )


def flags(name: str, offset: int, access: str, summary: str, *bits: tuple[str, str]) -> Register:
    """Return a register of single bits, each a name and what it means, from bit 0 on."""
    fields = tuple(
        Field(name=flag, low=bit, width=1, summary=text) for bit, (flag, text) in enumerate(bits)
    )
    return Register(name=name, offset=offset, access=access, summary=summary, fields=fields)


class RegisterMap:
    """Registers of one AXI4-Lite slave.

    Parameters
    ----------
    registers : sequence of Register
        By ascending offset.

    Raises
    ------
    ValueError
        Names or offsets clash, an offset is not a multiple of 4, or fields leave the word.
    """

    def __init__(self, registers: Sequence[Register]) -> None:
        self.registers = tuple(registers)
        offsets = [register.offset for register in registers]
        if offsets != sorted(set(offsets)) or any(offset % WORD_BYTES for offset in offsets):
            raise ValueError("offsets must be ascending multiples of 4")
        if len({register.name for register in registers}) != len(offsets):
            raise ValueError("two registers have one name")
        for register in registers:
            _check(register)

    def __iter__(self) -> Iterator[Register]:
        return iter(self.registers)

    def __getitem__(self, name: str) -> Register:
        return next(register for register in self.registers if register.name == name)

    @property
    def address_bits(self) -> int:
        """Bits of a byte address within the map."""
        return max(3, (self.registers[-1].offset + WORD_BYTES - 1).bit_length())

    def c_header(self, prefix: str) -> str:
        """Return a C header with offsets, masks and shifts.

        Parameters
        ----------
        prefix : str
            Identifier in front of every macro.
        """
        upper = verilog_identifier(prefix).upper()
        lines = [f"#ifndef {upper}_REGISTERS_H", f"#define {upper}_REGISTERS_H", ""]
        for register in self.registers:
            name = f"{upper}_{register.name.upper()}"
            lines.append(f"/* {register.summary} ({register.access}) */")
            lines.append(f"#define {name} 0x{register.offset:02x}u")
            for field in register.fields:
                mask = ((1 << field.width) - 1) << field.low
                lines.append(f"#define {name}_{field.name.upper()}_SHIFT {field.low}u")
                lines.append(f"#define {name}_{field.name.upper()}_MASK 0x{mask:08x}u")
            lines.append("")
        return "\n".join([*lines, f"#endif /* {upper}_REGISTERS_H */", ""])

    def markdown(self) -> str:
        """Return the map as a Markdown table, one line per field."""
        lines = [
            "| offset | register | access | bits | field | meaning |",
            "|---|---|---|---|---|---|",
        ]
        for register in self.registers:
            for field in register.fields:
                high = field.low + field.width - 1
                bits = f"{high}:{field.low}" if field.width > 1 else f"{field.low}"
                lines.append(
                    f"| 0x{register.offset:02x} | {register.name} | {register.access} | {bits} "
                    f"| {field.name} | {field.summary} |"
                )
        return "\n".join(lines) + "\n"


def _check(register: Register) -> None:
    verilog_identifier(register.name)
    if register.access not in _ACCESSES:
        raise ValueError(f"{register.name}: access must be one of {', '.join(_ACCESSES)}")
    end = 0
    for field in register.fields:
        verilog_identifier(field.name)
        if field.low < end or field.width < 1 or field.low + field.width > _WORD_BITS:
            raise ValueError(f"{register.name}.{field.name}: fields overlap or leave the word")
        end = field.low + field.width
