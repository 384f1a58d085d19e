"""The emitted C++, compiled with g++, against an int64 matrix product and the reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.arch.tellme.packing import pack_weights
from headrace.errors import InputError
from headrace.hls import csim as runner
from headrace.hls.csim import build, execute
from headrace.hls.emit import Tree
from headrace.hls.tellme import Tile, csim
from headrace.hls.tellme.source import SOURCES, engine_tree
from headrace.hls.tellme.vectors import format_tiles
from headrace.models.kernels.ternary_matmul import ternary_matmul

SMALL = EngineSizes(
    group_size=3, tables=3, copies=4, method="full", table_buffers=1, activation_lanes=2,
    block_gap=0, banks=2, words=64, slots=1, packing="beat", beat_bits=64, accumulator_bits=24,
    max_groups=8,
)  # fmt: skip
GROUP_SIZES = (3, 2, 4, 1, 3, 2, 4, 5, 3, 2, 4, 3, 2, 4)
FAST = (0, 1, 2)  # every method, both packings, one and two table buffers, one and more slots


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("csim")


def random_sizes(number: int) -> EngineSizes:
    rng = np.random.default_rng([2510, number])
    group_size = GROUP_SIZES[number]
    packing = ("beat", "group")[number % 2]
    tables = int(rng.integers(2, 10))
    banks = int(rng.integers(1, 5))
    vector_bits = tables * (0, 2, 4, 5, 7, 8)[group_size]
    if packing == "beat":  # one to four vectors beside the norm weight
        beat_bytes = -(-(16 + vector_bits) // 8) + int(rng.integers(0, 3 * vector_bits // 8 + 1))
    else:  # also beats that hold less than a vector
        beat_bytes = int(rng.integers(1, vector_bits // 8 + 3))
    return EngineSizes(
        group_size=group_size,
        tables=tables,
        copies=banks * (4, 1, 2)[number % 3],
        method=("naive", "half", "full")[number % 3],
        table_buffers=1 + number // 2 % 2,
        activation_lanes=int(rng.integers(1, group_size * tables + 1)),
        block_gap=0,
        banks=banks,
        words=4096,
        slots=(1, 2, 3)[number % 3],
        packing=packing,
        beat_bits=8 * beat_bytes,
        accumulator_bits=int(rng.integers(18, 33)),
        max_groups=64,
    )


def wrap(values, bits: int):
    half = 1 << (bits - 1)
    return (values + half) % (2 * half) - half


def random_case(sizes: EngineSizes, rng, tokens: int = 4):
    """Return a tile of odd sizes, its unpadded weights and its unpadded activations.

    The load has `slabs` slabs of outputs side by side, as in the published region layout.
    """
    rows, groups, slabs = (int(rng.integers(1, high)) for high in (4, 5, 4))
    block, copies = sizes.block_inputs, sizes.copies
    inputs = rows * block - int(rng.integers(0, block))
    used = int(rng.integers(1, slabs * groups + 1))
    outputs = used * copies - int(rng.integers(0, copies))
    weights = rng.integers(-1, 2, (outputs, inputs)).astype(np.int8)
    x = rng.integers(-127, 128, (tokens, inputs)).astype(np.int8)
    x[0] = 127 * weights[0]
    whole = np.zeros((slabs * groups * copies, rows * block), np.int8)
    whole[:outputs, :inputs] = weights
    parts = whole.reshape(slabs, groups * copies, rows, block).transpose(2, 0, 1, 3)
    beats = np.concatenate([pack_weights(part, sizes) for row in parts for part in row])
    tile = Tile(
        load_rows=rows * slabs, load_groups=groups, rows=rows, groups=used,
        stride=slabs * groups, beats=beats,
        activations=np.pad(x, ((0, 0), (0, rows * block - inputs))),
    )  # fmt: skip
    return tile, weights, x


def check_bits(sizes: EngineSizes, cache: Path, seed: int, vectors: int) -> int:
    """Hold C simulation against the matrix product; return how many input vectors there were."""
    rng = np.random.default_rng([seed, 1])
    cases = []
    while sum(len(x) for _, _, x in cases) < vectors:
        cases.append(random_case(sizes, rng, tokens=20))
    measured = csim(sizes, [tile for tile, _, _ in cases], cache=cache)
    count = 0
    for (_, weights, x), got in zip(cases, measured, strict=True):
        outputs = len(weights)
        expected = wrap(x.astype(np.int64) @ weights.T.astype(np.int64), sizes.accumulator_bits)
        np.testing.assert_array_equal(got[:, :outputs], expected)
        assert not got[:, outputs:].any()
        reference = ternary_matmul(x, weights, sizes.method, sizes.group_size)
        np.testing.assert_array_equal(
            got[:, :outputs], wrap(reference.astype(np.int64), sizes.accumulator_bits)
        )
        count += len(x)
    return count


def test_the_random_sizes_cover_the_axes():
    sizes = [random_sizes(number) for number in range(len(GROUP_SIZES))]
    assert len(sizes) >= 12
    for name, values in {
        "method": {"naive", "half", "full"}, "packing": {"beat", "group"},
        "table_buffers": {1, 2}, "slots": {1, 2, 3}, "words_per_group": {1, 2, 4},
        "group_size": {1, 2, 3, 4, 5},
    }.items():  # fmt: skip
        assert {getattr(s, name) for s in sizes} == values
        if name != "group_size" and name != "words_per_group":
            assert len({getattr(sizes[n], name) for n in FAST}) >= 2
    assert any(s.packing == "group" and s.beat_bits < s.vector_bits for s in sizes)
    assert any(s.packing == "beat" and s.vectors_per_beat > s.banks for s in sizes)
    assert any(s.block_inputs % s.activation_lanes for s in sizes)


@pytest.mark.parametrize("number", FAST)
def test_bits_sample(number, cache):
    assert check_bits(random_sizes(number), cache, number, 100) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GROUP_SIZES)))
def test_bits(number, cache):
    # 14 points x 750 input vectors: more than 10,000.
    assert check_bits(random_sizes(number), cache, number, 750) >= 750


@pytest.mark.slow
def test_bits_at_the_published_sizes(cache):
    sizes = engine_sizes(TELLME.point())
    rng = np.random.default_rng(3)
    weights = rng.integers(-1, 2, (1536, 168)).astype(np.int8)
    x = rng.integers(-127, 128, (2, 168)).astype(np.int8)
    beats = pack_weights(weights, sizes)
    assert beats.shape == (2 * 308, 96)
    tile = Tile(
        load_rows=2, load_groups=96, rows=2, groups=96, stride=96, beats=beats, activations=x
    )
    (got,) = csim(sizes, [tile], cache=cache)
    np.testing.assert_array_equal(got, x.astype(np.int64) @ weights.T.astype(np.int64))


def pack_by_hand(weights, sizes: EngineSizes):
    """Pack with Python integers, straight from docs/engine.md and the paper's table for G = 3."""
    half = [
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1),
        (0, 1, -1), (1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1),
    ]  # fmt: skip
    index = {(0, 0, 0): 0}
    for i, pattern in enumerate(half, start=1):
        index[pattern] = i
        index[tuple(-w for w in pattern)] = i + 13
    outputs, inputs = weights.shape
    beats = []
    for start in range(0, inputs, 3 * sizes.tables):
        vectors = []
        for output in range(outputs):
            vector = 0
            for t in range(sizes.tables):
                at = start + 3 * t
                vector |= index[tuple(weights[output, at : at + 3].tolist())] << (5 * t)
            vectors.append(vector)
        per_word = (sizes.beat_bits - 16) // (5 * sizes.tables)
        count = 1
        if sizes.packing == "group":
            per_word = sizes.copies
            count = -(-sizes.copies * 5 * sizes.tables // sizes.beat_bits)
        for first in range(0, outputs, per_word):
            word = sum(
                vector << (5 * sizes.tables * i)
                for i, vector in enumerate(vectors[first : first + per_word])
            )
            if sizes.packing == "beat":  # a norm weight that the engine must not take for indices
                word |= 0xFFFF << (5 * sizes.tables * per_word)
            raw = word.to_bytes(count * sizes.beat_bits // 8, "little")
            beats += [
                raw[i : i + sizes.beat_bits // 8] for i in range(0, len(raw), sizes.beat_bits // 8)
            ]
    return np.frombuffer(b"".join(beats), np.uint8).reshape(len(beats), -1)


@pytest.mark.parametrize("packing", ["beat", "group"])
def test_bits_of_an_image_packed_by_hand(packing, cache):
    sizes = replace(SMALL, packing=packing, accumulator_bits=16)
    rng = np.random.default_rng(5)
    weights = rng.integers(-1, 2, (12, 63)).astype(np.int8)
    x = rng.integers(-127, 128, (3, 63)).astype(np.int8)
    tile = Tile(
        load_rows=7, load_groups=3, rows=7, groups=3, stride=3,
        beats=pack_by_hand(weights, sizes), activations=x,
    )  # fmt: skip
    (got,) = csim(sizes, [tile], cache=cache)
    np.testing.assert_array_equal(got, x.astype(np.int64) @ weights.T.astype(np.int64))


def test_accumulators_wrap(cache):
    sizes = replace(SMALL, accumulator_bits=16)
    rows, inputs = 32, 32 * 9
    weights = np.ones((4, inputs), np.int8)
    weights[1:] = -1
    x = np.full((1, inputs), 127, np.int8)
    tile = Tile(
        load_rows=rows, load_groups=1, rows=rows, groups=1, stride=1,
        beats=pack_weights(weights, sizes), activations=x,
    )  # fmt: skip
    (got,) = csim(sizes, [tile], cache=cache)
    assert 127 * inputs > 1 << 15
    assert got.tolist() == [[127 * inputs - 65536] + [65536 - 127 * inputs] * 3]


def known_case():
    tile, weights, x = random_case(SMALL, np.random.default_rng(8))
    expected = np.zeros((len(x), tile.groups * SMALL.copies), np.int64)
    expected[:, : len(weights)] = x.astype(np.int64) @ weights.T.astype(np.int64)
    return replace(tile, expected=expected)


def test_the_test_bench_compares(cache):
    tile = known_case()
    program = build(engine_tree(SMALL), SOURCES, cache=cache)
    assert execute(program, format_tiles(SMALL, [tile]))[::2] == (0, "")

    beats = tile.beats.copy()
    beats[0, 0] ^= 1  # the lowest bit of the first index: another pattern for output 0
    code, results, message = execute(program, format_tiles(SMALL, [replace(tile, beats=beats)]))
    assert code == 1
    assert message.startswith("accumulator 0: ")
    got = np.array(results.split(), np.int64).reshape(tile.expected.shape)
    assert (got != tile.expected).any(axis=0).tolist() == [True] + [False] * (got.shape[1] - 1)


@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/sizes.h", b"{1, 1, -1}", b"{1, 1, 0}"),
        pytest.param(
            "src/ternary_matmul.cpp", b"word += stride", b"word += groups", marks=pytest.mark.slow
        ),
        ("src/ternary_matmul.cpp", b"(b + BANKS - bank) % BANKS", b"b"),
    ],
)
def test_a_wrong_engine_is_noticed(path, old, new, cache):
    tree = engine_tree(SMALL)
    files = {name: tree[name] for name in tree.paths()}
    assert files[path].count(old) == 1
    files[path] = files[path].replace(old, new)
    rng = np.random.default_rng(9)
    tiles = []
    for _ in range(8):
        tile, weights, x = random_case(SMALL, rng)
        expected = np.zeros((len(x), tile.groups * SMALL.copies), np.int64)
        expected[:, : len(weights)] = x.astype(np.int64) @ weights.T.astype(np.int64)
        tiles.append(replace(tile, expected=expected))
    code, _, message = execute(build(Tree(files), SOURCES, cache=cache), format_tiles(SMALL, tiles))
    assert code == 1
    assert "expected" in message


@pytest.mark.parametrize(
    "edit, code, message",
    [
        (lambda text: text.replace("tile ", "title ", 1), 2, "'tile' expected"),
        (lambda text: text[: len(text) // 2], 2, "file ends too early"),
        (lambda text: "", 2, "file ends too early"),
        (lambda text: text.replace("tiles 1", "tiles 2"), 2, "file ends too early"),
        # one beat less than the load needs
        (lambda text: drop_beat(text), 3, "read from empty stream 'weights'"),
    ],
)
def test_the_test_bench_refuses_bad_files(edit, code, message, cache):
    program = build(engine_tree(SMALL), SOURCES, cache=cache)
    done = execute(program, edit(format_tiles(SMALL, [known_case()])))
    assert done[0] == code
    assert message in done[2]


def drop_beat(text: str) -> str:
    lines = text.splitlines()
    head = lines[1].split()
    head[7] = str(int(head[7]) - 1)
    return "\n".join([lines[0], " ".join(head), *lines[3:]])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"load_rows": 0}, "load_rows = 0 is not allowed: 1..65535 needed"),
        ({"load_rows": 99}, "words of the load = .* is not allowed: at most 64 needed"),
        ({"stride": 60}, "words of the computation = .* at most .* \\(loaded\\) needed"),
        ({"beats": np.zeros((1, 8), np.uint8)}, "shape of beats = \\(1, 8\\) is not allowed"),
        ({"beats": np.zeros((1, 8), np.int16)}, "dtype of beats = int16 is not allowed: uint8"),
        ({"activations": np.zeros((0, 9), np.int8)}, "shape of activations = \\(0, 9\\)"),
        ({"activations": np.zeros((1, 9))}, "dtype of activations = float64"),
        ({"expected": np.zeros((1, 1), np.int64)}, "shape of expected = \\(1, 1\\)"),
    ],
)
def test_tiles_are_checked(change, message):
    tile = replace(known_case(), **change)
    with pytest.raises(InputError, match=message):
        format_tiles(SMALL, [tile])


