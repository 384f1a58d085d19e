"""UbiMoE's streaming attention as C++ against the fixed-point reference, rules 2 and 3."""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import (
    ONE,
    PRECISIONS,
    SAMPLE,
    SWEEP,
    SWEEP_VECTORS,
    beats_of,
    draw,
    expect_notice,
    run,
    unpack,
)

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.hls.ubimoe.streaming_attention import streaming_attention
from headrace.models.kernels import fixed


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
    """Return the reference's rows for q, k and v [N, width]."""
    heads = (rows.reshape(len(rows), sizes.heads, -1) for rows in (q, k, v))
    formats = fixed.FORMATS[sizes.formats.name]
    return fixed.streaming_attention(*heads, formats, dims=sizes.dims).reshape(q.shape)


def stream_words(q, k, v, sizes: StreamingAttentionSizes) -> dict[str, list[int]]:
    # Section 3.2 of the paper: b passes over all keys and r steps more.
    passes, more = divmod(len(q) + sizes.lanes - 1, sizes.lanes)
    order = [step % len(q) for step in range(passes * len(q) + more)]
    return {
        "command": [len(q)],
        **{
            name: beats_of(data, sizes.dims, sizes.formats.operand_bits)
            for name, data in (("queries", q), ("keys", k[order]), ("values", v[order]))
        },
    }


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
        for name, more in stream_words(q, k, v, sizes).items():
            words[name] += more
        expected += attend(q, k, v, sizes).reshape(-1, dims).tolist()
        count, commands = count + tokens, commands + 1
    results = run(streaming_attention(sizes), cache, commands, **words)["results"]
    assert [unpack(word, f.operand_bits, dims) for word in results] == expected
    return count


@pytest.mark.parametrize("number", SAMPLE)
def test_attention(number, cache):
    assert check_attention(cache, number, 40) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEP)
def test_attention_long(number, cache):
    assert check_attention(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


@pytest.mark.slow
def test_attention_of_129_tokens(cache):
    # One head of M3ViT-T: 4 lanes and T_a = 8 take 4257 steps (Section 3.2).
    sizes = StreamingAttentionSizes(
        formats=FORMATS["w16a32"], heads=1, head_dim=64, lanes=4, dims=8, max_tokens=129
    )
    rng = np.random.default_rng(129)
    q, k, v = ((rng.normal(0, 1.2, (129, 64)) * ONE).astype(np.int64) for _ in range(3))
    words = stream_words(q, k, v, sizes)
    assert len(words["keys"]) == 4257 * 8
    results = run(streaming_attention(sizes), cache, 1, **words)["results"]
    expected = attend(q, k, v, sizes)
    assert [unpack(word, 32, 8) for word in results] == expected.reshape(-1, 8).tolist()
    # A softmax after all: in floating point the same to a few bits in a thousand.
    scores = q @ k.T.astype(float) / ONE**2 / 8
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    exact = weights / weights.sum(axis=1, keepdims=True) @ (v / ONE)
    assert abs(expected / ONE - exact).max() < 1e-3


def test_the_points_cover_the_axes():
    points = [attention_point(number) for number in SWEEP]
    assert {s.formats.name for s in points[:3]} == set(FORMATS)
    assert {s.lanes for s in points} == {1, 2, 3, 4}
    assert {s.heads for s in points} == {1, 2, 3}
    assert len({s.dims for s in points}) >= 3
    assert any(s.head_beats == 1 for s in points)
    assert any(s.head_beats > 2 for s in points)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/streaming_attention.cpp", "block >> SCALE_SHIFT", "block"),
        ("src/streaming_attention.cpp", "<OPERAND_FRACTION>(ap", "<1>(ap"),
        ("src/functions.h", "power - correction", "power"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_attention, 0, (path, old, new), cache, monkeypatch)
