"""Sizes of the compute unit, and its cycles (docs/sn40l-units.md, "compute_unit")."""

from dataclasses import dataclass

from headrace.arch.sn40l.compute_program import ComputeProgram, Reduction
from headrace.arch.sn40l.floating import ADD_STEPS, MULTIPLY_STEPS, check_registers
from headrace.errors import InputError

__all__ = ["BANKS", "ComputeUnitSizes"]

BANKS = 2
"""Tiles of sums in an array: one grows, one leaves."""

_TAIL = 2  # registers: rounding, function


@dataclass(frozen=True, kw_only=True)
class ComputeUnitSizes:
    """Sizes of a compute unit, those of Plasticine's by default.

    Parameters
    ----------
    lanes : int
        1 to 64, a power of two.
    stages : int
        1 to 32.
    multiply_registers, add_registers : int
        1 to `MULTIPLY_STEPS`, 1 to `ADD_STEPS`: cycles of a product and of a sum.

    Raises
    ------
    InputError
        A size is out of range.
    """

    lanes: int = 16
    stages: int = 6
    multiply_registers: int = MULTIPLY_STEPS
    add_registers: int = ADD_STEPS

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.lanes not in (1, 2, 4, 8, 16, 32, 64):
            raise InputError(f"lanes = {self.lanes} is not allowed: a power of two up to 64")
        if not 1 <= self.stages <= 32:
            raise InputError(f"stages = {self.stages} is not allowed: 1 to 32")
        check_registers("multiply", self.multiply_registers, MULTIPLY_STEPS)
        check_registers("add", self.add_registers, ADD_STEPS)

    @property
    def stage_registers(self) -> int:
        """Cycles of a stage, whatever it does."""
        return max(self.multiply_registers, self.add_registers)

    @property
    def interleave(self) -> int:
        """Sums that a cell works on in turn: one is back before its next product comes.

        No less than a stage's cycles, so that columns are done no later than they are drained.
        """
        return max(self.add_registers + 1, self.multiply_registers)

    @property
    def tile_rows(self) -> int:
        """Rows of a tile; it has `stages` columns."""
        return self.lanes * self.interleave

    @property
    def drain_beats(self) -> int:
        """Beats of a tile's results."""
        return self.stages * self.interleave

    @property
    def right_values(self) -> int:
        """Values of a beat of the right stream: for every lane, or for every stage."""
        return max(self.lanes, self.stages)

    @property
    def tree_levels(self) -> int:
        """Levels of the reduction over the lanes."""
        return self.lanes.bit_length() - 1

    @property
    def first_drain(self) -> int:
        """Cycles from the last beat of a tile to the first of its sums that leaves the array.

        The last one leaves the first column `interleave` - 1 cycles later, no earlier than it is
        there.
        """
        return self.multiply_registers + self.add_registers + 2 - self.interleave

    def tail_cycles(self, reduction: Reduction) -> int:
        """Return the cycles from a sum or a last stage's value to the result."""
        reduced = reduction is not Reduction.NONE
        return _TAIL + (self.tree_levels * self.add_registers if reduced else 0)

    def results(self, program: ComputeProgram) -> int:
        """Return the beats that a command makes."""
        return program.count * (self.drain_beats if program.systolic else 1)

    def cycles(self, program: ComputeProgram) -> int:
        """Return the cycles from a command to its last result, both included.

        Nothing stalls. The next command is taken in the cycle of the last result.
        """
        tail = self.tail_cycles(program.reduction)
        if program.systolic:
            return self.last_drain(program) + 1 + tail + 1
        return program.count + self.stages * self.stage_registers + tail + 1

    def last_drain(self, program: ComputeProgram) -> int:
        """Return the cycle, after the command's, in which the last sum leaves the array.

        Tile i starts behind tile i - 1, and when tile i - `BANKS` has left; it leaves behind tile
        i - 1. With depth * interleave >= drain_beats + first_drain - 1 no tile waits.
        """
        steps = program.depth * self.interleave
        start, left = 1 - steps, [0] * BANKS
        for _ in range(program.count):
            start = max(start + steps, left[0] + 1)
            drained = max(start + steps - 1 + self.first_drain, left[-1] + 1)
            left = [*left[1:], drained + self.drain_beats - 1]
        return left[-1]
