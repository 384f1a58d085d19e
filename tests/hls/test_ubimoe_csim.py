"""UbiMoE's functions as C++, and what all emitted kernels share."""

import math
from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import ONE, flags_of, run, unpack

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.errors import InputError
from headrace.hls.csim import build, execute
from headrace.hls.ubimoe.functions import function_unit
from headrace.hls.ubimoe.kernel import Port
from headrace.hls.ubimoe.layer_norm import layer_norm
from headrace.hls.ubimoe.streaming_attention import streaming_attention


# The functions, from docs/ubimoe-numerics.md; tables in double precision, which is enough here:
# no entry is closer to a half than 1e-5.
def rounded(value: float) -> int:
    assert abs(value % 1 - 0.5) > 1e-5 or value == 0
    return math.floor(value + 0.5)


COARSE = [rounded(ONE * math.exp(-i / 16)) for i in range(256)]
FINE = [rounded(ONE * math.exp(-i / 4096)) for i in range(256)]
GELU = [rounded(ONE * i / 64 * math.erfc(i / 32 / math.sqrt(2))) for i in range(177)]


def wrap(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


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


def test_words_that_are_too_wide_are_refused():
    f = FORMATS["w16a32"]
    wide = StreamingAttentionSizes(
        formats=f, heads=1, head_dim=256, lanes=1, dims=256, max_tokens=4
    )
    with pytest.raises(InputError, match="dims = 256 is not allowed: 1 to 128 in HLS"):
        streaming_attention(wide)
    with pytest.raises(InputError, match="bits of port parameters = 8192 is not allowed"):
        layer_norm(LayerNormSizes(formats=f, width=256, dims=256))
