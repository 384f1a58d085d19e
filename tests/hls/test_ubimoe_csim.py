"""UbiMoE's emitted C++, compiled with g++, against integers computed from the rules here."""

import math
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.errors import InputError
from headrace.hls.csim import ap_types, build, compiler, execute
from headrace.hls.emit import Tree
from headrace.hls.ubimoe.functions import function_unit
from headrace.hls.ubimoe.gate import gate
from headrace.hls.ubimoe.kernel import Kernel, Port, csim
from headrace.hls.ubimoe.layer_norm import layer_norm
from headrace.hls.ubimoe.linear import linear
from headrace.hls.ubimoe.streaming_attention import streaming_attention

# As strict as the sources allow; the unoptimised program is compiled fastest.
FLAGS = (
    "-std=c++14", "-O0", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-Wno-unknown-pragmas",
    "-Wno-unused-label",
)  # fmt: skip
ONE = 1 << 22


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Return a folder for programs, with a precompiled header: a third of the compiler's time."""
    folder = tmp_path_factory.mktemp("csim")
    names = ("ap_int.h", "deque", "fstream", "iostream", "memory", "stdexcept", "string")
    header = folder / "all.h"
    lines = ["#define AP_INT_MAX_W 4096", *(f"#include <{name}>" for name in names)]
    header.write_text("\n".join(lines) + "\n")
    made = [compiler(), *FLAGS, "-isystem", str(ap_types()), "-x", "c++-header", str(header)]
    subprocess.run([*made, "-o", f"{header}.gch"], check=True, timeout=120)
    return folder


def flags_of(cache: Path) -> tuple[str, ...]:
    return (*FLAGS, "-include", str(cache / "all.h"))


def run(made: Kernel, cache: Path, commands: int, **words) -> dict[str, list[int]]:
    return csim(made, commands, words, flags=flags_of(cache), cache=cache)


def pack(values, bits: int) -> int:
    """Return integers as one word, the first one lowest."""
    return sum((int(value) & ((1 << bits) - 1)) << (bits * i) for i, value in enumerate(values))


def unpack(word: int, bits: int, count: int) -> list[int]:
    """Return the signed integers of a word; nothing may stand above them."""
    assert word >> (bits * count) == 0
    parts = [(word >> (bits * i)) & ((1 << bits) - 1) for i in range(count)]
    return [part - ((part >> (bits - 1)) << bits) for part in parts]


def wrap(values, bits: int = 32):
    half = 1 << (bits - 1)
    return (values + half) % (2 * half) - half


# The functions, from docs/ubimoe-numerics.md; tables in double precision, which is enough here:
# no entry is closer to a half than 1e-5.
def rounded(value: float) -> int:
    assert abs(value % 1 - 0.5) > 1e-5 or value == 0
    return math.floor(value + 0.5)


COARSE = [rounded(ONE * math.exp(-i / 16)) for i in range(256)]
FINE = [rounded(ONE * math.exp(-i / 4096)) for i in range(256)]
GELU = [rounded(ONE * i / 64 * math.erfc(i / 32 / math.sqrt(2))) for i in range(177)]


def exp_of(d: int) -> int:
    x = -d
    if x >= 16 * ONE:
        return 0
    p = (COARSE[x >> 18] * FINE[(x >> 10) & 255]) >> 22
    return p - ((p * (x & 1023)) >> 22)


def recip_of(s: int) -> int:
    return (1 << 44) // s


