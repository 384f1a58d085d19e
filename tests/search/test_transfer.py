import csv
import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet
import pytest

from headrace.arch.design import load_design
from headrace.errors import InputError
from headrace.search.compare import compare
from headrace.search.space import Space
from headrace.search.store import Evaluation, UnitResult, open_store
from headrace.search.transfer import Merged, export, merge


def _unit(number, feasible=3, seconds=1.0):
    return UnitResult(
        number=number, evaluated=9, feasible=feasible, broken=(6,), kept=np.array([number]),
        seconds=seconds,
    )  # fmt: skip


def _point(index, unit, rung="analytic", **other):
    values = {"hash": f"{index:064x}", "feasible": True, "agrees": True, "figures": {"lut": 2.0}}
    return Evaluation(rung=rung, index=index, unit=unit, **(values | other))


@pytest.fixture
def stores(tmp_path, spec):
    """Yield two databases with a study "s" each, of the same specification."""
    with (
        open_store(str(tmp_path / "a.db"), create=True) as a,
        open_store(str(tmp_path / "b.db"), create=True) as b,
    ):
        a.create("s", spec)
        b.create("s", spec)
        yield a, b


# Merging.


def test_merge_is_the_union(stores):
    target, source = stores
    target.open().commit("analytic", 0, "x", _unit(0), [_point(1, 0)])
    target.open().commit("analytic", 1, "x", _unit(1), [_point(2, 1, figures={"a": math.nan})])
    other = source.open()
    # Equal results, whoever made them and however long that took.
    other.commit("analytic", 1, "y", _unit(1, seconds=9.0), [_point(2, 1, figures={"a": math.nan})])
    other.commit("analytic", 2, "y", _unit(2), [_point(3, 2), _point(4, 2)])
    other.commit("cycle", 0, "y", _unit(0), [_point(3, 0, "cycle")])
    other.claim("analytic", [7], "y")
    other.set_note("plan", [3])
    assert merge(other, target) == Merged(units=2, evaluations=3, conflicts=0)
    study = target.open()
    assert [(u.number, u.owner) for u in study.units("analytic")] == [(0, "x"), (1, "x"), (2, "y")]
    assert [(e.rung, e.index) for e in study.evaluations()] == [
        *(("analytic", i) for i in (1, 2, 3, 4)),
        ("cycle", 3),
    ]
    assert study.note("plan") == [3]
    assert study.claim("analytic", [7], "x") == [7]  # claims are not results
    assert merge(other, target) == Merged(units=0, evaluations=0, conflicts=0)


@pytest.mark.parametrize(
    "unit, points",
    [
        (_unit(0, feasible=4), [_point(1, 0)]),
        (_unit(0), []),
        (_unit(0), [_point(2, 0)]),
        (_unit(0), [_point(1, 0, figures={"lut": 2.5})]),
        (_unit(0), [_point(1, 0, feasible=False)]),
        (dataclasses.replace(_unit(0), kept=np.array([5])), [_point(1, 0)]),
    ],
)
def test_merge_keeps_what_the_target_has_where_results_differ(stores, unit, points):
    target, source = stores
    target.open().commit("analytic", 0, "x", _unit(0), [_point(1, 0)])
    source.open().commit("analytic", 0, "y", unit, points)
    source.open().commit("analytic", 1, "y", _unit(1))
    source.open().commit("cycle", 0, "y", _unit(0), [_point(1, 0, "cycle")])
    source.open().set_note("finished", True)
    assert merge(source.open(), target) == Merged(units=0, evaluations=0, conflicts=1)
    study = target.open()
    assert repr(study.units("analytic")) == repr([dataclasses.replace(_unit(0), owner="x")])
    assert study.evaluations() == [_point(1, 0)]
    assert study.note("finished") is None


def test_merge_leaves_upper_rungs_alone_where_plans_differ(stores):
    target, source = stores
    target.open().set_note("plan/cycle", [5, 6])
    source.open().set_note("plan/cycle", [6, 5])
    source.open().commit("analytic", 0, "y", _unit(0))
    source.open().commit("cycle", 0, "y", _unit(0), [_point(6, 0, "cycle")])
    assert merge(source.open(), target) == Merged(units=1, evaluations=0, conflicts=1)
    assert target.open().units("cycle") == []


