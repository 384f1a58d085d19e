"""What the tests of UbiMoE's C++ share: compiling and running, words, drawn values.

Expected values come from the reference, `headrace.models.kernels.fixed`. A vector is one row
(a token, a query, a patch) with all its results, of `prefetch` one job with all its beats. Every
point of a kernel is a seed: the precision goes round, the sizes are drawn.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.hls.emit import Tree
from headrace.hls.ubimoe.kernel import Kernel, csim

# As strict as the sources allow; the unoptimised program is compiled fastest.
FLAGS = (
    "-std=c++14", "-O0", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-Wno-unknown-pragmas",
    "-Wno-unused-label",
)  # fmt: skip
ONE = 1 << 22
PRECISIONS = tuple(FORMATS.values())
SAMPLE = range(3)  # points of `make test`, one of each precision
SWEEP = range(12)  # points of the sweeps,
SWEEP_VECTORS = 420  # so many vectors each: 5040 in all


def flags_of(cache: Path) -> tuple[str, ...]:
    return (*FLAGS, "-include", str(cache / "all.h"))


def run(made: Kernel, cache: Path, commands: int, **words) -> dict[str, list[int]]:
    return csim(made, commands, words, flags=flags_of(cache), cache=cache)


def expect_notice(check: Callable, number: int, edit: tuple[str, str, str], cache, monkeypatch):
    """See `check` fail on a kernel in one of whose files one text stands for another."""
    path, old, new = edit

    def run_wrong(made: Kernel, cache: Path, commands: int, **words) -> dict[str, list[int]]:
        files = {name: made.tree[name] for name in made.tree.paths()}
        assert files[path].count(old.encode()) == 1
        files[path] = files[path].replace(old.encode(), new.encode())
        return run(replace(made, tree=Tree(files)), cache, commands, **words)

    monkeypatch.setitem(check.__globals__, "run", run_wrong)
    with pytest.raises(AssertionError):
        check(cache, number, 60)


def pack(values, bits: int) -> int:
    """Return integers as one word, the first one lowest."""
    return sum((int(value) & ((1 << bits) - 1)) << (bits * i) for i, value in enumerate(values))


def beats_of(rows, dims: int, bits: int) -> list[int]:
    """Return the words of `dims` values each."""
    return [pack(beat, bits) for beat in np.reshape(rows, (-1, dims))]


def unpack(word: int, bits: int, count: int) -> list[int]:
    """Return the signed integers of a word; nothing may stand above them."""
    assert word >> (bits * count) == 0
    parts = [(word >> (bits * i)) & ((1 << bits) - 1) for i in range(count)]
    return [part - ((part >> (bits - 1)) << bits) for part in parts]


def cut(values, width: int, beat_bits: int) -> list[int]:
    """Return integers of `width` bits, one behind the other, in beats; low bits first."""
    whole = pack(values, width)
    count = -(-len(values) * width // beat_bits)
    return [(whole >> (beat_bits * i)) & ((1 << beat_bits) - 1) for i in range(count)]


def weight_image(weights, biases, tiles: tuple[int, int], bits: int, beat_bits: int) -> list[int]:
    """Return the beats of weights [N, K] and biases [N] in tiles of (T_in, T_out)."""
    tile_in, tile_out = tiles
    outputs, inputs = weights.shape
    rows = biases.reshape(-1, tile_out)
    beats = [beat for row in rows for beat in cut(row, 16, beat_bits)]
    for out in range(0, outputs, tile_out):
        for into in range(0, inputs, tile_in):
            tile = weights[out : out + tile_out, into : into + tile_in]
            beats += cut(tile.reshape(-1), bits, beat_bits)
    return beats


def draw(rng, bits: int, shape):
    """Return signed values of all magnitudes, the ends included."""
    values = rng.integers(-1 << (bits - 1), 1 << (bits - 1), shape)
    values = values >> rng.integers(0, bits, shape)
    ends = rng.integers(0, 16, shape)
    values = np.where(ends == 0, -1 << (bits - 1), values)
    return np.where(ends == 1, (1 << (bits - 1)) - 1, values)
