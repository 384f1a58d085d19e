"""The schedule of the streaming attention, by brute force over all steps."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.streaming_attention import (
    StreamingAttentionSizes,
    attention_steps,
    ending_row,
    key_row,
    query_row,
    starting_row,
)
from headrace.errors import InputError

SIZES = StreamingAttentionSizes(
    formats=FORMATS["w16a32"], heads=3, head_dim=64, lanes=4, dims=8, max_tokens=197
)


@pytest.mark.parametrize(
    ("tokens", "lanes", "steps"),
    [(129, 4, 4257), (197, 4, 9850), (129, 8, 2193), (197, 8, 4929), (128, 4, 4099), (1, 1, 1)],
)
def test_published_step_counts(tokens: int, lanes: int, steps: int) -> None:
    assert attention_steps(tokens, lanes) == steps


def test_step_counts_of_arrays() -> None:
    tokens, lanes = np.array([129, 197]), np.array([[4], [8]])
    assert attention_steps(tokens, lanes).tolist() == [[4257, 9850], [2193, 4929]]


@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 7])
def test_each_row_meets_all_keys_once_and_rows_end_in_order(lanes: int) -> None:
    for tokens in range(lanes, 25):
        steps = attention_steps(tokens, lanes)
        met: dict[int, list[int]] = {row: [] for row in range(tokens)}
        last: dict[int, int] = {}
        taken: list[int | None] = []
        lane_of: dict[int, int] = {}
        for step in range(steps + 2 * tokens):
            before = len(taken)
            held = [query_row(step, lane, tokens, lanes) for lane in range(lanes)]
            for lane, row in enumerate(held):
                if row is None:
                    continue
                if row not in lane_of:
                    lane_of[row] = lane
                    taken.append(row)
                assert lane_of[row] == lane
                met[row].append(key_row(step, tokens))
                last[row] = step
            started = taken[before:] or [None]
            assert started == [starting_row(step, tokens, lanes)]
        assert taken == list(range(tokens))
        assert all(sorted(keys) == list(range(tokens)) for keys in met.values())
        ends = [last[row] for row in range(tokens)]
        assert ends == sorted(set(ends))
        assert ends[-1] + 1 == steps
        found = [ending_row(step, tokens, lanes) for step in range(steps + 2 * tokens)]
        assert {row: step for step, row in enumerate(found) if row is not None} == last


def test_one_lane_takes_as_many_steps_as_there_are_pairs() -> None:
    assert [attention_steps(n, 1) for n in range(1, 9)] == [n * n for n in range(1, 9)]


def test_sizes_of_the_published_kernel() -> None:
    assert (SIZES.width, SIZES.row_beats, SIZES.head_beats, SIZES.scale_shift) == (192, 24, 8, 3)
    shifts = {d: replace(SIZES, head_dim=d, dims=1).scale_shift for d in (1, 4, 16, 64, 256)}
    assert all((1 << shift) ** 2 == d for d, shift in shifts.items())


def test_cycles_of_the_published_kernel() -> None:
    """Stage by stage; steps and beats as in the paper's cost table."""
    score = 1 + 4 + 2 + 1 + 1  # operands, product, tree of 8, score, written
    result = 1 + 1 + 4 + 1 + 23 + 4 + 1  # score, difference, EXP, sum, RECIP, product, result
    assert (SIZES.score_cycles, SIZES.result_cycles) == (score, result)
    constant = 8 + score + result
    tokens = np.array([129, 197])
    assert SIZES.cycles(tokens).tolist() == [
        (4257 + 128) * 24 + constant,
        (9850 + 196) * 24 + constant,
    ]
    int16 = replace(SIZES, formats=FORMATS["int16"], dims=16)
    assert int16.cycles(129) == (4257 + 128) * 12 + 4 + (score - 2) + result


def test_the_scores_of_a_sequence_fit() -> None:
    """Part 2 waits for the maximum of step N - 1: until then all of N steps must have room."""
    assert SIZES.scores_depth > (197 - 1) * 3
    assert SIZES.maxima_depth * SIZES.head_beats >= 2 * SIZES.head_beats - 1 + SIZES.score_cycles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "heads = 0 is not allowed: 1 to 255"),
        ({"head_dim": 32}, "head_dim = 32 is not allowed: a power of 4 up to 1024"),
        ({"dims": 3}, "dims = 3 is not allowed: a divisor of head_dim = 64"),
        ({"dims": 0}, "dims = 0 is not allowed: a divisor of head_dim = 64"),
        ({"max_tokens": 512}, "max_tokens = 512 is not allowed: 1 to 511"),
        ({"lanes": 198}, "lanes = 198 is not allowed: 1 to 197"),
        ({"exp_units": 2}, "exp_units = 2 is not allowed: 1 or heads = 3"),
    ],
)
def test_bad_sizes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        replace(SIZES, **change)
    assert str(error.value) == message


def test_bad_token_counts_are_refused() -> None:
    SIZES.check_tokens(4)
    SIZES.check_tokens(197)
    for tokens in (3, 198):
        with pytest.raises(InputError, match=f"tokens = {tokens} is not allowed: 4 to 197"):
            SIZES.check_tokens(tokens)
