"""UbiMoE's gate as C++ against the fixed-point reference, rule 5."""

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
    pack,
    run,
)

from headrace.arch.ubimoe.gate import GateSizes
from headrace.hls.ubimoe.gate import gate
from headrace.models.kernels import fixed


def gate_point(number: int) -> GateSizes:
    rng = np.random.default_rng([6035, number])
    experts = (16, 5, 8, 1, 2, 3)[number % 6]
    return GateSizes(
        formats=PRECISIONS[number % 3], experts=experts,
        top_k=min(experts, (2, 1, 4, 3)[number % 4]), dims=int(rng.integers(1, 6)),
        row_beats=int(rng.integers(1, 6)), max_tokens=16,
    )  # fmt: skip


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
        words["command"].append(tokens)
        words["weights"] += beats_of(w, dims, f.weight_bits)
        words["inputs"] += beats_of(x, dims, f.operand_bits)
        chosen = fixed.gate(x, w, fixed.FORMATS[f.name], top_k=sizes.top_k)
        expected += [pack(row, 31) for row in chosen.experts | chosen.probabilities << 8]
        p, best = chosen.probabilities, chosen.experts
        spread += int(((p > 0) & (p < ONE)).sum())
        ties += int((best[:, 0] == 0).sum())
        count, commands = count + tokens, commands + 1
    assert run(gate(sizes), cache, commands, **words)["choices"] == expected
    assert sizes.experts == 1 or (spread > 10 and ties > 0)
    return count


@pytest.mark.parametrize("number", SAMPLE)
def test_gate(number, cache):
    assert check_gate(cache, number, 60) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEP)
def test_gate_long(number, cache):
    assert check_gate(cache, number, SWEEP_VECTORS) >= SWEEP_VECTORS


@pytest.mark.slow
@pytest.mark.parametrize(
    "path, old, new",
    [
        ("src/gate.cpp", "new_score > score[rank]", "new_score >= score[rank]"),
        ("src/gate.cpp", "+ (1 << WIDE_FRACTION);", "+ (1 << WIDE_FRACTION) + 1;"),
    ],
)
def test_a_wrong_kernel_is_noticed(path, old, new, cache, monkeypatch):
    expect_notice(check_gate, 0, (path, old, new), cache, monkeypatch)
