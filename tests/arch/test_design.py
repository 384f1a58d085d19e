import re

import pytest

from headrace.arch.axis import Axis, Constraint
from headrace.arch.design import Design, design_names, load_design
from headrace.arch.resources import Resources
from headrace.errors import InputError

PUMP = Design(
    name="pump",
    summary="a small machine",
    axes=(
        Axis(name="lanes", default=2, choices=(1, 2, 4), low=1, high=8, summary="lanes"),
        Axis(name="banks", default=2, choices=(1, 2), summary="banks"),
    ),
    constraints=(
        Constraint(
            name="banks",
            rule="banks <= lanes",
            holds=lambda p: p["banks"] <= p["lanes"],
            knobs=("banks", "lanes"),
        ),
    ),
    resources=lambda point: {"core": Resources(lut=10.0)},
    default_device="kv260",
    default_network="tiny-bitnet",
)


def test_point_fills_in_defaults_in_the_order_of_the_axes():
    assert list(PUMP.point({"banks": 1}).items()) == [("lanes", 2), ("banks", 1)]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"bank": 1}, "f: pump has no axis 'bank': one of lanes, banks"),
        ({"lanes": 9}, "f: lanes = 9 is not allowed: 1 to 8"),
        ({"lanes": 1}, "f: banks: banks <= lanes needed, got banks = 2, lanes = 1"),
    ],
)
def test_refusals_name_file_axis_and_rule(values, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        PUMP.point(values, "f")


def test_missing_face_is_bad_input():
    with pytest.raises(InputError, match="^design 'pump' has no rtl face$"):
        PUMP.face("rtl")


def test_registry_knows_tellme():
    assert "tellme" in design_names()
    assert load_design("tellme").default_network == "bitnet-b1.58-large"


@pytest.mark.parametrize("name", ["", "TELLME", "tell me", "tellme\n"])
def test_unknown_design_lists_the_known(name):
    with pytest.raises(InputError, match=r"^unknown design .*: one of .*tellme"):
        load_design(name)


def test_every_axis_of_tellme_is_described_and_searchable():
    for axis in load_design("tellme").axes:
        assert axis.summary.endswith((".", ")")), axis.name
        assert all(axis.check(choice) == choice for choice in axis.choices)
        assert axis.check(axis.default) == axis.default
