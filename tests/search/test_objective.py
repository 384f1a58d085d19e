import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.search.objective import parse_constraints, parse_goal

NAMES = ("ttft_s", "decode_tok_per_s", "lut", "power_w")
COLUMNS = {
    "ttft_s": np.array([0.5, 1.0, 0.25]),
    "decode_tok_per_s": np.array([20.0, 30.0, 25.0]),
    "lut": np.array([100.0, 200.0, 0.0]),
    "power_w": np.array([4.0, 5.0, 6.0]),
}


def test_one_objective_under_constraints() -> None:
    goal = parse_goal("min ttft_s s.t. decode_tok_per_s >= 25 and lut <= 98303", NAMES)
    assert [o.text for o in goal.objectives] == ["min ttft_s"]
    assert [c.text for c in goal.constraints] == ["decode_tok_per_s >= 25", "lut <= 98303"]
    np.testing.assert_array_equal(goal.objectives[0].cost(COLUMNS), [0.5, 1.0, 0.25])
    np.testing.assert_array_equal(goal.constraints[0].holds(COLUMNS), [False, True, True])
    assert goal.names() == {"ttft_s", "decode_tok_per_s", "lut"}


def test_maximise_negates() -> None:
    goal = parse_goal("max decode_tok_per_s", NAMES)
    np.testing.assert_array_equal(goal.objectives[0].cost(COLUMNS), [-20.0, -30.0, -25.0])


def test_several_objectives() -> None:
    goal = parse_goal("min ttft_s, max decode_tok_per_s,min lut", NAMES)
    assert [o.maximise for o in goal.objectives] == [False, True, False]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ttft_s * power_w", [2.0, 5.0, 1.5]),
        ("2 - 1 - 1", [0.0] * 3),
        ("2 - (1 - 1)", [2.0] * 3),
        ("8 / 4 / 2", [1.0] * 3),
        ("1 + 2 * 3", [7.0] * 3),
        ("-power_w + 1e1", [6.0, 5.0, 4.0]),
        ("--.5", [0.5] * 3),
    ],
)
def test_arithmetic(text: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(
        parse_goal("min " + text, NAMES).objectives[0].cost(COLUMNS), expected
    )


def test_chained_comparison() -> None:
    (rule,) = parse_constraints("4.5 <= power_w < 6", NAMES)
    np.testing.assert_array_equal(rule.holds(COLUMNS), [False, True, False])


def test_division_by_zero_never_wins_and_never_holds() -> None:
    goal = parse_goal("min lut / lut s.t. lut / lut <= 1", NAMES)
    np.testing.assert_array_equal(goal.objectives[0].cost(COLUMNS), [1.0, 1.0, math.inf])
    np.testing.assert_array_equal(goal.constraints[0].holds(COLUMNS), [True, True, False])
    goal = parse_goal("max lut / lut", NAMES)
    assert goal.objectives[0].cost(COLUMNS)[2] == math.inf


@pytest.mark.parametrize(
    "text, column, what",
    [
        ("", 1, "'min' or 'max' expected"),
        ("ttft_s", 1, "'min' or 'max' expected"),
        ("min", 4, "a number, a name or '(' expected"),
        ("min  speed", 6, "unknown name 'speed': one of ttft_s, decode_tok_per_s, lut, power_w"),
        ("min ttft_s s.t. lut", 20, "one of < <= > >= == expected"),
        ("min ttft_s lut", 12, "'lut' found, ',', 's.t.', an operator or the end expected"),
        ("min (ttft_s", 12, "')' expected"),
        ("min ttft_s ; lut", 12, "';' is not part of an expression"),
        ("min 1e999", 5, "1e999 is too large a number"),
        ("min 1.2.3", 5, "'1' is not part of an expression"),
        ("min lut.__class__", 8, "'.' is not part of an expression"),
        ("min ttft_s,", 12, "'min' or 'max' expected"),
    ],
)
def test_errors_name_the_column(text: str, column: int, what: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"column {column}: {what}")):
        parse_goal(text, NAMES)


def test_too_deep_and_too_long() -> None:
    with pytest.raises(InputError, match="nested too deeply: at most 64 levels"):
        parse_goal("min " + "(" * 100 + "lut" + ")" * 100, NAMES)
    with pytest.raises(InputError, match="nested too deeply"):
        parse_goal("min " + "-" * 2000 + "lut", NAMES)
    with pytest.raises(InputError, match="5000 characters are not allowed: at most 4096"):
        parse_goal("m" * 5000, NAMES)


def test_long_sum_is_not_deep() -> None:
    goal = parse_goal("min " + "+".join(["1"] * 2000), NAMES)
    assert goal.objectives[0].cost(COLUMNS)[0] == 2000.0
    assert parse_goal(goal.text, NAMES) == goal


@given(st.text(max_size=60) | st.text(alphabet="min axs.t.lut()+-*/<=>0129e ,", max_size=60))
def test_any_text_parses_or_is_an_input_error(text: str) -> None:
    try:
        goal = parse_goal(text, NAMES)
    except InputError:
        return
    assert parse_goal(goal.text, NAMES) == goal


def _trees() -> st.SearchStrategy[tuple[str, float]]:
    """Expressions over the first row with their value, computed on the way up."""
    leaves = st.sampled_from([(n, float(COLUMNS[n][0])) for n in NAMES]) | st.floats(
        0, 1e6, allow_nan=False
    ).map(lambda x: (repr(x), x))

    def join(pair: tuple[tuple[str, float], str, tuple[str, float]]) -> tuple[str, float]:
        (a, x), op, (b, y) = pair
        value = {"+": x + y, "-": x - y, "*": x * y}[op]
        return f"({a} {op} {b})", value

    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(inner, st.sampled_from("+-*"), inner).map(join)
            | inner.map(lambda t: (f"-{t[0]}", -t[1]))
        ),
        max_leaves=12,
    )


@given(_trees())
def test_value_equals_arithmetic(tree: tuple[str, float]) -> None:
    text, expected = tree
    assert parse_goal("min " + text, NAMES).objectives[0].cost(COLUMNS)[0] == expected
