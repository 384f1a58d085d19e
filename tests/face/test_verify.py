import json

import numpy as np
import pytest

from headrace.arch.design import load_design
from headrace.arch.tellme.engine import engine_sizes
from headrace.arch.tellme.packing import unpack_weights
from headrace.arch.tellme.reduce import reduced
from headrace.cli import main
from headrace.verification.cases import draw_cases, job
from headrace.verification.check import Check

POINT = reduced(load_design("tellme").point())
SIZES = engine_sizes(POINT)


def check(expected, measured, tolerance):
    return Check(kernel="k", witness="cycles", what="w", simulator="s", point=POINT,
                 expected=expected, measured=measured, tolerance=tolerance)  # fmt: skip


@pytest.mark.parametrize(
    "expected, measured, tolerance, error, passed",
    [
        (100, 100, 0.0, 0.0, True),
        (101, 100, 0.01, 0.01, True),
        (99, 100, 0.005, -0.01, False),
        (0, 0, 0.0, 0.0, True),
        (1, 0, 0.5, float("inf"), False),
        (100, 99, 0.0, 1 / 99, False),
    ],
)
def test_error_is_relative_to_the_hardware(expected, measured, tolerance, error, passed):
    one = check(expected, measured, tolerance)
    assert one.error == pytest.approx(error)
    assert one.passed is passed


def test_cases_are_exact_reach_the_extremes_and_repeat():
    cases = draw_cases(SIZES, 10, 3, np.random.default_rng(5))
    assert sum(len(c.inputs) for c in cases) == 10
    for case in cases:
        weights = unpack_weights(case.beats, SIZES, case.rows, case.groups).astype(np.int64)
        assert np.array_equal(case.inputs.astype(np.int64) @ weights.T, case.expected)
        assert case.expected[0, 0] == 127 * np.count_nonzero(weights[0])
    again = draw_cases(SIZES, 10, 3, np.random.default_rng(5))
    assert all(np.array_equal(a.expected, b.expected) for a, b in zip(cases, again, strict=True))


def test_stalling_streams_arrive_within_the_span():
    cases = draw_cases(SIZES, 6, 3, np.random.default_rng(5))
    work = job(SIZES, cases, np.random.default_rng(6), 1000)
    for arrivals in (work.weight_arrivals, work.activation_arrivals, work.result_arrivals):
        assert len(np.unique(arrivals)) > 1
        assert np.all(np.diff(arrivals) >= 0)
        assert 0 <= arrivals[0] <= arrivals[-1] < 1000


def test_verify_sets_the_witnesses_side_by_side(capfd):
    words = ["verify", "tellme", "--witness", "bits", "--witness", "cycles", "--vectors", "4"]
    assert main([*words, "--json"]) == 0
    body = json.loads(capfd.readouterr().out)
    assert body["schema"] == "headrace/verify/1"
    assert body["passed"] is True
    assert {c["witness"] for c in body["checks"]} == {"bits", "cycles"}
    for one in body["checks"]:
        assert one["expected"] == one["measured"] > 0
        assert one["point"]["group_size"] == 3


def test_a_wrong_reference_fails_the_command(capfd, monkeypatch):
    import headrace.verification.cases as cases

    right = cases.ternary_matmul
    monkeypatch.setattr(cases, "ternary_matmul", lambda *words: right(*words) + 1)
    words = ["verify", "tellme", "--witness", "cycles", "--vectors", "3"]
    assert main(words) == 1
    assert "FAIL" in capfd.readouterr().out
