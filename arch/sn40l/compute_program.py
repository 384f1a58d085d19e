"""What a command tells the compute unit: its mode, what each stage does, and its tail."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from headrace.errors import InputError

__all__ = [
    "COUNT_BITS",
    "HEAD_FIELDS",
    "STAGE_FIELDS",
    "ComputeProgram",
    "Operand",
    "Operation",
    "Reduction",
    "Stage",
    "TailFunction",
]

COUNT_BITS = 16
"""Of numbers of beats, of tiles, and of products per sum."""

HEAD_FIELDS: Mapping[str, int] = {
    "systolic": 1,
    "right": 1,
    "count": COUNT_BITS,
    "depth": COUNT_BITS,
    "reduction": 2,
    "relu": 1,
    "stochastic": 1,
    "function": 2,
    "seed": 16,
}
"""Fields of a command, lowest first, and their bits; behind them those of every stage."""

STAGE_FIELDS: Mapping[str, int] = {"operation": 2, "left": 2, "right": 2, "constant": 32}


class Operation(IntEnum):
    """What a stage does with its operands, all of them float32; the first one passes."""

    PASS = 0
    ADD = 1
    MULTIPLY = 2
    MAXIMUM = 3


class Operand(IntEnum):
    """Where an operand of a stage comes from; stage 0 has the left stream before it."""

    PREVIOUS = 0
    LEFT = 1
    RIGHT = 2
    CONSTANT = 3


class Reduction(IntEnum):
    """What happens to the lanes of a beat."""

    NONE = 0
    SUM = 1
    MAXIMUM = 2


class TailFunction(IntEnum):
    """What the tail makes of a bfloat16 number x: the nearest bfloat16."""

    NONE = 0
    RECIPROCAL = 1
    EXPONENTIAL = 2
    """exp(-|x|)."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the SIMD pipeline.

    Parameters
    ----------
    operation : Operation
    left, right : Operand
    constant : int
        Pattern of a float32.
    """

    operation: Operation = Operation.PASS
    left: Operand = Operand.PREVIOUS
    right: Operand = Operand.CONSTANT
    constant: int = 0

    def __post_init__(self) -> None:
        """Check the constant."""
        _check("constant", self.constant, 0, 0xFFFFFFFF)

    @property
    def reads_right(self) -> bool:
        """Whether an operand comes from the right stream."""
        two = self.operation is not Operation.PASS
        return self.left is Operand.RIGHT or (two and self.right is Operand.RIGHT)


@dataclass(frozen=True, kw_only=True)
class ComputeProgram:
    """A command.

    Parameters
    ----------
    count : int
        Beats, or tiles of a systolic command, 1 to 65535.
    depth : int
        Products per sum of a systolic command, 1 to 65535; 0: SIMD.
    stages : tuple of Stage
        Of a SIMD command; those not named pass.
    reduction : Reduction
        Lane 0 of a result has the reduced lanes, the others +0.
    relu, stochastic : bool
        Negative sums become +0; rounding is by chance.
    function : TailFunction
        Of the rounded number.
    seed : int
        Of the random numbers, 16 bits.

    Raises
    ------
    InputError
        A number is out of range, or a systolic command has stages.
    """

    count: int
    depth: int = 0
    stages: tuple[Stage, ...] = ()
    reduction: Reduction = Reduction.NONE
    relu: bool = False
    stochastic: bool = False
    function: TailFunction = TailFunction.NONE
    seed: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check("count", self.count, 1, (1 << COUNT_BITS) - 1)
        _check("depth", self.depth, 0, (1 << COUNT_BITS) - 1)
        _check("seed", self.seed, 0, 0xFFFF)
        if self.systolic and self.stages:
            raise InputError("stages are not allowed with a depth: its stages multiply and add")

    @property
    def systolic(self) -> bool:
        """Whether the unit is an array of sums."""
        return self.depth > 0

    @property
    def reads_right(self) -> bool:
        """Whether beats of the right stream are taken."""
        return self.systolic or any(stage.reads_right for stage in self.stages)

    def word(self, stages: int) -> int:
        """Return the command as one number of all its bits.

        Parameters
        ----------
        stages : int
            Of the unit.

        Raises
        ------
        InputError
            The unit has fewer stages than the program.
        """
        _check("stages", len(self.stages), 0, stages)
        fields = {
            **{name: getattr(self, name) for name in HEAD_FIELDS if name != "right"},
            "right": self.reads_right,
        }
        rows = [(HEAD_FIELDS, fields)]
        for stage in (*self.stages, *[Stage()] * (stages - len(self.stages))):
            rows.append((STAGE_FIELDS, {name: getattr(stage, name) for name in STAGE_FIELDS}))
        word = place = 0
        for bits, numbers in rows:
            for name, width in bits.items():
                word |= int(numbers[name]) << place
                place += width
        return word


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