def test_minus_128_is_refused():
    tile = known_case()
    activations = tile.activations.copy()
    activations[-1, -1] = -128
    with pytest.raises(InputError, match=r"activation = -128 is not allowed: -127\.\.127 needed"):
        csim(SMALL, [replace(tile, activations=activations)])


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"needs g\+\+ on PATH"):
        csim(SMALL, [known_case()], cache=tmp_path)


def test_no_headers(monkeypatch, tmp_path):
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps hls4ml"):
        csim(SMALL, [known_case()], cache=tmp_path)


def test_a_compile_error_is_reported(tmp_path):
    tree = Tree({"a.cpp": "int main() { return nonsense; }"})
    with pytest.raises(RuntimeError, match=r"refuses the emitted C\+\+.*nonsense") as error:
        build(tree, ["a.cpp"], cache=tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_time_limits(tmp_path):
    tree = Tree({"a.cpp": "int main() { for (volatile int i = 0;; i = i) {} }"})
    with pytest.raises(InputError, match=r"g\+\+ did not finish within 0\.001 s"):
        build(tree, ["a.cpp"], cache=tmp_path, timeout_seconds=0.001)
    program = build(tree, ["a.cpp"], cache=tmp_path)
    with pytest.raises(InputError, match=r"did not finish within 0\.1 s"):
        execute(program, "", timeout_seconds=0.1)


def test_executables_are_kept_by_content(tmp_path):
    tree = Tree({"a.cpp": "int main() {}"})
    first = build(tree, ["a.cpp"], cache=tmp_path)
    stamp = first.stat().st_mtime_ns
    assert build(tree, ["a.cpp"], cache=tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    assert build(tree, ["a.cpp"], cache=tmp_path, flags=["-O0"]) != first
    assert build(Tree({"a.cpp": "int main() { }"}), ["a.cpp"], cache=tmp_path) != first


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot build in"):
        build(Tree({"a.cpp": "int main() {}"}), ["a.cpp"], cache=tmp_path / "file" / "x")
