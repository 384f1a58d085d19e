import os
import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.arch.design import load_design
from headrace.arch.point import Point
from headrace.errors import InputError

TELLME = load_design("tellme")
# The file is rewritten for every example, so a shared folder does no harm.
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_defaults_are_the_published_point():
    point = TELLME.point()
    published = {
        "clock_mhz": 250,
        "group_size": 3,
        "tables": 28,
        "copies": 16,
        "lookup_method": "full",
        "weight_banks": 8,
        "prefill_lanes": 8,
        "decode_lanes": 16,
    }
    assert {name: point[name] for name in published} == published


def test_hash_is_stable_over_order_and_runs():
    a = Point("d", {"x": 1, "y": "two"})
    b = Point("d", {"y": "two", "x": 1})
    # SHA-256 of ["d",[["x",1],["y","two"]]], computed with sha256sum.
    assert a.hash == "e32796e00a57c8d27e05740228ee04df80e22446b7d4aee77c9262c6679d225a"
    assert a == b
    assert hash(a) == hash(b)
    assert len({a, b, Point("e", {"x": 1, "y": "two"})}) == 2


def test_int_and_float_are_different_points():
    assert Point("d", {"x": 1}) != Point("d", {"x": 1.0})


def test_points_are_frozen():
    point = TELLME.point()
    with pytest.raises(TypeError):
        point["tables"] = 3
    with pytest.raises(TypeError):
        point._values["tables"] = 3


@pytest.mark.parametrize(
    "read, axis", [("integer", "lookup_method"), ("text", "tables"), ("switch", "tables")]
)
def test_typed_access_refuses_another_type(read, axis):
    with pytest.raises(TypeError, match=f"{axis} is not"):
        getattr(TELLME.point(), read)(axis)


def _candidates():
    return st.fixed_dictionaries(
        {},
        optional={
            axis.name: st.sampled_from(axis.choices)
            if axis.low is None
            else st.integers(int(axis.low), int(axis.high))
            for axis in TELLME.axes
        },
    )


@given(_candidates())
@shared_folder
def test_toml_round_trip(tmp_path, values):
    try:
        point = TELLME.point(values)
    except InputError:
        return
    point.save(tmp_path / "p.toml")
    again = Point.load(tmp_path / "p.toml", TELLME)
    assert again == point
    assert list(again) == [axis.name for axis in TELLME.axes]


@given(_candidates())
def test_a_point_holds_every_rule(values):
    try:
        point = TELLME.point(values)
    except InputError as error:
        assert any(name in str(error) for c in TELLME.constraints for name in c.knobs)
        return
    assert point["weight_banks"] in (
        point["copies"],
        point["copies"] / 2,
        point["copies"] / 4,
    )
    assert point["weight_slots"] == 1 or point["weight_layout"] == "exact"
    assert point["activation_lanes"] <= point["group_size"] * point["tables"]


def _load(path, raw):
    path.write_bytes(raw)
    return Point.load(path, TELLME)


@pytest.mark.parametrize(
    "raw, part",
    [
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"design = 'tellme'\n[axes", "not a TOML file"),
        (b"x = " + b"[" * 50_000, "not a TOML file"),
        (b"x = " + b"{a=" * 5_000, "not a TOML file"),
        (b"#" * 70_000, "larger than 65536 bytes"),
        (b"", "design = None is not allowed: 'tellme' needed"),
        (b"design = 'vrex'", "design = 'vrex' is not allowed: 'tellme' needed"),
        (b"design = 'tellme'\naxes = 3", "axes must be a table"),
        (b"design = 'tellme'\nextra = 3", "unknown key 'extra', allowed are design, axes"),
        (b"design = 'tellme'\n[axes]\ntable = 3", "has no axis 'table': one of clock_mhz"),
        (b"design = 'tellme'\n[axes]\ntables = 28.0", "int needed, 1 to 128"),
        (b"design = 'tellme'\n[axes]\ntables = 2026-01-01", "int needed, 1 to 128"),
        (b"design = 'tellme'\n[axes]\ntables = 99999999999999999999", "1 to 128"),
        (b"design = 'tellme'\n[axes]\ntables = " + b"9" * 5_000, "not a TOML file"),
        (b"design = 'tellme'\n[axes]\nweight_banks = 2", "weight_banks = copies"),
        (b"design = 'tellme'\n[axes]\nweight_slots = 2", "weight_layout = exact"),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path, raw, part):
    with pytest.raises(InputError) as caught:
        _load(tmp_path / "p.toml", raw)
    assert str(caught.value).startswith(f"{tmp_path / 'p.toml'}: ")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
@example(b"design = 'tellme'\n[axes]\ntables = nan")
@shared_folder
def test_any_bytes_load_or_are_refused(tmp_path, raw):
    path = tmp_path / "p.toml"
    try:
        _load(path, raw)
    except InputError as error:
        assert str(path) in str(error)


_JUNK = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([a.name for a in TELLME.axes]), _JUNK, max_size=4))
@shared_folder
def test_any_values_load_or_are_refused(tmp_path, axes):
    text = tomli_w.dumps({"design": "tellme", "axes": axes})
    tomllib.loads(text)
    try:
        point = _load(tmp_path / "p.toml", text.encode())
    except InputError as error:
        assert any(axis.name in str(error) for axis in TELLME.axes)
    else:
        assert all(point[name] == value for name, value in axes.items())


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "pipe", Path("a\0b")):
        with pytest.raises(InputError, match="cannot read"):
            Point.load(path, TELLME)
