"""UbiMoE's prefetch as C++: images come out of memories as they were put there.

It computes nothing, so there is no reference, and it knows no number formats.
"""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import SAMPLE, SWEEP, SWEEP_VECTORS, expect_notice, run

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.hls.ubimoe.prefetch import prefetch

WORDS = 4096


def prefetch_point(number: int) -> PrefetchSizes:
    return PrefetchSizes(
        ports=(1, 2, 3)[number // 2 % 3], port_bits=(64, 32, 256, 128)[number % 4],
        burst_beats=(4, 1, 16, 2, 8)[number % 5],
    )  # fmt: skip


def job_word(expert: int, stride: int, beats: int, bases: list[int]) -> int:
    word = expert | stride << 8 | beats << 40
    return word + sum(base << (72 + 40 * port) for port, base in enumerate(bases))


def put(memories, sizes: PrefetchSizes, bases: list[int], place: int, beats: list[int]) -> None:
    """Write beats `place` bytes behind the bases, word p of each behind port p."""
    for port, (memory, base) in enumerate(zip(memories, bases, strict=True)):
        first = (base + place) // (sizes.port_bits // 8)
        for i, beat in enumerate(beats):
            memory[first + i] = beat >> (sizes.port_bits * port) & ((1 << sizes.port_bits) - 1)


def check_prefetch(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = prefetch_point(number), np.random.default_rng(number)
    layers = rng.integers(1, 40, (int(rng.integers(1, 4)), 2)).tolist()
    experts, beats = int(rng.integers(5, 9)), int(rng.integers(1, 40))
    images = [
        [int.from_bytes(rng.bytes(sizes.beat_bits // 8)) for _ in range(beats)]
        for _ in range(experts)
    ]
    stride = sizes.stride(beats) + sizes.burst_bytes * int(rng.integers(3))
    memories = [[0] * WORDS for _ in range(sizes.ports)]
    bases = [sizes.burst_bytes * int(v) for v in rng.integers(1, 10, sizes.ports)]
    for expert, image in enumerate(images):
        put(memories, sizes, bases, expert * stride, image)
    order = rng.integers(0, experts, vectors).tolist()
    # Bits below a burst are nobody's business.
    jobs = [job_word(e, stride | int(rng.integers(sizes.burst_bytes)), beats, bases) for e in order]
    found = run(
        prefetch(sizes, layers, memory_words=WORDS), cache, vectors, jobs=jobs,
        **{f"port{port}": memory for port, memory in enumerate(memories)},
    )  # fmt: skip
    assert found["weights"] == [beat for expert in order for beat in images[expert]]
    assert found["load"] == [ins | outs << 16 for ins, outs in layers] * vectors
    return vectors


@pytest.mark.parametrize("number", SAMPLE)
def test_prefetch(number, cache):
    assert check_prefetch(cache, number, 40) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEP)
def test_prefetch_long(number, cache):
    assert check_prefetch(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


def test_the_points_cover_the_axes():
    points = [prefetch_point(number) for number in SWEEP]
    assert {s.ports for s in points} == {1, 2, 3}
    assert {s.ports for s in points[:3]} == {1, 2}
    assert {s.port_bits for s in points} == {32, 64, 128, 256}
    assert {s.burst_beats for s in points} == {1, 2, 4, 8, 16}


def test_an_image_beyond_the_memory_is_refused(cache):
    sizes = PrefetchSizes(port_bits=32, burst_beats=4)
    for base, beats, holds in [(16, 60, True), (16, 61, False), (1 << 39, 1, False)]:
        words = {"jobs": [job_word(0, 16, beats, [base])], "port0": list(range(64))}
        made = prefetch(sizes, [(1, 1)], memory_words=64)
        if holds:
            assert run(made, cache, 1, **words)["weights"] == list(range(4, 64))
            continue
        with pytest.raises(RuntimeError, match="jobs: an image beyond the memory"):
            run(made, cache, 1, **words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/prefetch.cpp", "range(39, 8)", "range(38, 7)"),
        ("src/prefetch.cpp", "72 + ADDRESS_BITS * port", "72 + 39 * port"),
        ("src/prefetch.cpp", "job.range(7, 0)", "job.range(1, 0)"),
        ("src/prefetch.cpp", "memory[span.first + i]", "memory[span.first]"),
        ("src/prefetch.cpp", "range(31, 16) = LOADS[image][1]", "range(31, 16) = LOADS[image][0]"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_prefetch, 2, (path, old, new), cache, monkeypatch)
