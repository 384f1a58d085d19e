"""UbiMoE's prefetch as C++: images come out of memories as they were put there.

It computes nothing, so that there is no reference; it knows no number formats, either, but the
images are those of linears in all three precisions.
"""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import PRECISIONS, SAMPLE, SWEEP, SWEEP_VECTORS, draw, expect_notice, run
from ubimoe_csim import weight_image as image_of

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.hls.ubimoe.prefetch import prefetch

WORDS = 4096


def prefetch_point(number: int) -> PrefetchSizes:
    return PrefetchSizes(
        ports=(1, 2, 3)[number // 2 % 3], port_bits=(64, 32, 256, 128)[number % 4],
        burst_beats=(4, 1, 16, 2, 8)[number % 5],
    )  # fmt: skip


def layers_of(rng) -> list[tuple[int, int]]:
    """Return in_tiles and out_tiles of one to three linears, whose images make up a job."""
    return [(int(i), int(o)) for i, o in rng.integers(1, 4, (int(rng.integers(1, 4)), 2))]


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
    layers, bits = layers_of(rng), PRECISIONS[number % 3].weight_bits

    def image() -> list[int]:
        beats: list[int] = []
        for ins, outs in layers:
            weights, biases = draw(rng, bits, (2 * outs, 3 * ins)), draw(rng, 16, 2 * outs)
            beats += image_of(weights, biases, (3, 2), bits, sizes.beat_bits)
        return beats

    experts = int(rng.integers(2, 6))
    images = [image() for _ in range(experts)]
    stride = sizes.stride(len(images[0])) + sizes.burst_bytes * int(rng.integers(3))
    memories = [[0] * WORDS for _ in range(sizes.ports)]
    bases = [sizes.burst_bytes * int(v) for v in rng.integers(0, 9, sizes.ports)]
    for expert, beats in enumerate(images):
        put(memories, sizes, bases, expert * stride, beats)
    order = rng.integers(0, experts, vectors).tolist()
    # Bits below a burst are nobody's business.
    jobs = [
        job_word(e, stride | int(rng.integers(sizes.burst_bytes)), len(images[0]), bases)
        for e in order
    ]
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
        ("src/prefetch.cpp", "memory[span.first + i]", "memory[span.first]"),
        ("src/prefetch.cpp", "range(31, 16) = LOADS[image][1]", "range(31, 16) = LOADS[image][0]"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_prefetch, 2, (path, old, new), cache, monkeypatch)
