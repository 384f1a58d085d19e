"""Tiles for the engine's test bench and their text form."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.arch.tellme.engine import EngineSizes
from headrace.arch.tellme.packing import pack_weights
from headrace.errors import InputError

__all__ = ["Tile", "check_tile", "format_tiles", "sample_tiles"]

_MAX_ACTIVATION = 127  # the quantiser saturates here, and a table entry has no room for -128


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """One load and one compute command with their data (docs/engine.md, "Ports").

    Parameters
    ----------
    load_rows, load_groups : int
        Row blocks and output groups of the weights.
    rows, groups, stride : int
        Row blocks, output groups and groups per row in the slot of the computation.
    beats : uint8 array, shape [beats, ceil(beat_bits / 8)]
        Weight beats, lowest byte first.
    activations : int8 array, shape [tokens, rows * block_inputs]
        Inputs of every token in -127..127, padded with zeros to whole row blocks.
    expected : int64 array, shape [tokens, groups * copies], optional
        Accumulators to compare with.
    """

    load_rows: int
    load_groups: int
    rows: int
    groups: int
    stride: int
    beats: NDArray[np.uint8]
    activations: NDArray[np.int8]
    expected: NDArray[np.int64] | None = None


def _require(holds: bool, what: str, value: object, rule: str) -> None:
    if not holds:
        raise InputError(f"{what} = {value} is not allowed: {rule} needed")


def _check_shapes(sizes: EngineSizes, tile: Tile) -> None:
    beats = (tile.load_rows * sizes.row_beats(tile.load_groups), -(-sizes.beat_bits // 8))
    _require(tile.beats.dtype == np.uint8, "dtype of beats", tile.beats.dtype, "uint8")
    _require(tile.beats.shape == beats, "shape of beats", tile.beats.shape, str(beats))
    x = tile.activations
    inputs = tile.rows * sizes.block_inputs
    _require(x.dtype == np.int8, "dtype of activations", x.dtype, "int8")
    _require(
        x.ndim == 2 and x.shape[1] == inputs and 1 <= x.shape[0] < 1 << 16,
        "shape of activations", x.shape, f"(1..65535, {inputs})",
    )  # fmt: skip
    low = int(x.min())
    _require(low >= -_MAX_ACTIVATION, "activation", low, "-127..127")
    results = (x.shape[0], tile.groups * sizes.copies)
    if tile.expected is not None:
        shape = tile.expected.shape
        _require(shape == results, "shape of expected", shape, str(results))


def check_tile(sizes: EngineSizes, tile: Tile) -> None:
    """Check a tile against the engine it is for.

    Raises
    ------
    InputError
        A command that does not fit the buffers, or data of another shape, type or range.
    """
    words, per_group = sizes.slot_words, sizes.words_per_group
    for name in ("load_rows", "load_groups", "rows", "groups", "stride"):
        _require(1 <= getattr(tile, name) < 1 << 16, name, getattr(tile, name), "1..65535")
    loaded = tile.load_rows * tile.load_groups * per_group
    _require(loaded <= words, "words of the load", loaded, f"at most {words}")
    read = ((tile.rows - 1) * tile.stride + tile.groups) * per_group
    _require(read <= loaded, "words of the computation", read, f"at most {loaded} (loaded)")
    _require(tile.groups <= sizes.max_groups, "groups", tile.groups, f"at most {sizes.max_groups}")
    _check_shapes(sizes, tile)


def _hex_words(data: NDArray[np.uint8]) -> list[str]:
    """Return one hexadecimal number per row of bytes, lowest byte first in memory."""
    return [row.tobytes().hex() for row in data[:, ::-1]]


def _transfers(sizes: EngineSizes, activations: NDArray[np.int8]) -> list[str]:
    blocks = activations.reshape(-1, sizes.block_inputs)
    spare = sizes.read_cycles * sizes.activation_lanes - sizes.block_inputs
    # Spare lanes are to be ignored, so they carry something that would be noticed.
    lanes = np.pad(blocks, ((0, 0), (0, spare)), constant_values=np.int8(85))
    return _hex_words(lanes.reshape(-1, sizes.activation_lanes).view(np.uint8))


def _format_tile(sizes: EngineSizes, tile: Tile) -> str:
    beats = _hex_words(tile.beats)
    transfers = _transfers(sizes, tile.activations)
    expected = [] if tile.expected is None else tile.expected.reshape(-1).tolist()
    head = (
        "tile", tile.load_rows, tile.load_groups, tile.rows, tile.groups, tile.stride,
        len(tile.activations), len(beats), len(transfers), len(expected),
    )  # fmt: skip
    lines = [" ".join(map(str, head)), *beats, *transfers]
    lines += [
        " ".join(map(str, expected[at : at + sizes.copies]))
        for at in range(0, len(expected), sizes.copies)
    ]
    return "\n".join(lines) + "\n"


def format_tiles(sizes: EngineSizes, tiles: Sequence[Tile]) -> str:
    """Return the test bench's file of vectors.

    Per tile one line ``tile load_rows load_groups rows groups stride tokens beats transfers
    results``, then the beats and the activation transfers in hexadecimal, one per line, then the
    expected accumulators in decimal, one output group per line.

    Raises
    ------
    InputError
        A tile does not fit the engine.
    """
    for tile in tiles:
        check_tile(sizes, tile)
    return f"tiles {len(tiles)}\n" + "".join(_format_tile(sizes, tile) for tile in tiles)


def sample_tiles(
    sizes: EngineSizes, generator: np.random.Generator, tiles: int = 2, tokens: int = 2
) -> list[Tile]:
    """Return small random tiles with their accumulators, for the emitted test bench.

    The accumulators are an integer matrix product of the ternary weights, before indices or
    packing, wrapped to ``accumulator_bits``.

    Parameters
    ----------
    sizes : EngineSizes
        The engine; a tile has at most two row blocks and two output groups.
    generator : numpy.random.Generator
        Source of weights and activations.
    tiles, tokens : int
        How many of each.
    """
    groups = min(2, sizes.max_groups, sizes.slot_words // sizes.words_per_group)
    rows = min(2, sizes.slot_words // (groups * sizes.words_per_group))
    inputs, outputs = rows * sizes.block_inputs, groups * sizes.copies
    made = []
    for _ in range(tiles):
        weights = generator.integers(-1, 2, (outputs, inputs), dtype=np.int8)
        x = generator.integers(-_MAX_ACTIVATION, _MAX_ACTIVATION + 1, (tokens, inputs))
        x[0] = _MAX_ACTIVATION * weights[0]  # the largest magnitude that one output can have
        expected = x @ weights.astype(np.int64).T
        half = 1 << (sizes.accumulator_bits - 1)
        made.append(
            Tile(
                load_rows=rows, load_groups=groups, rows=rows, groups=groups, stride=groups,
                beats=pack_weights(weights, sizes),
                activations=x.astype(np.int8),
                expected=(expected + half) % (2 * half) - half,
            )
        )  # fmt: skip
    return made
