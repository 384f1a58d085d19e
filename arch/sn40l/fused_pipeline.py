"""A fused pipeline of SN40L's units: its sizes, and the programs (docs/sn40l-pipeline.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.arch.sn40l.compute_program import ComputeProgram, Operand, Operation, Stage
from headrace.arch.sn40l.compute_unit import ComputeUnitSizes
from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.errors import InputError

__all__ = ["COMPUTE", "MEMORIES", "FusedPipelineSizes", "FusedPrograms"]

MEMORIES: Mapping[str, bool] = {
    "inputs": False,
    "second": False,
    "first": True,
    "factors": True,
    "scaled": True,
}
"""Memory units, and whether every chain has one of its own."""

COMPUTE = ("gemm0", "multiply", "gemm1")
"""Compute units of a chain."""

_WORD_BITS = 16


@dataclass(frozen=True, kw_only=True)
class FusedPrograms:
    """A batch's programs, the same for every chain.

    Attributes
    ----------
    write, read : mapping of str to MemoryProgram
        By the name of a memory.
    compute : mapping of str to ComputeProgram
        By the name of a compute unit.
    """

    write: Mapping[str, MemoryProgram]
    read: Mapping[str, MemoryProgram]
    compute: Mapping[str, ComputeProgram]


@dataclass(frozen=True, kw_only=True)
class FusedPipelineSizes:
    """Sizes of ``second @ transpose((first @ x) * factors)``, tile x after tile.

    x is (depth, columns), first (rows, depth), factors (rows, columns), second (outputs, columns).
    Every chain has the same share of `rows`.

    Parameters
    ----------
    unit : ComputeUnitSizes
        Of every compute unit; at least 2 lanes.
    chains : int
        1 to 8.
    depth : int
    rows : int
        A share is a multiple of the unit's stages and of its tile's rows.
    columns : int
        A multiple of the tile's rows.
    outputs : int
        A multiple of the stages.

    Raises
    ------
    InputError
        A size is out of range.
    """

    unit: ComputeUnitSizes
    chains: int = 1
    depth: int
    rows: int
    columns: int
    outputs: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.unit.lanes < 2:
            raise InputError("lanes = 1 is not allowed: at least 2, the banks of a memory unit")
        if not 1 <= self.chains <= 8:
            raise InputError(f"chains = {self.chains} is not allowed: 1 to 8")
        stages, tile = self.unit.stages, self.unit.tile_rows
        steps = {
            "depth": (1,),
            "rows": (self.chains * stages, self.chains * tile),
            "columns": (tile,),
            "outputs": (stages,),
        }
        for name, parts in steps.items():
            value = getattr(self, name)
            if value < 1 or any(value % part for part in parts):
                wanted = " and of ".join(map(str, parts))
                raise InputError(f"{name} = {value} is not allowed: a multiple of {wanted}")

    @property
    def share(self) -> int:
        """Rows of a chain."""
        return self.rows // self.chains

    @property
    def width(self) -> int:
        """Words of a vector of operands: a power of two that holds a beat of the right stream."""
        return _power(self.unit.right_values)

    @property
    def pitch(self) -> int:
        """Words from row to row of what is transposed."""
        return _power(self.columns)

    @property
    def halves(self) -> Mapping[str, int]:
        """Words of each of the two buffers of a memory."""
        words = {
            "inputs": self.depth * self.columns,
            "second": self.columns * self.outputs,
            "first": self.depth * self.share,
            "factors": self.share * self.columns,
            "scaled": self.share * self.pitch,
        }
        return {name: _power(max(count, self.width)) for name, count in words.items()}

    @property
    def memories(self) -> Mapping[str, MemoryUnitSizes]:
        """Sizes of the memory units."""
        found = {}
        for name, half in self.halves.items():
            banks = self.unit.lanes if name in ("inputs", "scaled") else self.width
            found[name] = MemoryUnitSizes(
                banks=banks,
                word_bits=_WORD_BITS,
                depth=2 * half // banks,
                sequence_bits=1,
                address_bits=(2 * half).bit_length(),
            )
        return found

    @property
    def steps(self) -> tuple[int, int]:
        """Cycles per tile for which the arrays of the two products take beats, without a gap."""
        tile = self.unit.tile_rows * self.unit.stages
        beats = self.unit.interleave
        return (
            self.columns * self.share // tile * self.depth * beats,
            self.share * self.outputs // tile * self.columns * beats,
        )

    @property
    def result_beats(self) -> int:
        """Beats of a chain's results per tile: row by row of (outputs, share) by tiles of rows."""
        return self.outputs * self.share // self.unit.lanes

    def programs(self, batches: Sequence[int]) -> list[FusedPrograms]:
        """Return the programs of batches in turn.

        A batch has its own operands, which are loaded while the one before is at work.

        Parameters
        ----------
        batches : sequence of int
            Tiles of each; at least 1.

        Raises
        ------
        InputError
            A batch has too many tiles for a command.
        """
        found = []
        for number, tiles in enumerate(batches):
            before = sum(batches[:number])
            odd = {name: number % 2 for name in MEMORIES} | dict.fromkeys(
                ("inputs", "scaled"), before % 2
            )
            more = {
                name: {"limit": half, "origin": odd[name] * half, "flip": half, "buffered": True}
                for name, half in self.halves.items()
            }
            found.append(self._batch(tiles, more))
        return found

    def _batch(self, tiles: int, more: Mapping[str, Any]) -> FusedPrograms:
        """Return the programs of so many tiles; `more` has each memory's buffers."""
        more = {name: dict(buffers) for name, buffers in more.items()}
        for name in ("inputs", "scaled"):
            more[name]["runs"] = tiles
        more["scaled"]["stripe_shift"] = self.pitch.bit_length() - 1
        loads = {
            "inputs": self.depth * self.columns,
            "second": self.columns * self.outputs,
            "first": self.depth * self.share,
            "factors": self.share * self.columns,
        }
        banks = {name: sizes.banks for name, sizes in self.memories.items()}
        nests = {
            "inputs": self._left(self.columns, self.depth, self.share, row=1, step=self.columns),
            "first": self._right(self.columns, self.depth, self.share, tiles),
            "factors": self._across(self.columns, tiles),
            "scaled": self._left(self.share, self.columns, self.outputs, row=self.pitch, step=1),
            "second": self._right(self.share, self.columns, self.outputs, tiles),
        }
        linear: dict[str, dict[str, Any]] = {
            name: {"counts": (-(-words // banks[name]),), "strides": (banks[name],)}
            for name, words in loads.items()
        }
        linear["scaled"] = self._across(self.pitch)
        scale = Stage(operation=Operation.MULTIPLY, right=Operand.RIGHT)
        beats = tiles * self.share * self.columns // self.unit.lanes
        arrays = tiles * self.share // self.unit.tile_rows * self.outputs // self.unit.stages
        first = tiles * self.columns // self.unit.tile_rows * self.share // self.unit.stages
        return FusedPrograms(
            write={name: MemoryProgram(**nest, **more[name]) for name, nest in linear.items()},
            read={name: MemoryProgram(**nest, **more[name]) for name, nest in nests.items()},
            compute={
                "gemm0": ComputeProgram(count=first, depth=self.depth),
                "multiply": ComputeProgram(count=beats, stages=(scale,)),
                "gemm1": ComputeProgram(count=arrays, depth=self.columns),
            },
        )

    def _left(self, rows: int, depth: int, columns: int, *, row: int, step: int) -> dict[str, Any]:
        """Return the nest of a left factor (rows, depth) with the strides `row` and `step`."""
        unit = self.unit
        counts = (unit.interleave, depth, columns // unit.stages, rows // unit.tile_rows)
        strides = (unit.lanes * row, step, 0, unit.tile_rows * row)
        return {"counts": counts, "strides": strides, "lane_stride": row}

    def _right(self, rows: int, depth: int, columns: int, tiles: int) -> dict[str, Any]:
        """Return the nest of a right factor (depth, columns), whole for each tile of rows."""
        stages = self.unit.stages
        counts = (depth, columns // stages, rows // self.unit.tile_rows, tiles)
        return {"counts": counts, "strides": (columns, stages, 0, 0)}

    def _across(self, pitch: int, tiles: int = 1) -> dict[str, Any]:
        """Return the nest of (share, columns) in the order of the first product's results."""
        unit = self.unit
        counts = (unit.interleave, self.share, self.columns // unit.tile_rows, tiles)
        return {"counts": counts, "strides": (unit.lanes, pitch, unit.tile_rows, 0)}


def _power(words: int) -> int:
    """Return the smallest power of two that is not less."""
    return 1 << (words - 1).bit_length()
