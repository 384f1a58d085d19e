"""The points of a design as numbers: a mixed-radix index over everything its rules allow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from headrace.arch.axis import Axis, Value
from headrace.arch.design import Design
from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.search.permutation import permuted

__all__ = ["Block", "Space", "code", "parse_choices"]

_MOST_TIED = 4_000_000
_MOST_POINTS = 1 << 62
_ROWS_PER_BLOCK = 1024


@dataclass(frozen=True)
class Block:
    """Axes that rules tie together, with every combination the rules allow.

    `table` has shape (combinations, axes) and holds codes in the order of `axes`.
    """

    axes: tuple[int, ...]
    table: NDArray[Any]


class Space:
    """All points of a design that its axes' choices and its rules allow.

    Axes that no rule ties together are free; those that share a rule form a block whose allowed
    combinations are listed once. So every index from 0 to `size` - 1 is a valid point, and there
    are no others: nothing is rejected when enumerating or sampling.

    Parameters
    ----------
    design : Design
        Its constraints' `knobs` must name every axis that the rule reads.
    choices : mapping of str to sequence of Value, optional
        Values to enumerate instead of those of the axis; one value fixes it. They may be any
        value that the axis allows.

    Raises
    ------
    InputError
        An unknown axis, a value that is not allowed, no value at all, or nothing that obeys the
        rules.
    """

    def __init__(self, design: Design, choices: Mapping[str, Sequence[Value]] | None = None):
        self.design = design
        self.axes = design.axes
        choices = choices or {}
        for name in choices:
            design.axis(name)
        self.choices = tuple(_narrow(axis, choices.get(axis.name)) for axis in self.axes)
        real = any(type(axis.default) is float for axis in self.axes)
        self.dtype: Any = np.float64 if real else np.int32
        self.blocks = tuple(self._block(axes) for axes in _tied(design))
        self.combinations = prod(len(values) for values in self.choices)
        self.size = prod(len(block.table) for block in self.blocks)
        if self.size > _MOST_POINTS:
            raise InputError(f"{design.name}: {self.size} points are too many: at most 2^62")
        self._layout = self._lay_out()

    def _block(self, members: tuple[int, ...]) -> Block:
        sizes = [len(self.choices[a]) for a in members]
        if prod(sizes) > _MOST_TIED:
            names = ", ".join(self.axes[a].name for a in members)
            raise InputError(
                f"{self.design.name}: {prod(sizes)} combinations of {names} are too many: at most "
                f"{_MOST_TIED}; give some of them fewer values"
            )
        digits = np.unravel_index(np.arange(prod(sizes)), sizes)
        columns = {
            self.axes[a].name: np.array(self.choices[a])[digit]
            for a, digit in zip(members, digits, strict=True)
        }
        keep = np.ones(prod(sizes), np.bool_)
        for rule in self.design.constraints:
            if set(rule.knobs) <= set(columns):
                keep &= rule.holds(columns)
                if not keep.any():
                    raise InputError(
                        f"{self.design.name}: no point obeys {rule.name}: {rule.rule} needed"
                    )
        codes = [
            np.array([code(self.axes[a], v) for v in self.choices[a]], self.dtype)[digit[keep]]
            for a, digit in zip(members, digits, strict=True)
        ]
        return Block(members, np.ascontiguousarray(np.stack(codes, axis=1)))

    def _lay_out(self) -> tuple[NDArray[Any], ...]:
        """Flatten the blocks for the compiled decoder, the last block running fastest."""
        radix = np.array([len(b.table) for b in self.blocks], np.int64)
        width = np.array([len(b.axes) for b in self.blocks], np.int64)
        members = np.array([a for b in self.blocks for a in b.axes], np.int64)
        flat = np.concatenate([b.table.ravel() for b in self.blocks])
        offset = np.cumsum([0, *(b.table.size for b in self.blocks[:-1])]).astype(np.int64)
        return radix, width, members, flat, offset

    def rows(self, indices: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the points at `indices` as codes; fastest where one index follows the other.

        Parameters
        ----------
        indices : int64 array, shape (n,)
        out : array of at least n rows, optional
            Where to write them, as an earlier call returned it.

        Returns
        -------
        int32 array (float64 if the design has real axes), shape (n, axes)
            Numbers as they are, false and true as 0 and 1, names as their position in
            ``axis.choices``.

        Raises
        ------
        InputError
            An index is not in the space.
        """
        n = len(indices)
        if n and not 0 <= indices.min() <= indices.max() < self.size:
            raise InputError(f"an index is not allowed: 0 to {self.size - 1}")
        rows = np.empty((n, len(self.axes)), self.dtype) if out is None else out[:n]
        decode = _decode_all if n > _ROWS_PER_BLOCK else _decode
        decode(np.ascontiguousarray(indices, np.int64), *self._layout, rows)
        return rows

    def range(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the indices `start` to `stop` - 1."""
        return np.arange(start, min(stop, self.size), dtype=np.int64)

    def sample(self, start: int, stop: int, seed: int) -> NDArray[np.int64]:
        """Return samples `start` to `stop` - 1 of the random order with `seed`.

        All points are equally likely and none comes twice: `size` samples are the whole space.
        """
        return permuted(start, min(stop, self.size), self.size, seed)

    def index(self, point: Point) -> int:
        """Return the index of `point`.

        Raises
        ------
        InputError
            The point is not in this space.
        """
        row = self.encode([point])[0]
        index = 0
        for block in self.blocks:
            found = np.flatnonzero((block.table == row[list(block.axes)]).all(axis=1))
            if not len(found):
                names = ", ".join(self.axes[a].name for a in block.axes)
                raise InputError(f"point {point.hash[:12]} is not in the space: see {names}")
            index = index * len(block.table) + int(found[0])
        return index

    def neighbours(self, index: int) -> NDArray[np.int64]:
        """Return the indices of all points that differ from `index` on exactly one axis."""
        found = []
        step = 1
        for block in reversed(self.blocks):
            digit = index // step % len(block.table)
            near = (block.table != block.table[digit]).sum(axis=1) == 1
            found.append(index + (np.flatnonzero(near) - digit) * step)
            step *= len(block.table)
        return np.sort(np.concatenate(found)).astype(np.int64)

    def encode(self, points: Iterable[Point]) -> NDArray[Any]:
        """Return any points of the design as codes, shape (n, axes), see `rows`."""
        coded = [[code(axis, point[axis.name]) for axis in self.axes] for point in points]
        return np.array(coded, self.dtype).reshape(-1, len(self.axes))

    def decode(self, row: NDArray[Any]) -> Point:
        """Return the point of one row of codes."""
        values = {
            axis.name: _value(axis, number)
            for axis, number in zip(self.axes, row.tolist(), strict=True)
        }
        return self.design.point(values)


def code(axis: Axis, value: Value) -> float:
    """Return the number that stands for `value` in rows of codes."""
    return axis.choices.index(value) if isinstance(value, str) else value


def _value(axis: Axis, number: float) -> Value:
    kind = type(axis.default)
    return axis.choices[int(number)] if kind is str else kind(number)


def parse_choices(design: Design, settings: Iterable[str]) -> dict[str, tuple[Value, ...]]:
    """Parse ``axis=value`` and ``axis=value,value`` from a command line.

    Raises
    ------
    InputError
        Not of this form, an unknown axis, one that is given twice, or a value not allowed.
    """
    choices: dict[str, tuple[Value, ...]] = {}
    for setting in settings:
        name, equals, values = setting.partition("=")
        name = name.strip()
        if not equals:
            raise InputError(f"{setting!r} is not allowed: axis=value or axis=value,value needed")
        if name in choices:
            raise InputError(f"axis {name!r} is set twice")
        axis = design.axis(name)
        choices[name] = tuple(axis.parse(value.strip()) for value in values.split(","))
    return choices


def _narrow(axis: Axis, values: Sequence[Value] | None) -> tuple[Value, ...]:
    if values is None:
        return axis.choices
    if not values:
        raise InputError(f"{axis.name}: at least one value needed")
    return tuple(dict.fromkeys(axis.check(value) for value in values))


def _tied(design: Design) -> list[tuple[int, ...]]:
    """Group the axes that share a rule; groups and their members in the design's order."""
    group = {axis.name: {axis.name} for axis in design.axes}
    for rule in design.constraints:
        joined = set().union(*(group[knob] for knob in rule.knobs))
        for name in joined:
            group[name] = joined
    place = {axis.name: i for i, axis in enumerate(design.axes)}
    return sorted({tuple(sorted(place[name] for name in names)) for names in group.values()})


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _decode(
    indices: NDArray[np.int64],
    radix: NDArray[np.int64],
    width: NDArray[np.int64],
    members: NDArray[np.int64],
    flat: NDArray[Any],
    offset: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Fill the rows of `out`; a row after its neighbour is that with the digits that change."""
    digits = np.zeros(len(radix), np.int64)
    before = np.int64(-1)
    for i in range(len(indices)):
        index = indices[i]
        first = 0
        if i > 0 and index == before + 1:
            for a in range(out.shape[1]):
                out[i, a] = out[i - 1, a]
            first = len(radix) - 1
            digits[first] += 1
            while digits[first] == radix[first]:
                digits[first] = 0
                first -= 1
                digits[first] += 1
        else:
            rest = np.uint64(index)
            for b in range(len(radix) - 1, -1, -1):
                base = np.uint64(radix[b])
                if base > 1:
                    digits[b] = np.int64(rest % base)
                    rest //= base
        before = index
        end = len(members)
        for b in range(len(radix) - 1, first - 1, -1):
            begin = end - width[b]
            entry = offset[b] + digits[b] * width[b]
            for m in range(begin, end):
                out[i, members[m]] = flat[entry + m - begin]
            end = begin


@njit(cache=True, nogil=True, parallel=True)  # type: ignore[untyped-decorator]
def _decode_all(
    indices: NDArray[np.int64],
    radix: NDArray[np.int64],
    width: NDArray[np.int64],
    members: NDArray[np.int64],
    flat: NDArray[Any],
    offset: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Do what `_decode` does on all cores."""
    for block in prange((len(indices) + _ROWS_PER_BLOCK - 1) // _ROWS_PER_BLOCK):
        first, last = block * _ROWS_PER_BLOCK, (block + 1) * _ROWS_PER_BLOCK
        _decode(indices[first:last], radix, width, members, flat, offset, out[first:last])