def rsqrt_of(v: int) -> int:
    return min((1 << 44) // math.isqrt(max(v, 1) << 22), (1 << 31) - 1)


def gelu_of(x: int) -> int:
    magnitude, delta = abs(x), 0
    if magnitude < 11 * ONE // 2:
        i, f = magnitude >> 17, magnitude & ((1 << 17) - 1)
        delta = GELU[i] + (((GELU[i + 1] - GELU[i]) * f) >> 17)
    return max(x, 0) - delta


def function_arguments(rng, count: int) -> list[list[int]]:
    """Return arguments of the four functions: edges, and as many small as large magnitudes."""
    scales = rng.integers(0, 33, count)
    draws = [int(rng.integers(0, 1 << int(s), endpoint=True)) for s in scales]
    signed = [wrap(d if i % 2 else -d) for i, d in enumerate(draws)]
    edges = [0, 1, 1023, 1024, (1 << 18) - 1, 1 << 18, 16 * ONE - 1, 16 * ONE, (1 << 33) - 1]
    near = [sign * (v + o) for v in (11 * ONE // 2, 1 << 17, ONE) for o in (-1, 0, 1)
            for sign in (-1, 1)]  # fmt: skip
    ends = [-(1 << 31), (1 << 31) - 1, -1, 0, 1, 2, 3, 4, *near]
    sums = [ONE, ONE + 1, 2 * ONE - 1, 2 * ONE, 511 * ONE, (1 << 31) - 1]
    small = [int(d) for d in rng.integers(0, 17 * ONE, count)]
    return [
        [-d for d in edges + draws + small],
        sums + [ONE + d % ((1 << 31) - ONE) for d in draws],
        ends + signed,
        ends + signed + [wrap(d % (12 * ONE) - 6 * ONE) for d in small],
    ]


def check_functions(cache: Path, seed: int, count: int) -> int:
    arguments = function_arguments(np.random.default_rng(seed), count)
    words, expected = [], []
    for number, (function, values) in enumerate(
        zip((exp_of, recip_of, rsqrt_of, gelu_of), arguments, strict=True)
    ):
        for value in values:
            bits = -value if number == 0 else value & 0xFFFFFFFF
            words.append(number << 33 | bits)
            expected.append(function(value))
    results = run(function_unit(), cache, len(words), arguments=words)["results"]
    assert [unpack(word, 32, 1)[0] for word in results] == expected
    return len(words)


def test_functions(cache):
    assert check_functions(cache, 1, 150) >= 500


@pytest.mark.slow
def test_functions_long(cache):
    assert check_functions(cache, 2, 5000) >= 20_000


def test_functions_of_known_arguments(cache):
    # By hand: exp(-1) 2^22 = 1543006.0 (floors take up to 3), 1/3, 1/sqrt(4), gelu(-1) = -0.158655.
    words = [ONE, 1 << 33 | 3 * ONE, 2 << 33 | 4 * ONE, 3 << 33 | (-ONE & 0xFFFFFFFF)]
    results = run(function_unit(), cache, 4, arguments=words)["results"]
    exponential, third, half, gelu = (unpack(word, 32, 1)[0] for word in results)
    assert 0 <= ONE * math.exp(-1) - exponential < 3
    assert (third, half) == (ONE // 3, ONE // 2)
    assert abs(gelu / ONE + 0.15865525393) < 2e-7


def test_the_test_bench_compares_and_refuses(cache):
    program = build(function_unit().tree, ["sim/program.cpp"], flags=flags_of(cache), cache=cache)
    text = "commands 1\narguments 1\n0\nresults 1\n{}\n"
    assert execute(program, text.format("400000"))[::2] == (0, "")
    code, _, message = execute(program, text.format("400001"))
    assert (code, message) == (1, "results 0: 00400000, expected 00400001")
    for edit, code, message in [
        (("arguments", "argument"), 2, "'arguments' expected"),
        (("commands 1", "commands 2"), 3, "read from empty stream 'arguments'"),
        (("commands 1", "commands 0"), 3, "words left over in stream 'arguments'"),
        (("\n0\n", "\n200000000\n"), 3, "reciprocal: argument below one"),
        (("\n{}\n", "\n"), 2, "file ends too early"),
        (("\n0\n", "\n0x1\n"), 2, "not a lower-case hexadecimal number: 0x1"),
        (("\n0\n", "\n00000000000\n"), 2, "more bits than the port has"),
    ]:
        done = execute(program, text.replace(*edit).format("400000"))
        assert (done[0], message in done[2]) == (code, True), done


def test_words_are_checked(cache):
    with pytest.raises(InputError, match=r"word of port arguments = -1 is not allowed: 0 to 2\^40"):
        run(function_unit(), cache, 1, arguments=[-1])
    with pytest.raises(InputError, match="ports are rows: expected .* for arguments"):
        run(function_unit(), cache, 1, rows=[])
    with pytest.raises(InputError, match="bits of port x = 5000 is not allowed: 1 to 4096 in HLS"):
        Port(name="x", bits=5000)
    with pytest.raises(RuntimeError, match="exit code 3: read from empty stream 'arguments'"):
        run(function_unit(), cache, 1, arguments=[])


# Rule by rule from docs/ubimoe-numerics.md, int64 throughout. Every point of a kernel is a seed:
# the precision goes round, the sizes are drawn.
PRECISIONS = tuple(FORMATS.values())


def shift(values, count: int):
    return values >> count if count >= 0 else values << -count


def draw(rng, bits: int, shape):
    """Return signed values of all magnitudes, the ends included."""
    values = rng.integers(-1 << (bits - 1), 1 << (bits - 1), shape)
    values = values >> rng.integers(0, bits, shape)
    ends = rng.integers(0, 16, shape)
    values = np.where(ends == 0, -1 << (bits - 1), values)
    return np.where(ends == 1, (1 << (bits - 1)) - 1, values)


def linear_point(number: int) -> LinearSizes:
    rng = np.random.default_rng([6032, number])
    tile_in, tile_out, lanes, max_in, max_out = (int(v) for v in rng.integers(1, 5, 5))
    if number == 14:  # the tile and the beat of the release
        tile_in, tile_out, lanes, max_out = 16, 16, 3, 2
    formats = PRECISIONS[number % 3]
    return LinearSizes(
        formats=formats, tile_in=tile_in, tile_out=tile_out, lanes=lanes, max_in_tiles=max_in,
        max_out_tiles=max_out, max_tiles=max_in * max_out, slots=1 + number // 2 % 2,
        beat_bits=(*(8, 32, 40, 64, 12, 256, 33) * 2, 256)[number],
        bias_fraction=(formats.attention_bias_fraction, formats.bias_fraction)[number // 3 % 2],
        gelu=number % 2 == 0,
    )  # fmt: skip


def linear_image(sizes: LinearSizes, weights, biases) -> list[int]:
    """Return the beats of weights [out_tiles, in_tiles, T_out, T_in], biases [out_tiles, T_out]."""
    groups = [(row, 16) for row in biases]
    bits = sizes.formats.weight_bits
    groups += [(tile.reshape(-1), bits) for row in weights for tile in row]
    beats = []
    for values, width in groups:
        whole = pack(values, width)
        for at in range(0, len(values) * width, sizes.beat_bits):
            beats.append((whole >> at) & ((1 << sizes.beat_bits) - 1))
    return beats


def check_linear(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = linear_point(number), np.random.default_rng(number)
    f = sizes.formats
    words: dict[str, list[int]] = {n: [] for n in ("load", "compute", "weights", "inputs")}
    expected, count, commands = [], 0, 0
    while count < vectors:
        ins = int(rng.integers(1, sizes.max_in_tiles + 1))
        outs = int(rng.integers(1, sizes.max_out_tiles + 1))
        rows, gelu = int(rng.integers(1, 4 * sizes.lanes + 2)), sizes.gelu and rng.integers(2) == 1
        w = draw(rng, f.weight_bits, (outs, ins, sizes.tile_out, sizes.tile_in))
        b = draw(rng, 16, (outs, sizes.tile_out))
        x = draw(rng, f.operand_bits, (rows, ins, sizes.tile_in))
        products = shift(x[:, None, :, None] * w[None], f.operand_fraction + f.weight_fraction - 22)
        acc = wrap((b << (22 - sizes.bias_fraction)) + products.sum(axis=(2, 4)))
        if gelu:
            acc = np.vectorize(lambda v: gelu_of(int(v)))(acc)
        words["load"].append(pack((ins, outs), 16))
        words["compute"].append(pack((rows, ins, outs, gelu), 16))
        words["weights"] += linear_image(sizes, w, b)
        words["inputs"] += [pack(beat, f.operand_bits) for row in x for beat in row]
        for first in range(0, rows, sizes.lanes):
            group = acc[first : first + sizes.lanes]
            expected += [row[out].tolist() for out in range(outs) for row in group]
        count, commands = count + rows, commands + 1
    results = run(linear(sizes), cache, commands, **words)["results"]
    assert [unpack(word, 32, sizes.tile_out) for word in results] == expected
    return count


@pytest.mark.parametrize("number", range(3))
def test_linear(number, cache):
    assert check_linear(cache, number, 60) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("number", range(15))
def test_linear_long(number, cache):
    assert check_linear(cache, number, 400) >= 400


def test_the_linear_points_cover_the_axes():
    points = [linear_point(number) for number in range(15)]
    kinds = {(s.formats.name, s.slots) for s in points}
    assert kinds == {(name, slots) for name in FORMATS for slots in (1, 2)}
    assert {s.formats.name for s in points[:3]} == set(FORMATS)
    assert {s.slots for s in points[:3]} == {1, 2}
    assert {s.gelu for s in points[:3]} == {False, True}
    assert any(s.max_in_tiles > 1 and s.max_out_tiles > 1 for s in points[:3])
    assert any(s.beat_bits < s.formats.weight_bits for s in points)
    assert any(s.beat_bits % s.formats.weight_bits for s in points)


def to_operand(values, f):
    values = values >> (22 - f.operand_fraction)
    if not f.saturates:
        return wrap(values, f.operand_bits)
    half = 1 << (f.operand_bits - 1)
    return np.clip(values, -half, half - 1)


def attention_point(number: int) -> StreamingAttentionSizes:
    rng = np.random.default_rng([6033, number])
    head_dim = (4, 16, 4, 1, 16, 64)[number % 6]
    lanes = (2, 4, 3, 1, 3)[number % 5]
    most = 1 if number == 8 else lanes + int(rng.integers(3, 15))
    return StreamingAttentionSizes(
        formats=PRECISIONS[number % 3], heads=int(rng.integers(1, 4)), head_dim=head_dim,
        lanes=lanes, dims=min(head_dim, 1 << int(rng.integers(0, 4))), max_tokens=most,
    )  # fmt: skip


def attend(q, k, v, sizes: StreamingAttentionSizes):
    """Rules 2 and 3 for one head: q, k, v [N, head_dim]; every query with every key at once."""
    f, tokens = sizes.formats, len(q)
    products = shift(q[:, None] * k[None], 2 * f.operand_fraction - 22)
    blocks = wrap(products.reshape(tokens, tokens, -1, sizes.dims).sum(axis=3))
    root = math.isqrt(sizes.head_dim)
    scores = wrap((blocks // root).sum(axis=2))
    e = np.array([[exp_of(int(s) - int(max(row))) for s in row] for row in scores])
    acc = wrap(((v[None] * e[:, :, None]) >> f.operand_fraction).sum(axis=1))
    factors = np.array([recip_of(int(row.sum())) for row in e])
    return to_operand(wrap((acc * factors[:, None]) >> 22), f)


def check_attention(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = attention_point(number), np.random.default_rng(number)
    f, dims = sizes.formats, sizes.dims
    words: dict[str, list[int]] = {n: [] for n in ("command", "queries", "keys", "values")}
    expected, count, commands = [], 0, 0
    while count < vectors:
        tokens = int(rng.integers(sizes.lanes, sizes.max_tokens + 1))
        q, k, v = (draw(rng, f.operand_bits, (tokens, sizes.width)) for _ in range(3))
        if commands % 2 == 0:  # the scores of a network, so close that many keys count
            scale = 1.5 * (1 << f.operand_fraction)
            q, k = (rng.normal(0, scale, q.shape).astype(np.int64) for _ in range(2))
        heads = [slice(h, h + sizes.head_dim) for h in range(0, sizes.width, sizes.head_dim)]
        rows = np.concatenate([attend(q[:, h], k[:, h], v[:, h], sizes) for h in heads], axis=1)
        # Section 3.2 of the paper: b passes over all keys and r steps more.
        passes, more = divmod(tokens + sizes.lanes - 1, sizes.lanes)
        order = [step % tokens for step in range(passes * tokens + more)]
        words["command"].append(tokens)
        for name, data in (("queries", q), ("keys", k[order]), ("values", v[order])):
            words[name] += [pack(beat, f.operand_bits) for beat in data.reshape(-1, dims)]
        expected += rows.reshape(-1, dims).tolist()
        count, commands = count + tokens, commands + 1
    results = run(streaming_attention(sizes), cache, commands, **words)["results"]
    assert [unpack(word, f.operand_bits, dims) for word in results] == expected
    return count


@pytest.mark.parametrize("number", range(3))
def test_attention(number, cache):
    assert check_attention(cache, number, 40) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_attention_long(number, cache):
    assert check_attention(cache, number, 420) >= 420


@pytest.mark.slow
def test_attention_of_129_tokens(cache):
    # One head of M3ViT-T: 4 lanes and T_a = 8 take 4257 steps (Section 3.2).
    sizes = StreamingAttentionSizes(
        formats=FORMATS["w16a32"], heads=1, head_dim=64, lanes=4, dims=8, max_tokens=129
    )
    rng = np.random.default_rng(129)
    q, k, v = ((rng.normal(0, 1.2, (129, 64)) * ONE).astype(np.int64) for _ in range(3))
    order = [step % 129 for step in range(4257)]
    words = {
        name: [pack(beat, 32) for beat in data.reshape(-1, 8)]
        for name, data in (("queries", q), ("keys", k[order]), ("values", v[order]))
    }
    results = run(streaming_attention(sizes), cache, 1, command=[129], **words)["results"]
    expected = attend(q, k, v, sizes)
    assert [unpack(word, 32, 8) for word in results] == expected.reshape(-1, 8).tolist()
    # A softmax after all: in floating point the same to a few bits in a thousand.
    scores = q @ k.T.astype(float) / ONE**2 / 8
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    exact = weights / weights.sum(axis=1, keepdims=True) @ (v / ONE)
    assert abs(expected / ONE - exact).max() < 1e-3


def test_the_attention_points_cover_the_axes():
    points = [attention_point(number) for number in range(12)]
    assert {s.formats.name for s in points[:3]} == set(FORMATS)
    assert {s.lanes for s in points} == {1, 2, 3, 4}
    assert {s.heads for s in points} == {1, 2, 3}
    assert len({s.dims for s in points}) >= 3
    assert any(s.head_beats == 1 for s in points)
    assert any(s.head_beats > 2 for s in points)


def layer_norm_point(number: int) -> LayerNormSizes:
    rng = np.random.default_rng([6034, number])
    dims = int(rng.integers(1, 6))
    width = dims * int(rng.integers(1, 9)) if number else 192  # of M3ViT-T
    return LayerNormSizes(formats=PRECISIONS[number % 3], width=width, dims=dims if number else 8)


def normalise(x, gain, offset, f):
    """Rule 4: x [N, D], gain and offset [D]; wide results."""
    ff, nf = f.feature_fraction, f.norm_fraction
    u = wrap((x * ((1 << 22) // x.shape[1])) >> ff)
    m = wrap(u.sum(axis=1))
    square = wrap(((x * u) >> ff).sum(axis=1))
    var = wrap(square - ((m * m) >> 22) + 4)
    r = np.array([rsqrt_of(int(v)) for v in var])
    centred = wrap((x << (22 - ff)) - m[:, None])
    scaled = wrap((centred * r[:, None]) >> 22)
    return wrap(((scaled * gain) >> nf) + (offset << (22 - nf)))


def check_layer_norm(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = layer_norm_point(number), np.random.default_rng(number)
    f, dims = sizes.formats, sizes.dims
    words: dict[str, list[int]] = {n: [] for n in ("command", "parameters", "inputs")}
    expected, count, commands = [], 0, 0
    while count < vectors:
        tokens = int(rng.integers(1, 9))
        x = draw(rng, f.feature_bits, (tokens, sizes.width))
        gain, offset = (draw(rng, 16, sizes.width) for _ in range(2))
        if commands % 2 == 0:  # rows of a network
            x = rng.normal(0.3, 2, x.shape) * (1 << f.feature_fraction)
            x, gain = x.astype(np.int64), gain >> 3
        if commands % 4 == 1:
            x[0] = x[0, 0]  # no variance but epsilon
        words["command"].append(tokens)
        pairs = np.stack([gain, offset], axis=1).reshape(-1, 2 * dims)
        words["parameters"] += [pack(beat, 16) for beat in pairs]
        words["inputs"] += [pack(beat, f.feature_bits) for beat in x.reshape(-1, dims)]
        rows = to_operand(normalise(x, gain, offset, f), f)
        expected += rows.reshape(-1, dims).tolist()
        count, commands = count + tokens, commands + 1
    results = run(layer_norm(sizes), cache, commands, **words)["results"]
    assert [unpack(word, f.operand_bits, dims) for word in results] == expected
    return count


@pytest.mark.parametrize("number", range(3))
def test_layer_norm(number, cache):
    assert check_layer_norm(cache, number, 40) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_layer_norm_long(number, cache):
    assert check_layer_norm(cache, number, 420) >= 420


def test_layer_norm_is_one(cache):
    # A row of mean 0 and variance 1 comes out as it went in, times the gain, but for the floors.
    sizes = layer_norm_point(0)
    row = np.tile([1, -1, 1, -1, 1, -1, -1, 1], 24)
    words = {
        "command": [1], "parameters": [pack((2 << 11, 1 << 11) * 8, 16)] * 24,
        "inputs": [pack(beat * ONE, 32) for beat in row.reshape(24, 8)],
    }  # fmt: skip
    results = run(layer_norm(sizes), cache, 1, **words)["results"]
    values = np.array([unpack(word, 32, 8) for word in results]).reshape(-1)
    assert abs(values - (2 * row + 1) * ONE).max() < 1e-4 * ONE


def gate_point(number: int) -> GateSizes:
    rng = np.random.default_rng([6035, number])
    experts = (16, 5, 8, 1, 2, 3)[number % 6]
    return GateSizes(
        formats=PRECISIONS[number % 3], experts=experts,
        top_k=min(experts, (2, 1, 4, 3)[number % 4]), dims=int(rng.integers(1, 6)),
        row_beats=int(rng.integers(1, 6)), max_tokens=16,
    )  # fmt: skip


def choose(scores: list[int], top_k: int) -> list[tuple[int, int]]:
    """Rule 5: the experts of one token and their probabilities."""
    largest, total = -(1 << 31), 0
    for score in scores:
        if score > largest:
            total = ((total * exp_of(largest - score)) >> 22) + ONE
            largest = score
        else:
            total += exp_of(score - largest)
    ranked = sorted(range(len(scores)), key=lambda e: (-scores[e], e))[:top_k]
    return [(e, (exp_of(scores[e] - largest) * recip_of(total)) >> 22) for e in ranked]


def check_gate(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = gate_point(number), np.random.default_rng(number)
    f, dims, width = sizes.formats, sizes.dims, sizes.dims * sizes.row_beats
    words: dict[str, list[int]] = {n: [] for n in ("command", "weights", "inputs")}
    expected, count, commands, spread, ties = [], 0, 0, 0, 0
    while count < vectors:
        tokens = int(rng.integers(1, sizes.max_tokens + 1))
        x = draw(rng, f.operand_bits, (tokens, width))
        w = draw(rng, f.weight_bits, (sizes.experts, width))
        if commands % 2 == 0:
            x = rng.normal(0, 1, x.shape) * (1 << f.operand_fraction)
            w = rng.normal(0, 0.5, w.shape) * (1 << min(f.weight_fraction, f.weight_bits - 3))
            x, w = x.astype(np.int64), w.astype(np.int64)
        w[-1] = w[0]  # a tie
        products = shift(x[:, None] * w[None], f.operand_fraction + f.weight_fraction - 22)
        scores = wrap(products.sum(axis=2)).tolist()
        words["command"].append(tokens)
        words["weights"] += [pack(beat, f.weight_bits) for beat in w.reshape(-1, dims)]
        words["inputs"] += [pack(beat, f.operand_bits) for beat in x.reshape(-1, dims)]
        chosen = [choose(row, sizes.top_k) for row in scores]
        expected += [pack([e | p << 8 for e, p in best], 31) for best in chosen]
        spread += sum(0 < p < ONE for best in chosen for _, p in best)
        ties += sum(row[-1] == max(row) for row in scores)
        count, commands = count + tokens, commands + 1
    assert run(gate(sizes), cache, commands, **words)["choices"] == expected
    assert sizes.experts == 1 or (spread > 10 and ties > 0)
    return count


@pytest.mark.parametrize("number", range(3))
def test_gate(number, cache):
    assert check_gate(cache, number, 60) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_gate_long(number, cache):
    assert check_gate(cache, number, 420) >= 420


def kernels(number: int) -> list[Kernel]:
    return [
        function_unit(), linear(linear_point(number)), gate(gate_point(number)),
        streaming_attention(attention_point(number)), layer_norm(layer_norm_point(number)),
    ]  # fmt: skip


def test_emission_is_deterministic():
    first, second, other = kernels(1), kernels(1), kernels(2)
    for made, again, different in zip(first, second, other, strict=True):
        assert made.tree.hash == again.tree.hash
        assert (made.tree.hash == different.tree.hash) == (made.name == "function_unit")
        own = [f"src/{made.name}.cpp", f"src/{made.name}.h", "src/functions.h"]
        own += ["src/narrow.h"] if made.name != "function_unit" else []
        shims = ["sim/hls_stream.h", "sim/hls_streamofblocks.h", "sim/program.cpp"]
        assert made.tree.paths() == [*shims, *sorted([*own, "src/sizes.h"]), "tb/testbench.cpp"]


def test_words_that_are_too_wide_are_refused():
    f = FORMATS["w16a32"]
    wide = StreamingAttentionSizes(
        formats=f, heads=1, head_dim=256, lanes=1, dims=256, max_tokens=4
    )
    with pytest.raises(InputError, match="dims = 256 is not allowed: 1 to 128 in HLS"):
        streaming_attention(wide)
    with pytest.raises(InputError, match="bits of port parameters = 8192 is not allowed"):
        layer_norm(LayerNormSizes(formats=f, width=256, dims=256))


@pytest.mark.slow
@pytest.mark.parametrize(
    "check, number, path, old, new",
    [
        (check_linear, 2, "src/linear.cpp", "(in == 0 ? bias", "(step == 0 ? bias"),
        (check_linear, 2, "src/functions.h", "fraction) >> 17)", "fraction) >> 18)"),
        (check_attention, 0, "src/streaming_attention.cpp", "block >> SCALE_SHIFT", "block"),
        (check_attention, 0, "src/streaming_attention.cpp", "<OPERAND_FRACTION>(ap", "<1>(ap"),
        (check_attention, 0, "src/functions.h", "power - correction", "power"),
        (check_layer_norm, 0, "src/layer_norm.cpp", "+ EPSILON", "+ 5"),
        (check_layer_norm, 0, "src/narrow.h", "return kept;", "return kept + 1;"),
        (check_gate, 0, "src/gate.cpp", "new_score > score[rank]", "new_score >= score[rank]"),
        (check_gate, 0, "src/gate.cpp", "+ (1 << WIDE_FRACTION);", "+ (1 << WIDE_FRACTION) + 1;"),
    ],
)
def test_a_wrong_kernel_is_noticed(check, number, path, old, new, cache, monkeypatch):
    def run_wrong(made: Kernel, cache: Path, commands: int, **words) -> dict[str, list[int]]:
        files = {name: made.tree[name] for name in made.tree.paths()}
        assert files[path].count(old.encode()) == 1
        files[path] = files[path].replace(old.encode(), new.encode())
        wrong = replace(made, tree=Tree(files))
        return csim(wrong, commands, words, flags=flags_of(cache), cache=cache)

    monkeypatch.setitem(check.__globals__, "run", run_wrong)
    with pytest.raises(AssertionError):
        check(cache, number, 60)
