"""UbiMoE's combine as C++ against the fixed-point reference, rule 6."""

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

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.hls.ubimoe.combine import combine
from headrace.models.kernels import fixed

EXPERTS = 5
PORTS = ("command", "jobs", "rows", "values", "residual")


def combine_point(number: int) -> CombineSizes:
    rng = np.random.default_rng([6136, number])
    dims, row_beats, lanes = (int(v) for v in rng.integers(1, 6, 3))
    return CombineSizes(
        formats=PRECISIONS[number % 3], dims=dims, row_beats=row_beats,
        lanes=lanes, max_tokens=12 + number,
    )  # fmt: skip


def draw_jobs(rng, tokens: int) -> list[fixed.Job]:
    """Return the jobs of 1 to 3 experts per token, or those of two parts of a dense FFN."""
    top_k = int(rng.integers(4))
    if top_k == 0:
        everything = np.arange(tokens)
        return [fixed.Job(part, everything, np.full(tokens, ONE)) for part in range(2)]
    experts = np.array([rng.permutation(EXPERTS)[:top_k] for _ in range(tokens)])
    scores = rng.integers(0, ONE + 1, experts.shape) >> rng.integers(0, 23, experts.shape)
    return fixed.dispatch(fixed.Choices(experts, scores), EXPERTS)


def check_combine(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = combine_point(number), np.random.default_rng(number)
    f, dims, row_beats = sizes.formats, sizes.dims, sizes.row_beats
    words: dict[str, list[int]] = {name: [] for name in PORTS}
    expected, count, commands = [], 0, 0
    while count < vectors:
        tokens = int(rng.integers(1, sizes.max_tokens + 1))
        x = draw(rng, f.feature_bits, (tokens, dims * row_beats))
        jobs = draw_jobs(rng, tokens)
        results = [draw(rng, 32, (len(job.tokens), dims * row_beats)) for job in jobs]
        choices = sum(len(job.tokens) for job in jobs) // tokens
        words["command"].append(tokens | choices << 16)
        words["jobs"] += [len(job.tokens) for job in jobs]
        words["residual"] += beats_of(x, dims, f.feature_bits)
        for job, result in zip(jobs, results, strict=True):
            words["rows"] += (job.tokens | job.probabilities << 16).tolist()
            for first in range(0, len(result), sizes.lanes):
                group = result[first : first + sizes.lanes].reshape(-1, row_beats, dims)
                words["values"] += beats_of(group.swapaxes(0, 1), dims, 32)
        mixed = fixed.combine(x, jobs, results, fixed.FORMATS[f.name])
        expected += mixed.reshape(-1, dims).tolist()
        count, commands = count + tokens, commands + 1
    found = run(combine(sizes), cache, commands, **words)["results"]
    assert [unpack(word, f.feature_bits, dims) for word in found] == expected
    return count


@pytest.mark.parametrize("number", SAMPLE)
def test_combine(number, cache):
    assert check_combine(cache, number, 100) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEP)
def test_combine_long(number, cache):
    assert check_combine(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


def test_the_points_cover_the_axes():
    points = [combine_point(number) for number in SWEEP]
    assert {s.formats.name for s in points[:3]} == set(FORMATS)
    assert {s.lanes for s in points} == {1, 2, 3, 4, 5}
    assert min(s.row_beats for s in points) == 1
    assert any(s.row_beats > 2 and s.lanes > 2 for s in points[:3])


def test_wrong_rows_are_refused(cache):
    sizes = CombineSizes(formats=FORMATS["int8"], dims=1, row_beats=1, lanes=2, max_tokens=2)
    good = {"command": [1 << 16 | 2], "jobs": [2], "rows": [0, 1], "values": [1, 2],
            "residual": [3, 4]}  # fmt: skip
    assert run(combine(sizes), cache, 1, **good)["results"] == [3, 4]
    for message, words in [
        ("command: too many tokens", {"command": [1 << 16 | 3]}),
        ("jobs: a job without rows", {"jobs": [0]}),
        ("rows: no such token", {"rows": [0, 2]}),
        ("jobs: more rows than the command says", {"jobs": [3]}),
    ]:
        with pytest.raises(RuntimeError, match=message):
            run(combine(sizes), cache, 1, **{**good, **words})


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/combine.cpp", "(2 * WIDE_FRACTION", "(2 * WIDE_FRACTION + 1"),
        ("src/combine.cpp", "(before, d) + part", "(before, d) - part"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_combine, 0, (path, old, new), cache, monkeypatch)