def test_merge_under_another_name(stores, spec):
    target, source = stores
    other = source.create("t", dataclasses.replace(spec, seed=5))
    other.commit("analytic", 0, "y", _unit(0))
    with pytest.raises(InputError, match="seed = 5, not 0; take another name"):
        merge(other, target, "s")
    assert merge(other, target, "five") == Merged(units=1, evaluations=0, conflicts=0)
    assert [(i.name, i.units) for i in target.studies()] == [("s", 0), ("five", 1)]


# Tables.


@pytest.fixture(scope="module")
def space():
    return Space(load_design("tellme"))


_HOSTILE = '=cmd|"/c calc"!A1'


@pytest.fixture
def rows():
    return [
        _point(0, 0, figures={"lut": 3.0, "ttft_s": math.nan}, artefacts={"top.v": "ab"}),
        _point(12345, 0, "cycle", feasible=False, figures={"lut": -math.inf}, owner=_HOSTILE),
        _point(7, 1, agrees=False, cached=True, seconds=2.5, figures={"=x": 1.0, "hash": 4.0}),
    ]


def test_parquet_holds_typed_columns(rows, space, tmp_path):
    assert export(rows, space, tmp_path / "t.parquet") == 3
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    axes = [axis.name for axis in space.axes]
    assert table.column_names == [
        *("rung", "index", "hash"),
        *axes,
        *("lut", "ttft_s", "=x", "figure.hash"),
        *("feasible", "agrees", "seconds", "cached", "owner", "artefacts", "detail"),
    ]
    found = table.to_pylist()
    indices = np.array([0, 12345, 7])
    for row, coded in zip(found, space.rows(indices), strict=True):
        point = space.decode(coded)
        for axis in space.axes:
            assert row[axis.name] == point[axis.name]
            assert type(row[axis.name]) is type(axis.default)
    assert [row["index"] for row in found] == indices.tolist()
    assert [row["lut"] for row in found] == [3.0, -math.inf, None]
    assert math.isnan(found[0]["ttft_s"])
    assert [row["figure.hash"] for row in found] == [None, None, 4.0]
    assert [row["feasible"] for row in found] == [True, False, True]
    assert found[1]["owner"] == _HOSTILE
    assert json.loads(found[0]["artefacts"]) == {"top.v": "ab"}


def test_csv_holds_the_same_and_no_formulas(rows, space, tmp_path):
    export(rows, space, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["index"] for row in found] == ["0", "12345", "7"]
    assert [row["lut"] for row in found] == ["3", "-inf", ""]
    assert [row["ttft_s"] for row in found] == ["nan", "", ""]
    assert [row["feasible"] for row in found] == ["true", "false", "true"]
    assert found[1]["owner"] == f"'{_HOSTILE}"
    assert found[2]["'=x"] == "1"
    first = space.decode(space.rows(np.array([12345]))[0])
    for axis in space.axes:
        if type(axis.default) is not bool:
            assert found[1][axis.name] == str(first[axis.name])


def test_export_of_nothing(space, tmp_path):
    assert export([], space, tmp_path / "t.csv") == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1


def test_export_refuses(rows, space, tmp_path):
    with pytest.raises(InputError, match="suffix '.xls' is not allowed: .parquet or .csv"):
        export(rows, space, tmp_path / "t.xls")
    with pytest.raises(InputError, match="is not in the space of tellme: 0 to"):
        export([_point(space.size, 0)], space, tmp_path / "t.csv")
    with pytest.raises(InputError, match="cannot write"):
        export(rows, space, tmp_path / "none" / "t.csv")
    assert list(tmp_path.iterdir()) == []


def test_half_characters_are_replaced(space, tmp_path):
    export([_point(0, 0, figures={"a\ud800": 1.0})], space, tmp_path / "t.parquet")
    assert "a?" in pyarrow.parquet.read_table(tmp_path / "t.parquet").column_names


