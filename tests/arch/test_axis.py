import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.arch.axis import Axis
from headrace.errors import InputError

LANES = Axis(name="lanes", default=4, choices=(1, 2, 4), low=1, high=64, summary="lanes")
METHOD = Axis(name="method", default="full", choices=("naive", "half", "full"), summary="method")
GAIN = Axis(name="gain", default=0.5, choices=(0.25, 0.5), low=0.0, high=1.0, summary="gain")
WIDE = Axis(name="wide", default=False, choices=(False, True), summary="switch")
AXES = st.sampled_from([LANES, METHOD, GAIN, WIDE])


@pytest.mark.parametrize("value", [1, 3, 64])
def test_bounds_are_inclusive_and_wider_than_choices(value):
    assert LANES.check(value) == value


@pytest.mark.parametrize("axis, value, kind", [(GAIN, 1, float), (WIDE, True, bool)])
def test_value_takes_the_type_of_the_axis(axis, value, kind):
    assert type(axis.check(value)) is kind


@pytest.mark.parametrize(
    "axis, value, message",
    [
        (LANES, 65, "f: lanes = 65 is not allowed: 1 to 64"),
        (LANES, 0, "f: lanes = 0 is not allowed: 1 to 64"),
        (LANES, True, "f: lanes = True is not allowed: int needed, 1 to 64"),
        (LANES, 4.0, "f: lanes = 4.0 is not allowed: int needed, 1 to 64"),
        (METHOD, "Full", "f: method = 'Full' is not allowed: one of naive, half, full"),
        (METHOD, 3, "f: method = 3 is not allowed: str needed, one of naive, half, full"),
        (GAIN, float("nan"), "f: gain = nan is not allowed: 0 to 1"),
        (WIDE, 1, "f: wide = 1 is not allowed: bool needed, one of False, True"),
        (WIDE, [True], "f: wide = [True] is not allowed: bool needed, one of False, True"),
    ],
)
def test_refusal_names_axis_value_and_range(axis, value, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        axis.check(value, "f")


@pytest.mark.parametrize(
    "axis, text, value",
    [(LANES, "16", 16), (METHOD, "half", "half"), (GAIN, "1e-1", 0.1), (WIDE, "TRUE", True)],
)
def test_parse(axis, text, value):
    assert axis.parse(text) == value


@pytest.mark.parametrize("axis, text", [(LANES, "4.0"), (LANES, ""), (WIDE, "yes"), (GAIN, "inf")])
def test_parse_refuses(axis, text):
    with pytest.raises(InputError, match=f"{axis.name} = "):
        axis.parse(text)


@given(AXES, st.text())
def test_parse_gives_an_allowed_value_or_one_line(axis, text):
    try:
        value = axis.parse(text)
    except InputError as error:
        assert axis.name in str(error)
        assert axis.allowed() in str(error)
    else:
        assert axis.check(value) == value


@given(AXES, st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_check_lets_through_only_what_the_range_says(axis, value):
    try:
        checked = axis.check(value)
    except InputError:
        return
    assert type(checked) is type(axis.default)
    assert checked in axis.choices if axis.low is None else axis.low <= checked <= axis.high
