"""Sizes, commands and cycles of SN40L's launch controller (docs/sn40l-memory.md, "launch")."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from headrace.errors import InputError

__all__ = ["Kind", "LaunchCommand", "LaunchSizes", "Table"]


class Kind(IntEnum):
    """What a command does."""

    PROGRAM = 0
    ARGUMENTS = 1
    EXECUTE = 2
    SCHEDULE = 3


class Table(IntEnum):
    """Memories of the controller."""

    PROGRAMS = 0
    ARGUMENTS = 1
    SCHEDULE = 2


@dataclass(frozen=True, kw_only=True)
class LaunchSizes:
    """Sizes of the launch controller; none of them is published.

    Parameters
    ----------
    units : int
        Units that it configures and starts, 1 to 64.
    word_bits : int
        Bits of a word of a program, 1 to 64.
    unit_words : int
        Words of a unit's program, 2 to 256.
    programs, arguments, schedule : int
        Words of programs, words of arguments and commands that are stored, 2 to 65536.

    Raises
    ------
    InputError
        A size is out of range.
    """

    units: int = 8
    word_bits: int = 32
    unit_words: int = 16
    programs: int = 1024
    arguments: int = 256
    schedule: int = 256

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {"units": (1, 64), "word_bits": (1, 64), "unit_words": (2, 256)}
        ranges |= dict.fromkeys(("programs", "arguments", "schedule"), (2, 65536))
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")

    @property
    def address_bits(self) -> int:
        """Bits of the number of a word or command in its memory."""
        return (max(self.programs, self.arguments, self.schedule) - 1).bit_length()

    @property
    def index_bits(self) -> int:
        """Bits of the number of a word in a unit's program."""
        return (self.unit_words - 1).bit_length()

    @property
    def command_bits(self) -> int:
        """Bits of a command."""
        return 2 + 2 * self.address_bits + self.index_bits + self.units

    @property
    def stored_bits(self) -> int:
        """Bits of a word or command to store."""
        return max(self.word_bits, self.command_bits)

    def host_cycles(self, steps: Sequence[int], round_trip: int = 0) -> int:
        """Return the cycles of commands that the host gives one after the other.

        From the first command to the last completion, both included.

        Parameters
        ----------
        steps : sequence of int, cycles
            Of each command (`LaunchCommand.cycles`).
        round_trip : int, cycles
            From a completion to the command after it.
        """
        return sum(cycles + 1 for cycles in steps) + round_trip * (len(steps) - 1) + 1

    def schedule_cycles(self, steps: Sequence[int]) -> int:
        """Return the cycles of a schedule, from its command to its completion, both included.

        Parameters
        ----------
        steps : sequence of int, cycles
            Of each of its commands (`LaunchCommand.cycles`).
        """
        return sum(cycles + 1 for cycles in steps) + 2


@dataclass(frozen=True, kw_only=True)
class LaunchCommand:
    """A command, from the host or of a schedule.

    Parameters
    ----------
    kind : Kind
    units : tuple of int
        Units that are configured or started; none for a schedule.
    address, count : int
        First word or command in its memory, and how many; 0 and 1 to execute.
    index : int
        Where the first word goes in the units' programs; 0 unless `kind` loads words.
    """

    kind: Kind
    units: tuple[int, ...] = ()
    address: int = 0
    count: int = 1
    index: int = 0

    def word(self, sizes: LaunchSizes) -> int:
        """Return the command's payload.

        Raises
        ------
        InputError
            A number is out of the range that `sizes` allow.
        """
        self._check(sizes)
        word, lowest = 0, 0
        mask = sum(1 << unit for unit in set(self.units))
        address = sizes.address_bits
        fields = (
            (self.kind, 2),
            (self.address, address),
            (self.count - 1, address),
            (self.index, sizes.index_bits),
            (mask, sizes.units),
        )
        for value, bits in fields:
            word |= value << lowest
            lowest += bits
        return word

    def _check(self, sizes: LaunchSizes) -> None:
        """Raise InputError unless the numbers are in their ranges."""
        words = {
            Kind.PROGRAM: sizes.programs,
            Kind.ARGUMENTS: sizes.arguments,
            Kind.EXECUTE: 1,
            Kind.SCHEDULE: sizes.schedule,
        }[self.kind]
        indices = sizes.unit_words if self.kind in (Kind.PROGRAM, Kind.ARGUMENTS) else 1
        most = min(words - self.address, indices - self.index if indices > 1 else words)
        for name, value, least, largest in (
            ("address", self.address, 0, words - 1),
            ("index", self.index, 0, indices - 1),
            ("count", self.count, 1, most),
            *(("unit", unit, 0, sizes.units - 1) for unit in self.units),
        ):
            if not least <= value <= largest:
                raise InputError(
                    f"{self.kind.name.lower()}: {name} = {value} is not allowed:"
                    f" {least} to {largest}"
                )
        if bool(self.units) == (self.kind is Kind.SCHEDULE):
            need = "none" if self.units else "at least one"
            raise InputError(
                f"{self.kind.name.lower()}: {len(self.units)} units are not allowed: {need}"
            )

    def cycles(self, units: int = 0) -> int:
        """Return the cycles that a command holds the controller for.

        Parameters
        ----------
        units : int, cycles
            To execute: from the start to the last done token, both included; at least 2.

        Raises
        ------
        InputError
            It is a schedule, which has those of its commands, or units take less than 2 cycles.
        """
        if self.kind is Kind.SCHEDULE:
            raise InputError("schedule: see schedule_cycles")
        if self.kind is not Kind.EXECUTE:
            return self.count + 1
        if units < 2:
            raise InputError(f"execute: {units} cycles of units are not allowed: at least 2")
        return units
