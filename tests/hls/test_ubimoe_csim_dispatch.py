"""UbiMoE's dispatch as C++ against the fixed-point reference; it knows no number formats."""

from pathlib import Path

import numpy as np
import pytest
from ubimoe_csim import ONE, SAMPLE, SWEEP, SWEEP_VECTORS, expect_notice, pack, run

from headrace.arch.ubimoe.dispatch import DispatchSizes
from headrace.hls.ubimoe.dispatch import dispatch
from headrace.models.kernels import fixed


def dispatch_point(number: int) -> DispatchSizes:
    experts = (16, 5, 8, 1, 2, 256)[number % 6]
    top_k = min(experts, (2, 1, 4, 3)[number % 4])
    return DispatchSizes(max_tokens=16 + number, experts=experts, top_k=top_k)


def draw_choices(rng, tokens: int, experts: int, top_k: int) -> fixed.Choices:
    """Return different experts for every token; a few of them have most of the tokens."""
    likely = rng.random(experts) ** 3 + 1e-3
    chosen = [rng.choice(experts, top_k, replace=False, p=likely / likely.sum())
              for _ in range(tokens)]  # fmt: skip
    return fixed.Choices(np.array(chosen), rng.integers(0, ONE + 1, (tokens, top_k)))


def check_dispatch(cache: Path, number: int, vectors: int) -> int:
    sizes, rng = dispatch_point(number), np.random.default_rng(number)
    words: dict[str, list[int]] = {"command": [], "choices": []}
    jobs, rows, count, commands = [], [], 0, 0
    while count < vectors:
        tokens = int(rng.integers(1, sizes.max_tokens + 1))
        choices = draw_choices(rng, tokens, sizes.experts, sizes.top_k)
        words["command"].append(tokens)
        words["choices"] += [pack(row, 31) for row in choices.experts | choices.probabilities << 8]
        for job in fixed.dispatch(choices, sizes.experts):
            jobs.append(job.expert | len(job.tokens) << 8)
            rows += (job.tokens | job.probabilities << 16).tolist()
        count, commands = count + tokens, commands + 1
    assert run(dispatch(sizes), cache, commands, **words) == {"jobs": jobs, "rows": rows}
    return count


@pytest.mark.parametrize("number", SAMPLE)
def test_dispatch(number, cache):
    assert check_dispatch(cache, number, 100) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEP)
def test_dispatch_long(number, cache):
    assert check_dispatch(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


def test_bad_choices_are_refused(cache):
    sizes = DispatchSizes(max_tokens=2, experts=3, top_k=2)
    for message, tokens, choices in [
        ("command: too many tokens", 3, [(0, 1)] * 3),
        ("choices: no such expert", 1, [(0, 3)]),
        ("choices: an expert twice for one token", 2, [(1, 1)] * 2),
    ]:
        words = [pack(best, 31) for best in choices]
        with pytest.raises(RuntimeError, match=message):
            run(dispatch(sizes), cache, 1, command=[tokens], choices=words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/dispatch.cpp", "lengths[expert] != 0", "lengths[expert] > 1"),
        ("src/dispatch.cpp", "range(23, 8)", "range(22, 7)"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_dispatch, 0, (path, old, new), cache, monkeypatch)