# Comparing.


def test_compare_by_hand():
    # Scaled by (4, 10): a = (0, 1), (0.5, 0.5), (1, 0); b = (0.25, 1), (0.5, 0.5).
    a = np.array([[0.0, 10.0], [2.0, 5.0], [4.0, 0.0], [4.0, 10.0]])
    b = np.array([[1.0, 10.0], [2.0, 5.0], [np.inf, 0.0], [np.nan, 0.0]])
    found = compare(a, b)
    assert (found.size_a, found.size_b, found.exact) == (3, 2, True)
    # Strips between the points and (1.1, 1.1).
    assert found.hypervolume_a == pytest.approx(0.5 * 0.1 + 0.5 * 0.6 + 0.1 * 1.1)
    assert found.hypervolume_b == pytest.approx(0.25 * 0.1 + 0.6 * 0.6)
    assert (found.coverage_a, found.coverage_b) == (1.0, pytest.approx(1 / 3))
    # a covers b as it is; b lacks 0.5 in the second objective to reach (1, 0).
    assert found.epsilon_a == pytest.approx(0.0)
    assert found.epsilon_b == pytest.approx(0.5)


def test_compare_does_not_depend_on_units_and_bears_constant_objectives():
    chance = np.random.default_rng(1)
    a, b = chance.random((50, 3)), chance.random((40, 3))
    plain = dataclasses.asdict(compare(a, b))
    scale, shift = np.array([1e-9, 7.0, 1e12]), np.array([5e-9, -3.0, 0.0])
    moved = dataclasses.asdict(compare(a * scale + shift, b * scale + shift))
    assert moved == pytest.approx(plain)
    flat = compare(np.column_stack([a, np.full(50, 9.0)]), np.column_stack([b, np.full(40, 9.0)]))
    assert flat.coverage_a == plain["coverage_a"]
    assert flat.hypervolume_a == pytest.approx(1.1 * plain["hypervolume_a"])


def test_compare_agrees_with_counting():
    chance = np.random.default_rng(2)
    a, b = chance.random((60, 4)), chance.random((60, 4))
    found = compare(a, b)

    def front(costs):
        worse = (costs[None] <= costs[:, None]).all(2) & (costs[None] < costs[:, None]).any(2)
        return costs[~worse.any(1)]

    fa, fb = front(a), front(b)
    low = np.minimum(fa.min(0), fb.min(0))
    high = np.maximum(fa.max(0), fb.max(0))
    fa, fb = (fa - low) / (high - low), (fb - low) / (high - low)
    covered = (fa[None] <= fb[:, None]).all(2).any(1)
    assert (found.size_a, found.size_b) == (len(fa), len(fb))
    assert found.coverage_a == pytest.approx(covered.mean())
    assert found.epsilon_a == pytest.approx((fa[None] - fb[:, None]).max(2).min(1).max())
    darts = chance.random((200_000, 4)) * 1.1
    hit = np.zeros(len(darts), bool)
    for point in fa:
        hit |= (point <= darts).all(1)
    assert found.hypervolume_a == pytest.approx(hit.mean() * 1.1**4, rel=0.01)


def test_compare_of_large_fronts_is_an_estimate():
    chance = np.random.default_rng(3)
    a = chance.random((12_000, 5)) + 0.1
    a /= np.linalg.norm(a, axis=1)[:, None]
    found = compare(a, a[:100])
    assert not found.exact
    assert found.size_a < 12_001
    assert found.hypervolume_a > found.hypervolume_b > 0.5 * found.hypervolume_a
    assert found.coverage_a == 1.0


def test_compare_with_nothing():
    some, none = np.array([[1.0, 2.0]]), np.empty((0, 2))
    found = compare(some, none)
    assert (found.size_b, found.hypervolume_b, found.coverage_b) == (0, 0.0, 0.0)
    assert math.isnan(found.coverage_a)
    assert (found.epsilon_a, found.epsilon_b) == (-math.inf, math.inf)
    with pytest.raises(InputError, match="2 and 3 objectives cannot be compared"):
        compare(some, np.empty((0, 3)))
