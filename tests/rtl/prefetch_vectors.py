"""Jobs of the prefetch and the memories behind its ports, for its tests."""

from typing import Any

import numpy as np

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.rtl.axi_memory import ReadPlan
from headrace.rtl.streams import StreamVectors

STRIDE_BITS, ADDRESS_BITS = 32, 40


def draw_sizes(rng: Any) -> PrefetchSizes:
    port_bits = int(rng.choice([32, 64, 128, 256]))
    return PrefetchSizes(
        ports=int(rng.choice([1, 2, 3, 4])),
        port_bits=port_bits,
        burst_beats=int(rng.choice([1, 2, 4, 16, 32, 64])),
        outstanding=int(rng.choice([1, 2, 3, 16])),
        buffer_beats=int(rng.choice([2, 4, 32])),
    )


def job_word(sizes: PrefetchSizes, expert: int, stride: int, beats: int, bases: list[int]) -> int:
    word = expert | stride << 8 | beats << 40
    for port, base in enumerate(bases):
        word |= base << (72 + ADDRESS_BITS * port)
    return word


def draw_jobs(
    sizes: PrefetchSizes, rng: Any, jobs: int, most_beats: int, experts: int = 256, **plan: Any
) -> tuple[StreamVectors, list[int]]:
    """Draw images of a few tables, jobs in any order, and what the memories hold.

    Returns the vectors and the beats of every job.
    """
    word_bytes = sizes.port_bits // 8
    regions: list[dict[int, str]] = [{} for _ in range(sizes.ports)]
    items, expected, counts = [], [], []
    for number in range(jobs):
        beats = int(rng.integers(1, most_beats + 1))
        expert = int(rng.integers(experts))
        blocks = -(-beats // sizes.burst_beats) + int(rng.integers(3))
        stride = blocks * sizes.burst_bytes
        # every job has a table of its own, so that a wrong base finds nothing or other words
        bases = [
            (number << 34 | port << 30) + int(rng.integers(1000)) * sizes.burst_bytes
            for port in range(sizes.ports)
        ]
        image = rng.integers(0, 256, (beats, sizes.ports, word_bytes), np.uint8)
        for port, base in enumerate(bases):
            regions[port][base + expert * stride] = image[:, port].tobytes().hex()
        items.append(job_word(sizes, expert, stride, beats, bases))
        expected += [int.from_bytes(beat.tobytes(), "little") for beat in image]
        counts.append(beats)
    memories = {
        f"port{port}_": ReadPlan(word_bytes=word_bytes, regions=held, seed=port, **plan)
        for port, held in enumerate(regions)
    }
    return StreamVectors({"jobs": items}, {"weights": expected}, memories=memories), counts
